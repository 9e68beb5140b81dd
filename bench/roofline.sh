#!/bin/sh
# A roofline page under docs/results/ of one network at W4A4; with AMX and without it where the CPU has it.
#   bench/roofline.sh BUILD [NETWORK [options of roofline.py]]     resnet50 bert-base
set -eu
build=$1
network=${2:-resnet50}
shift "$(($# < 2 ? $# : 2))"
length=
case $network in
  resnet50) models=$(scripts/real_models.sh "$build") ;;
  bert-base) models=$(scripts/bert_models.sh "$build"); length="--seq-len 128" ;;
  *) echo "roofline: no network '$network' (resnet50, bert-base)" >&2; exit 2 ;;
esac
isa=auto
if grep -q amx_int8 /proc/cpuinfo; then isa=amx,avx512vnni; fi
mkdir -p docs/results
page=docs/results/roofline-$network-$(date +%F).md
# shellcheck disable=SC2086  # an option and its value, or nothing
bench/roofline.py --mpqrun "$build/runtime/cli/mpqrun" --isa $isa $length --markdown "$page" "$@" \
  "$(echo "$models" | sed -n 's/^--model w4a4=//p')"
echo "$page"
