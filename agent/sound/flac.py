"""FLAC made longer than it is, because libVLC 3 loses a short last frame when nothing follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from agent.sound.ogg import Trim

_MORE = 65_536
_BLOCK = 65_536


def examine(file: BinaryIO) -> Trim | None:
    """The length by the STREAMINFO block (RFC 9639 section 8.2): cut the decoded `rewritten` to it. None: unknown."""
    file.seek(0)
    head = file.read(42)
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F:
        return None
    bits = int.from_bytes(head[18:26], "big")
    rate, length = bits >> 44, bits & (2**36 - 1)
    return Trim(0, length, rate) if rate and length and _first_frame(file) else None


def rewritten(file: BinaryIO) -> Iterator[bytes]:
    """The file, and its beginning once more."""
    file.seek(0)
    while data := file.read(_BLOCK):
        yield data
    file.seek(_first_frame(file))
    yield file.read(_MORE)


def _first_frame(file: BinaryIO) -> int:
    """Where the metadata ends; 0 when it does not."""
    at = 4
    for _ in range(1_000):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return 0
        at += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            return at
    return 0
