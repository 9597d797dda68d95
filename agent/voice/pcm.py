"""Sample arithmetic: signed 16 bit little endian, one channel, 48 000 Hz. Lengths are samples unless said otherwise."""

from __future__ import annotations

import audioop
import math
import wave
from array import array
from collections.abc import Sequence
from pathlib import Path

from agent.model.voice import BYTES_PER_SAMPLE, RATE

BLOCK = 480
"""Samples of a level block: 10 ms."""
SOUNDING_DBFS = -70.0
"""Blocks whose RMS is below this are pauses and do not count in a level."""
FULL_SCALE = 32768.0
DECLICK = 96
"""Samples of the shortest fade: 2 ms."""
LOUD_START = 328
"""A sound that begins above this (−40 dBFS) in mid-air, as one continued after an interruption does, is faded in."""


def factor(db: float) -> float:
    """Decibel as a factor; exactly 1.0 for 0 dB."""
    return 10.0 ** (db / 20.0) if db else 1.0


def silence(samples: int) -> bytes:
    """That many zeros."""
    return bytes(samples * BYTES_PER_SAMPLE)


def ns_of(samples: int) -> int:
    """Samples as nanoseconds."""
    return samples * 1_000_000_000 // RATE


def samples_of(ns: int) -> int:
    """Nanoseconds as samples, to the nearest."""
    return (ns * RATE + 500_000_000) // 1_000_000_000


def ramp(data: bytes, begin: float, end: float, ceiling: int = 32767) -> bytes:
    """Multiplied by a factor that goes linearly from `begin` (first sample) towards `end` (after the last); clipped."""
    samples = array("h", data)
    step = (end - begin) / max(len(samples), 1)
    scaled = (int(s * (begin + step * i)) for i, s in enumerate(samples))
    return array("h", [max(-1 - ceiling, min(ceiling, s)) for s in scaled]).tobytes()


def fit(data: bytes, samples: int) -> bytes:
    """The sound in `samples` samples, one more or one fewer than it has: between neighbours it is interpolated."""
    given = array("h", data)
    if len(given) == samples or not given:
        return data
    # Position i of the result lies at i + shift × i / samples of the given.
    shift = 1 if len(given) > samples else -1
    last = len(given) - 1
    made = array("h", bytes(samples * BYTES_PER_SAMPLE))
    for i in range(samples):
        low = given[min(i, last)]
        made[i] = low + ((given[min(max(i + shift, 0), last)] - low) * i) // samples
    return made.tobytes()


def fade_in(data: bytes) -> bytes:
    """The first `DECLICK` samples ramped up if the sound begins in mid-air, else as it is."""
    if len(data) < BYTES_PER_SAMPLE or abs(audioop.getsample(data, 2, 0)) <= LOUD_START:
        return data
    cut = DECLICK * BYTES_PER_SAMPLE
    return ramp(data[:cut], 0.0, 1.0) + data[cut:]


def fall(level: int, samples: int) -> bytes:
    """`samples` samples that go from `level` to zero within `DECLICK`: what follows a sound that breaks off."""
    if level == 0:
        return silence(samples)
    down = [level * (DECLICK - 1 - i) // DECLICK for i in range(min(samples, DECLICK))]
    return array("h", down).tobytes() + silence(samples - len(down))


def mix_head(data: bytes, head: bytes) -> bytes:
    """`head` added onto the beginning of the (longer or equal) `data`; saturating."""
    if not head:
        return data
    return audioop.add(data[: len(head)], head, 2) + data[len(head) :]


def interleave(channels: Sequence[bytes]) -> bytes:
    """Channels of equal length as frames."""
    if len(channels) == 1:
        return channels[0]
    frames = array("h", bytes(len(channels[0]) * len(channels)))
    for i, channel in enumerate(channels):
        frames[i :: len(channels)] = array("h", channel)
    return frames.tobytes()


class Meter:
    """RMS over the sounding part: 10 ms blocks below `SOUNDING_DBFS` are left out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._squares = 0.0
        self._samples = 0

    def add(self, data: bytes) -> None:
        """More of what was sent."""
        self._rest += data
        size = BLOCK * BYTES_PER_SAMPLE
        while len(self._rest) >= size:
            self._block(bytes(self._rest[:size]))
            del self._rest[:size]

    def dbfs(self) -> float | None:
        """The level so far; None when nothing sounded."""
        if self._rest:
            self._block(bytes(self._rest))
            self._rest.clear()
        if not self._samples:
            return None
        return round(20 * math.log10(math.sqrt(self._squares / self._samples) / FULL_SCALE), 2)

    def _block(self, data: bytes) -> None:
        level = rms(data)
        if level > 0 and 20 * math.log10(level / FULL_SCALE) >= SOUNDING_DBFS:
            count = len(data) // BYTES_PER_SAMPLE
            self._squares += level * level * count
            self._samples += count


def rms(data: bytes) -> float:
    """RMS in units of the 16 bit scale. Computed at 32 bits: audioop's own result is a whole number."""
    return audioop.rms(audioop.lin2lin(data, 2, 4), 4) / 65536.0


def dbfs(data: bytes) -> float | None:
    """Level of these samples, None for digital silence."""
    level = rms(data) if data else 0.0
    return round(20 * math.log10(level / FULL_SCALE), 1) if level > 0 else None


def read_wav(path: Path) -> bytes:
    """The samples of a WAV file of 48 000 Hz, one channel, 16 bit. ValueError or OSError when it is anything else."""
    try:
        with wave.open(str(path), "rb") as file:
            shape = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if shape != (RATE, 1, BYTES_PER_SAMPLE):
                raise ValueError(f"{path}: {shape[0]} Hz, {shape[1]} channels, {8 * shape[2]} bit; wanted 48000, 1, 16")
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file ({error or 'too short'})") from error
    if len(data) < BYTES_PER_SAMPLE:
        raise ValueError(f"{path}: no sound in it")
    return data[: len(data) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE]


def alarm_tone() -> bytes:
    """One second of a two-tone alarm, for a station that has lost its siren's file; as loud as that (−17 LUFS)."""

    def tone(hertz: int) -> bytes:
        cycle = array("h", [round(6700 * math.sin(2 * math.pi * i * hertz / RATE)) for i in range(RATE // hertz)])
        return cycle.tobytes() * (hertz // 2)

    return tone(800) + tone(600)
