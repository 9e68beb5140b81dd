#!/bin/sh
# The tests of the proxies' configurations. SUBJECT: mpqserve. Arguments: see integrations/scale_out/env.sh.
set -eu
name=proxy environment=clients requirements=integrations/requirements.txt takes_long=1
. "$1/integrations/scale_out/env.sh"
export MPQSERVE="$MPQ_SUBJECT"
command -v haproxy >/dev/null || command -v nginx >/dev/null ||
  skip "proxy: neither HAProxy nor nginx (Debian: haproxy, nginx-light; make scale-out installs them)"
if ./namespaces.sh true; then
  export MPQ_NAMESPACES=1
  exec ./namespaces.sh "$python" -m pytest -q -rs -p no:cacheprovider "${@:-.}"
fi
echo "SKIPPED: proxy: network namespaces are not permitted: the servers have 127.0.0.11 to 127.0.0.13 instead"
exec "$python" -m pytest -q -rs -p no:cacheprovider "${@:-.}"
