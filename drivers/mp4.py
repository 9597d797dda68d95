"""The boxes of an MP4 file (ISO 14496-12), read before a media library is. Bounded, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MOST_BOXES = 10_000
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_READ = {b"mvhd": 120, b"tkhd": 104, b"hdlr": 12, b"stsd": 64}
"""Boxes that are looked into, and how far."""
_TURNED = (0, 1 << 16)
"""First two members of the matrix of a film that stands on its side, signs left away."""


class Picture(NamedTuple):
    """The film of a file: its coding ("avc1"), size as it is to be seen (upright), pixels coded, and seconds."""

    coding: str
    width: int
    height: int
    pixels: int
    seconds: float


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte of the content, and end of each box between two positions."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, content = int.from_bytes(head[:4], "big"), start + 8
        if size == 1 and len(head) == 16:
            size, content = int.from_bytes(head[8:], "big"), start + 16
        elif size == 0:
            size = end - start
        if size < content - start or start + size > end:
            return
        yield head[4:8], content, start + size
        start += size


def picture(file: BinaryIO) -> Picture | None:
    """The first film of an MP4 file; None when it has none, is no MP4, or has too many boxes."""
    file.seek(4)
    if file.read(4) != b"ftyp":
        return None
    file.seek(0, 2)
    seconds = 0.0
    track: dict[bytes, bytes] = {}
    todo, seen = [(0, file.tell())], 0
    while todo:
        start, end = todo.pop()
        inner: list[tuple[int, int]] = []
        for kind, content, stop in boxes(file, start, end):
            seen += 1
            if seen > MOST_BOXES:
                return None
            if kind in _CONTAINERS:
                inner.append((content, stop))
            elif kind in _READ:
                file.seek(content)
                data = file.read(min(stop - content, _READ[kind]))
                if kind == b"mvhd":
                    seconds = _seconds(data)
                else:
                    track[kind] = data
            if kind == b"trak":
                track = {}
        todo += reversed(inner)  # depth first and in order: a track's boxes are together
        if track.keys() >= {b"tkhd", b"hdlr", b"stsd"} and track[b"hdlr"][8:12] == b"vide":
            return _of(track[b"tkhd"], track[b"stsd"], seconds)
    return None


def _seconds(header: bytes) -> float:
    """Of an mvhd box (section 8.2.2)."""
    at, wide = (20, 8) if header[:1] == b"\1" else (12, 4)
    scale = int.from_bytes(header[at : at + 4], "big")
    return int.from_bytes(header[at + 4 : at + 4 + wide], "big") / scale if scale else 0.0


def _of(track: bytes, samples: bytes, seconds: float) -> Picture:
    """From tkhd (section 8.3.2) and stsd (section 12.1.3)."""
    at = 52 if track[:1] == b"\1" else 40
    matrix = [int.from_bytes(track[at + 4 * i : at + 4 * i + 4], "big", signed=True) for i in (0, 1)]
    wide, high = (int.from_bytes(track[at + 36 + 4 * i : at + 38 + 4 * i], "big") for i in (0, 1))
    coding = samples[12:16].decode("latin-1")
    coded = [int.from_bytes(samples[40 + 2 * i : 42 + 2 * i], "big") for i in (0, 1)]
    if tuple(map(abs, matrix)) == _TURNED:
        wide, high = high, wide
    return Picture(coding, wide, high, coded[0] * coded[1], seconds)
