"""RFC 5545 rules as the contract limits them: which are refused, and when an entry is due."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agent.core import recurrence
from agent.model.orders import Entry

HERE = "Asia/Ho_Chi_Minh"
START = "2026-11-25T05:00:00+07:00"

REFUSED: dict[str, str] = {
    "hourly": "FREQ=HOURLY",
    "no frequency": "INTERVAL=2",
    "hours in a day": "FREQ=DAILY;BYHOUR=5",
    "a part that RFC 5545 does not know": "FREQ=YEARLY;BYEASTER=0",
    "a made-up part": "FREQ=DAILY;BYMOON=1",
    "a part twice": "FREQ=DAILY;COUNT=2;COUNT=3",
    "UNTIL and COUNT": "FREQ=DAILY;COUNT=2;UNTIL=20261231T000000Z",
    "UNTIL before its start": "FREQ=DAILY;UNTIL=20261124T215959Z",
    "UNTIL that is no time": "FREQ=DAILY;UNTIL=tomorrow",
    "30 February": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "an interval of nothing": "FREQ=DAILY;INTERVAL=0",
    "no times": "FREQ=DAILY;COUNT=0",
    "two rules": "FREQ=DAILY\nRRULE:FREQ=DAILY",
    "nothing": "",
}

ACCEPTED: dict[str, str] = {
    "every day": "FREQ=DAILY",
    "Monday to Saturday": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA",
    "the last Monday of a month": "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=-1",
    "every other week": "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU",
    "until its own start, told in UTC": "FREQ=DAILY;UNTIL=20261124T220000Z",
    "until its own day": "FREQ=DAILY;UNTIL=20261125",
    "a leap day": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
}


@pytest.mark.parametrize("rule", REFUSED.values(), ids=REFUSED)
def test_a_rule_that_cannot_be_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        recurrence.check(rule, START)


@pytest.mark.parametrize("rule", ACCEPTED.values(), ids=ACCEPTED)
def test_a_rule_that_can_be_is_accepted(rule: str) -> None:
    recurrence.check(rule, START)


def starts(zone: str, since: str, before: str, **entry: Any) -> list[str]:
    """What an entry's starts are in that time zone."""
    base = {"id": "e", "title": "e", "class": "normal", "dtstart": START, "zones": ["*"], "items": [{"chime": "gong"}]}
    line = msgspec.convert(base | {"resume": "drop", "on_late": "skip"} | entry, Entry)
    span = [datetime.fromisoformat(t).timestamp() for t in (since, before)]
    found = recurrence.expand(line, ZoneInfo(zone), *span)
    return [datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat() for at in found]


def test_a_daily_entry_is_due_at_its_hour_by_the_stations_clock() -> None:
    found = starts(HERE, "2026-12-01T00:00:00+07:00", "2026-12-03T00:00:00+07:00", rrule="FREQ=DAILY")
    assert found == ["2026-12-01T05:00:00+07:00", "2026-12-02T05:00:00+07:00"]


def test_a_start_given_in_another_offset_keeps_its_moment_and_its_weekday_is_the_stations() -> None:
    """22:00 UTC on Sunday is 05:00 on Monday here."""
    found = starts(
        HERE,
        "2026-11-22T00:00:00+07:00",
        "2026-12-08T00:00:00+07:00",
        dtstart="2026-11-22T22:00:00Z",
        rrule="FREQ=WEEKLY;BYDAY=MO",
    )
    assert found == [f"2026-{day}T05:00:00+07:00" for day in ("11-23", "11-30", "12-07")]


def test_until_in_utc_includes_the_occurrence_of_that_moment() -> None:
    found = starts(HERE, START, "2026-12-25T00:00:00+07:00", rrule="FREQ=DAILY;UNTIL=20261126T220000Z")
    assert found == [f"2026-11-{day}T05:00:00+07:00" for day in (25, 26, 27)]


def test_until_the_end_of_time_is_until_the_end_of_time() -> None:
    """9999-12-31T23:59:59Z is in the year 10000 here."""
    rule = "FREQ=DAILY;UNTIL=99991231T235959Z"
    recurrence.check(rule, START)
    assert len(starts(HERE, START, "2026-11-27T12:00:00+07:00", rrule=rule)) == 3


def test_exceptions_are_moments_in_whatever_offset_they_are_told() -> None:
    found = starts(
        HERE,
        START,
        "2026-11-29T00:00:00+07:00",
        rrule="FREQ=DAILY",
        exdate=["2026-11-25T22:00:00Z", "2026-11-27T05:00:00+07:00", "2026-11-28T05:00:01+07:00"],
    )
    assert found == ["2026-11-25T05:00:00+07:00", "2026-11-28T05:00:00+07:00"]


def test_where_clocks_change_the_hour_stays_and_one_that_does_not_exist_is_left_out() -> None:
    """In Berlin clocks go from 02:00 to 03:00 on 28 March 2027."""
    span = ("2027-03-27T00:00:00+01:00", "2027-03-30T00:00:00+02:00")
    five = starts("Europe/Berlin", *span, dtstart="2027-03-01T05:00:00+01:00", rrule="FREQ=DAILY")
    assert five == ["2027-03-27T05:00:00+01:00", "2027-03-28T05:00:00+02:00", "2027-03-29T05:00:00+02:00"]
    half = starts("Europe/Berlin", *span, dtstart="2027-03-01T02:30:00+01:00", rrule="FREQ=DAILY")
    assert half == ["2027-03-27T02:30:00+01:00", "2027-03-29T02:30:00+02:00"]
