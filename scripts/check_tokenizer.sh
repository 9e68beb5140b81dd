#!/bin/sh
# The tokeniser beside Hugging Face's, on every text of the data folder and on 100,000 fuzzed strings, with the
# vocabularies of MiniLM and MPNet. Fetches models and packages into the cache.
#   scripts/check_tokenizer.sh BUILD
set -eu
build=$1
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
scripts/install_deps.sh peers
venv=$cache/tokenizers-venv
if [ ! -f "$venv/ready" ]; then
  echo "check_tokenizer: making a Python environment with tokenizers in the cache folder" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q tokenizers==0.23.3
  touch "$venv/ready"
fi
folders=$(scripts/fetch_text_models.sh --mpnet)
# shellcheck disable=SC2086  # a list of folders
"$venv/bin/python" tests/text/check_tokenizer.py "$build/tests/text/tokens" $folders --data "$MPQ_DATA"
# A checker that cannot fail proves nothing.
# shellcheck disable=SC2086
if "$venv/bin/python" tests/text/check_tokenizer.py "$build/tests/text/tokens" $folders --fuzz 100 --plant >/dev/null; then
  echo "check_tokenizer: a planted difference was not found" >&2
  exit 1
fi
