#!/bin/sh
# What precision costs sentence encoders: MiniLM and MPNet in float and converted without training, on all pairs of the
# STS benchmark's test part, and by a linear probe on SST-2. Prints a table in Markdown. Most of an hour on two cores.
#   scripts/text_accuracy.sh BUILD [MODEL ...]     all-MiniLM-L6-v2 all-mpnet-base-v2
set -eu
build=$1
shift
[ $# -gt 0 ] || set -- all-MiniLM-L6-v2 all-mpnet-base-v2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mpq
stsb=$MPQ_DATA/stsb.tar.gz
sst2=$MPQ_DATA/sst2_glue.tar.gz
train=8000
texts=512
maps='uniform:8 uniform:4/8 uniform:2/8 uniform:4
eagl:bits=8/4/2,activations=8,cost=bytes,budget=0.6 eagl:bits=4/2,activations=8,cost=bytes,budget=0.75
eagl:bits=8/4,budget=0.75 eagl:bits=4/2,budget=0.75'
scripts/install_deps.sh peers
python=$cache/probe-venv/bin/python
if ! "$python" -c 'import numpy' 2>/dev/null; then
  python3 -m venv "$cache/probe-venv"
  "$cache/probe-venv/bin/pip" install -q numpy==2.4.6
fi
scripts/fetch_text_models.sh --mpnet >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The first $train sentences of SST-2's train part, and all 872 of GLUE's dev part.
for part in train test; do
  tar -xzOf "$sst2" "sst2_glue/$part.tsv" | tail -n +2 >"$work/$part.tsv"
done
head -n "$train" "$work/train.tsv" >"$work/t" && mv "$work/t" "$work/train.tsv"
for part in train test; do
  cut -f1 "$work/$part.tsv" >"$work/$part.txt"
  awk -F '\t' -v part="$part" '{print part "\t" $2}' "$work/$part.tsv" >>"$work/labels.tsv"
done

echo "| network | map | file MB | STS-B Spearman | SST-2 own probe % | SST-2 float's probe % | sequences/s |"
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
for name in "$@"; do
  folder=$cache/$name
  for part in train test; do
    "$build/converter/mpqconvert" evaluate -q "$folder" --dataset "txt:$work/$part.txt" --save "$work/float.$part.npy"
  done
  float=$("$build/converter/mpqconvert" evaluate -q "$folder" --dataset "stsb:$stsb#sts-test.csv")
  spearman=$(echo "$float" | sed 's/.*Spearman \([0-9.]*\),.*/\1/')
  rate=$(echo "$float" | sed 's/.*, \([0-9.]*\) sequences.*/\1/')
  size=$(wc -c <"$folder/model.safetensors")
  probes="float=$work/float.train.npy,$work/float.test.npy"
  printf 'float\t%s\t%s\t%s\n' "$size" "$spearman" "$rate" >"$work/rows"
  row=0
  for map in $maps; do
    row=$((row + 1))
    model=$work/model.fb
    "$build/converter/mpqconvert" convert -q "$folder" -o "$model" --map "$map" --calib "stsb:$stsb#sts-train.csv" \
      --calib-samples "$texts"
    "$build/runtime/cli/mpqrun" -q "$model" --eval "stsb:$stsb#sts-test.csv" --batch 32 --json >"$work/eval.json"
    for part in train test; do
      "$build/runtime/cli/mpqrun" -q "$model" -i "$work/$part.txt" --batch 32 --save "$work/$row.$part.npy" >/dev/null
    done
    probes="$probes $row=$work/$row.train.npy,$work/$row.test.npy"
    "$python" - "$map" "$(wc -c <"$model")" "$work/eval.json" >>"$work/rows" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[3]))
print(sys.argv[1], sys.argv[2], f"{result['spearman']:.5f}", f"{result['sequences_per_second']:.0f}", sep="\t")
PYTHON
  done
  # shellcheck disable=SC2086  # a list
  "$python" scripts/probe.py "$work/labels.tsv" train test $probes >"$work/probe"
  paste "$work/rows" "$work/probe" | awk -F '\t' -v name="$name" \
    '{printf "| %s | `%s` | %.1f | %s | %s | %s | %s |\n", name, $1, $2 / 1e6, $3, $6, $7, $4}'
done
