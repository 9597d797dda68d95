"""The last seconds of a sound by the clock: a ring of samples in which what never came is silence."""

from __future__ import annotations

import numpy as np

from agent.ear.compare import RATE, Sound

LENGTH_S = 20
SIZE = LENGTH_S * RATE
S = 1_000_000_000
LOST_NS = 50_000_000
WHILE_NS = 1 * S
LONGEST_NS = 2 * S
"""More than a capture and its pipes hold back."""


class Tape:
    """Sample k was at k / 48 000 s of CLOCK_MONOTONIC. What is older than `LENGTH_S` is gone."""

    def __init__(self) -> None:
        self._ring = np.zeros(SIZE, dtype=np.float32)
        self._there = np.zeros(SIZE, dtype=bool)
        self._end = 0

    def write(self, sound: Sound, at_ns: int) -> None:
        """Sound that begins at that moment."""
        begin = at_ns * RATE // S
        sound = sound[-SIZE:]
        self._blank(min(self._end, begin), begin) if begin > self._end else None
        places = np.arange(begin, begin + len(sound)) % SIZE
        self._ring[places] = sound
        self._there[places] = True
        self._end = max(self._end, begin + len(sound))

    def read(self, begin_ns: int, end_ns: int) -> tuple[Sound, float]:
        """The sound of that time, and which part of it was there: 0 … 1."""
        begin, end = (t * RATE // S for t in (begin_ns, end_ns))
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


class Timeline:
    """When a device's blocks sounded, which are read late and in bursts while others have the processor.

    Each begins where the last has ended, and none is read before it has sounded. What was lost, or a card that runs
    slow, shows as a lateness that no block falls below for `WHILE_NS`.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The device was opened anew."""
        self.end: int | None = None
        """When the last sample sounded that was read."""
        self._least = LONGEST_NS
        self._since = 0

    def place(self, count: int, now: int) -> int:
        """The begin, in CLOCK_MONOTONIC's ns, of so many samples that were read now."""
        length = count * S // RATE
        late = LONGEST_NS + 1 if self.end is None else now - length - self.end
        if self.end is None or late < 0 or late > LONGEST_NS:
            begin, self._least, self._since = now - length, 0, now
        else:
            begin, self._least = self.end, min(self._least, late)
            if now - self._since > WHILE_NS:
                begin += self._least if self._least > LOST_NS else 0
                self._least, self._since = LONGEST_NS, now
        self.end = begin + length
        return begin
