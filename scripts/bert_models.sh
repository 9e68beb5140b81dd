#!/bin/sh
# Makes a BERT-base with random weights and converts it to each precision, once, in the cache folder; prints their
# places as options for peers.py.
#   scripts/bert_models.sh BUILD
set -eu
build=$1
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
folder=$cache/bert-base-random
texts=$data/stsb.tar.gz
if [ ! -f "$texts" ]; then
  echo "bert_models: $texts: not found; set MPQ_DATA to the folder that holds it" >&2
  exit 3
fi
if [ ! -f "$folder/ready" ]; then
  words=$data/bert_base_uncased_vocab.txt
  [ -f "$words" ] || words=
  "$(bench/peers_venv.sh)/bin/python" bench/random_bert.py "$folder" ${words:+"$words"}
  touch "$folder/ready"
fi
for entry in w8a8=uniform:8 w4a8=uniform:4/8 w4a4=uniform:4 eagl75=eagl:budget=0.75,bits=4/2,cost=bmac w2a2=uniform:2; do
  model=$folder/${entry%%=*}.fb
  if [ ! -f "$model" ]; then
    echo "bert_models: converting to ${entry%%=*}" >&2
    "$build/converter/mpqconvert" convert -q "$folder" -o "$model" --map "${entry#*=}" --calib "stsb:$texts#sts-train.csv" \
      --calib-samples 128
  fi
  echo "--model ${entry%%=*}=$model"
done
