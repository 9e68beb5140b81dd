#!/bin/sh
# Makes the Python environment of the peers in the cache folder, packages pinned, and prints its place.
set -eu
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
venv=$cache/peers-venv
packages="openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 matplotlib==3.11.2"
if [ "$(cat "$venv/ready" 2>/dev/null)" != "$packages" ]; then
  echo "peers: making a Python environment with OpenVINO and ONNX Runtime in the cache folder" >&2
  mkdir -p "$cache"
  python3 -m venv "$venv"
  # shellcheck disable=SC2086  # a list of packages
  "$venv/bin/pip" install -q $packages >&2
  echo "$packages" >"$venv/ready"
fi
echo "$venv"
