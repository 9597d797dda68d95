"""The key switch that silences: who stands at it cuts everything, and lifts every silence."""

from __future__ import annotations

import pytest

from tests.unit.core.world import CONFIG, World, broadcast, media

KEY = {"id": "ngat", "name": "Khóa ngắt", "pin": 9, "action": {"silence": True}, "zones": ["*"]}
EMERGENCY = {"class": "emergency"}


@pytest.fixture
def world() -> World:
    return World({**CONFIG, "buttons": [*CONFIG["buttons"], KEY]})


@pytest.mark.parametrize("class_", ["priority", "emergency"])
def test_closed_it_cuts_what_is_on_and_keeps_remote_programmes_out(world: World, class_: str) -> None:
    jti = world.order("broadcast", broadcast("tin-1", media("a", 60, world), **{"class": class_}))
    world.advance(5)
    world.turn("ngat", True)
    world.advance(1)
    assert world.on == {}
    assert world.shows() == "nghỉ"
    assert world.states_of(jti)[-1] == "failed/silenced"
    again = world.order("broadcast", broadcast("tin-2", media("a", 60, world), **{"class": class_}))
    assert world.states_of(again) == ["rejected/silenced"]
    assert [(a["what"], a["on"]) for a in world.events("alarm")] == [("silence-key", True)]
    status = world.ask("status")["result"]["silences"]
    assert [(s["iss"], s["issuer"]) for s in status] == [("key:ngat", "Khóa ngắt")]


def test_buttons_work_while_it_is_closed(world: World) -> None:
    world.turn("ngat", True)
    world.press("khan-cap")
    world.advance(1)
    assert world.shows() == "Báo động"


def test_no_order_from_afar_lifts_it(world: World) -> None:
    world.turn("ngat", True)
    world.state_order("silence", {"version": 1, "on": False, "zones": ["*"]})
    jti = world.order("broadcast", broadcast("bao", media("a", 5, world), **EMERGENCY))
    assert world.states_of(jti) == ["rejected/silenced"]


def test_opened_it_lifts_every_silence_of_its_zones_the_provinces_too(world: World) -> None:
    until = "2026-11-23T14:00:00+07:00"
    world.state_order("silence", {"version": 1, "on": True, "zones": ["*"], "until": until, "include_local": True})
    assert world.locked != []
    world.turn("ngat", True)
    world.turn("ngat", False)
    assert world.locked == []
    world.order("broadcast", broadcast("tin-1", media("a", 60, world)))
    world.advance(1)
    assert world.sounding() == "tin-1"
    world.crash()
    world.advance(2)
    assert world.sounding() == "tin-1"


@pytest.mark.parametrize("cut", ["crash", "restart", "quit"])
def test_it_is_as_it_is_found_after_a_restart(world: World, cut: str) -> None:
    world.turn("ngat", True)
    getattr(world, cut)()
    jti = world.order("broadcast", broadcast("bao", media("a", 5, world), **EMERGENCY))
    assert world.states_of(jti) == ["rejected/silenced"]
    world.voice_up = False
    world.turn("ngat", False)
    world.voice_back()
    jti = world.order("broadcast", broadcast("bao-2", media("a", 5, world), **EMERGENCY))
    world.advance(1)
    assert world.sounding() == "bao-2"


def test_a_key_that_is_taken_out_of_the_configuration_leaves_no_silence(world: World) -> None:
    world.turn("ngat", True)
    world.config = World().config
    world.crash()
    world.order("broadcast", broadcast("tin-1", media("a", 60, world)))
    world.advance(1)
    assert world.sounding() == "tin-1"


@pytest.mark.parametrize("after_s", [0.5, 4.0], ids=["while it sounds", "between its repeats"])
def test_a_silence_that_is_lifted_at_once_ends_an_alert_for_good_and_not_the_next(after_s: float) -> None:
    """What a station does at its clusters when its stop button is held."""
    world = World()
    alert = broadcast("bao", {"chime": "siren"}, **{"class": "emergency"}, repeat={"interval_s": 10})
    jti = world.order("broadcast", alert)
    world.advance(after_s)
    for version, on in ((1, True), (2, False)):
        world.state_order("silence", {"version": version, "on": on, "zones": ["*"]}, "xa-mau")
    heard = len(world.heard)
    world.advance(60)
    assert [what for *_, what in world.heard[heard:]] == []
    assert world.states_of(jti)[-1] == ("failed/silenced" if after_s < 1 else "done")
    world.order("broadcast", broadcast("bao-2", {"chime": "siren"}, **{"class": "emergency"}))
    world.advance(1)
    assert world.sounding() == "bao-2"
