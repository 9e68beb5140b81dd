#!/bin/sh
# The manifests' tests. SUBJECT: mpqserve. Arguments: see integrations/scale_out/env.sh.
set -eu
name=kserve environment=manifests requirements=integrations/kserve/requirements.txt
. "$1/integrations/scale_out/env.sh"
export MPQSERVE="$MPQ_SUBJECT"
exec "$python" -m pytest -q -rs -p no:cacheprovider "${@:-.}"
