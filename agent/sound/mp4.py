"""What to cut from a decoded M4A: the encoder's delay and padding (edit list, or Apple's iTunSMPB note)."""

from __future__ import annotations

import re
from typing import BinaryIO

from agent.sound.ogg import Trim
from drivers.mp4 import boxes

_FRAME = 1024
_CONTAINERS = {b"moov", b"trak", b"edts", b"mdia", b"udta", b"meta", b"ilst"}
_MAX_BOX = 16 * 2**20
_SMPB = re.compile(rb"iTunSMPB.{0,64}? 00000000 ([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{16})", re.DOTALL)


def _timescale(header: bytes) -> int:
    """Of an mvhd or mdhd box (ISO 14496-12 sections 8.2.2 and 8.4.2)."""
    at = 20 if header[:1] == b"\1" else 12
    return int.from_bytes(header[at : at + 4], "big")


def examine(file: BinaryIO) -> Trim | None:
    """What to cut after libVLC, or None when the file says nothing.

    libVLC follows an edit list by whole frames of 1 024 samples, and iTunSMPB not at all: only the rest is left to be
    cut here. The first frame after such a cut lacks its overlap: 21 ms fade in. Edit lists of several parts are not
    followed.
    """
    file.seek(0, 2)
    size = file.tell()
    movie = rate = 0
    edit: tuple[int, int] | None = None
    note: tuple[int, int] | None = None
    todo, seen = [(0, size)], 0
    while todo:
        start, end = todo.pop()
        for kind, content, stop in boxes(file, start, end):
            seen += 1
            if seen > 10_000:
                return None
            if kind in _CONTAINERS:
                todo.append((content + (4 if kind == b"meta" else 0), stop))
            elif stop - content > _MAX_BOX:
                continue
            elif kind in {b"mvhd", b"mdhd", b"elst", b"----"}:
                file.seek(content)
                data = file.read(stop - content)
                if kind == b"mvhd":
                    movie = _timescale(data)
                elif kind == b"mdhd":
                    rate = rate or _timescale(data)
                elif kind == b"elst":
                    edit = edit or _edit(data)
                elif found := _SMPB.search(data.replace(b"\0", b"")):
                    note = int(found[1], 16), int(found[3], 16)
    if not rate:
        return None
    if edit is not None:
        start, length = edit
        return Trim(start % _FRAME, length * rate // movie if movie and length else None, rate)
    if note is not None:
        return Trim(note[0], note[1] or None, rate)
    return None


def _edit(data: bytes) -> tuple[int, int] | None:
    """First sample (media time) and duration (movie time) of an edit list of one entry."""
    count, wide = int.from_bytes(data[4:8], "big"), data[:1] == b"\1"
    width = 8 if wide else 4
    if count != 1 or len(data) < 8 + 2 * width:
        return None
    length = int.from_bytes(data[8 : 8 + width], "big")
    start = int.from_bytes(data[8 + width : 8 + 2 * width], "big", signed=True)
    return (start, length) if start >= 0 else None
