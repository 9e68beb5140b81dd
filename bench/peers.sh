#!/bin/sh
# Times mpq beside its peers: a fresh virtual environment with pinned packages, real models when the data
# folder has them, results under docs/results/.
#   bench/peers.sh BUILD [options of peers.py]
set -eu
build=$1
shift
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
mkdir -p "$cache" docs/results
venv=$cache/peers-venv
if [ ! -f "$venv/ready" ]; then
  echo "peers: making a Python environment with OpenVINO and ONNX Runtime in the cache folder" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
  touch "$venv/ready"
fi
models=$(scripts/real_models.sh "$build")
# shellcheck disable=SC2086  # a list of options
exec "$venv/bin/python" bench/peers.py $models --worker "$build/bench/peer_worker" --cache "$cache" \
  --markdown "docs/results/peers-$(date +%F).md" "$@"
