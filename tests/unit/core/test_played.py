"""What a zone gives out, and how long it has today, as the status tells it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.world import CONFIG, World, broadcast, media


def zone(world: World, name: str = "loa") -> dict[str, Any]:
    found: dict[str, Any] = world.ask("status")["result"]["zones"][name]
    return found


def test_the_time_on_the_air_counts_what_goes_on_and_is_kept_over_a_power_cut() -> None:
    world = World()
    world.order("broadcast", broadcast("tin", media("a", 30, world), zones=["loa"]))
    world.advance(20)
    assert 17 <= zone(world)["played_today_s"] <= 20
    world.advance(15)
    assert zone(world)["played_today_s"] == 30
    assert zone(world, "loa-2")["played_today_s"] == 0
    world.crash()
    assert zone(world)["played_today_s"] == 30


def test_at_midnight_the_time_on_the_air_begins_anew() -> None:
    world = World()
    world.advance(11 * 3600 + 59 * 60 + 50)  # 23:59:50 in Việt Nam
    world.order("broadcast", broadcast("bao", media("a", 30, world), zones=["loa"], **{"class": "emergency"}))
    world.advance(8)
    assert 5 <= zone(world)["played_today_s"] <= 8
    world.advance(32)
    assert 19 <= zone(world)["played_today_s"] <= 21
    world.crash()
    assert 19 <= zone(world)["played_today_s"] <= 21
    world.advance(24 * 3600)
    assert zone(world)["played_today_s"] == 0


@pytest.mark.parametrize(
    ("item", "mode"), [({"chime": "gong"}, "programme"), ({"relay": "voh", "duration_s": 60}, "relay")]
)
def test_the_mode_says_what_a_zone_gives_out(item: dict[str, Any], mode: str) -> None:
    world = World()
    assert zone(world)["mode"] == "none"
    world.order("broadcast", broadcast("tin", item, zones=["loa"]))
    world.advance(1)
    assert zone(world)["mode"] == mode
    assert "mode" not in zone(world, "bang")


def test_the_mode_of_a_button_with_a_microphone_is_microphone() -> None:
    button = {"id": "noi", "pin": 9, "action": {"microphone": True}, "zones": ["loa"], "class": "emergency"}
    world = World(buttons=[button], microphone={"driver": "wav", "path": "m.wav"})
    world.press("noi")
    world.advance(1)
    assert zone(world)["mode"] == "microphone"


def test_an_old_source_that_is_let_through_is_the_mode_external_and_an_authorised_programme_is_not() -> None:
    idle = {"source": "external", "relay": "over", "power": [{"relay": "amp"}], "hours": ["12:01-12:05"]}
    old = {**CONFIG["zones"][0], "idle": idle}
    world = World(zones=[old], relays=[{"id": "over", "pin": 1}, {"id": "amp", "pin": 2}], buttons=[])
    assert zone(world)["mode"] == "none"
    world.advance(65)
    assert zone(world)["mode"] == "external"
    world.order("broadcast", broadcast("tin", media("a", 10, world), zones=["loa"]))
    world.advance(5)
    assert zone(world)["mode"] == "programme"


def test_the_position_is_that_of_the_configuration_and_otherwise_absent() -> None:
    assert "position" not in World().ask("status")["result"]
    device = {**CONFIG["device"], "position": {"lat": 9.93, "lon": 106.34}}
    assert World(device=device).ask("status")["result"]["position"] == {"lat": 9.93, "lon": 106.34}
