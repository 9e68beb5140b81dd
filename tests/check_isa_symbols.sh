#!/bin/sh
# No weak symbol may leave a library compiled for an instruction set: the linker could keep that copy of
# an inline function for every machine.
#   tests/check_isa_symbols.sh NM LIBRARY...
set -u
nm=$1
shift
[ $# -gt 0 ] || { echo "SKIPPED: isa_symbols: no library for an instruction set in this build"; exit 77; }
status=0
for library; do
  symbols=$("$nm" -C "$library") || exit 2
  echo "$symbols" | grep -q ' [Tt] ' || { echo "$library: no code at all"; status=1; }
  weak=$(echo "$symbols" | grep -E ' [WVu] ') || continue
  echo "$weak" | sed "s|^|$library: weak: |"
  status=1
done
exit $status
