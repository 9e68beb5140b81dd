#!/bin/sh
# The back end's tests, in a real Triton. SUBJECT: libtriton_mpq.so. Arguments: see integrations/scale_out/env.sh.
set -eu
name=triton environment=triton requirements=integrations/triton/requirements.txt
. "$1/integrations/scale_out/env.sh"
exec "$python" -m pytest -q -rs -p no:cacheprovider "${@:-.}"
