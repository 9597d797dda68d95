"""One moment, on both clocks."""

from __future__ import annotations

from msgspec import Struct


class Instant(Struct, frozen=True):
    """Now: `mono_ns` (CLOCK_MONOTONIC), `wall` (epoch seconds), and whether the wall time may be relied on."""

    mono_ns: int
    wall: float
    trusted: bool

    def mono_of(self, wall: float) -> int:
        """The monotonic nanosecond at which the wall clock will read `wall`."""
        return self.mono_ns + round((wall - self.wall) * 1e9)

    def wall_of(self, mono_ns: int) -> float:
        """The wall time (epoch seconds) of a monotonic nanosecond."""
        return self.wall + (mono_ns - self.mono_ns) / 1e9

    def later(self, seconds: float) -> Instant:
        """The moment `seconds` after this one."""
        return Instant(self.mono_ns + round(seconds * 1e9), self.wall + seconds, self.trusted)
