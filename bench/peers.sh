#!/bin/sh
# Times mpq beside its peers: a fresh virtual environment with pinned packages, our models from scripts/; a
# page, all numbers (JSON) and a plot (SVG) under docs/results/.
#   bench/peers.sh BUILD [NETWORK [options of peers.py]]     resnet50 resnet101 bert-base
set -eu
build=$1
network=${2:-resnet50}
shift "$(($# < 2 ? $# : 2))"
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
mkdir -p docs/results
venv=$(bench/peers_venv.sh)
case $network in
  resnet50) models="$(scripts/real_models.sh "$build" | sed 's/ w4a4=/ nvidia-w4a4=/') $(scripts/grown_models.sh "$build" resnet50)" ;;
  resnet101) models=$(scripts/grown_models.sh "$build") ;;
  bert-base) models=$(scripts/bert_models.sh "$build") ;;
  *) echo "peers: no network '$network' (resnet50, resnet101, bert-base)" >&2; exit 2 ;;
esac
results=docs/results/peers-$network-$(date +%F)
# shellcheck disable=SC2086  # a list of options
exec "$venv/bin/python" bench/peers.py --network "$network" $models --worker "$build/bench/peer_worker" --cache "$cache" \
  --markdown "$results.md" --json "$results.json" --plot "$results.svg" "$@"
