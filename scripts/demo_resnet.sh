#!/bin/sh
# Converts a real trained 4-bit ResNet-50, names what is in real images, measures its accuracy and its speed.
#   scripts/demo_resnet.sh BUILD
set -eu
build=$1
data=${MPQ_DATA:-../shared/data}
mpqrun=$build/runtime/cli/mpqrun
say() { printf '\n== %s\n' "$*"; }

say "1. convert: NVIDIA's trained W4A4 ResNet-50, exactly"
scripts/real_models.sh "$build" >/dev/null
model=$build/models/resnet50_w4a4.fb
"$mpqrun" info "$model"

say "2. run: what is in these pictures?"
for image in 00000347 00000361 00013593; do
  "$mpqrun" "$model" -i "$build/models/imagenet_val_dev800/ILSVRC2012_val_$image.JPEG"
done

say "3. evaluate: top-1 and top-5 on 800 labelled images"
"$mpqrun" "$model" --eval --dataset "imagenet:$data/imagenet_val_dev800.tar"

say "4. bench: one and two threads"
"$mpqrun" "$model" --bench -t 1,2
