"""Operating rules of a zone (CONTRACT section 1): quiet hours, volume caps, longest session.

Hours are local to the station. A range may pass midnight ("21:00-05:00"); its end does not belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta, tzinfo

from agent.model.config import Zone


def quiet_at(zone: Zone, at: float, tz: tzinfo) -> bool:
    """Whether the epoch second `at` lies in the zone's quiet hours."""
    return any(_inside(hours, at, tz) for hours in zone.rules.quiet_hours)


def quiet_from(zone: Zone, at: float, tz: tzinfo) -> float | None:
    """The first second of quiet hours at or after `at` (epoch), None when the zone has none."""
    if quiet_at(zone, at, tz):
        return at
    return min((_next_begin(hours, at, tz) for hours in zone.rules.quiet_hours), default=None)


def cap_at(zone: Zone, at: float, tz: tzinfo) -> float | None:
    """The lowest volume cap in dB that holds at `at`, None when none does."""
    return min((cap.gain_db for cap in zone.rules.caps if _inside(cap.hours, at, tz)), default=None)


def cap_edges(zone: Zone, at: float, tz: tzinfo) -> Iterable[float]:
    """The next moments at which a cap begins or ends."""
    for cap in zone.rules.caps:
        yield _next_begin(cap.hours, at, tz)
        begin, end = cap.hours.split("-")
        yield _next_begin(f"{end.replace('24:00', '00:00')}-{begin}", at, tz)


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


def _next_begin(hours: str, at: float, tz: tzinfo) -> float:
    begin = _clock(hours.split("-", maxsplit=1)[0]) % (24 * 60)
    day = datetime.fromtimestamp(at, tz).date()
    for offset in range(3):
        moment = datetime.combine(day + timedelta(days=offset), time(begin // 60, begin % 60), tz).timestamp()
        if moment > at:
            return moment
    raise AssertionError("a clock time comes every day")
