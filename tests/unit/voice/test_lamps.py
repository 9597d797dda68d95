from __future__ import annotations

from typing import Any

import pytest

from agent.model import voice as v
from agent.voice.contact import STUCK_NS
from agent.voice.lamp import Show, lit
from tests.unit.voice.rig import MS, Rig, station


def rig_of(**more: Any) -> Rig:
    fire = {"id": "fire", "pin": 1, "action": {"message": "fire"}, "lamp": 20, **more}
    stop = {"id": "stop", "pin": 2, "action": {"stop": True}, "hold_s": 0.05, "lamp": "red", "key_switch": 3}
    return Rig(
        station(
            buttons=[fire, stop],
            relays=[{"id": "red", "pin": 21}],
            messages=[{"id": "fire", "title": "Cháy", "text": "Cháy!", "repeat": 20}],
        )
    )


def blinks(rig: Rig, lamp: str, ms: int) -> int:
    """How often the lamp is switched within so long."""
    before = len([line for line, _ in rig.board.switched if line == lamp])
    rig.run(ms)
    return len([line for line, _ in rig.board.switched if line == lamp]) - before


@pytest.mark.parametrize(
    ("show", "at_ms", "expected"),
    [
        (Show.DARK, 0, (False, None)),
        (Show.ARMED, 0, (True, None)),
        (Show.PLAYING, 0, (True, 500)),
        (Show.PLAYING, 499, (True, 500)),
        (Show.PLAYING, 500, (False, 1000)),
        (Show.FAULT, 124, (True, 125)),
        (Show.FAULT, 125, (False, 250)),
        (Show.FAULT, 1_000_000, (True, 1_000_125)),
    ],
)
def test_the_pattern_of_a_lamp(show: Show, at_ms: int, expected: tuple[bool, int | None]) -> None:
    is_lit, due = lit(show, at_ms * MS)
    assert (is_lit, due and due // MS) == expected


def test_an_armed_button_shows_it_and_nothing_wakes_up_for_it() -> None:
    rig = rig_of()
    assert rig.board.relays["lamp:fire"] is True
    assert rig.wake is None
    assert blinks(rig, "lamp:fire", 60_000) == 0


def test_the_lamp_blinks_slowly_while_its_message_plays_and_is_steady_after_it() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    assert 3 <= blinks(rig, "lamp:fire", 2000) <= 5
    rig.run(1000)
    assert rig.board.relays["lamp:fire"] is True
    assert rig.wake is None
    assert rig.of(v.RelayEvent) == []


def test_the_lamp_of_an_everyday_button_blinks_while_the_agent_plays_its_message() -> None:
    rig = rig_of(**{"class": "normal"})
    rig.do(v.Open(play="p", zones=["a"]), v.Pin(play="p", segment=0, names=["chime:gong"]))
    rig.do(v.Pin(play="p", segment=1, names=["message:fire"] * 20))
    assert 3 <= blinks(rig, "lamp:fire", 2000) <= 5


def test_the_lamp_blinks_fast_when_the_button_is_stuck_until_it_opens() -> None:
    rig = rig_of()
    rig.board.pressed.add("fire")
    rig.voice.edge("fire", rig.clock.now)
    rig.turn()
    rig.run(STUCK_NS // MS + 100)
    assert 7 <= blinks(rig, "lamp:fire", 1000) <= 9
    rig.board.pressed.clear()
    rig.voice.edge("fire", rig.clock.now)
    rig.turn()
    rig.run(100)
    assert rig.board.relays["lamp:fire"] is True
    assert rig.wake is None


def test_a_contact_that_was_closed_from_the_start_is_not_armed() -> None:
    rig = rig_of()
    rig.board.pressed.add("fire")
    again = type(rig.voice)(rig.config, rig.cards, rig.board, clock=rig.clock, emit=rig.events.append)
    again.sounds = rig.voice.sounds
    rig.board.relays.clear()
    again.tick(rig.clock.now)
    assert not rig.board.relays.get("lamp:fire", False)


@pytest.mark.parametrize("what", ["message", "line", "card"])
def test_the_lamp_tells_what_would_not_sound_as_it_should(what: str) -> None:
    rig = rig_of()
    if what == "message":
        del rig.voice.sounds["message:fire"]
    elif what == "line":
        rig.board.dead.add("fire")
    else:
        rig.sink.away = True
    rig.turn()
    assert 7 <= blinks(rig, "lamp:fire", 1000) <= 9


def test_a_lamp_that_fails_is_told_once_and_left_alone() -> None:
    rig = rig_of()
    rig.board.dead.add("lamp:fire")
    rig.sink.away = True
    rig.turn()
    rig.run(5000)
    assert rig.one(v.Fault, what="gpio").detail.startswith("lamp of fire")


def test_a_silenced_button_is_dark() -> None:
    rig = rig_of()
    rig.do(v.Lock(zones=["a"]))
    assert rig.board.relays["lamp:fire"] is False
    rig.do(v.Lock(zones=[]))
    assert rig.board.relays["lamp:fire"] is True


def test_a_button_whose_key_switch_is_open_does_nothing_and_tells_that_it_is_locked() -> None:
    rig = rig_of(key_switch=3)
    assert not rig.board.relays.get("lamp:fire", False)
    rig.press("fire")
    rig.run(1000)
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["locked", "released"]
    assert rig.of(v.LocalStarted) == []
    assert rig.sink.frames == b""
    rig.board.pressed.add("key:3")
    rig.voice.edge("key:3", rig.clock.now)
    rig.turn()
    assert rig.board.relays["lamp:fire"] is True
    rig.press("fire")
    rig.one(v.LocalStarted)


def test_a_locked_stop_button_is_never_held() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    rig.press("stop", hold_ms=200)
    assert [e.state for e in rig.of(v.ButtonEvent, button="stop")] == ["locked", "released"]
    assert rig.of(v.LocalEnded) == []
    rig.board.pressed.add("key:3")
    rig.press("stop", hold_ms=200)
    assert [e.state for e in rig.of(v.ButtonEvent, button="stop")][2:] == ["pressed", "held", "released"]
    assert rig.one(v.LocalEnded).reason == "stopped"


def test_turning_the_key_away_does_not_end_what_plays() -> None:
    rig = rig_of(key_switch=3)
    rig.board.pressed.add("key:3")
    rig.press("fire")
    rig.board.pressed.discard("key:3")
    rig.voice.edge("key:3", rig.clock.now)
    rig.run(3000)
    assert rig.one(v.LocalEnded).reason == "completed"
