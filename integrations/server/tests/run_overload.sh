#!/bin/sh
# Twice what the server can answer.   run_overload.sh SOURCE_ROOT MPQSERVE LIBRARY TINY TEXT [options of overload.py]
set -eu
root=$1
MPQSERVE=$2 MPQ_LIBRARY=$3 MPQ_TINY=$4
shift 5
PYTHONPATH=$root/integrations/python PYTHONDONTWRITEBYTECODE=1
export MPQSERVE MPQ_LIBRARY MPQ_TINY PYTHONPATH PYTHONDONTWRITEBYTECODE
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: server overload: a sanitizer build is not loaded by Python"
  exit 77
fi
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
exec "$python" "$root/integrations/server/tests/overload.py" "$@"
