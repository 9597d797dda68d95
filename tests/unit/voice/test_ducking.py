"""Gain that changes while a play sounds: volume caps that begin, and programmes that go on under an alert."""

from __future__ import annotations

import itertools
import math

from agent.model import voice as v
from tests.unit.voice.rig import MS, Rig, pcm_of, station

BUTTONS = [{"id": "fire", "pin": 5, "action": {"message": "fire"}}]
MESSAGES = [{"id": "fire", "title": "Fire", "text": "Fire", "chime": None}]


def rig(duck_db: float | None = -20.0, **more: object) -> Rig:
    made = Rig(station([{"id": "a", "duck_db": duck_db}], buttons=BUTTONS, messages=MESSAGES, **more))
    made.voice.sounds["chime:long"] = pcm_of(8000, 96_000)
    made.voice.sounds["message:fire"] = pcm_of(1000, 9600)
    return made


def open_programme(made: Rig) -> None:
    made.do(v.Open(play="p", zones=["a"], pinned=["chime:long"]), v.Close(play="p"))
    made.run(100)


def steps(sound: list[int]) -> int:
    """The largest step from one sample to the next."""
    return max(abs(b - a) for a, b in itertools.pairwise(sound))


def test_a_gain_takes_effect_at_once_and_without_a_click() -> None:
    made = rig()
    open_programme(made)
    begin = made.clock.now
    made.do(v.Gain(play="p", gain_db=-12.0))
    made.run(100)
    sound = made.sound(begin - 10 * MS, 5000)
    assert sound[0] == 8000
    assert abs(sound[2400] - 8000 * 10 ** (-12 / 20)) < 2  # 40 ms after the command, the buffer included
    assert steps(sound) < 40


def test_the_log_level_is_that_of_what_was_really_sent() -> None:
    made = rig()
    open_programme(made)
    made.do(v.Gain(play="p", gain_db=-40.0))
    made.run(3000)
    sent = [s for s in made.sink.channel() if s]
    rms = math.sqrt(sum(s * s for s in sent) / len(sent))
    assert abs(made.one(v.Ended, play="p").level_dbfs - 20 * math.log10(rms / 32768)) < 0.1


def test_a_gain_reaches_only_the_zones_it_names() -> None:
    made = Rig(station([{"id": "a"}, {"id": "b"}]), cards=[["a"], ["b"]])
    made.voice.sounds["chime:long"] = pcm_of(8000, 96_000)
    made.do(v.Open(play="p", zones=["a", "b"], pinned=["chime:long"]), v.Close(play="p"))
    made.do(v.Gain(play="p", gain_db=-20.0, zones=["b"]))
    made.run(200)
    assert made.sinks[0].channel()[-1] == 8000
    assert abs(made.sinks[1].channel()[-1] - 800) < 2


def test_under_a_remote_alert_a_programme_goes_on_quieter_and_comes_back() -> None:
    made = rig()
    open_programme(made)
    begin = made.clock.now
    made.do(v.Open(play="e", zones=["a"], pinned=["message:fire"], alert=True), v.Close(play="e"))
    made.run(1500)
    assert made.of(v.Ended, play="p") == []
    (ended,) = made.of(v.Ended, play="e")
    assert abs(made.sound(begin + 100 * MS, 1)[0] - (1000 + 800)) < 3
    assert made.sound(ended.at_ns + 400 * MS, 1)[0] == 8000
    assert steps(made.sound(begin + 40 * MS, 12_000)) < 1100  # the message's own end, and nothing beyond


def test_an_alert_keeps_its_level_while_it_ducks() -> None:
    made = rig()
    open_programme(made)
    made.do(v.Open(play="e", zones=["a"], pinned=["message:fire"], alert=True), v.Close(play="e"))
    made.run(1500)
    assert abs(made.one(v.Ended, play="e").level_dbfs - 20 * math.log10(1000 / 32768)) < 0.1


def test_a_button_ducks_what_is_heard_and_ends_what_has_not_begun() -> None:
    made = rig()
    open_programme(made)
    made.do(v.Open(play="later", zones=["a"], at_ns=made.clock.now + 60_000 * MS, pinned=["chime:gong"]))
    made.press("fire")
    made.run(50)
    assert made.one(v.Ended, play="later").reason == "local"
    assert made.of(v.Ended, play="p") == []
    made.run(3000)
    assert made.one(v.LocalEnded).reason == "completed"
    assert made.one(v.Ended, play="p").reason == "completed"


def test_a_button_stops_a_remote_alert_also_where_programmes_are_ducked() -> None:
    made = rig()
    made.do(v.Open(play="e", zones=["a"], pinned=["chime:long"], alert=True), v.Close(play="e"))
    made.run(50)
    made.press("fire")
    made.run(50)
    assert made.one(v.Ended, play="e").reason == "local"


def test_without_ducking_a_button_stops_the_programme() -> None:
    made = rig(None)
    open_programme(made)
    made.press("fire")
    made.run(50)
    assert made.one(v.Ended, play="p").reason == "local"
