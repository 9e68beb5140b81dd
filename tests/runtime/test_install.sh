#!/bin/sh
# Installs into an empty folder and builds the example against nothing but that, shared and static, as C
# and as C++.   test_install.sh BUILD_FOLDER SOURCE_FOLDER MODEL INPUT EXPECTED
set -eu
build=$1 source=$2 model=$3 input=$4 expected=$5
for tool in meson pkg-config cc c++; do
  command -v "$tool" > /dev/null || { echo "SKIPPED: install: no $tool"; exit 77; }
done
if [ -n "$(find "$build" -path '*libmpq.so.*' -type f -exec sh -c 'readelf -sW "$1" | grep -l -E "__(asan|tsan|ubsan)_"' _ {} \; 2> /dev/null)" ]; then
  echo "SKIPPED: install: a sanitizer build is not installed"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
DESTDIR=$folder meson install -C "$build" --no-rebuild --quiet
pc=$(find "$folder" -name mpq.pc)
library=$(dirname "$(find "$folder" -name libmpq.so)")
static=$(find "$folder" -name libmpq.a)
[ -n "$pc" ] && [ -n "$static" ]
export PKG_CONFIG_SYSROOT_DIR=$folder PKG_CONFIG_PATH=$(dirname "$pc")
flags=$(pkg-config --cflags mpq)
libs=$(pkg-config --libs mpq)
private=$(pkg-config --static --libs-only-l mpq | sed 's/-lmpq//')
run() {
  LD_LIBRARY_PATH=$library "$1" "$model" "$input" > "$folder/printed"
  # Largest float of the expected output, by od: index and value.
  od -An -v -t f4 -w4 "$expected" | awk 'NR == 1 || $1 > best { best = $1; at = NR - 1 } END { print at }' > "$folder/want"
  [ "$(cut -d' ' -f1 < "$folder/printed")" = "$(cat "$folder/want")" ] || { echo "install: $1 printed $(cat "$folder/printed"), expected class $(cat "$folder/want")"; exit 1; }
}
cc -std=c99 -Wall -Wextra -Werror $flags "$source/examples/minimal.c" $libs -o "$folder/shared"
run "$folder/shared"
cc -std=c99 $flags "$source/examples/minimal.c" "$static" $private -o "$folder/static"
run "$folder/static"
c++ -x c++ -std=c++17 $flags "$source/examples/minimal.c" -x none $libs -o "$folder/cxx"
run "$folder/cxx"
[ "$(pkg-config --modversion mpq)" = "$(sed -n "s/.*version: '\([0-9.]*\)'.*/\1/p" "$source/meson.build" | head -1)" ]
