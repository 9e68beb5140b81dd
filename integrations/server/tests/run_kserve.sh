#!/bin/sh
# The clients of KServe's SDK.   run_kserve.sh SOURCE_ROOT MPQSERVE TINY
set -eu
root=$1
MPQSERVE=$2 MPQ_TINY=$3 PYTHONDONTWRITEBYTECODE=1
export MPQSERVE MPQ_TINY PYTHONDONTWRITEBYTECODE
python=$("$root/scripts/python_env.sh" kserve "$root/integrations/server/tests/requirements-kserve.txt") || { echo "$python"; exit 77; }
exec "$python" "$root/integrations/server/tests/kserve_clients.py"
