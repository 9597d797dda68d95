"""LICENSES.md: what is installed with this project and under which licence. `scripts/licences` runs it.

Python packages and their versions come from the lock files, their licences from what the packages say of
themselves (importlib.metadata). Debian packages come from scripts/lib.sh; their licences are in their own copyright
files (/usr/share/doc/PACKAGE/copyright), summed up here in `DEBIAN`.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "LICENSES.md"

SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPLv2+": "LGPL-2.0-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSF": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "unlicense.org": "Unlicense",
}
"""What packages write → SPDX."""
ELSEWHERE = {
    "audioop-lts": "PSF-2.0",
    "lgpio": "Unlicense",
    "smbus2": "MIT",
    "systemd-python": "LGPL-2.1-or-later",
}
"""Packages that are not installed everywhere: for other Pythons, or for hardware."""
DEBIAN: Mapping[str, tuple[str, str]] = {
    "python3": ("PSF-2.0", "runs the agent"),
    "mosquitto": ("EPL-2.0 or EDL-1.0", "the broker, a process of its own"),
    "libvlc5": ("LGPL-2.1-or-later", "loaded by decoder children only"),
    "vlc-plugin-base": (
        "LGPL-2.1-or-later, some plugins GPL-2.0-or-later",
        "loaded by decoder children only; brings libsoxr (LGPL-2.1-or-later)",
    ),
    "libebur128-1": ("MIT", "loaded by the children that measure loudness"),
    "espeak-ng": ("GPL-3.0-or-later", "speech: run as a process, never linked"),
    "libasound2-dev": ("LGPL-2.1-or-later", "ALSA's library, linked by pyalsaaudio in the voice process"),
    "ffmpeg": ("LGPL-2.1-or-later, in Debian's build GPL-2.0-or-later", "the demo's sounds: run as a process"),
    "gcc": ("GPL-3.0-or-later with the runtime exception", "builds pyalsaaudio"),
    "python3-dev": ("PSF-2.0", "builds pyalsaaudio"),
    "python3-venv": ("PSF-2.0", "the virtual environment"),
    "fonts-dejavu-core": ("Bitstream Vera", "boards and pictures"),
    "fonts-noto-core": ("OFL-1.1", "boards and pictures"),
    "systemd": ("LGPL-2.1-or-later", "the station's services; tests: run as a process"),
    "fdisk": ("GPL-2.0-or-later", "tests of the card's partitions: run as a process"),
    "sox": ("GPL-2.0-or-later, its library LGPL-2.1-or-later", "tests: run as a process"),
    "chromium": ("BSD-3-Clause and others", "tests of the run's page: run as a process"),
    "iproute2": ("GPL-2.0-or-later", "tests: network namespaces, run as a process"),
    "alsa-utils": ("GPL-2.0", "`tram record`, tests: run as a process"),
    "libasound2-plugins": ("LGPL-2.1-or-later", "tests"),
    "mosquitto-clients": ("EPL-2.0 or EDL-1.0", "tests: run as processes"),
    "mpv": ("GPL-2.0-or-later", "a peer in scripts/bench: run as a process"),
    "mpd": ("GPL-2.0-or-later", "a peer in scripts/bench: run as a process"),
}
"""Debian package → licence, and how it is used."""

HEAD = """\
# Licences

This project is under the [Apache License 2.0](LICENSE). Nothing of others is copied into it; it uses what is listed
here. GPL parts run as processes of their own. Made by `scripts/licences`.
"""


class LicenceError(Exception):
    """A licence is not known; the message says of what."""


def locked(path: Path) -> dict[str, list[str]]:
    """Name → versions of a lock file, without what only Windows installs."""
    found: dict[str, list[str]] = {}
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)(.*)", path.read_text("utf-8"), re.MULTILINE)
    for name, version, marker in lines:
        if "sys_platform == 'win32'" not in marker:
            found.setdefault(name, []).append(version)
    return found


def licence(name: str) -> str:
    """What the package says of its licence, as SPDX where it can be told."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        raise LicenceError(f"{name} is not installed here and its licence is not in ELSEWHERE") from None
    said = [text for key in ("License-Expression", "License") for text in about.get_all(key) or [] if _short(text)]
    said += [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    if not said:
        raise LicenceError(f"{name} says nothing of its licence")
    return SPELLINGS.get(str(said[0]), str(said[0]))


def _short(text: str) -> bool:
    """Whether it is a licence's name rather than its whole text."""
    return 0 < len(text.strip()) < 80 and "\n" not in text.strip()


def debian(lib: Path = ROOT / "scripts" / "lib.sh") -> dict[str, list[str]]:
    """The Debian packages that the scripts install: for running, for tests, for the bench."""
    found = re.findall(r"^packages_(\w+)=\(([^)]*)\)", lib.read_text("utf-8"), re.MULTILINE)
    return {kind: names.split() for kind, names in found}


def document() -> str:
    """LICENSES.md as it should be."""
    run, dev, device = (locked(ROOT / f"requirements{kind}.lock") for kind in ("", "-dev", "-device"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    hardware = sorted(re.split(r"[<>=~! ;\[]", need)[0] for need in extras["hardware"])
    parts = [HEAD, "## Python packages to run it\n", _python(run)]
    parts += ["\n## Python packages for tests and checks\n", _python({n: v for n, v in dev.items() if n not in run})]
    parts += ["\n## Python packages for real hardware\n", _python({n: device[n] for n in hardware})]
    titles = {"run": "to run it", "test": "for tests", "bench": "for the bench"}
    for kind, names in debian().items():
        missing = [name for name in names if name not in DEBIAN]
        if missing:
            raise LicenceError(f"docs/licences.py does not know the Debian packages {', '.join(missing)}")
        parts += [f"\n## Debian packages {titles[kind]}\n", _table(["package", "licence", "use"], _debian(names))]
    return "\n".join(parts) + "\n"


def _python(packages: Mapping[str, list[str]]) -> str:
    rows = [[name, ", ".join(versions), licence(name)] for name, versions in sorted(packages.items())]
    return _table(["package", "version", "licence"], rows)


def _debian(names: Iterable[str]) -> list[list[str]]:
    return [[name, *DEBIAN[name]] for name in sorted(names)]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Write it."""
    try:
        TARGET.write_text(document(), "utf-8")
    except LicenceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
