"""The last seconds of a sound by the clock: a ring of samples in which what never came is silence."""

from __future__ import annotations

import numpy as np

from agent.ear.compare import RATE, Sound

LENGTH_S = 20
SIZE = LENGTH_S * RATE


class Tape:
    """Sample k was at k / 48 000 s of CLOCK_MONOTONIC. What is older than `LENGTH_S` is gone."""

    def __init__(self) -> None:
        self._ring = np.zeros(SIZE, dtype=np.float32)
        self._there = np.zeros(SIZE, dtype=bool)
        self._end = 0

    def write(self, sound: Sound, at_ns: int) -> None:
        """Sound that begins at that moment."""
        begin = at_ns * RATE // 1_000_000_000
        sound = sound[-SIZE:]
        self._blank(min(self._end, begin), begin) if begin > self._end else None
        places = np.arange(begin, begin + len(sound)) % SIZE
        self._ring[places] = sound
        self._there[places] = True
        self._end = max(self._end, begin + len(sound))

    def read(self, begin_ns: int, end_ns: int) -> tuple[Sound, float]:
        """The sound of that time, and which part of it was there: 0 … 1."""
        begin, end = (t * RATE // 1_000_000_000 for t in (begin_ns, end_ns))
        self._blank(self._end, end)
        self._end = max(self._end, end)
        places = np.arange(begin, end) % SIZE
        there = self._there[places]
        return np.where(there, self._ring[places], np.float32(0)), float(there.mean()) if len(there) else 0.0

    def _blank(self, begin: int, end: int) -> None:
        """Nothing was there."""
        begin = max(begin, end - SIZE)
        if begin < end:
            self._there[np.arange(begin, end) % SIZE] = False
