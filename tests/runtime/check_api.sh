#!/bin/sh
# The functions of mpq.h, the exported symbols and the functions called by test_c_api.c are one list; and
# the shared library needs nothing but libc.   check_api.sh HEADER LIBRARY TEST
set -eu
header=$1 library=$2 test=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Declarations, joined to one line each: MPQ_API <type> <name>(
grep -v '^#' "$header" | tr '\n' ' ' | grep -o 'MPQ_API [a-z0-9_ *]*(' | sed 's/.*[ *]\(mpq_[a-z0-9_]*\) *(/\1/' | sort -u > "$folder/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort -u > "$folder/exported"
grep -o 'mpq_[a-z0-9_]* *(' "$test" | tr -d '( ' | sort -u > "$folder/tested"
failed=0
[ "$(wc -l < "$folder/declared")" -ge 50 ] || { echo "check_api: found too few declarations"; failed=1; }
diff "$folder/declared" "$folder/exported" || { echo "check_api: exported symbols differ from mpq.h"; failed=1; }
missing=$(comm -23 "$folder/declared" "$folder/tested")
[ -z "$missing" ] || { echo "check_api: not called by $test:" $missing; failed=1; }
# Sanitizers bring libraries of their own.
if ! readelf -sW "$library" | grep -q -E '__(asan|tsan|ubsan)'; then
  extra=$(readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -v -E '^(libc|libm|libpthread|ld-linux.*)\.so' || true)
  [ -z "$extra" ] || { echo "check_api: needs" $extra; failed=1; }
fi
readelf -d "$library" | grep -q 'SONAME.*libmpq\.so\.[0-9]' || { echo "check_api: no soname"; failed=1; }
exit $failed
