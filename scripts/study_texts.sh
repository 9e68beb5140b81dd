#!/bin/sh
# An encoder of texts on codes, learned from itself in float: sentence embeddings from texts without labels, scored by
# the rank correlation on STS-B's test part; a classifier trained on SST-2 here, scored on the 872 sentences of GLUE's
# dev part. All scores of codes are the integer runtime's. Prints a table.
#   scripts/study_texts.sh BUILD [sts|sst2 [MAP...]]      default: both, uniform:4 and EAGL's 4/2 mix
# ENCODER: a folder, default the cache's all-MiniLM-L6-v2. What a run has finished is not run again; what was killed
# goes on. STUDY_OPTIONS: more options of `mpqconvert reconstruct`, such as "--steps 1000".
set -eu
build=$1
part=${2:-both}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- uniform:4 eagl:budget=0.75,bits=4/2,cost=bmac
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
encoder=${ENCODER:-$cache/all-MiniLM-L6-v2}
folder=$cache/$(basename "$encoder")-study
converter=$build/converter/mpqconvert
mkdir -p "$folder"
for set in stsb sst2_glue sentence_cls agnews; do
  [ -f "$data/$set.tar.gz" ] || {
    echo "study_texts: $data/$set.tar.gz: not found; set MPQ_DATA to the folder that holds it" >&2
    exit 3
  }
  [ -d "$folder/$set" ] || tar -xzf "$data/$set.tar.gz" -C "$folder"
done

# Sentences of 3 to 16 words: similarity's training part, subjects, questions, reviews of goods, news. None of SST.
varied() {
  awk -F'\t' '{ print $6; print $7 }' "$folder/stsb/sts-train.csv"
  for set in subj.all TREC.train.all custrev.all; do cut -d' ' -f2- "$folder/sentence_cls/$set"; done
  head -4000 "$folder/agnews/dev.tsv" | cut -f1
}
[ -f "$folder/texts.txt" ] || varied | iconv -f utf8 -t utf8 -c | awk 'NF >= 3 && NF <= 16' >"$folder/texts.txt"

row() { # NAME KEY: of the table, from a JSON document
  python3 -c 'import json, sys; print("| %s | %.5f |" % (sys.argv[1], json.load(sys.stdin)[sys.argv[2]]))' "$1" "$2"
}
make() { # STEM NETWORK TEXTS MAP OPTIONS...: STEM.fb
  stem=$1 network=$2 texts=$3 map=$4
  shift 4
  [ -f "$stem.fb" ] ||
    "$converter" reconstruct "$network" --map "$map" --calib "$texts" --calib-samples 100000 --ptq-samples 512 \
      --batch 32 --bfloat16 -o "$stem.fb" "$@" >"$stem.log"
}
on_codes() { # WHAT KEY NETWORK TEXTS TEST STEPS MAP...
  what=$1 key=$2 network=$3 texts=$4 test=$5 steps=$6
  shift 6
  for map in "$@"; do
    stem=$folder/$what-$(echo "$map" | tr -c 'a-z0-9.\n' '-')
    make "$stem-start" "$network" "$texts" "$map" --steps 0
    "$build/runtime/cli/mpqrun" eval "$stem-start.fb" --dataset "$test" --json | row "$map, not trained" "$key"
    # shellcheck disable=SC2086  # STUDY_OPTIONS are words
    make "$stem" "$network" "$texts" "$map" --steps "$steps" --rate 0.015 --checkpoint "$stem.steps" ${STUDY_OPTIONS-}
    "$build/runtime/cli/mpqrun" eval "$stem.fb" --dataset "$test" --json | row "$map" "$key"
  done
}

if [ "$part" != sst2 ]; then
  printf '| STS-B | Spearman |\n| --- | ---: |\n'
  test=stsb:$folder/stsb/sts-test.csv
  "$converter" evaluate "$encoder" --dataset "$test" --json | row float spearman
  on_codes sts spearman "$encoder" "txt:$folder/texts.txt" "$test" 500 "$@"
fi
if [ "$part" != sts ]; then
  printf '| SST-2 | accuracy |\n| --- | ---: |\n'
  train=glue-tsv:$folder/sst2_glue/train.tsv test=glue-tsv:$folder/sst2_glue/test.tsv
  classifier=$folder/sst2
  [ -f "$classifier.json" ] || {
    "$converter" train "$encoder" --dataset "$train" --test "$test" --epochs 1 --bfloat16 --checkpoint "$classifier.steps" \
      -o "$classifier" --json >"$classifier.part"
    mv "$classifier.part" "$classifier.json"
  }
  row float test_accuracy <"$classifier.json"
  on_codes sst2 accuracy "$classifier" "$train" "$test" 500 "$@"
fi
