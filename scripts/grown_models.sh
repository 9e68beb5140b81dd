#!/bin/sh
# Converts a trained ResNet-50 of the data folder, as it is or grown to the shape of ResNet-101, to each precision, once,
# in the cache folder; prints their places as options for peers.py.
#   scripts/grown_models.sh BUILD [resnet50|resnet101]
set -eu
build=$1
network=${2:-resnet101}
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
case $network in
  resnet50) grow= folder=$cache/resnet50-trained ;;
  resnet101) grow=--grow=3:23 folder=$cache/resnet101-grown ;;
  *) echo "grown_models: no network '$network' (resnet50, resnet101)" >&2; exit 2 ;;
esac
for file in resnet_pqf.tar imagenet_train1000_224.tar; do
  if [ ! -f "$data/$file" ]; then
    echo "grown_models: $data/$file: not found; set MPQ_DATA to the folder that holds it" >&2
    exit 3
  fi
done
mkdir -p "$folder"
if [ ! -f "$folder/grown.onnx" ]; then
  tar -xOf "$data/resnet_pqf.tar" pqf/resnet50_large.pth >"$folder/resnet50.pth"
  "$build/converter/pqf_to_onnx" "$folder/resnet50.pth" "$folder/part" $grow >&2
  mv "$folder/part" "$folder/grown.onnx"
fi
for entry in w8a8=uniform:8 w4a4=uniform:4 eagl75=eagl:budget=0.75,bits=4/2,cost=bmac w2a2=uniform:2; do
  model=$folder/${entry%%=*}.fb
  if [ ! -f "$model" ]; then
    echo "grown_models: converting to ${entry%%=*}" >&2
    "$build/converter/mpqconvert" convert -q "$folder/grown.onnx" -o "$model" --map "${entry#*=}" \
      --calib "$data/imagenet_train1000_224.tar" --calib-samples 128
  fi
  echo "--model ${entry%%=*}=$model"
done
