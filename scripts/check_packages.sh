#!/bin/sh
# Installs what `make deb` and `pip wheel` made into a Debian 12 that has nothing else (debootstrap), and
# uses it there: C and C++ programs, mpqrun, mpqconvert, Python, mpqserve, the wheel. Must be root.
#   scripts/check_packages.sh BUILD
# The bare system is kept in the cache folder as bookworm.tar; it comes from where the host's apt looks.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
cache=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}
packages=$root/build-deb/packages
[ "$(id -u)" = 0 ] || { echo "SKIPPED: packages in a bare Debian: debootstrap and chroot need root"; exit 77; }
command -v debootstrap >/dev/null || { echo "SKIPPED: packages in a bare Debian: no debootstrap"; exit 77; }

if [ ! -f "$cache/bookworm.tar" ]; then
  mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^bookworm //p' | head -1)
  fresh=$(mktemp -d)
  debootstrap --variant=minbase bookworm "$fresh" "$mirror" >"$fresh.log" 2>&1 || { tail -5 "$fresh.log"; exit 1; }
  mkdir -p "$cache"
  tar -C "$fresh" -cf "$cache/bookworm.tar.part" .
  mv "$cache/bookworm.tar.part" "$cache/bookworm.tar"
  rm -rf "$fresh" "$fresh.log"
fi

system=$(mktemp -d)
mounted=
end() {
  [ -z "$mounted" ] || umount "$system/proc"
  rm -rf "$system"
}
trap end EXIT
trap 'exit 130' INT TERM
tar -C "$system" -xf "$cache/bookworm.tar"
rm -f "$system"/etc/apt/sources.list "$system"/etc/apt/sources.list.d/*
cp /etc/apt/sources.list "$system/etc/apt/" 2>/dev/null || true
cp /etc/apt/sources.list.d/*.sources "$system/etc/apt/sources.list.d/" 2>/dev/null || true
cp /etc/resolv.conf "$system/etc/"
mount -t proc proc "$system/proc"
mounted=1

files=$system/srv
cp "$packages"/*.deb "$build"/wheel/dist/mpq-*.whl "$build"/tests/runtime/tiny.* "$build"/tests/runtime/text.mpq "$files"
cp "$root/scripts/check_installed.sh" "$root/docs/guide.md" "$root/docs/check_guide.py" "$files"
encoder=$cache/all-MiniLM-L6-v2
[ ! -f "$encoder/model.safetensors" ] || cp -r "$encoder" "$files"
chroot "$system" /bin/sh /srv/check_installed.sh
