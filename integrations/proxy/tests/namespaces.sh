#!/bin/sh
# Runs a command in a network of its own: the namespaces mpq1, mpq2 and mpq3 are machines of one wire, 10.77.0.1 to 10.77.0.3, the
# command is at 10.77.0.100. Everything is gone with the command. Needs root or user namespaces; ends with 125 where there is neither.
#   namespaces.sh COMMAND...
set -eu
if [ "${1:-}" = --inside ]; then
  shift
  {
    mount -t tmpfs tmpfs /run && mkdir /run/netns /run/haproxy && ip link set lo up &&
      ip link add wire type bridge && ip address add 10.77.0.100/24 dev wire && ip link set wire up &&
      for i in 1 2 3; do
        ip netns add mpq$i && ip link add plug$i type veth peer name eth0 netns mpq$i &&
          ip link set plug$i master wire up && ip -n mpq$i link set lo up &&
          ip -n mpq$i address add 10.77.0.$i/24 dev eth0 && ip -n mpq$i link set eth0 up || exit 1
        echo "10.77.0.$i mpq$i"
      done >/run/hosts && echo "127.0.0.1 localhost" >>/run/hosts && mount --bind /run/hosts /etc/hosts
  } >&2 || exit 125
  exec "$@"
fi
[ "$(id -u)" = 0 ] && user= || user=--map-root-user
# shellcheck disable=SC2086  # an option or none
exec unshare $user --net --mount --propagation private --fork --kill-child "$(realpath "$0")" --inside "$@"
