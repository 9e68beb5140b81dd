#!/bin/sh
# Formatting, repository rules and clang-tidy over the files that git tracks.
#   scripts/lint.sh [--fast]      --fast: without clang-tidy (what the commit hook runs)
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
fail() { echo "lint: $1" >&2; failed=1; }

sources=$(git ls-files '*.c' '*.cc' '*.cu' '*.h' '*.hpp')
# shellcheck disable=SC2086  # a list of words
clang-format --dry-run -Werror $sources || fail "run: clang-format -i \$(git ls-files '*.c' '*.cc' '*.cu' '*.h' '*.hpp')"

git grep -nIE '[[:space:]]+$' -- ':!*.md' && fail "trailing white space"
for file in $(git ls-files); do
  size=$(wc -c <"$file")
  [ "$size" -le 1048576 ] || fail "$file: $size bytes, the limit is 1048576"
done
git grep -nE '(/home/|/root/|/work/)[a-z]' -- ':!scripts/lint.sh' && fail "a path of one machine"
git grep -nE 'TODO($|[^(])' -- '*.cc' '*.h' '*.hpp' && fail "TODO without a number: TODO(#12)"

if [ "${1:-}" != --fast ]; then
  [ -f build-clang/build.ninja ] || CC=clang CXX=clang++ meson setup build-clang -Dwerror=true >/dev/null
  ninja -C build-clang >/dev/null || fail "the clang build"
  checked=$(git ls-files 'format/*.cc' 'runtime/*.cc' 'converter/*.cc' 'kernels/*.cc' |
    grep -vE '_(avx2|avx512[a-z]*|amx|shani)\.cc$')
  # shellcheck disable=SC2086
  clang-tidy -p build-clang --quiet $checked || fail "clang-tidy"
fi
exit $failed
