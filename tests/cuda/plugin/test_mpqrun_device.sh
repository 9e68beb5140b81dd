#!/bin/sh
# mpqrun --device: without a GPU one sentence and exit 9; with the tests' driver, where it was built, the CPU's answers.
#   test_mpqrun_device.sh MPQRUN MODEL FOLDER       FOLDER: of the driver and of the small networks
set -u
mpqrun=$1 model=$2 folder=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
unset LD_LIBRARY_PATH  # Meson names the folder of the tests' driver in it
# expect CODE TEXT COMMAND...
expect() {
  code=$1 text=$2
  shift 2
  "$@" >"$work/out" 2>&1
  got=$?
  [ $got = "$code" ] && grep -q -- "$text" "$work/out" && return
  echo "exit $got, not $code with '$text': $*"
  cat "$work/out"
  failed=1
}
expect 9 'device unavailable: ' "$mpqrun" "$model" --bench -d cuda
expect 9 'device unavailable: ' env MPQ_DEVICE=cuda "$mpqrun" info "$model" --kernels
expect 2 'device: gpu is not cpu, cuda or cuda:N' "$mpqrun" "$model" --bench -d gpu
expect 2 'are of the CPU' "$mpqrun" "$model" --bench -d cuda -t 2
[ -e "$folder/libcuda.so.1" ] || exit $failed
with_driver() { env LD_LIBRARY_PATH="$folder" "$@"; }
expect 5 'layer grouped (conv2d): 4 groups on CUDA' with_driver "$mpqrun" "$model" --bench -d cuda
expect 9 'GPU 1 asked for, the driver sees 1' with_driver "$mpqrun" "$folder/residual.mpq" --bench -d cuda:1
expect 9 'cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY' with_driver MPQ_FAKE_CUDA=out_of_memory "$mpqrun" "$folder/residual.mpq" --bench -d cuda
expect 9 'CUDA_ERROR_LAUNCH_FAILED' with_driver MPQ_FAKE_CUDA=launch_fails "$mpqrun" "$folder/residual.mpq" --bench -d cuda
expect 8 'bytes on the GPU for activations' with_driver "$mpqrun" "$folder/residual.mpq" --bench -d cuda -b 64 --memory-limit 1
# Samples, values, values that differ.
expect 0 '^ *2  *200  *0 ' with_driver "$mpqrun" compare "$folder/residual.mpq" -d cpu,cuda --rounds 2
expect 0 'conv_u4s4' with_driver "$mpqrun" "$folder/residual.mpq" --profile -d cuda --by kernel -n 3 --warmup 0
exit $failed
