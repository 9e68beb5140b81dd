#!/bin/sh
# Grows a trained ResNet-50 of the data folder to the shape of ResNet-101 and converts it to each precision, once, in
# the cache folder; prints their places as options for peers.py.
#   scripts/grown_models.sh BUILD
set -eu
build=$1
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
folder=$cache/resnet101-grown
for file in resnet_pqf.tar imagenet_train1000_224.tar; do
  if [ ! -f "$data/$file" ]; then
    echo "grown_models: $data/$file: not found; set MPQ_DATA to the folder that holds it" >&2
    exit 3
  fi
done
mkdir -p "$folder"
if [ ! -f "$folder/grown.onnx" ]; then
  tar -xOf "$data/resnet_pqf.tar" pqf/resnet50_large.pth >"$folder/resnet50.pth"
  "$build/converter/pqf_to_onnx" "$folder/resnet50.pth" "$folder/part" --grow=3:23 >&2
  mv "$folder/part" "$folder/grown.onnx"
fi
for entry in w8a8=uniform:8 w4a4=uniform:4 eagl75=eagl:budget=0.75,bits=4/2; do
  model=$folder/${entry%%=*}.fb
  if [ ! -f "$model" ]; then
    echo "grown_models: converting to ${entry%%=*}" >&2
    "$build/converter/mpqconvert" convert -q "$folder/grown.onnx" -o "$model" --map "${entry#*=}" \
      --calib "$data/imagenet_train1000_224.tar"
  fi
  echo "--model ${entry%%=*}=$model"
done
