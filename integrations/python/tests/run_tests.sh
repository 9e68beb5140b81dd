#!/bin/sh
# The tests of the Python package against a built library.
#   run_tests.sh SOURCE_ROOT LIBRARY TINY TEXT
set -eu
root=$1
MPQ_LIBRARY=$2 MPQ_TINY=$3 MPQ_TEXT=$4
MPQ_HEADER=$root/runtime/mpq.h PYTHONPATH=$root/integrations/python PYTHONDONTWRITEBYTECODE=1
export MPQ_LIBRARY MPQ_TINY MPQ_TEXT MPQ_HEADER PYTHONPATH PYTHONDONTWRITEBYTECODE
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: python: a sanitizer build is not loaded by Python"
  exit 77
fi
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
exec "$python" -m pytest -q -rs -p no:cacheprovider "$root/integrations/python/tests"
