"""What needs no station: the next occurrence of a schedule."""

from __future__ import annotations

import time
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from agent.core import recurrence
from agent.core.calendar import MAX_ENTRIES, Calendar
from agent.core.commands import Expand
from agent.model.events import Expanded
from agent.model.orders import Entry
from province.bench.rows import Row, row

_TZ = ZoneInfo("Asia/Ho_Chi_Minh")
_RULES = (
    "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA",
    "FREQ=DAILY;INTERVAL=2",
    "FREQ=MONTHLY;BYDAY=-1SU",
    "FREQ=YEARLY;BYMONTH=9;BYMONTHDAY=2",
    "FREQ=DAILY;UNTIL=20401231",
)


def next_occurrence(_: Path, n: int) -> list[Row]:
    """`next_occurrence_ms`: what the owner does when it asks its calendar of 300 entries what comes next."""
    entries = [
        msgspec.convert(
            {
                "id": f"muc-{k}",
                "title": "Tiếp âm",
                "class": "normal",
                "dtstart": f"2016-0{1 + k % 9}-0{1 + k % 9}T{k % 24:02d}:{k % 60:02d}:00+07:00",
                "rrule": _RULES[k % len(_RULES)],
                "zones": ["*"],
                "items": [{"chime": "gong"}],
                "resume": "drop",
                "on_late": "skip",
            },
            Entry,
        )
        for k in range(MAX_ENTRIES)
    ]
    calendar = Calendar()
    calendar.replace("province", 100, entries)
    now = time.time()
    begun = time.perf_counter_ns()
    for asked in calendar.expansions(now):
        calendar.expanded(_expanded(asked))
    expansion_ms = (time.perf_counter_ns() - begun) / 1e6
    times = []
    for k in range(n):
        begun = time.perf_counter_ns()
        calendar.next()
        list(calendar.take(now - 7 * 3600 + 60 * k))
        times.append((time.perf_counter_ns() - begun) / 1e6)
    note = (
        f"asking the calendar and taking what is due; computing 48 hours of all 300 rules from ten years ago takes "
        f"{expansion_ms:.0f} ms, once a day in a thread of its own"
    )
    return [row("next_occurrence_ms", times, note)]


def _expanded(asked: Expand) -> Expanded:
    starts = {e.id: recurrence.expand(e, _TZ, asked.after, asked.before) for e in asked.entries}
    return Expanded(asked.issuer, asked.generation, starts, asked.before)
