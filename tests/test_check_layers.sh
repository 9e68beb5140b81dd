#!/bin/sh
# check_layers.sh against planted includes: the clean tree passes, each wrong line is named.
#   tests/test_check_layers.sh CHECK_LAYERS
set -u
check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0
mkdir -p "$tree/kernels/conv" "$tree/format" "$tree/text" "$tree/runtime/cli" "$tree/runtime/ops" "$tree/converter/data" "$tree/converter/cli" "$tree/integrations/server" "$tree/manual"

# file LINE: writes one include; must_pass and must_fail judge the tree.
plant() { printf '%s\n' "$2" >"$tree/$1"; }
must_pass() { "$check" "$tree" >"$tree/out" 2>&1 || { echo "refused: $1"; cat "$tree/out"; failed=1; }; }
must_fail() {
  if "$check" "$tree" >"$tree/out" 2>&1; then
    echo "accepted: $1: $2"; failed=1
  elif ! grep -qF "$1:1:" "$tree/out"; then
    echo "refused without naming $1:"; cat "$tree/out"; failed=1
  fi
}
wrong() { plant "$1" "$2"; must_fail "$1" "$2"; rm "$tree/$1"; }
right() { plant "$1" "$2"; must_pass "$1: $2"; rm "$tree/$1"; }

must_pass 'an empty tree'
right kernels/conv/conv.cc '#include "kernels/conv/conv.h"'
right runtime/plan.cc '#include "kernels/conv/conv.h"'
right runtime/plan.cc '#include "format/model.h"'
right converter/lower.cc '#include "format/model.h"'
right text/tokenizer.cc '#include "format/model.h"'
right runtime/model.cc '#include "text/tokenizer.h"'
right runtime/cli/run.cc '#include "runtime/mpq.h"'
right runtime/cli/run.cc '#include "converter/data/image.h"'
right converter/cli/prepack.cc '#include "runtime/mpq.h"'
right integrations/server/facts.cc '#include "integrations/server/facts.h"'
right integrations/server/image_input.cc '#include "converter/data/image.h"'
right kernels/conv/conv_avx2.cc '#include <immintrin.h>'  # our list names the library's headers only
right runtime/cli/help.cc '#include "manual/program.h"'
right converter/mpqconvert.cc '#include "manual/cli11.h"'
wrong runtime/plan.cc '#include "manual/program.h"'
wrong manual/page.cc '#include "runtime/cli/args.h"'
wrong kernels/conv/conv.cc '#include "format/model.h"'
wrong kernels/conv/conv.h '#include "runtime/plan.h"'
wrong kernels/conv/conv.cc '#include <vector>'
wrong kernels/conv/conv.cc '#  include  <thread>'
wrong kernels/conv/conv_avx512vnni.cc '#include <cmath>'
wrong kernels/conv/tile_avx512vnni.h '#include <cstring>'
wrong format/reader.cc '#include "kernels/tensor.h"'
wrong format/reader.cc '#include "converter/graph.h"'
wrong format/reader.cc '#include "text/tokenizer.h"'
wrong text/tokenizer.cc '#include "runtime/plan.h"'
wrong kernels/conv/conv.cc '#include "text/tokenizer.h"'
wrong runtime/plan.cc '#include "converter/graph.h"'
wrong runtime/plan.cc '#include "runtime/cli/args.h"'
wrong runtime/ops/conv.cc '#include "tests/support/rng.h"'
wrong runtime/cli/run.cc '#include "runtime/session.h"'
wrong runtime/cli/run.cc '#include "format/model.h"'
wrong runtime/cli/run.cc '#include "kernels/cpu.h"'
wrong converter/lower.cc '#include "runtime/mpq.h"'
wrong converter/lower.cc '#include "../kernels/cpu.h"'
wrong converter/cli/prepack.cc '#include "runtime/prepack.h"'
wrong converter/cli/prepack.cc '#include "kernels/conv/conv.h"'
wrong integrations/server/facts.cc '#include "runtime/session.h"'
wrong integrations/server/facts.cc '#include "format/model.h"'
wrong runtime/session.cc '#include "integrations/server/job.h"'
wrong converter/data/image.cc '#include "runtime/mpq.h"'
wrong converter/data/image.cc '#include "converter/graph.h"'

rm -r "$tree/format"
"$check" "$tree" >/dev/null 2>&1 && { echo 'accepted: a tree without format/'; failed=1; }
exit $failed
