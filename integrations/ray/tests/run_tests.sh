#!/bin/sh
# The example on a real Ray. SUBJECT: mpq_serve.py. Arguments: see integrations/scale_out/env.sh.
set -eu
name=ray environment=ray requirements=integrations/ray/requirements.txt takes_long=1
. "$1/integrations/scale_out/env.sh"
export PYTHONPATH="$PYTHONPATH:$(dirname "$MPQ_SUBJECT")" RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0  # nodes on the loopback interface
# On busy machines everything takes longer than Ray allows.
export RAY_agent_register_timeout_ms=120000 RAY_worker_register_timeout_seconds=120
export RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S=120 RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S=120
exec "$python" -m pytest -q -rs -p no:cacheprovider --disable-warnings "${@:-.}"
