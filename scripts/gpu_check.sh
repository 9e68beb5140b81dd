#!/bin/sh
# Everything there is to check on a machine with an NVIDIA GPU, in about ten minutes; the page goes to docs/results/.
#   scripts/gpu_check.sh BUILD [PAGE]
# Exit 0: all passed; 1: something failed (the page says what); 77: no GPU here, nothing was checked.
# Needs a build with -Dcuda=enabled on this machine, or one copied here with its folders. MPQ_DATA and ~/.cache/mpq give
# the real networks (scripts/real_models.sh, scripts/bert_models.sh); without them only the small ones are run, and it says so.
set -u
build=$1
page=${2:-docs/results/gpu-$(date +%F).md}
tests=$build/tests/cuda/plugin
mpqrun=$build/runtime/cli/mpqrun
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$tests/check_network" "$tests/test_on_device" "$mpqrun" "$build/runtime/libmpq_cuda.so"; do
  [ -e "$program" ] || { echo "gpu_check: $program: not built; it needs nvcc (-Dcuda=enabled)" >&2; exit 1; }
done
plugin=$(cd "$build/runtime" && pwd)/libmpq_cuda.so

"$tests/check_network" "$tests/matrix.mpq" >"$log" 2>&1
case $? in
  0) ;;
  77) echo "SKIPPED: gpu_check: $(cat "$log")"; exit 77 ;;
  *) cat "$log" >&2; exit 1 ;;
esac
device=$(sed -nE 's/.* on (cuda:0 \(.*\)): .*/\1/p' "$log")
case $device in *"PTX machine"*) pretended=1 ;; *) pretended=0 ;; esac
if [ $pretended = 1 ] && [ -z "${MPQ_GPU_CHECK_REHEARSAL:-}" ]; then
  echo "SKIPPED: gpu_check: the driver is the tests' own, no GPU"; exit 77
fi

failed=0
passed=0
rows=$(mktemp)
# step NAME COMMAND...: a row of the page; output is shown only when it failed.
step() {
  name=$1
  shift
  begin=$(date +%s)
  "$@" >"$log" 2>&1
  code=$?
  took=$(($(date +%s) - begin))
  last=$(grep -v '^$' "$log" | tail -1 | tr '|' '/' | cut -c1-140)
  if [ $code = 0 ]; then
    passed=$((passed + 1)); verdict=passed
  elif [ $code = 77 ]; then
    verdict='skipped (not counted)'
  else
    failed=$((failed + 1)); verdict="FAILED ($code)"; tail -20 "$log" >&2
  fi
  echo "| $name | $verdict | $took | $last |" | tee -a "$rows"
}

# Kernels against the references of kernels/, network by network against the CPU's session.
for source in attention conv elementwise norm sequences; do
  step "kernels: $source" env MPQ_CUDA_PLUGIN="$plugin" "$tests/test_on_device" "--source-file=*test_$source.cc"
done
networks="$tests/images.mpq $tests/matrix.mpq $tests/codes.mpq $tests/residual.mpq $tests/text.mpq"
for network in $networks; do
  step "network: $(basename "$network")" "$tests/check_network" "$network" 20
done
# The PTX inside instead of machine code: what a chip newer than the plug-in would run.
for network in $networks; do
  step "network, PTX by the driver: $(basename "$network")" env CUDA_FORCE_PTX_JIT=1 "$tests/check_network" "$network" 3
done
real=
if [ $pretended = 0 ]; then
  real="$(scripts/real_models.sh "$build" 2>/dev/null | sed -n 's/^--model //p') $(scripts/bert_models.sh "$build" 2>/dev/null | sed -n 's/^--model //p')"
fi
for entry in $real; do
  step "network: $(basename "${entry#*=}")" "$tests/check_network" "${entry#*=}" 3 128
done
[ -n "${real# }" ] || echo "| real networks | not here | 0 | set MPQ_DATA |" | tee -a "$rows"

# Accesses out of bounds, races on shared memory, barriers that not all reach.
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
for tool in memcheck racecheck synccheck initcheck; do
  for network in residual text; do
    if [ -x "$sanitizer" ]; then
      step "compute-sanitizer $tool: $network.mpq" "$sanitizer" --tool $tool --error-exitcode 9 "$tests/check_network" "$tests/$network.mpq" 2
    else
      echo "| compute-sanitizer $tool: $network.mpq | not here | 0 | |" | tee -a "$rows"
    fi
  done
done

times=$(mktemp)
for entry in $real; do
  case $entry in *resnet50*) batches=1,8,64 ;; *) batches=1,8,32 ;; esac
  { echo; echo "### $(basename "${entry#*=}")"; echo
    "$mpqrun" "${entry#*=}" --bench -d cuda -b $batches --seq-len 128 --format md 2>&1 ||
      "$mpqrun" "${entry#*=}" --bench -d cuda -b $batches --format md 2>&1
    echo; "$mpqrun" "${entry#*=}" --profile -d cuda --by kernel --format md 2>&1; } >>"$times"
done

{
  printf '# Checks on a GPU\n\n%s, commit %s. %s, driver %s, Linux %s. Made by `make gpu-check`.\n\n' "$(date +%F)" \
    "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "$device" \
    "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)" "$(uname -r)"
  printf '%s passed, %s failed.\n\n| check | result | s | last line |\n| --- | --- | ---: | --- |\n' $passed $failed
  cat "$rows"
  [ ! -s "$times" ] || { printf '\n## Times\n\nMeasured with `mpqrun --bench`: graph replay with copies from and to pageable memory of the host.\n'; cat "$times"; }
} >"$page"
rm -f "$rows" "$times"
echo "$page: $passed passed, $failed failed"
[ $failed = 0 ]
