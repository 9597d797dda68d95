"""The lamps of buttons: what they show, and when they are next switched. Pure; time is given.

Lamps that blink do so in step, whatever began when. One that is steady asks for no waking up.
"""

from __future__ import annotations

from enum import StrEnum


class Show(StrEnum):
    """What a lamp tells the officer."""

    DARK = "dark"
    """The button does nothing now: its key switch is open, its zones are silenced, its contact never opened."""
    ARMED = "armed"
    PLAYING = "playing"
    FAULT = "fault"
    """It is stuck, or would not sound as it should. It still acts as far as it can."""


HALF_NS = {Show.PLAYING: 500_000_000, Show.FAULT: 125_000_000}
"""How long a blinking lamp is on, and then off: 1 Hz and 4 Hz."""


def lit(show: Show, now: int) -> tuple[bool, int | None]:
    """Whether the lamp is lit at `now`, and when that changes; None: not by itself."""
    half = HALF_NS.get(show)
    if half is None:
        return show is Show.ARMED, None
    turn = now // half
    return turn % 2 == 0, (turn + 1) * half
