"""Times as people write them: 17:30, 5h, mai 05:00, 24/11 17:30, 2025-11-24 17:30, RFC 3339."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from agent.model.problem import Text


class BadTimeError(ValueError):
    """Not a time, or not one that can be meant; `text` says why to people."""

    def __init__(self, text: Text) -> None:
        super().__init__(str(text))
        self.text = text


_DAYS = {
    "today": 0,
    "hôm nay": 0,
    "nay": 0,
    "tomorrow": 1,
    "ngày mai": 1,
    "mai": 1,
    "ngày kia": 2,
    "mốt": 2,
}
_CLOCK = re.compile(r"(\d{1,2})(?:[:hg](\d{2})?(?::(\d{2}))?)")


def parse(text: str, now: datetime) -> datetime:
    """The moment meant, in the time zone of `now`. BadTimeError when it is none, or already past.

    A time of day alone is today's: one that has gone by is refused rather than silently moved to tomorrow.
    """
    words = unicodedata.normalize("NFC", text).strip().casefold()
    zone = now.tzinfo
    if words in {"now", "bây giờ"}:
        return now
    moment = _iso(words, now)
    if moment is None:
        day, clock = _split(words, now.date())
        found = _CLOCK.fullmatch(clock)
        if found is None or day is None:
            raise BadTimeError(
                Text("“{text}” is not a time. Write 17:30, tomorrow 05:00, 24/11 17:30 or 2025-11-24 17:30.", text=text)
            )
        try:
            hour, minute, second = (int(part or 0) for part in found.groups())
            moment = datetime.combine(day, time(hour, minute, second), zone)
        except ValueError:
            raise BadTimeError(Text("There is no time “{text}” on a clock.", text=text)) from None
    if moment < now.replace(second=0, microsecond=0):
        raise BadTimeError(
            Text(
                "{when} is already past; now it is {now}. Write “tomorrow {clock}” for tomorrow.",
                when=moment.astimezone(zone).strftime("%d/%m/%Y %H:%M"),
                now=now.strftime("%d/%m/%Y %H:%M"),
                clock=moment.strftime("%H:%M"),
            )
        )
    return moment


def _iso(words: str, now: datetime) -> datetime | None:
    if not re.match(r"\d{4}-\d\d-\d\d.\d", words):
        return None
    try:
        moment = datetime.fromisoformat(words.upper())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _split(words: str, today: date) -> tuple[date | None, str]:
    """The day and what is left: the clock."""
    for name, days in _DAYS.items():
        if words.startswith(f"{name} ") or words.endswith(f" {name}"):
            return today + timedelta(days=days), words.removeprefix(name).removesuffix(name).strip()
    first, _, rest = words.partition(" ")
    numbers = [int(n) for n in re.findall(r"\d+", first)] if re.fullmatch(r"\d{1,2}/\d{1,2}(/\d{4})?", first) else []
    if not numbers:
        return today, words
    try:
        day = date(numbers[2] if len(numbers) == 3 else today.year, numbers[1], numbers[0])
    except ValueError:
        return None, rest
    if len(numbers) == 2 and day < today:
        day = day.replace(year=today.year + 1)
    return day, rest


def zone_now(name: str) -> datetime:
    """Now, in the named time zone."""
    return datetime.now(ZoneInfo(name))


def clock(value: object, zone: str) -> str:
    """An RFC 3339 time or epoch seconds as people read it in the station's time zone; other things as they are."""
    try:
        moment = (
            datetime.fromtimestamp(value, ZoneInfo(zone))
            if isinstance(value, int | float)
            else datetime.fromisoformat(str(value))
        )
    except (ValueError, OverflowError, OSError):
        return "" if value is None else str(value)
    if moment.tzinfo is not None:
        moment = moment.astimezone(ZoneInfo(zone))
    return moment.strftime("%d/%m %H:%M:%S").removesuffix(":00")
