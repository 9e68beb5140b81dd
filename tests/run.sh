#!/bin/sh
# Runs the tests of a build folder and ends with one line: N passed, N failed, N skipped.
#   tests/run.sh BUILD [meson test options]
set -u
build=$1
shift
meson test -C "$build" --no-rebuild --print-errorlogs "$@"
status=$?
python3 "$(dirname "$0")/summary.py" "$build/meson-logs/testlog.json" || status=1
exit $status
