"""What is foreign: anything, but an external source where and when it may be heard."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.ear.compare import Heard, Judgement
from agent.ear.watch import Watch, may_be_heard
from agent.model.config import Monitor
from tests.unit.voice.rig import station

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
INSIDE, OUTSIDE = (datetime(2026, 11, 24, h, 30, tzinfo=HANOI).timestamp() for h in (17, 23))
HOURS: dict[str, Any] = {"source": "external", "power": [{"relay": "amp", "cool_down_s": 20}], "hours": ["17:00-18:00"]}


@pytest.mark.parametrize(
    ("idle", "at", "heard"),
    [
        ({}, INSIDE, False),
        (HOURS, INSIDE, True),
        (HOURS, OUTSIDE, False),
        (HOURS, INSIDE + 30 * 60 + 25, True),  # its amplifier cools down
        (HOURS, INSIDE + 30 * 60 + 60, False),
        ({"source": "external", "relay": "amp"}, OUTSIDE, True),  # nothing of ours can mute it
    ],
)
def test_an_external_source_may_be_heard_inside_its_hours_alone(idle: dict[str, Any], at: float, heard: bool) -> None:
    (zone,) = station([{"id": "a", "idle": idle}], relays=[{"id": "amp", "pin": 5}]).zones
    assert may_be_heard(zone, at, HANOI) is heard


def test_what_may_not_be_heard_is_an_alarm_that_ends_when_it_may() -> None:
    allowed = False
    watch = Watch(Monitor(id="thu", zone="a"), external=lambda: allowed)
    foreign = Judgement(Heard.FOREIGN)
    told = [n for _ in range(4) for n in watch.judge(foreign, None)]
    assert [(n.what, n.on) for n in told] == [("air-foreign", True)]
    allowed = True
    told = [n for _ in range(4) for n in watch.judge(foreign, None)]
    assert [(n.what, n.on) for n in told] == [("air-foreign", False)]
