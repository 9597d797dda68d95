"""Trusted time without a clock chip: what the agent makes of the clocks it can read (CONTRACT section 4, DESIGN).

Three things are kept apart:

- the *floor*: a time that has passed for certain. It begins at max(persisted floor, image time) and rises with
  uptime, with every verified `iat`, and with trusted time itself. It never falls.
- a *guess* while nothing better is known: the clock the machine woke up with (RTC), if it is ahead of the floor.
- *trusted time*: an anchor on the monotonic clock, set once by an NTP-synchronised clock that the rule below accepts.
  From then on this process follows the monotonic clock, so that a stepped OS clock moves nothing.

The rule: a synchronised clock is believed within 24 h of the floor. Farther ahead it needs a second source: the clock
the machine woke up with (a battery-backed RTC that agrees with it), or a verified `iat`, which lifts the floor.
An unsynchronised clock alone is never trusted.
"""

from __future__ import annotations

from msgspec import Struct

from agent.model.time import Instant

NEAR_S = 24 * 3600.0
"""How far ahead of the floor one source alone is believed."""
AGREE_S = 120.0
"""How near two sources are that agree; also how far an authority's clock may be ahead of the truth."""
RTC_AGREE_S = 600.0
"""How far a clock chip may have drifted to still count as agreeing."""
SLEW_S = 5.0
"""Most that trusted time follows the synchronised clock at a stretch; more only after days without it."""
SLEW_RATE = 5e-4
"""How fast that allowance grows back: 500 ppm, the most that a kernel slews."""
FAST_CRYSTAL = 2e-4
"""How far off the monotonic clock may run while nothing disciplines it: the floor rises that much slower, and so much
is followed when NTP comes back after days."""


class Alarm(Struct, frozen=True):
    """`what`: "clock-jump" (the OS clock disagrees with ours) or "clock-behind" (a signed time is ahead of ours).

    `offset_s`: the other clock minus ours.
    """

    what: str
    detail: str
    offset_s: float


class TrustedTime:
    """Tells the time from what it is told. `mono_ns` arguments must not fall from call to call."""

    def __init__(self, image_time: float, floor: float = 0.0) -> None:
        """`image_time`: when the software was built; `floor`: as persisted. Both epoch seconds."""
        self._floor = max(image_time, floor)
        self._floor_at: int | None = None
        self._woke: tuple[int, float] | None = None
        self._anchor: tuple[int, float] | None = None
        self._slack = SLEW_S
        self._seen_ns = 0
        self._jump: float | None = None
        """The offset of a synchronised clock that was not followed; a signed time may still confirm it."""

    @property
    def trusted(self) -> bool:
        """Whether there is trusted time."""
        return self._anchor is not None

    @property
    def floor(self) -> float:
        """The floor at the newest moment seen, to be persisted now and then (epoch seconds)."""
        return self._floor_of(self._seen_ns)

    def now(self, mono_ns: int) -> Instant:
        """This moment. `wall` never lies before the floor."""
        earliest = self._floor_of(mono_ns)
        if self._anchor is not None:
            return Instant(mono_ns, max(_along(self._anchor, mono_ns), earliest), True, earliest)
        guess = _along(self._woke, mono_ns) if self._woke is not None else earliest
        return Instant(mono_ns, max(guess, earliest), False, earliest)

    def observe(self, mono_ns: int, os_wall: float, synchronised: bool) -> list[Alarm]:
        """A reading of the OS clock; `synchronised` when the kernel says that NTP disciplines it. Every few seconds.

        The first reading, if it is not synchronised, is taken for what the clock chip gave at boot.
        """
        self._see(mono_ns)
        if not synchronised:
            if self._woke is None and self._anchor is None:
                self._woke = (mono_ns, os_wall)
            return []
        if self._anchor is None:
            return self._consider(mono_ns, os_wall)
        alone_s = (mono_ns - self._anchor[0]) / 1e9
        slack = max(min(SLEW_S, self._slack + alone_s * SLEW_RATE), alone_s * FAST_CRYSTAL)
        offset = os_wall - _along(self._anchor, mono_ns)
        if abs(offset) <= slack and os_wall >= self._floor_of(mono_ns):
            self._slack = min(SLEW_S, slack - abs(offset))
            self._set(mono_ns, os_wall)
            return []
        return self._alarm(offset, "the synchronised clock jumped against ours; it is not followed")

    def signed(self, iat: float, mono_ns: int) -> list[Alarm]:
        """The `iat` of an authentic order: an authority says that this time has come.

        It lifts the floor, less the 120 s that an authority's clock may be ahead. Trusted time moves only forwards
        and only where the synchronised clock had jumped to the same time: two sources then agree.
        """
        self._see(mono_ns)
        if self._anchor is None:
            self._lift(mono_ns, iat - AGREE_S)
            return []
        ahead = iat - _along(self._anchor, mono_ns)
        if ahead <= AGREE_S:
            return []
        if self._jump is not None and abs(self._jump - ahead) <= AGREE_S:
            self._set(mono_ns, _along(self._anchor, mono_ns) + self._jump)
            return []
        return [Alarm("clock-behind", f"a signed time is {ahead:.0f} s ahead of ours", ahead)]

    def _consider(self, mono_ns: int, os_wall: float) -> list[Alarm]:
        ahead = os_wall - self._floor_of(mono_ns)
        chip_agrees = self._woke is not None and abs(_along(self._woke, mono_ns) - os_wall) <= RTC_AGREE_S
        if ahead >= 0 and (ahead <= NEAR_S or chip_agrees):
            self._set(mono_ns, os_wall)
            return []
        return self._alarm(ahead, "the synchronised clock is too far from the last known time to be believed alone")

    def _set(self, mono_ns: int, wall: float) -> None:
        self._anchor = (mono_ns, wall)
        self._jump = None
        self._lift(mono_ns, wall - 2 * SLEW_S)

    def _alarm(self, offset: float, detail: str) -> list[Alarm]:
        """One alarm for each jump, not one for each reading."""
        told = self._jump is not None and abs(self._jump - offset) <= AGREE_S
        self._jump = offset
        return [] if told else [Alarm("clock-jump", f"{detail} ({offset:+.0f} s)", offset)]

    def _see(self, mono_ns: int) -> None:
        if self._floor_at is None:
            self._floor_at = mono_ns
        self._seen_ns = max(self._seen_ns, mono_ns)

    def _floor_of(self, mono_ns: int) -> float:
        if self._floor_at is None:
            return self._floor
        return self._floor + max(0, mono_ns - self._floor_at) / 1e9 * (1 - FAST_CRYSTAL)

    def _lift(self, mono_ns: int, wall: float) -> None:
        if wall > self._floor_of(mono_ns):
            self._floor, self._floor_at = wall, mono_ns


def _along(anchor: tuple[int, float], mono_ns: int) -> float:
    return anchor[1] + (mono_ns - anchor[0]) / 1e9
