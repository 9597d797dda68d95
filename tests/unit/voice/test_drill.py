"""Drill mode in voice: marked before and after, and only when the mark is there."""

from __future__ import annotations

import pytest

from agent.model import voice as v
from tests.unit.voice.rig import MS, Rig, pcm_of, station
from tests.unit.voice.test_microphone import BLOCK, SPOKEN, Hall

BUTTONS = [{"id": "fire", "pin": 2, "action": {"message": "fire"}}]
MARK = 777


def rig() -> Rig:
    messages = [{"id": "fire", "title": "Cháy", "text": "Cháy!", "chime": "siren"}]
    made = Rig(station(buttons=BUTTONS, messages=messages))
    made.voice.sounds["chime:drill"] = pcm_of(MARK, 4800)
    return made


def begin(made: Rig, seconds: int = 60) -> None:
    made.do(v.Drill(until_ns=made.clock.now + seconds * 1000 * MS))


def test_a_press_in_drill_mode_is_marked_before_and_after() -> None:
    made = rig()
    begin(made)
    made.press("fire")
    made.run(1000)
    assert made.one(v.LocalStarted).drill
    sound = [s for s in made.sink.channel() if s]
    assert sound[200:4700] == [MARK] * 4500
    assert sound[-4500:] == [MARK] * 4500
    assert 310 in sound[4800:-4800]
    assert made.one(v.LocalEnded).reason == "completed"


@pytest.mark.parametrize("end", ["time", "agent", "command"])
def test_afterwards_and_without_an_agent_a_press_is_an_alarm(end: str) -> None:
    made = rig()
    begin(made, 1)
    if end == "time":
        made.run(1001)
    elif end == "agent":
        made.voice.disconnected(made.clock.now)
    else:
        made.do(v.Drill(until_ns=0))
    made.press("fire")
    made.run(1000)
    assert not made.one(v.LocalStarted).drill
    assert MARK not in made.sink.channel()


def test_without_its_mark_there_is_no_drill() -> None:
    made = rig()
    del made.voice.sounds["chime:drill"]
    begin(made)
    assert made.one(v.Fault).what == "pinned"
    made.press("fire")
    assert not made.one(v.LocalStarted).drill


def test_the_microphone_too_is_marked_before_and_after() -> None:
    made = Hall()
    made.voice.sounds["chime:drill"] = pcm_of(MARK, 4800)
    begin(made)
    made.down("talk")
    made.run(500)
    made.up("talk")
    made.run(300)
    sound = [s for s in made.sink.channel(0) if s]
    assert sound[300:4700] == [MARK] * 4400
    assert SPOKEN in sound
    assert sound[-4500:] == [MARK] * 4500
    assert made.of(v.LocalEnded)[0].reason == "completed"
    assert not made.microphone.speak(BLOCK)
