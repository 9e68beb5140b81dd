#!/bin/sh
# The page of the modelled speed of the CUDA kernels, under docs/results/.
#   tests/cuda/model/cuda_model.sh BUILD
set -eu
build=$1
model=$build/tests/cuda/model/cuda_model
[ -x "$model" ] || { echo "cuda-model: nvcc was not found when $build was made: there is no PTX to count" >&2; exit 1; }
resnet=$(scripts/real_models.sh "$build" | sed -n 's/^--model w4a4=//p')
bert=$(scripts/bert_models.sh "$build" | sed -n 's/^--model w4a4=//p')
page=docs/results/cuda-modelled-$(date +%F).md
"$model" --ptx "$build/kernels/cuda" --budget tests/cuda/machine_code/budget.txt --resnet50 "$resnet" --bert-base "$bert" > "$page"
echo "$page"
