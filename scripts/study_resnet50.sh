#!/bin/sh
# A trained ResNet-50 of the data folder on codes, without labels: quantised, then all layers trained together on the
# 1000 training images; by default all layers at 4 bits, and mixes of 4 and 2 bits by EAGL (from the codes of the 4-bit
# network) and at random. Prints top-1 on the 800 validation images as the integer runtime computes it. What is there
# already is kept: a study that was killed goes on.
#   scripts/study_resnet50.sh BUILD [MAP...]
# STUDY_OPTIONS: more options of `mpqconvert reconstruct`, such as "--whole-steps 1000".
set -eu
build=$1
shift
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
data=${MPQ_DATA:-../shared/data}
folder=$cache/resnet50-study
for file in resnet_pqf.tar imagenet_train1000_224.tar imagenet_val_dev800.tar; do
  if [ ! -f "$data/$file" ]; then
    echo "study_resnet50: $data/$file: not found; set MPQ_DATA to the folder that holds it" >&2
    exit 3
  fi
done
mkdir -p "$folder"
if [ ! -f "$folder/float.onnx" ]; then
  tar -xOf "$data/resnet_pqf.tar" pqf/resnet50_large.pth >"$folder/resnet50.pth"
  "$build/converter/pqf_to_onnx" "$folder/resnet50.pth" "$folder/part" >&2
  mv "$folder/part" "$folder/float.onnx"
fi
if [ $# -eq 0 ]; then
  set -- uniform:4
  for budget in 0.9 0.8 0.7; do
    for method in eagl random; do set -- "$@" "$method:budget=$budget,bits=4/2,cost=bmac"; done
  done
fi

reconstruct() { # STEM MAP OPTIONS...: STEM.fb
  stem=$1 map=$2
  shift 2
  [ -f "$stem.fb" ] && return
  # shellcheck disable=SC2086  # STUDY_OPTIONS are words
  "$build/converter/mpqconvert" reconstruct "$folder/float.onnx" --map "$map" --calib "$data/imagenet_train1000_224.tar" \
    --crop-only-small --steps 0 -o "$stem.fb" "$@" ${STUDY_OPTIONS-} >"$stem.log"
}
start() { # STEM MAP: STEM-start.fb, not trained, and STEM-start.onnx
  STUDY_OPTIONS='' reconstruct "$1-start" "$2" --ptq-images 256 --onnx "$1-start.onnx"
}
score() { # NAME MODEL
  "$build/runtime/cli/mpqrun" eval "$2" --dataset "imagenet:$data/imagenet_val_dev800.tar" --json |
    python3 -c 'import json, sys; r = json.load(sys.stdin); print("| %s | %.2f |" % (sys.argv[1], 100 * r["top1"]))' "$1"
}

start "$folder/uniform-4" uniform:4
echo "| network | top-1 % |"
echo "| --- | ---: |"
for words in "$@"; do
  stem=$folder/$(echo "$words" | tr -c 'a-z0-9.\n' '-')
  map=$words
  if [ "${words%%:*}" = eagl ]; then
    map=$stem.json
    "$build/converter/mpqconvert" search "$folder/uniform-4-start.onnx" --map "$words" -q -o "$map"
  fi
  start "$stem" "$map"
  score "$words, not trained" "$stem-start.fb"
  reconstruct "$stem" "$map" --start "$stem-start.onnx" --bfloat16 --batch 8 --whole-steps 468 --whole-rate 0.001 \
    --held-out 64 --checkpoint "$stem.checkpoint"
  score "$words" "$stem.fb"
done
