"""Power chains in the mixer: what sounds, and what ends, when relays fail or exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from agent.model import voice as v
from tests.unit.voice.rig import MS, Rig, station

AMP = {"id": "amp", "pin": 1, "feedback": {"pin": 11, "within_s": 0.1, "retries": 0}}
LINES = [{"id": "amp", "pin": 1}, {"id": "l1", "pin": 2, "excludes": ["l2"]}, {"id": "l2", "pin": 3}]


def rig_of(zones: list[dict[str, Any]], relays: list[dict[str, Any]], **more: Any) -> Rig:
    messages = [{"id": "fire", "title": "Cháy", "text": "Cháy"}]
    return Rig(station(zones, relays=relays, messages=messages, **more))


def one_zone(**button: Any) -> Rig:
    buttons = [{"id": "fire", "pin": 20, "action": {"message": "fire"}, **button}]
    return rig_of([{"id": "a", "power": [{"relay": "amp"}]}, {"id": "b"}], [AMP], buttons=buttons)


def two_lines() -> Rig:
    zones = [{"id": z, "power": [{"relay": "amp"}, {"relay": line}]} for z, line in (("a", "l1"), ("b", "l2"))]
    buttons = [{"id": "fire", "pin": 20, "action": {"message": "fire"}}]
    return rig_of(zones, LINES, buttons=buttons)


def play(rig: Rig, name: str, *zones: str, **more: Any) -> None:
    rig.do(v.Open(play=name, zones=list(zones), pinned=["message:fire"], **more), v.Close(play=name))


def test_a_zone_in_fault_ends_its_plays_and_the_other_zone_of_the_same_play_goes_on() -> None:
    rig = one_zone()
    play(rig, "p", "a", "b")
    rig.run(600)
    ended = {e.zone: (e.reason, e.samples) for e in rig.of(v.Ended)}
    assert ended == {"a": ("relay-fault", 0), "b": ("completed", 4800)}
    assert rig.of(v.RelayEvent, on=True) == []


def test_a_button_sounds_through_a_relay_that_is_not_confirmed() -> None:
    rig = one_zone()
    rig.press("fire")
    rig.run(300)
    assert rig.of(v.LocalEnded, zone="a", reason="completed")
    assert rig.of(v.RelayEvent, fault="not-following")
    assert rig.of(v.RelayEvent, on=True) == []


@pytest.mark.parametrize("end", [v.EndLocal(), v.Lock(zones=["a", "b"])])
def test_a_button_tells_that_it_takes_its_zones_before_anything_becomes_of_it(
    end: v.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = one_zone()
    rig.board.pressed.add("fire")
    rig.voice.edge("fire", rig.clock.now)
    rig.clock.now += 5 * MS
    monkeypatch.setattr(rig.sink, "room", lambda now: False)  # not even the first period gets out
    rig.turn()
    opened = rig.one(v.LocalOpened)
    assert (opened.button, opened.message, opened.zones) == ("fire", "fire", ["a", "b"])
    rig.do(end)
    assert [(e.play, e.zone, e.samples) for e in rig.of(v.LocalEnded)] == [(opened.play, z, 0) for z in ("a", "b")]
    assert rig.of(v.LocalStarted) == []


def test_so_does_an_alert_of_the_agent() -> None:
    rig = one_zone()
    play(rig, "e", "a", alert=True)
    rig.run(300)
    assert rig.one(v.Ended).reason == "completed"


def test_after_a_fault_the_next_play_tries_again() -> None:
    rig = one_zone()
    play(rig, "p", "a")
    rig.run(300)
    rig.board.pressed.add("feedback:amp")
    play(rig, "q", "a")
    rig.run(1)
    rig.run(300)
    assert rig.one(v.Ended, play="q").reason == "completed"


def test_a_line_that_cannot_be_had_is_never_reported_as_on_and_the_sound_goes_on() -> None:
    rig = rig_of([{"id": "a", "power": [{"relay": "amp"}]}], [{"id": "amp", "pin": 1}])
    rig.board.dead.add("amp")
    play(rig, "p", "a")
    rig.run(300)
    assert rig.one(v.Ended).reason == "completed"
    assert [(e.on, e.fault) for e in rig.of(v.RelayEvent)] == [(False, "gpio")]


def test_two_zones_of_one_play_that_exclude_each_other_are_never_both_on() -> None:
    rig = two_lines()
    play(rig, "p", "a", "b")
    rig.run(300)
    assert {e.zone: e.reason for e in rig.of(v.Ended)} == {"a": "completed", "b": "interlocked"}
    assert ("l2", True) not in rig.board.switched


def test_a_button_sounds_in_two_lines_that_exclude_each_other_one_after_the_other() -> None:
    rig = two_lines()
    play(rig, "p", "b")
    rig.run(50)
    rig.press("fire")
    rig.run(600)
    assert rig.one(v.Ended, play="p").reason == "local"
    first, second = rig.of(v.LocalEnded)
    assert [(e.zone, e.reason) for e in (first, second)] == [("a", "completed"), ("b", "completed")]
    assert second.at_ns - first.at_ns >= 100 * MS
    on = [name for name, state in rig.board.switched if state]
    assert on.count("l1") == 1


def test_the_lines_of_one_amplifier_are_one_channel_and_carry_their_programme_once() -> None:
    zones = [{"id": "a", "amplifier": "x"}, {"id": "c"}, {"id": "b", "amplifier": "x", "gain_db": -6}]
    rig = rig_of(zones, [])
    assert rig.cards[0].slots == [[0, 2], [1]]
    rig.sink.channels = 2
    play(rig, "p", "b")
    rig.run(150)
    assert max(rig.sink.channel(0)) == pytest.approx(310 * 10 ** (-6 / 20), abs=1)
    assert max(rig.sink.channel(1)) == 0
    play(rig, "q", "a", "b")
    rig.run(150)
    assert max(rig.sink.channel(0)) == 310


def test_an_external_source_is_let_through_by_its_own_relays_until_the_agent_goes() -> None:
    idle = {"source": "external", "relay": "over", "power": [{"relay": "amp"}], "hours": ["05:00-06:00"]}
    relays = [{"id": "over", "pin": 1}, {"id": "amp", "pin": 2}]
    rig = rig_of([{"id": "a", "idle": idle, "power": [{"relay": "amp"}]}], relays)
    assert rig.board.switched == []
    rig.do(v.Idle(zones=["a"]))
    assert rig.board.switched == [("amp", True)]
    play(rig, "p", "a")
    rig.run(300)
    assert rig.board.switched == [("amp", True), ("over", True), ("over", False)]  # taken over, given back
    rig.voice.disconnected(rig.clock.now)
    rig.turn()
    assert rig.board.switched[-1] == ("amp", False)
