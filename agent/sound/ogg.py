"""Ogg rewritten so that libVLC plays all of it, and what then has to be cut.

libVLC 3 loses both ends of an Ogg file on the way to a pipe: what lies before time zero by its own reckoning (Opus:
80 ms whatever the pre-skip says; Vorbis: the first blocks) and the last Opus packet. `rewritten` moves every granule
position a second later, takes the end mark away and puts one packet of no consequence behind, so that everything
comes out; `examine` tells what of it is not the sound (RFC 7845 section 4: pre-skip and end trimming).

Only the first logical stream of a file is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BOS, _EOS = 2, 4
_NO_GRANULE = 2**64 - 1
_OPUS_SILENCE = b"\xf8\xff\xfe"
"""One 20 ms frame of silence."""
_LATER = 48_000


class Trim(NamedTuple):
    """What to cut from what a decoder gives: `start` samples in front, all after `length` (None: nothing).

    Both count at `rate`; a decoder that gives another rate (AAC with SBR) is scaled by the caller.
    """

    start: int
    length: int | None
    rate: int


class CodecError(Exception):
    """Not Ogg, or not a codec that is played here; the text is for people."""


class Page(NamedTuple):
    """One page (RFC 3533 section 6): flags, granule position, serial number, lacing values, body."""

    flags: int
    granule: int
    serial: int
    lacing: bytes
    body: bytes

    def ends(self) -> int:
        """How many packets end on this page."""
        return sum(value < 255 for value in self.lacing)


def _table() -> tuple[int, ...]:
    out = []
    for n in range(256):
        r = n << 24
        for _ in range(8):
            r = ((r << 1) ^ 0x04C11DB7 if r & 0x80000000 else r << 1) & 0xFFFFFFFF
        out.append(r)
    return tuple(out)


_CRC = _table()


def _crc(data: bytes) -> int:
    r = 0
    for byte in data:
        r = ((r << 8) & 0xFFFFFFFF) ^ _CRC[(r >> 24) ^ byte]
    return r


def encode(page: Page, sequence: int) -> bytes:
    """The page as bytes, with its checksum."""

    def head(crc: int) -> bytes:
        return b"".join(
            (
                b"OggS\0",
                bytes([page.flags]),
                page.granule.to_bytes(8, "little"),
                page.serial.to_bytes(4, "little"),
                sequence.to_bytes(4, "little"),
                crc.to_bytes(4, "little"),
                bytes([len(page.lacing)]),
                page.lacing,
            )
        )

    return head(_crc(head(0) + page.body)) + page.body


def pages(file: BinaryIO) -> Iterator[Page]:
    """The pages from the file's present position; ends at the first that is damaged or cut off."""
    while True:
        head = file.read(27)
        if len(head) < 27 or head[:5] != b"OggS\0":
            return
        lacing = file.read(head[26])
        body = file.read(sum(lacing))
        if len(lacing) < head[26] or len(body) < sum(lacing):
            return
        granule, serial = int.from_bytes(head[6:14], "little"), int.from_bytes(head[14:18], "little")
        yield Page(head[5], granule, serial, lacing, body)


def examine(file: BinaryIO) -> Trim:
    """What to cut from the decoded `rewritten` of the same file. Reads all of it. Raises CodecError."""
    file.seek(0)
    found = pages(file)
    first = next(found, None)
    if first is None or not first.flags & _BOS:
        raise CodecError("it does not begin with an Ogg stream")
    if first.body[:8] == b"OpusHead" and len(first.body) >= 19:
        skip, rate = int.from_bytes(first.body[10:12], "little"), 48_000
    elif first.body[:7] == b"\x01vorbis" and len(first.body) >= 30:
        skip, rate = 0, int.from_bytes(first.body[12:16], "little")
    else:
        raise CodecError("an Ogg stream that is neither Opus nor Vorbis")
    granules = [p.granule for p in found if p.serial == first.serial and p.granule not in {0, _NO_GRANULE}]
    # A recording cut out of a longer one begins at a high position: then the end says nothing about the length.
    whole = bool(granules) and granules[0] < 10 * rate and granules[-1] > skip
    return Trim(skip, granules[-1] - skip if whole else None, rate)


def rewritten(file: BinaryIO) -> Iterator[bytes]:
    """The bytes to give to libVLC."""
    file.seek(0)
    first: Page | None = None
    sequence = packets = granule = 0
    for page in pages(file):
        if first is None:
            first = page
        if page.serial != first.serial or (page.flags & _BOS and sequence):
            continue
        audio = packets >= (2 if first.body[:8] == b"OpusHead" else 3)
        packets += page.ends()
        if audio and page.granule != _NO_GRANULE:
            granule = (page.granule + _LATER) % 2**64
            page = page._replace(granule=granule)  # noqa: PLW2901 - the page as it goes on
        yield encode(page._replace(flags=page.flags & ~_EOS), sequence)
        sequence += 1
    if first is not None and granule:
        tail = Page(_EOS, granule + 960, first.serial, bytes([len(_OPUS_SILENCE)]), _OPUS_SILENCE)
        yield encode(tail, sequence)
