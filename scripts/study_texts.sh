#!/bin/sh
# A sentence encoder on codes, learned from itself in float on texts without labels: the sentences of the STS
# benchmark's training part. Prints the rank correlation on its test part as the integer runtime computes it.
#   scripts/study_texts.sh BUILD [ENCODER [MAP...]]      ENCODER: a folder, default the cache's all-MiniLM-L6-v2
# STUDY_OPTIONS: more options of `mpqconvert reconstruct`, such as "--steps 1000".
set -eu
build=$1
shift
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
encoder=${1:-$cache/all-MiniLM-L6-v2}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- uniform:4 eagl:budget=0.75,bits=4/2,cost=bmac
folder=$cache/$(basename "$encoder")-study
if [ ! -f "$data/stsb.tar.gz" ]; then
  echo "study_texts: $data/stsb.tar.gz: not found; set MPQ_DATA to the folder that holds it" >&2
  exit 3
fi
mkdir -p "$folder"
tar -xzf "$data/stsb.tar.gz" -C "$folder"
train=$(find "$folder" -name 'sts-train.csv') test=$(find "$folder" -name 'sts-test.csv')

score() { # NAME COMMAND...
  name=$1
  shift
  "$@" --json | python3 -c 'import json, sys; r = json.load(sys.stdin); print("| %s | %.4f |" % (sys.argv[1], r["spearman"]))' "$name"
}
make() { # STEM MAP OPTIONS...: STEM.fb
  stem=$1 map=$2
  shift 2
  [ -f "$stem.fb" ] ||
    "$build/converter/mpqconvert" reconstruct "$encoder" --map "$map" --calib "stsb:$train" --calib-samples 12000 \
      --ptq-samples 1024 -o "$stem.fb" "$@" >"$stem.log"
}

echo "| network | Spearman |"
echo "| --- | ---: |"
score float "$build/converter/mpqconvert" evaluate "$encoder" --dataset "stsb:$test"
for map in "$@"; do
  stem=$folder/$(echo "$map" | tr -c 'a-z0-9.\n' '-')
  make "$stem-start" "$map" --steps 0
  score "$map, not trained" "$build/runtime/cli/mpqrun" eval "$stem-start.fb" --dataset "stsb:$test"
  # shellcheck disable=SC2086  # STUDY_OPTIONS are words
  make "$stem" "$map" --checkpoint "$stem.steps" ${STUDY_OPTIONS-}
  score "$map" "$build/runtime/cli/mpqrun" eval "$stem.fb" --dataset "stsb:$test"
done
