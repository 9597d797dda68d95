"""A slow hand on the fader, for sound whose loudness cannot be known before it is heard: a live relay.

The meter's short-term loudness (EBU R128: 3 s) is compared with the target ten times a second, and the gain goes there
slowly, within bounds (`agent.model.loudness`). Silence, noise and pauses are not measured and leave it where it is, so
nothing is pumped up. Peaks are seen one piece ahead: a limiter lets none pass −1 dBTP, and lets go by 6 dB a second.
Samples come out in the number that went in, one piece late, the last with `rest`.
"""

from __future__ import annotations

import audioop
import math
from array import array
from typing import Protocol

from agent.model import loudness as bounds
from agent.sound.wav import RATE

PIECE = RATE // 100
"""Samples between two gains: 10 ms."""
LOOK = 10
"""Pieces between two looks at the meter."""
WINDOW = 300
"""Pieces (3 s) without which the short-term loudness means nothing yet."""
RECOVERY_DB = 0.06
"""By which the limiter lets go in a piece."""
_SAMPLE = 2
_SECONDS = PIECE / RATE


class Meter(Protocol):
    """Measures what passes (`drivers.ebur128.Passing`)."""

    def add(self, pcm: bytes) -> None:
        """More of the sound."""

    def short_term(self) -> float:
        """LUFS of the last 3 s."""

    def last_peak(self) -> float:
        """True peak of what was added last; 1.0 is full scale."""


class Levelling:
    """Brings what passes towards `target` LUFS; `meter` must be this one's alone."""

    def __init__(self, meter: Meter, target: float) -> None:
        self._meter = meter
        self._target = target
        self._gain_db = self._goal_db = 0.0
        self._limit_db = 0.0
        """By which the limiter holds the gain down."""
        self._factor = 1.0
        """At the end of the piece that came out last."""
        self._held = b""
        self._most_db = math.inf
        """The gain that the held piece bears."""
        self._odd = b""
        self._heard_lufs = -math.inf
        """Short-term loudness of what was measured."""
        self._measured = 0
        """Pieces."""

    @property
    def factor(self) -> float:
        """By which the newest sound is multiplied."""
        return self._factor

    def add(self, pcm: bytes) -> bytes:
        """More of the sound; returns what is through."""
        data = self._odd + pcm
        whole = len(data) // (PIECE * _SAMPLE) * PIECE * _SAMPLE
        self._odd = data[whole:]
        return b"".join(self._piece(data[i : i + PIECE * _SAMPLE]) for i in range(0, whole, PIECE * _SAMPLE))

    def rest(self) -> bytes:
        """What is still held, when nothing more comes for now."""
        data, self._held, self._odd = self._held + self._odd, b"", b""
        return _scaled(data, self._factor, self._factor)

    def _piece(self, new: bytes) -> bytes:
        most_db = self._measure(new)
        bearable = min(self._most_db if self._held else math.inf, most_db)
        self._limit_db = min(0.0, self._limit_db + RECOVERY_DB, bearable - self._gain_db)
        old, before = self._held, self._factor
        self._held, self._most_db = new, most_db
        self._factor = 10 ** ((self._gain_db + self._limit_db) / 20)
        return _scaled(old, before, self._factor)

    def _measure(self, new: bytes) -> float:
        """Listen to a piece and move the fader; returns the gain that the piece bears."""
        rms = audioop.rms(new, _SAMPLE)
        level = 20 * math.log10(rms / 32768) if rms else -math.inf
        if level < max(bounds.LIVE_GATE_DBFS, self._heard_lufs - bounds.LIVE_PAUSE_DB):
            return math.inf if not rms else bounds.PEAK_DBTP - 20 * math.log10(audioop.max(new, _SAMPLE) / 32768)
        self._meter.add(new)
        self._measured += 1
        if self._measured % LOOK == 0 and self._measured >= WINDOW:
            self._heard_lufs = self._meter.short_term()
            off = self._target - self._heard_lufs
            if abs(off - self._goal_db) > bounds.LIVE_SLACK_DB:
                self._goal_db = max(-bounds.LIVE_LOWER_DB, min(bounds.LIVE_RAISE_DB, off))
        step = self._goal_db - self._gain_db
        self._gain_db += max(-bounds.LIVE_DOWN_DB_S * _SECONDS, min(bounds.LIVE_UP_DB_S * _SECONDS, step))
        peak = self._meter.last_peak()
        return bounds.PEAK_DBTP - 20 * math.log10(peak) if peak else math.inf


def _scaled(pcm: bytes, begin: float, end: float) -> bytes:
    """Multiplied by a factor that goes linearly from `begin` to `end`."""
    if begin == end:
        return pcm if end == 1.0 else audioop.mul(pcm, _SAMPLE, end)
    samples = array("h", pcm)
    step = (end - begin) / max(len(samples), 1)
    return array("h", [int(s * (begin + step * (i + 1))) for i, s in enumerate(samples)]).tobytes()
