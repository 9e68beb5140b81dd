#!/bin/sh
# gpu_check.sh without a GPU is skipped, never passed; also where the driver is the tests' own.
#   test_gpu_check.sh GPU_CHECK BUILD       MPQ_FAKE_DRIVER: the folder of the tests' driver
set -u
check=$1 build=$2
page=$(mktemp)
trap 'rm -f "$page"' EXIT
failed=0
for path in "" "$MPQ_FAKE_DRIVER"; do
  LD_LIBRARY_PATH=$path "$check" "$build" "$page" >"$page.log" 2>&1
  code=$?
  if [ $code != 77 ] || ! grep -q '^SKIPPED: gpu_check: ' "$page.log" || [ -s "$page" ]; then
    echo "gpu_check: exit $code instead of 77 (libraries: $path)"
    cat "$page.log"
    failed=1
  fi
  rm -f "$page.log"
done
exit $failed
