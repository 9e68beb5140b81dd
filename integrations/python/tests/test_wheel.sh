#!/bin/sh
# Builds the wheel (in BUILD/wheel, kept for the next time), installs it into an empty environment and
# runs the package's tests against the library inside it.
#   test_wheel.sh BUILD
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
build=$(cd "$1" && pwd)
python=$("$root/scripts/python_env.sh" clients "$root/integrations/requirements.txt") || { echo "$python"; exit 77; }
PATH=$(dirname "$python"):$PATH
export PATH
rm -rf "$build/wheel/dist"
"$python" -m pip wheel -q "$root" --no-build-isolation --no-deps -w "$build/wheel/dist" -Cbuild-dir="$build/wheel/build"
# One wheel for every Python: nothing in it belongs to one of them.
ls "$build"/wheel/dist/mpq-*-py3-none-*.whl >/dev/null
"$python" -m venv "$build/wheel/empty" >/dev/null
"$build/wheel/empty/bin/python" -m pip install -q --disable-pip-version-check --force-reinstall numpy pytest "$build"/wheel/dist/mpq-*.whl
cd "$build/wheel"  # not where the sources are
export MPQ_TINY="$build/tests/runtime/tiny.mpq" MPQ_TEXT="$build/tests/runtime/text.mpq" MPQ_HEADER="$root/runtime/mpq.h"
"$build/wheel/empty/bin/python" -c 'import mpq, mpq._library as l; print("wheel:", mpq.__version__, l._path())' | grep -F .mpq.mesonpy.libs
exec "$build/wheel/empty/bin/python" -m pytest -q -p no:cacheprovider "$root/integrations/python/tests"
