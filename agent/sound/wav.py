"""PCM in WAV files: our own (48 000 Hz, mono, 16 bit) and anybody's, without a decoder library."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

RATE = 48_000
_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


class WavError(Exception):
    """Not a WAV file, or one that cannot be read; the text is for people."""


class Wav(NamedTuple):
    """The format of a WAV file and where its samples lie. `frames`: those that are really there."""

    rate: int
    channels: int
    bits: int
    floats: bool
    law: str | None
    """G.711: "a" or "u"."""
    pcm: bool
    """False: some coding that needs a decoder library."""
    offset: int
    frames: int

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8

    @property
    def ours(self) -> bool:
        """Whether it can be copied as it is."""
        return self.pcm and not self.floats and not self.law and (self.rate, self.channels, self.bits) == (RATE, 1, 16)


def examine(file: BinaryIO) -> Wav:
    """Read the header; a file that was cut off has fewer frames, a size of 0 or 2^32 − 1 means "to the end"."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise WavError("not a WAV file")
    at, form = 12, b""
    for _ in range(1_000):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:8], "little")
        if head[:4] == b"fmt ":
            form = file.read(min(length, 40))
        elif head[:4] == b"data":
            return _described(form, at + 8, length if 0 < length < 0xFFFFFFF0 else size, size)
        at += 8 + length + (length & 1)
    raise WavError("a WAV file without samples")


def _described(form: bytes, offset: int, length: int, size: int) -> Wav:
    if len(form) < 16:
        raise WavError("a WAV file without its format before the samples")
    tag = int.from_bytes(form[:2], "little")
    channels = int.from_bytes(form[2:4], "little")
    rate = int.from_bytes(form[4:8], "little")
    bits = int.from_bytes(form[14:16], "little")
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    law = {_ALAW: "a", _ULAW: "u"}.get(tag) if bits == 8 else None
    pcm = (tag == _PCM and bits in {8, 16, 24, 32}) or (tag == _FLOAT and bits == 32) or law is not None
    if not 1 <= channels <= 32 or not 1_000 <= rate <= 768_000:
        raise WavError(f"a WAV file of {channels} channels at {rate} Hz")
    frames = min(length, size - offset) // (channels * bits // 8) if pcm else 0
    return Wav(rate, channels, bits, tag == _FLOAT, law, pcm, offset, frames)
