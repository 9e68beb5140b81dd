#!/bin/sh
# The server's tests.   run_tests.sh SOURCE_ROOT MPQSERVE LIBRARY TINY TEXT [pytest arguments]
set -eu
root=$1
MPQSERVE=$(realpath "$2") MPQ_LIBRARY=$(realpath "$3") MPQ_TINY=$(realpath "$4") MPQ_TEXT=$(realpath "$5")
shift 5
PYTHONPATH=$root/integrations/python:$root/integrations/server/tests PYTHONDONTWRITEBYTECODE=1
export MPQSERVE MPQ_LIBRARY MPQ_TINY MPQ_TEXT PYTHONPATH PYTHONDONTWRITEBYTECODE
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: server: a sanitizer build is not loaded by Python"
  exit 77
fi
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
cd "$root/integrations/server/tests"
exec "$python" -m pytest -q -rs -p no:cacheprovider "${@:-.}"
