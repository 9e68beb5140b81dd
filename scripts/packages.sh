#!/bin/sh
# Builds the Debian packages into build-deb/packages and lets lintian look at them: whatever it says above
# "info" is a failure. Works on the sources as they are; compiles only what has changed since the last time.
#   scripts/packages.sh          DEB_BUILD_OPTIONS=noautodbgsym: without packages of debug information
set -eu
cd "$(dirname "$0")/.."
packages=$PWD/build-deb/packages
rm -rf "$packages" debian/debhelper-build-stamp debian/.debhelper
mkdir -p "$packages"
PACKAGES=$packages DEB_BUILD_OPTIONS="parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}" debian/rules binary >build-deb/log 2>&1 || {
  tail -50 build-deb/log
  exit 1
}
ls -s --block-size=1K "$packages"/*.deb | sed 's|[^ ]*/||'
lintian --allow-root --fail-on error,warning --profile debian --tag-display-limit 0 "$packages"/*.deb
echo "lintian $(lintian --print-version): clean"
