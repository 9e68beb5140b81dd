#!/bin/sh
# The check of fetched models must name what is absent, damaged or cut short; nothing is downloaded here.
#   tests/test_fetch_text_models.sh SCRIPT
set -u
script=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# expect TEXT: the check fails with status 3 and says TEXT.
expect() {
  said=$(XDG_CACHE_HOME="$scratch" "$script" --check 2>&1)
  status=$?
  case $status$said in
    3*"$1"*) ;;
    *) echo "expected status 3 and '$1', got $status: $said"; failed=1 ;;
  esac
}

model=$scratch/mpq/all-MiniLM-L6-v2
expect 'all-MiniLM-L6-v2: not in '
mkdir -p "$model"
expect 'model.safetensors: FAILED open or read'
echo '{}' >"$model/config.json"
expect 'config.json: FAILED,'

real=${XDG_CACHE_HOME:-$HOME/.cache}/mpq/all-MiniLM-L6-v2
if [ -d "$real" ]; then
  cp -rs "$(realpath "$real")/." "$model/" 2>/dev/null  # links; config.json stays
  rm "$model/config.json" && cp "$real/config.json" "$model/"
  XDG_CACHE_HOME="$scratch" "$script" --check >/dev/null || { echo "a whole model was refused"; failed=1; }
  rm "$model/vocab.txt" && head -c 100000 "$real/vocab.txt" >"$model/vocab.txt"
  expect 'vocab.txt: FAILED'
else
  echo "SKIPPED: fetch_text_models: a whole model: scripts/fetch_text_models.sh was never run"
fi
exit $failed
