"""Everyday buttons ("mời họp"): they keep the rules, go through the door of all orders, and name who answers."""

from __future__ import annotations

from typing import Any

import pytest

from agent.model import voice as vo
from tests.unit.core.world import CONFIG, World, broadcast, media

MICRO = {
    "id": "micro",
    "name": "Micro mời họp",
    "pin": 9,
    "class": "normal",
    "action": {"microphone": True},
    "zones": ["*"],
    "approved_by": "Nguyễn Thị Mẫu",
}
QUIET = [
    {**CONFIG["zones"][0], "rules": {"quiet_hours": ["12:30-12:45"], "caps": [{"hours": "12:00-12:20", "gain_db": -6}]}}
]


def station(class_: str = "normal", mode: str = "hold", **changes: Any) -> World:
    button = {**MICRO, "class": class_, "action": {"microphone": True, "mode": mode}}
    config = {**CONFIG, "microphone": {"device": "m"}, "buttons": [*CONFIG["buttons"], button]}
    return World(config, **changes)


def press(world: World) -> None:
    world.post(vo.ButtonEvent(button="micro", state="pressed", at_ns=world.mono))


def test_an_everyday_microphone_is_a_signed_programme_with_chime_that_names_who_answers() -> None:
    world = station()
    press(world)
    world.advance(2)
    (running,) = world.on.values()
    assert running.open.pinned == ["chime:gong"]
    assert world.shows() == "Micro mời họp"
    world.advance(20)
    world.release("micro")
    world.advance(1)
    assert world.on == {}
    entry = next(e for e in world.log if e["zone"] == "loa")
    assert (entry["result"], entry["class"], entry["iss"]) == ("completed", "normal", "xa-mau")
    assert (entry["approved_by"], entry["by"]) == ("Nguyễn Thị Mẫu", "order:micro")
    (jti,) = {a["jti"] for t, a in world._sent() if t == "ack"}
    assert world.states_of(jti)[-1] == "done"
    assert world.audit() == []


def test_it_keeps_caps_and_quiet_hours() -> None:
    world = station(zones=QUIET)
    press(world)
    world.advance(2)
    (running,) = world.on.values()
    assert running.open.gain_db == -6
    world.advance(30 * 60)
    assert world.on == {}
    assert world.outcomes()[-1][1:] == ("interrupted", "quiet-hours")
    press(world)
    world.advance(5)
    assert world.on == {}
    assert world.outcomes()[-1][1:] == ("skipped", "quiet-hours")


def test_in_a_zone_that_is_not_free_nobody_speaks_later() -> None:
    world = station()
    world.order("broadcast", broadcast("tin-1", media("a", 10, world)))
    world.advance(2)
    press(world)
    world.advance(30)
    assert world.on == {}
    assert next(o for o in world.outcomes() if o[0] != "tin-1")[1:] == ("failed", "outranked")


def test_of_class_priority_it_goes_before_normal_programmes_and_gives_the_zone_back() -> None:
    world = station("priority", normal_from_above="auto")
    world.order("broadcast", broadcast("tin-1", media("a", 60, world), **{"class": "normal"}))
    world.advance(5)
    press(world)
    world.advance(5)
    assert world.sounding() == "button-micro-" + world.sounding().rpartition("-")[2]
    world.release("micro")
    world.advance(5)
    assert world.sounding() == "tin-1"


DUCKING = {"zones": [{**zone, "duck_db": -18} for zone in CONFIG["zones"][:2]] + CONFIG["zones"][2:]}


@pytest.mark.parametrize("zones", [{}, DUCKING], ids=["interrupting", "ducking"])
@pytest.mark.parametrize("by", ["province", "button"])
def test_an_emergency_takes_the_zone_and_the_talk_does_not_come_back(by: str, zones: dict[str, Any]) -> None:
    world = station(**zones)
    press(world)
    world.advance(5)
    if by == "button":
        world.press("khan-cap")
    else:
        world.order("broadcast", broadcast("bao", media("a", 5, world), **{"class": "emergency"}))
    world.advance(60)
    assert world.on == {}
    talk = [o for o in world.outcomes() if o[0].startswith("button-micro")]
    assert [o[1] for o in talk] == ["interrupted"]
    assert world.station.programmes == {}


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_talk_that_a_button_ends_has_its_outcome_when_the_agent_is_stopped_at_once(seconds: float) -> None:
    world = station(**DUCKING)
    press(world)
    world.advance(seconds)
    world.press("khan-cap")
    world.quit()
    world.advance(10)
    assert world.station.programmes == {}
    assert world.audit() == []


def test_a_silence_of_the_commune_itself_is_kept() -> None:
    world = station()
    world.state_order(
        "silence",
        {"version": 1, "on": True, "zones": ["*"], "until": "2026-11-23T14:00:00+07:00", "include_local": True},
    )
    press(world)
    world.advance(5)
    assert world.on == {}


def test_a_latched_microphone_ends_with_the_second_press() -> None:
    world = station(mode="latch")
    press(world)
    world.advance(5)
    press(world)
    world.advance(5)
    assert world.on == {}
    assert len([e for e in world.log if e["zone"] == "loa"]) == 1


def test_released_before_it_is_on_the_air_nothing_sounds() -> None:
    world = station()
    world.slow_disk = True
    press(world)
    world.release("micro")
    world.commit()
    world.slow_disk = False
    world.advance(10)
    assert world.heard == []


def test_a_press_from_before_the_agent_was_there_does_nothing() -> None:
    world = station()
    world.post(vo.ButtonEvent(button="micro", state="pressed", at_ns=world.mono - 10 * 10**9))
    world.post(vo.ButtonEvent(button="moi-hop", state="pressed", at_ns=world.mono - 10 * 10**9))
    world.advance(5)
    assert world.heard == []
    assert [a["what"] for a in world.events("alarm")] == ["button-refused", "button-refused"]


@pytest.mark.parametrize("cut", ["crash", "restart", "quit"])
def test_the_microphone_never_opens_by_itself_after_a_restart(cut: str) -> None:
    world = station()
    press(world)
    world.advance(3)
    getattr(world, cut)()
    world.advance(60)
    assert world.on == {}
    assert world.audit() == []


@pytest.mark.parametrize("iss", ["tinh", "xa-mau"])
def test_no_order_can_open_the_microphone(iss: str) -> None:
    world = station()
    jti = world.order("broadcast", broadcast("nghe-len", {"local": "microphone"}, **{"class": "emergency"}), iss)
    world.advance(5)
    assert world.states_of(jti) == ["rejected/content-unavailable"]
    assert world.on == {}


def test_a_stop_button_ends_it() -> None:
    world = station(mode="latch")
    press(world)
    world.advance(3)
    world.post(vo.ButtonEvent(button="dung", state="pressed", at_ns=world.mono))
    world.advance(1)
    assert world.on == {}


def test_a_text_of_a_button_is_a_stored_message() -> None:
    button = {
        "id": "chay",
        "name": "Cháy",
        "pin": 10,
        "class": "normal",
        "action": {"text": "Có cháy ở chợ.", "chime": "siren", "repeat": 2},
    }
    world = World({**CONFIG, "buttons": [*CONFIG["buttons"], button]})
    assert "button-chay" in world.station.catalogue.messages
    world.post(vo.ButtonEvent(button="chay", state="pressed", at_ns=world.mono))
    world.advance(20)
    assert [o[1] for o in world.outcomes()] == ["completed"]
    entry = next(e for e in world.log if e["zone"] == "loa")
    assert entry["title"] == "Cháy"
    assert len(entry["content"]) == 4
