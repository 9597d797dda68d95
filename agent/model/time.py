"""One moment, on both clocks."""

from __future__ import annotations

from msgspec import Struct


class Instant(Struct, frozen=True):
    """Now: `mono_ns` (CLOCK_MONOTONIC), `wall` (epoch seconds), and whether the wall time may be relied on.

    While it may not, `wall` is the best guess there is, and may be ahead of the truth; `earliest` is a time that has
    passed for certain (the clock floor). None: `wall` itself is taken for that.
    """

    mono_ns: int
    wall: float
    trusted: bool
    earliest: float | None = None

    @property
    def surely(self) -> float:
        """The latest time (epoch seconds) that has passed for certain: what an expiry may be judged by."""
        return self.wall if self.trusted or self.earliest is None else self.earliest

    def mono_of(self, wall: float) -> int:
        """The monotonic nanosecond at which the wall clock will read `wall`."""
        return self.mono_ns + round((wall - self.wall) * 1e9)

    def wall_of(self, mono_ns: int) -> float:
        """The wall time (epoch seconds) of a monotonic nanosecond."""
        return self.wall + (mono_ns - self.mono_ns) / 1e9

    def later(self, seconds: float) -> Instant:
        """The moment `seconds` after this one."""
        earliest = None if self.earliest is None else self.earliest + seconds
        return Instant(self.mono_ns + round(seconds * 1e9), self.wall + seconds, self.trusted, earliest)
