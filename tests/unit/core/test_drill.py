"""Diễn tập: the whole path, never to be mistaken, and it reports how long it took."""

from __future__ import annotations

from typing import Any

import pytest

from agent.link import topics
from agent.model import events as ev
from agent.model import screen
from agent.store import playlog
from tests.unit.core.world import DEVICE, World, broadcast, media


def drills(world: World) -> list[dict[str, Any]]:
    return [e for e in world.events("progress") if e["what"] == "drill"]


def mark(world: World) -> str:
    shown = world.boards["bang"]
    return shown.pages[0].mark if isinstance(shown, screen.Show) else ""


def test_a_remote_drill_is_marked_in_sound_screen_and_log_and_reports_its_latencies() -> None:
    world = World()
    order = broadcast("thu-bao", media("a", 4, world), drill=True, **{"class": "emergency"})
    raw = world.province.signer("tinh").order("broadcast", order, [DEVICE], now=world.wall, ctr=1, jti="d", ttl=60.0)
    arrived = world.mono
    world.leap(0.030)
    world.post(ev.OrderArrived(topics.order(DEVICE), raw.encode(), False, 9, arrived))
    assert mark(world) == "DIỄN TẬP"
    world.advance(20)
    (entry,) = [e for e in world.log if e["zone"] == "loa"]
    assert entry["drill"] is True
    assert len(entry["content"]) == 3
    assert entry["content"][0] == entry["content"][-1]
    assert playlog.verify(world.log) == []
    told = drills(world)
    assert {z for d in told for z in d["zones"]} == {"loa", "loa-2"}
    assert all(d["id"] == "thu-bao" for d in told)
    assert told[0]["latency_ms"] == {"verified": 30.0, "first_sample": 30.0, "converter": 30.0}


@pytest.mark.parametrize(("drill", "bridge"), [(True, "chime:drill"), (False, "chime:siren")])
def test_while_relays_warm_up_an_exercise_is_no_siren(drill: bool, bridge: str) -> None:
    world = World()
    world.order("broadcast", broadcast("thu-bao", media("a", 4, world), drill=drill, **{"class": "emergency"}))
    world.advance(1)
    assert {running.open.bridge for running in world.on.values()} == {bridge}


def test_what_is_no_drill_says_nothing_of_one() -> None:
    world = World()
    world.order("broadcast", broadcast("bao", media("a", 4, world), **{"class": "emergency"}))
    world.advance(10)
    world.press("khan-cap")
    world.advance(20)
    assert drills(world) == []
    assert not any("drill" in e for e in world.log)


def test_in_drill_mode_a_press_is_an_exercise_and_reports_from_the_edge_to_the_sample() -> None:
    world = World()
    assert world.ask("drill", on=True, minutes=10)["ok"]
    assert world.ask("status")["result"]["drill"] is True
    world.press("khan-cap", 6)
    world.advance(1)
    assert mark(world) == "DIỄN TẬP"
    world.advance(20)
    (told,) = drills(world)
    assert (told["by"], sorted(told["latency_ms"])) == ("button", ["converter", "first_sample"])
    assert all(e["drill"] for e in world.log)
    assert world.audit() == []


def test_drill_mode_ends_by_itself_by_command_and_with_the_agent() -> None:
    world = World()
    for end in ("time", "command", "agent"):
        world.ask("drill", on=True, minutes=10)
        assert world.mono < world.drill_until_ns
        if end == "time":
            world.advance(601)
        elif end == "command":
            world.ask("drill", on=False)
        else:
            world.drill_until_ns = 0  # voice forgets it with the connection
            world.restart()
        assert world.ask("status")["result"]["drill"] is False
        world.press("khan-cap", 1)
        world.advance(3)
        assert "drill" not in world.log[-1]
    alarms = [a["on"] for a in world.events("alarm") if a["what"] == "drill-mode"]
    assert alarms[:4] == [True, False, True, False]


def test_drill_mode_outlives_voice() -> None:
    world = World()
    world.ask("drill", on=True, minutes=10)
    world.lose_voice()
    world.drill_until_ns = 0
    world.voice_back()
    assert world.drill_until_ns > world.mono


def test_a_drill_of_more_than_an_hour_is_refused() -> None:
    assert World().ask("drill", on=True, minutes=61)["reason"] == "bad-args"
