#!/bin/sh
# scripts/demo.sh where neither the package index nor the data folder gives anything: it must say so and
# show the whole path, text to table, on the encoder that it makes itself; a failing tool must fail it.
#   tests/e2e/test_demo.sh BUILD       from the root of the sources
set -u
build=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
fail() { echo "FAILED: $1"; failed=1; }

# A test installs nothing: every package counts as installed. Nor does it ask an index.
mkdir "$scratch/bin" "$scratch/build"
printf '#!/bin/sh\necho installed\n' >"$scratch/bin/dpkg-query"
chmod +x "$scratch/bin/dpkg-query"
ln -s "$build/converter" "$build/runtime" "$scratch/build/"
demo() {
  PATH=$scratch/bin:$PATH XDG_CACHE_HOME=$scratch/cache MPQ_DATA=$scratch/absent PIP_NO_INDEX=1 PIP_FIND_LINKS='' \
    scripts/demo.sh "$scratch/build" 2>&1
}

demo >"$scratch/log" || fail "exit status $?"
grep -q 'RANDOM WEIGHTS' "$scratch/log" || fail "nobody is told that the answers mean nothing"
grep -q 'no measure of quality' "$scratch/log" || fail "nobody is told that the scores are no benchmark"
awk '$1 == "float" || $1 == "int8" || $1 == "mixed" { rows += NF == ($1 == "mixed" ? 7 : 6) } END { exit rows != 3 }' \
  "$scratch/log" || fail "no table of three whole rows"
# Layers of 4 or 2 bits take less than half of what 8 bits take; answers are within 0.1 of a cosine of float's.
awk '$1 == "int8" { int8 = $3 } $1 == "mixed" && $2 == "4/2" { mixed = $4 } END { exit !(mixed > 0 && mixed < int8 / 2) }' \
  "$scratch/log" || fail "mixed precision is not smaller"
awk '/^mixed and float differ by/ { found = 1; bad = $6 > 0.1 } END { exit !found || bad }' "$scratch/log" || fail "mixed is far from float"
# What is empty leaves no bare word or colon behind.
grep -q 'left: *$' "$scratch/log" && fail "a progress line that ends in nothing"
"$build/runtime/cli/mpqrun" info "$scratch/build/models/tiny-encoder-int8.fb" | grep -q '^map  *uniform$' ||
  fail "info of a uniform map is not its one word"
"$build/runtime/cli/mpqrun" info "$scratch/build/models/tiny-encoder-mixed.fb" |
  grep -q '^map  *eagl, cost bytes, solver pareto-dp, budget 0.75, ptq weights$' || fail "info of a map found by search"
[ $failed = 0 ] || cat "$scratch/log"

rm "$scratch/build/runtime"
demo >"$scratch/log" && fail "a missing mpqrun went unnoticed"
exit $failed
