#!/bin/sh
# Makes the real 4-bit ResNet-50 from the data folder and prints its place as an option for peers.py.
#   scripts/real_models.sh BUILD        -> --model w4a4=BUILD/models/resnet50_w4a4.fb
set -eu
build=$1
data=${MPQ_DATA:-../shared/data}
models=$build/models
archive=$data/resnet50_w4a4_nvidia.tar.xz
if [ ! -f "$archive" ]; then
  echo "real_models: $archive: not found; set MPQ_DATA to the folder that holds it" >&2
  exit 3
fi
mkdir -p "$models"
if [ ! -f "$models/resnet50_w4a4.fb" ]; then
  tar -xJf "$archive" -C "$models"
  labels=
  if [ -f "$data/imagenet_val_dev800.tar" ]; then
    tar -xf "$data/imagenet_val_dev800.tar" -C "$models"
    labels="--labels $models/imagenet_val_dev800/synset_words.txt"
  fi
  # shellcheck disable=SC2086  # two words or none
  "$build/converter/mpqconvert" convert "$models/resnet50_w4a4_nvidia" $labels -o "$models/resnet50_w4a4.fb" >&2
fi
echo "--model w4a4=$models/resnet50_w4a4.fb"
