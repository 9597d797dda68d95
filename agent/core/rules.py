"""Operating rules of a zone (CONTRACT section 1): quiet and requisition hours, volume caps, longest session, dimming.

Hours are local to the station. A range may pass midnight ("21:00-05:00"); its end does not belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from agent.model.config import Zone
from agent.model.orders import Reason


def barred(zone: Zone, at: float, tz: tzinfo) -> Reason | None:
    """Why nothing but an emergency may be on in the zone at the epoch second `at`, or None."""
    if quiet_at(zone, at, tz):
        return Reason.QUIET_HOURS
    agreed = zone.rules.requisition_hours
    return Reason.REQUISITION_HOURS if agreed and not any(_inside(hours, at, tz) for hours in agreed) else None


def quiet_at(zone: Zone, at: float, tz: tzinfo) -> bool:
    """Whether the epoch second `at` lies in the zone's quiet hours."""
    return inside(zone.rules.quiet_hours, at, tz)


def inside(ranges: Iterable[str], at: float, tz: tzinfo) -> bool:
    """Whether the epoch second `at` lies in one of these parts of the day."""
    return any(_inside(hours, at, tz) for hours in ranges)


def brightness(zone: Zone, at: float, tz: tzinfo) -> int:
    """How bright a board is to be, in percent: the least of what holds at `at`."""
    return min((dim.percent for dim in zone.board.brightness if _inside(dim.hours, at, tz)), default=100)


def cap_at(zone: Zone, at: float, tz: tzinfo) -> float | None:
    """The lowest volume cap in dB that holds at `at`, None when none does."""
    return min((cap.gain_db for cap in zone.rules.caps if _inside(cap.hours, at, tz)), default=None)


def gain(zone: Zone, volume_db: float | None, at: float, tz: tzinfo, *, overrides: bool) -> float:
    """What comes on top of the zone's own gain, so that a cap is kept unless the class overrides the rules."""
    wanted = volume_db or 0.0
    cap = None if overrides else cap_at(zone, at, tz)
    return wanted if cap is None else min(wanted, cap - zone.gain_db)


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _inside(hours: str, at: float, tz: tzinfo) -> bool:
    begin, end = (_clock(t) for t in hours.split("-"))
    local = datetime.fromtimestamp(at, tz)
    minute = local.hour * 60 + local.minute
    return begin <= minute < end if begin < end else (minute >= begin or minute < end)
