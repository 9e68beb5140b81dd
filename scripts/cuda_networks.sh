#!/bin/sh
# Whole networks on the CUDA kernels without a GPU: ResNet-50 with trained 4-bit weights on one image and BERT-base on one
# sequence, through the library, the plug-in and a driver that executes nvcc's PTX; every tensor against the CPU's.
# Writes a page under docs/results/.
#   scripts/cuda_networks.sh BUILD [PAGE]
set -eu
build=$1
page=${2:-docs/results/cuda-networks-$(date +%F).md}
tests=$build/tests/cuda/plugin
tokens=16
if [ ! -x "$tests/check_network" ]; then
  echo "cuda_networks: $tests/check_network: not built; it needs nvcc (-Dcuda=enabled says what is missing)" >&2
  exit 5
fi
resnet=$(scripts/real_models.sh "$build" | sed -n 's/^--model w4a4=//p')
bert=$(scripts/bert_models.sh "$build" | sed -n 's/^--model w4a4=//p')
resnet101=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}/resnet101-grown/w4a4.fb
networks="resnet bert"
if [ -f "$resnet101" ]; then
  networks="resnet resnet101 bert"
else
  echo "SKIPPED: ResNet-101: no $resnet101; scripts/grown_models.sh makes it"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A photograph as the network's input takes it, without cutting: 224 x 224 pixels of 3 bytes.
photograph=$build/models/imagenet_val_dev800/ILSVRC2012_val_00000347.JPEG
echo "resize $photograph 224 224 1" | "$build/tests/converter/image_tool" | tail -c 150528 >"$work/image"

here=$(pwd)
failed=0
: >"$work/lines"
for arch in 75 80 90; do
  for network in $networks; do
    case $network in
      resnet) title=ResNet-50; set -- "$resnet" 1 0 "$work/image" ;;
      resnet101) title=ResNet-101; set -- "$resnet101" 1 0 "$work/image" ;;
      bert) title=BERT-base; set -- "$bert" 1 $tokens ;;
    esac
    log=$work/$network$arch
    LD_LIBRARY_PATH=$here/$tests MPQ_PTX=$here/$build/kernels/cuda MPQ_FAKE_CUDA_ARCH=$arch MPQ_FAKE_CUDA_LOG=$log \
      nice -n 19 "$tests/check_network" "$@" >"$work/line" || failed=1
    cat "$work/line"
    tail -1 "$work/line" | sed "s/^[^ ]* /$title /" >>"$work/lines"
    awk '{ n += $6; m += $8 } END { printf "%d %.1f %.2f\n", NR, n / 1e6, m / 1e6 }' "$log" >>"$work/counts"
  done
done

{
  printf '# Whole networks on the CUDA kernels, without a GPU\n\n'
  printf '%s, commit %s. %s, Linux %s, %s.\n' "$(date +%F)" "$(git rev-parse --short HEAD)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(uname -r)" "$(nvcc --version 2>/dev/null | sed -n 's/^Cuda compilation tools, //p' || true)"
  printf 'Made by `make cuda-networks`. **Executed by the PTX machine of tests/cuda/ptx, not by a GPU**: seconds say nothing about one.\n\n'
  printf 'ResNet-50 v1.5 with trained weights of 4 bits on a photograph, the same of ResNet-101 (grown from another ResNet-50, not trained); BERT-base of random weights of 4 bits on a sequence of %s random\n' $tokens
  printf 'tokens. The session is the one of `mpqrun --device cuda`: plan, upload, graph, download. Every activation tensor, second outputs\n'
  printf 'included, is compared with the AVX-512 or AMX session of the same file by its bytes.\n\n'
  printf '| network | PTX of | launches | thread instructions, M | warp products, M | tensors | bytes compared | tensors that differ | s |\n'
  printf '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n'
  # NETWORK on cuda:0 (PTX machine, sm_80): 1 runs of batch 1 in 32.9 s, 57 launches, 57 tensors, N bytes, N tensors differ
  paste -d' ' "$work/lines" "$work/counts" | tr -d '(),:' | awk '{
    printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", $1, $6, $(NF - 2), $(NF - 1), $NF, $17, $19, $21, $13 }'
} >"$page"
echo "$page"
exit $failed
