#!/bin/sh
# Installs the Debian packages that a task needs and that are missing, as root or through sudo; says
# what it does before it does it. Nothing outside the package manager is touched.
#   scripts/install_deps.sh build|lint|text|peers|server|integrations|scale-out|packages [--dry-run]
set -eu

build="g++ pkg-config meson ninja-build cmake flatbuffers-compiler libflatbuffers-dev doctest-dev
  libbenchmark-dev protobuf-compiler libprotobuf-dev libonnx-dev libdnnl-dev libjpeg62-turbo-dev
  libpng-dev zlib1g-dev python3-pil nlohmann-json3-dev libutf8proc-dev libcli11-dev libfmt-dev python3 tar xz-utils"
lint="clang clang-format clang-tidy libclang-rt-14-dev abigail-tools"
text="python3-venv"
peers="python3-venv"
server="libboost1.81-dev libssl-dev libnghttp2-dev libprotobuf-dev protobuf-compiler python3-venv"
# Proxies, and what makes network namespaces. Python packages (Triton, Ray, KServe) come from PyPI.
scale_out="$server haproxy iproute2 nginx-light util-linux"
# What the tests of integrations/ drive; prometheus is there for promtool.
integrations="$server abigail-tools curl man-db mandoc nghttp2-client openssl prometheus wrk zsh"
packages="$server debhelper debootstrap dh-python lintian"

task=${1:-build}
case $task in
  build) wanted=$build ;;
  lint) wanted="$build $lint" ;;
  text) wanted="$build $text" ;;
  peers) wanted="$build $peers" ;;
  server) wanted="$build $server" ;;
  integrations) wanted="$build $integrations" ;;
  scale-out) wanted="$build $scale_out" ;;
  packages) wanted="$build $packages" ;;
  *) echo "install_deps: unknown task '$task' (build, lint, text, peers, server, integrations, scale-out or packages)" >&2; exit 2 ;;
esac

missing=
for package in $wanted; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "install_deps: missing Debian packages:$missing" >&2
[ "${2:-}" != --dry-run ] || exit 0
if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "install_deps: not root and no sudo; run as root: apt-get install$missing" >&2
  exit 1
fi
echo "install_deps: installing them with: ${as_root:+$as_root }apt-get install --no-install-recommends" >&2
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
