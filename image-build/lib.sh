# Shared by the scripts of this folder. Sourced, not run.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

suite=trixie
# Debian is taken from where this machine takes it: apt_source LAST, the first of apt's sources with that last folder.
apt_source() { apt-get indextargets --format '$(REPO_URI)' | sed 's,/*$,,' | grep "/$1\$" | head -n 1 || true; }
mirror=${TRAM_MIRROR:-$(apt_source debian)}
[ -n "$mirror" ] || die "This machine's apt knows no source of Debian: set TRAM_MIRROR (and TRAM_SECURITY_MIRROR)."
# What takes long is kept here by the hash of what it was made from.
cache=${TRAM_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tram-build}
packages_build=(mmdebstrap dpkg-dev ca-certificates)

# as_root COMMAND…: as root, or as the root of a name space of one's own, which is enough to unpack and to own files.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else unshare --map-root-user --map-auto "$@"; fi
}

version() { sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml"; }

# need_foreign ARCH: this machine can run programs of that architecture (by QEMU, where it is another one).
need_foreign() {
    [ "$1" != "$(dpkg --print-architecture)" ] || return 0
    need_packages qemu-user-static binfmt-support
    local name=qemu-aarch64
    [ "$1" = arm64 ] || die "There is no way to build for $1: amd64 and arm64 are known."
    if [ ! -e /proc/sys/fs/binfmt_misc/$name ]; then
        [ "$(id -u)" = 0 ] || die "As root, once: update-binfmts --enable $name"
        mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        update-binfmts --enable $name
    fi
}
