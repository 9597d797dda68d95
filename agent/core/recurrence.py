"""When a schedule entry is due: RFC 5545 recurrence in the station's time zone, bounded in work.

The expansion is dateutil's. A rule is evaluated on local wall time (05:00 stays 05:00), then placed in the zone; local
times that do not exist on a day are skipped (RFC 5545 section 3.3.10). FREQ is daily or coarser.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from dateutil.rrule import rrule, rrulestr

from agent.model.orders import Entry

MAX_STEPS = 20_000
"""Most periods (days, weeks, …) of a rule that are looked at: 54 years of days."""
_REFUSED = ("BYHOUR", "BYMINUTE", "BYSECOND", "DTSTART", "RDATE", "EXRULE", "EXDATE")
_FOREIGN = ("BYEASTER",)
"""What dateutil knows and RFC 5545 does not."""
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")


class _Steps(int):
    """An INTERVAL that counts how often the rule advances, because dateutil has no bound of its own.

    dateutil adds the interval once per period; a rule that can never match would go on to the year 9999.
    """

    left: int

    def __new__(cls, value: int, left: int) -> _Steps:
        self = super().__new__(cls, value)
        self.left = left
        return self

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("the rule computes too long without an occurrence")

    def __radd__(self, other: int) -> int:
        self._spend()
        return other + int(self)

    def __mul__(self, other: int) -> int:
        self._spend()
        return int(self) * other


def check(rule: str, dtstart: str) -> None:
    """Refuse (ValueError, for people) a rule that is not allowed, has no occurrence, or computes too long."""
    start = parse_time(dtstart)
    parts = _parts(rule)
    if "UNTIL" in parts and "COUNT" in parts:
        raise ValueError("a rule has UNTIL or COUNT, not both")
    if next(_local_times(rule, start.replace(tzinfo=None), None, start.tzinfo or UTC), None) is None:
        raise ValueError("the rule has no occurrence")


def expand(entry: Entry, zone: tzinfo, after: float, before: float) -> list[float]:
    """Starts (epoch seconds) of an entry in `after` ≤ t < `before`, without its exdates, at most 1,000."""
    start = parse_time(entry.dtstart)
    excluded = {parse_time(t).timestamp() for t in entry.exdate}
    if entry.rrule is None:
        at = start.timestamp()
        return [at] if after <= at < before and at not in excluded else []
    local_start = start.astimezone(zone).replace(tzinfo=None)
    from_local = datetime.fromtimestamp(after, zone).replace(tzinfo=None)
    found: list[float] = []
    for local in _local_times(entry.rrule, local_start, from_local, zone):
        placed = local.replace(tzinfo=zone)
        if placed.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
            continue  # a local time that does not exist on that day
        at = placed.timestamp()
        if at >= before or len(found) >= 1000:
            break
        if at >= after and at not in excluded:
            found.append(at)
    return found


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with offset; ValueError says what is wrong."""
    if len(text) < 20 or text[10] not in "Tt":
        raise ValueError(f"not an RFC 3339 time with offset: {text[:40]!r}")
    try:
        value = datetime.fromisoformat(text.replace("z", "Z"))
    except ValueError as error:
        raise ValueError(f"not an RFC 3339 time with offset: {text[:40]!r}") from error
    if value.tzinfo is None:
        raise ValueError(f"a time needs its offset, as in 2026-11-03T17:00:00+07:00: {text[:40]!r}")
    return value


def _parts(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in rule.removeprefix("RRULE:").split(";"):
        name, equals, value = piece.partition("=")
        name = name.strip().upper()
        if not equals or not value:
            raise ValueError(f"not a part of a rule: {piece[:40]!r}")
        if name in _REFUSED or name in _FOREIGN:
            raise ValueError(f"{name} is not allowed in a rule")
        if name in parts:
            raise ValueError(f"{name} stands twice in the rule")
        parts[name] = value.strip()
    if parts.get("FREQ", "").upper() not in _FREQUENCIES:
        raise ValueError("FREQ is one of " + ", ".join(_FREQUENCIES))
    return parts


def _local_times(rule: str, start: datetime, after: datetime | None, zone: tzinfo) -> Iterator[datetime]:
    parts = _parts(rule)
    until = parts.pop("UNTIL", None)
    try:
        parsed = rrulestr(";".join(f"{k}={v}" for k, v in parts.items()), dtstart=start)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"not a rule of RFC 5545: {rule[:80]!r} ({error})") from error
    interval = int(parts.get("INTERVAL", "1"))
    if not isinstance(parsed, rrule) or interval < 1:
        raise ValueError(f"not a rule of RFC 5545: {rule[:80]!r}")
    if after is not None and "COUNT" not in parts:
        parsed = parsed.replace(dtstart=_forward(parts["FREQ"].upper(), interval, start, after))
    setattr(parsed, "_interval", _Steps(interval, MAX_STEPS))  # noqa: B010 - dateutil's stubs hide the attribute
    last = _until(until, zone) if until else None
    fraction = timedelta(microseconds=start.microsecond)  # RFC 5545 and dateutil know whole seconds only
    iterator = iter(parsed)
    while True:
        try:
            local = next(iterator)
        except StopIteration:
            return
        except (OverflowError, IndexError) as error:
            raise ValueError(f"the rule cannot be computed: {rule[:80]!r}") from error
        if last is not None and local > last:
            return
        yield local + fraction


def _forward(freq: str, interval: int, start: datetime, after: datetime) -> datetime:
    """A later DTSTART of the same series, so that a daily rule of ten years ago costs no more than yesterday's."""
    days = {"DAILY": 1, "WEEKLY": 7}.get(freq)
    if days is None or after <= start:
        return start
    step = days * interval
    return start + timedelta(days=max(0, (after - start).days // step - 1) * step)


def _until(text: str, zone: tzinfo) -> datetime:
    for form in ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d"):
        try:
            value = datetime.strptime(text, form)
        except ValueError:
            continue
        if form.endswith("Z"):
            try:
                return value.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
            except OverflowError:  # the last hours of the year 9999
                return datetime.max
        return value if "T" in form else value + timedelta(days=1, microseconds=-1)
    raise ValueError(f"UNTIL is neither a date nor a UTC time: {text[:40]!r}")
