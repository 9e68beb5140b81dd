#!/bin/sh
# The interface of a library as libabigail sees it, to standard output:  dump_abi.sh LIBRARY
# Places and sizes that say nothing about the interface are left out.
set -eu
abidw --drop-undefined-syms --exported-interfaces-only \
  --no-comp-dir-path --no-corpus-path --no-show-locs --no-elf-needed --type-id-style hash "$1"
