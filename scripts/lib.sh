# Shared by the scripts of this folder: installs what is needed, once. Sourced, not run.
# shellcheck shell=bash

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

packages_run=(python3 ffmpeg mosquitto libvlc5 vlc-plugin-base libebur128-1 espeak-ng libasound2-dev gcc python3-dev python3-venv
    fonts-dejavu-core fonts-noto-core)
packages_test=(systemd fdisk sox chromium alsa-utils libasound2-plugins mosquitto-clients iproute2)
packages_bench=(mpv mpd)

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

# The hash of the files and words given; a file's name counts too.
digest() { for part in "$@"; do
    printf '%s\n' "$part"
    if [ -f "$part" ]; then cat "$part"; fi
done | sha256sum | cut -d' ' -f1; }

# stamped NAME HASH: whether this was done before with the same content.
stamped() { [ "$(cat "$venv/.tram-$1" 2>/dev/null)" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$venv/.tram-$1"; }

# A Python of 3.11 or later, Debian's own first: its C headers are there.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or later is needed (Debian 12 or later has it): apt install python3"
}

# Quiet unless it fails: then everything that was said.
quietly() {
    local said
    said=$(mktemp)
    "$@" >"$said" 2>&1 || {
        cat "$said" >&2
        rm -f "$said"
        return 1
    }
    rm -f "$said"
}

# Install the Debian packages that are missing.
need_packages() {
    local package missing=() as_root=()
    command -v dpkg-query >/dev/null || die "This script installs Debian packages (12 or 13); here they have to be installed by hand: $*"
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "These packages are missing, and there is neither root nor sudo. As root: apt install ${missing[*]}"
        as_root=(sudo)
    fi
    say "Installing Debian packages: ${missing[*]}"
    quietly "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}" || die "Installing packages failed. By hand: apt install ${missing[*]}"
}

pip_install() { quietly "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@"; }

# A virtual environment that works and was made for this folder.
venv_works() { "$venv/bin/python" -c 'import pip' 2>/dev/null && grep -qsF "$venv" "$venv/bin/activate"; }

run_hash() {
    digest "$root" "$("$venv/bin/python" -V)" "$root/requirements.lock" "$root/requirements-build.lock" "$root/pyproject.toml"
}

# The virtual environment with exactly what the lock file says, and this project in place.
need_python() {
    if venv_works && stamped run "$(run_hash)"; then return; fi
    need_packages "${packages_run[@]}"
    if ! venv_works; then
        say "Creating $venv"
        local python
        python=$(find_python)
        "$python" -m venv --clear "$venv" || die "Creating the virtual environment failed: apt install python3-venv"
    fi
    say "Installing Python packages from requirements.lock"
    pip_install --require-hashes -r "$root/requirements-build.lock" &&
        pip_install --require-hashes --no-build-isolation -r "$root/requirements.lock" &&
        pip_install --no-deps --no-build-isolation --editable "$root" ||
        die "Installing Python packages failed; the messages above say why. Is there a network?"
    stamp run "$(run_hash)"
}

# The same, and what the tests need.
need_tests() {
    local lock=$root/requirements-dev.lock hash
    need_python
    hash=$(digest "$root" "$lock" "$(cat "$venv/.tram-run")")
    stamped test "$hash" && return
    need_packages "${packages_run[@]}" "${packages_test[@]}"
    say "Installing Python packages from $(basename "$lock")"
    pip_install --require-hashes --no-build-isolation -r "$lock" ||
        die "Installing Python packages failed; the messages above say why. Is there a network?"
    stamp test "$hash"
}
