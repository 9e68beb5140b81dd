#!/bin/sh
# Encoders exported to ONNX by PyTorch, our float evaluation beside ONNX Runtime's: small ones with every head,
# MiniLM and MPNet. Fetches models and packages (PyTorch is large: 5 GB unpacked) into the cache.
#   scripts/check_encoders.sh BUILD
set -eu
build=$1
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
scripts/install_deps.sh peers
venv=$cache/onnx-export-venv
if [ ! -f "$venv/ready" ]; then
  echo "check_encoders: making a Python environment with torch and transformers in the cache folder" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q torch==2.15.0 transformers==5.24.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
  touch "$venv/ready"
fi
folders=$(scripts/fetch_text_models.sh --mpnet)
# shellcheck disable=SC2086  # a list of folders
"$venv/bin/python" tests/converter/oracle/check_encoders.py "$build/tests/converter/onnx_sequences" $folders
# A checker that cannot fail proves nothing.
if "$venv/bin/python" tests/converter/oracle/check_encoders.py "$build/tests/converter/onnx_sequences" --plant >/dev/null 2>&1; then
  echo "check_encoders: a planted difference was not found" >&2
  exit 1
fi
