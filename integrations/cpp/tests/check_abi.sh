#!/bin/sh
# Compares the interface with the recorded one; after an intended change: dump_abi.sh LIBRARY > RECORD.
#   check_abi.sh LIBRARY RECORD
set -eu
library=$1 record=$2
command -v abidiff >/dev/null || { echo "SKIPPED: abi: no abidiff (Debian: abigail-tools)"; exit 77; }
if nm "$library" | grep -q -E '__(asan|tsan|ubsan)'; then
  echo "SKIPPED: abi: sanitizers add functions to the interface"
  exit 77
fi
abidiff "$record" "$library" || { echo "abi: the interface is not that of $record"; exit 1; }

# Planted: a function that was there, a field that lay elsewhere, a status of another value.
planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
for change in "s/mpq_session_run/mpq_session_ran/g" "s/layout-offset-in-bits='128'/layout-offset-in-bits='160'/" \
  "s/name='MPQ_CHECKSUM' value='12'/name='MPQ_CHECKSUM' value='14'/"; do
  sed "$change" "$record" >"$planted/old.abi.xml"
  ! cmp -s "$record" "$planted/old.abi.xml" || { echo "abi: $change changes nothing"; exit 1; }
  if abidiff "$planted/old.abi.xml" "$library" >/dev/null; then
    echo "abi: accepted $change"
    exit 1
  fi
done
