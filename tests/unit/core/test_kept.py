"""What the owner keeps as a named value, over a power cut."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.core.world import T0, World, media

DAY_S = 86_400


def test_an_accepted_entry_stays_accepted_over_a_power_cut() -> None:
    world = World()
    entry = {
        "id": "diem-tin",
        "title": "Điểm tin",
        "class": "normal",
        "dtstart": datetime.fromtimestamp(T0 + 60, UTC).isoformat(),
        "rrule": "FREQ=DAILY",
        "zones": ["loa"],
        "items": [media("a", 4, world)],
        "resume": "drop",
        "on_late": "skip",
    }
    world.state_order("schedule", {"version": 1, "entries": [entry]})
    assert [row["id"] for row in world.ask("inbox")["result"]] == ["diem-tin"]
    assert world.ask("accept", id="diem-tin")["ok"]
    world.advance(90)
    world.crash()
    world.leap(DAY_S - 120)
    world.advance(120)
    assert world.ask("inbox")["result"] == []
    assert world.outcomes() == [("diem-tin", "completed", None)] * 2
