#!/bin/sh
# The guide's commands, on the programs of a build.   test_guide.sh SOURCE LIBRARY PROGRAM...
set -eu
root=$1
MPQ_LIBRARY=$(realpath "$2") PYTHONPATH=$root/integrations/python PYTHONDONTWRITEBYTECODE=1
export MPQ_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE
shift 2
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: guide: a sanitizer build is not loaded by Python"
  exit 77
fi
command -v curl >/dev/null || { echo "SKIPPED: guide: no curl"; exit 77; }
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
PATH=$(dirname "$python"):$PATH
for program in "$@"; do PATH=$(dirname "$(realpath "$program")"):$PATH; done
exec "$python" "$root/docs/check_guide.py" "$root/docs/guide.md" "${XDG_CACHE_HOME:-$HOME/.cache}/mpq/all-MiniLM-L6-v2"
