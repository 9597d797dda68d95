"""A scheduled programme that began without us is joined where it is by then, not where it was when we came."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.core import commands as do
from agent.model import voice as vo
from tests.unit.core.world import CONFIG, RATE, T0, World, broadcast, media

COLD = {**CONFIG["zones"][1], "power": [{"relay": "r", "warm_up_s": 2.0}]}
ZONES = {"zones": [CONFIG["zones"][0], COLD, CONFIG["zones"][2]], "relays": [{"id": "r", "pin": 1}]}


class Joining(World):
    """Keeps what voice was asked to open, and how far into its files each play begins."""

    def __init__(self) -> None:
        self.opened: list[vo.Open] = []
        self.skipped: list[int] = []
        super().__init__(**ZONES)

    def _startfeed(self, c: do.StartFeed) -> None:
        self.skipped.append(c.skip_samples)
        super()._startfeed(c)

    def _open(self, command: vo.Open) -> None:
        self.opened.append(command)
        super()._open(command)

    def schedule(self, begins: float, zone: str, **more: Any) -> None:
        entry = {
            "id": "thoi-su",
            "title": "Thời sự",
            "class": "priority",
            "dtstart": datetime.fromtimestamp(T0 + begins, UTC).isoformat(),
            "zones": [zone],
            "items": [media("a", 300, self)],
            "resume": "continue",
            "on_late": "join",
            **more,
        }
        self.state_order("schedule", {"version": 1, "entries": [entry]})


@pytest.mark.parametrize(("zone", "lead_s"), [("loa", 0.5), ("loa-2", 2.5)])
def test_it_is_in_step_with_those_that_began_in_time_though_the_amplifier_was_cold(zone: str, lead_s: float) -> None:
    world = Joining()
    world.schedule(-60, zone)
    world.advance(10)
    (command,), (skip,) = world.opened, world.skipped
    assert command.at_ns is not None
    at = world.now.wall_of(command.at_ns)
    assert at >= T0 + lead_s, "nothing can be heard before the chain is warm"
    assert skip == pytest.approx((at - (T0 - 60)) * RATE, abs=1)
    assert world.sounding(zone) == "thoi-su"
    world.advance(300)
    ((_, _, _, begin), (ended, _, _, end)) = world.heard
    assert (begin, end) == ("begin", "end")
    assert ended == pytest.approx(T0 + 240, abs=0.01), "it ends when it ends everywhere"
    assert world.audit() == []


def test_one_that_waited_for_an_alert_is_joined_where_it_is_when_that_is_over() -> None:
    world = Joining()
    world.order("broadcast", broadcast("bao", media("b", 30, world), **{"class": "emergency", "zones": ["loa"]}))
    world.advance(1)
    world.schedule(3, "loa")
    world.advance(60)
    skip, command = world.skipped[-1], world.opened[-1]
    assert command.at_ns is not None
    assert skip == pytest.approx((world.now.wall_of(command.at_ns) - (T0 + 3)) * RATE, abs=1)
    assert world.audit() == []
