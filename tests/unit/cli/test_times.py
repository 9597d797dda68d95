from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from agent.cli.times import BadTimeError, parse

NOW = datetime(2025, 11, 23, 16, 0, 30, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))

MEANT = {
    "17:30": "2025-11-23T17:30:00+07:00",
    "17h30": "2025-11-23T17:30:00+07:00",
    "17h": "2025-11-23T17:00:00+07:00",
    "17:30:15": "2025-11-23T17:30:15+07:00",
    "16:00": "2025-11-23T16:00:00+07:00",
    "tomorrow 05:00": "2025-11-24T05:00:00+07:00",
    "mai 05:00": "2025-11-24T05:00:00+07:00",
    "Ngày mai 5h": "2025-11-24T05:00:00+07:00",
    "5:00 mai": "2025-11-24T05:00:00+07:00",
    "hôm nay 18:00": "2025-11-23T18:00:00+07:00",
    "24/11 05:00": "2025-11-24T05:00:00+07:00",
    "1/1 05:00": "2026-01-01T05:00:00+07:00",
    "24/12/2026 05:00": "2026-12-24T05:00:00+07:00",
    "2025-11-24 05:00": "2025-11-24T05:00:00+07:00",
    "2025-11-23T10:00:00Z": "2025-11-23T10:00:00+00:00",
    "2025-11-23t17:30:00+07:00": "2025-11-23T17:30:00+07:00",
    "now": "2025-11-23T16:00:30+07:00",
}


@pytest.mark.parametrize("text", MEANT)
def test_times_as_people_write_them(text: str) -> None:
    assert parse(text, NOW) == datetime.fromisoformat(MEANT[text])


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "17:60", "31/2 05:00", "mai", "1730", "17:30 mai mai", "2025-13-01 05:00", "²:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadTimeError):
        parse(text, NOW)


@pytest.mark.parametrize("text", ["15:59", "2025-11-23 15:00", "22/11/2025 05:00", "2025-11-23T08:00:00Z"])
def test_a_time_that_has_gone_by_is_refused_not_moved_to_tomorrow(text: str) -> None:
    with pytest.raises(BadTimeError, match="already past"):
        parse(text, NOW)
