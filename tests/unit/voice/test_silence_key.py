"""The key switch that silences, in voice: it cuts at once, with or without an agent."""

from __future__ import annotations

from agent.model import voice as v
from tests.unit.voice.rig import MS, Rig, pcm_of, station

BUTTONS = [
    {"id": "key", "pin": 1, "action": {"silence": True}, "zones": ["a"], "lamp": 20},
    {"id": "fire", "pin": 2, "action": {"message": "fire"}, "zones": ["a"]},
]


def rig(*closed: str) -> Rig:
    messages = [{"id": "fire", "title": "Cháy", "text": "Cháy!"}]
    made = Rig(station([{"id": "a"}, {"id": "b"}], buttons=BUTTONS, messages=messages))
    made.voice.sounds["chime:long"] = pcm_of(3000, 480_000)
    return made


def turn(made: Rig, closed: bool) -> None:
    (made.board.pressed.add if closed else made.board.pressed.discard)("key")
    made.voice.edge("key", made.clock.now)
    made.wake = made.clock.now
    made.run(20)


def test_closing_ends_what_sounds_in_its_zones_without_waiting_for_the_agent() -> None:
    made = rig()
    made.do(v.Open(play="p", zones=["a", "b"], pinned=["chime:long"], alert=True), v.Close(play="p"))
    made.run(100)
    turn(made, True)
    assert [(e.zone, e.reason) for e in made.of(v.Ended)] == [("a", "silenced")]
    assert made.voice.hello("1", 0).keys == {"key": True}


def test_buttons_work_and_the_lamp_blinks_while_it_is_closed() -> None:
    made = rig()
    assert made.board.relays["lamp:key"] is True
    turn(made, True)
    made.press("fire")
    assert made.one(v.LocalStarted).button == "fire"
    before = made.board.switched.count(("lamp:key", True))
    made.run(3000)
    assert made.board.switched.count(("lamp:key", True)) >= before + 2


def test_it_may_stay_closed_for_days_and_is_not_stuck() -> None:
    made = rig()
    turn(made, True)
    made.run(200_000)
    assert [e.state for e in made.of(v.ButtonEvent)] == ["pressed"]


def test_opening_lifts_the_lock_of_its_zones() -> None:
    made = rig()
    made.do(v.Lock(zones=["a", "b"]))
    turn(made, True)
    turn(made, False)
    made.press("fire")
    assert made.one(v.LocalStarted).zones == ["a"]
    assert made.clock.now > MS
