"""The chimes that come with the product (scripts/make_chimes.py): 48 000 Hz, mono, 16 bit."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "voice" / "assets"


@cache
def names() -> tuple[str, ...]:
    """The names that `{chime: name}` may have, sorted."""
    return tuple(sorted(p.stem for p in ASSETS.glob("*.wav")))


def path(name: str) -> Path:
    """The chime's WAV file. KeyError when there is none of that name."""
    if name not in names():
        raise KeyError(name)
    return ASSETS / f"{name}.wav"


@cache
def sha256(name: str) -> str:
    """SHA-256 of the file, for the play log. KeyError when there is none of that name."""
    return hashlib.sha256(path(name).read_bytes()).hexdigest()
