#!/bin/sh
# The harness's tests.   run_tests.sh SOURCE_ROOT LIBRARY TINY TEXT
set -eu
root=$1
MPQ_LIBRARY=$2 MPQ_TINY=$3 MPQ_TEXT=$4
PYTHONPATH=$root/integrations/python:$root/integrations/loadgen PYTHONDONTWRITEBYTECODE=1
export MPQ_LIBRARY MPQ_TINY MPQ_TEXT PYTHONPATH PYTHONDONTWRITEBYTECODE
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: loadgen: a sanitizer build is not loaded by Python"
  exit 77
fi
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
exec "$python" -m pytest -q -rs -p no:cacheprovider "$root/integrations/loadgen"
