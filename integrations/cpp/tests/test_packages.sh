#!/bin/sh
# Installs into an empty folder, moves it, and builds a project outside with CMake, and the C++ example
# with pkg-config; each must find the class that the naive interpreter finds.
#   test_packages.sh BUILD SOURCE MODEL INPUT EXPECTED
set -eu
build=$1 source=$2 model=$3 input=$4 expected=$5
for tool in meson cmake pkg-config cc c++; do
  command -v "$tool" >/dev/null || { echo "SKIPPED: packages: no $tool"; exit 77; }
done
if nm -D "$build/runtime/libmpq.so" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: packages: a sanitizer build is not installed"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
DESTDIR=$folder/first meson install -C "$build" --no-rebuild --quiet
mv "$folder/first" "$folder/root"  # neither package may hold the place it was installed to
libdir=$(dirname "$(find "$folder/root" -name libmpq.so)")
prefix=$(dirname "$(dirname "$(find "$folder/root" -name mpq.hpp)")")

# Index of the largest of the expected floats.
want=$(od -An -v -t f4 -w4 "$expected" | awk 'NR == 1 || $1 > best { best = $1; at = NR - 1 } END { print at }')
must_find() {
  got=$(LD_LIBRARY_PATH=$libdir "$1" "$model" "$input" | cut -d' ' -f1)
  [ "$got" = "$want" ] || { echo "packages: $1 found class $got, expected $want"; exit 1; }
}

mkdir "$folder/outside"
cp "$source/examples/minimal.c" "$source/integrations/cpp/classify.cc" "$source/integrations/cpp/tests/outside/CMakeLists.txt" "$folder/outside"
cmake -S "$folder/outside" -B "$folder/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log" 2>&1 &&
  cmake --build "$folder/cmake" >>"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
for program in minimal classify classify_static; do must_find "$folder/cmake/$program"; done

# A version that is not there must not be found.
sed -i 's/find_package(mpq 0.1/find_package(mpq 0.2/' "$folder/outside/CMakeLists.txt"
if cmake -S "$folder/outside" -B "$folder/wrong" -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log" 2>&1; then
  echo "packages: find_package(mpq 0.2) found $(cat "$folder/log")"
  exit 1
fi

export PKG_CONFIG_SYSROOT_DIR="$folder/root" PKG_CONFIG_PATH="$libdir/pkgconfig"
# shellcheck disable=SC2046  # lists of words
c++ -std=c++20 -Wall -Wextra -Werror $(pkg-config --cflags mpq) "$source/integrations/cpp/classify.cc" $(pkg-config --libs mpq) -o "$folder/classify"
must_find "$folder/classify"

# The header throws what the library says.
if LD_LIBRARY_PATH=$libdir "$folder/classify" "$input" "$input" 2>"$folder/said"; then exit 1; fi
grep -q "classify: " "$folder/said"
