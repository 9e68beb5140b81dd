#!/bin/sh
# Prints the Python of a virtual environment in the cache folder that has what REQUIREMENTS names, made
# on first use; when it cannot be made (no network), says so as a skipped check and ends with 77.
#   scripts/python_env.sh NAME REQUIREMENTS
set -eu
venv=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}/$1-venv
requirements=$2
if ! cmp -s "$requirements" "$venv/ready"; then
  mkdir -p "$(dirname "$venv")"
  exec 9>"$venv.lock"
  flock 9
fi
if ! cmp -s "$requirements" "$venv/ready"; then
  { [ -x "$venv/bin/python" ] || python3 -m venv "$venv"; } >&2 &&
    "$venv/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 15 -r "$requirements" >&2 ||
    { echo "SKIPPED: $1: Python packages of $(basename "$requirements") cannot be installed"; exit 77; }
  cp "$requirements" "$venv/ready"
fi
echo "$venv/bin/python"
