from __future__ import annotations

import itertools
import math
import os
from array import array
from typing import Any

import pytest

from agent.model import voice as v
from agent.model.config import Station
from agent.voice.fakes import FakeMicrophone
from agent.voice.live import CEILING, MOST, RAMP_IN, TARGET, Live
from tests.unit.voice.rig import MS, PERIOD_NS, Rig, pcm_of, station

SPOKEN = 5000
BLOCK = pcm_of(SPOKEN, 240)


def hall(zones: list[dict[str, Any]] | None = None, relays: list[dict[str, Any]] | None = None, **talk: Any) -> Station:
    action = {"microphone": True, "longest_s": 5, **talk}
    return station(
        zones or [{"id": "a"}, {"id": "b"}],
        relays=relays or [],
        microphone={"device": "m"},
        buttons=[
            {"id": "talk", "pin": 1, "action": action, "lamp": 20},
            {"id": "here", "pin": 2, "action": {**action, "mode": "latch"}, "zones": ["a"]},
            {"id": "fire", "pin": 3, "action": {"message": "fire"}},
            {"id": "flood", "pin": 4, "action": {"message": "flood"}},
            {"id": "daily", "pin": 5, "class": "normal", "action": action},
            {"id": "stop", "pin": 6, "action": {"stop": True}},
        ],
        messages=[
            {"id": "fire", "title": "Cháy", "text": "Cháy!", "repeat": 2},
            {"id": "flood", "title": "Lũ", "text": "Lũ!", "chime": "gong"},
        ],
    )


class Hall(Rig):
    """Somebody speaks into the microphone all the time, a period of 5 ms after the other, as a card gives them."""

    def __init__(self, config: Station | None = None, **more: Any) -> None:
        super().__init__(config or hall(), **more)
        self.microphone = self.voice.microphone = FakeMicrophone()
        self.block = BLOCK
        self.silent = False

    def run(self, ms: float) -> None:
        end = self.clock.now + round(ms * MS)
        while self.clock.now < end:
            if not self.silent:
                self.microphone.speak(self.block)
                self.wake = self.clock.now
            super().run(min(PERIOD_NS, end - self.clock.now) / MS)

    def down(self, button: str) -> None:
        self.board.pressed.add(button)
        self.move(button)

    def up(self, button: str) -> None:
        self.board.pressed.discard(button)
        self.move(button)

    def move(self, button: str) -> None:
        self.voice.edge(button, self.clock.now)
        self.wake = self.clock.now
        self.run(10)


def test_relays_then_chime_then_the_live_sound_until_the_button_is_released() -> None:
    rig = Hall(hall([{"id": "a", "power": [{"relay": "amp"}]}], relays=[{"id": "amp", "pin": 9}]))
    rig.voice.sounds["chime:gong"] = pcm_of(300, 2400)
    pressed = rig.clock.now
    rig.down("talk")
    started = rig.one(v.LocalStarted)
    assert (started.button, started.message, started.zones, started.pressed_ns) == (
        "talk",
        "microphone",
        ["a"],
        pressed,
    )
    assert started.submitted_ns - pressed <= 5 * MS
    assert isinstance(next(e for e in rig.events if isinstance(e, v.RelayEvent | v.LocalStarted)), v.RelayEvent)
    rig.run(500)
    rig.up("talk")
    rig.run(100)
    ended = rig.one(v.LocalEnded)
    sound = rig.sound(started.at_ns, 24_000)
    assert sound[:2400] == [300] * 2400
    live = sound[2400:]
    assert live[RAMP_IN : RAMP_IN + 20_000] == [SPOKEN] * 20_000
    assert all(abs(b - a) <= 20 for a, b in itertools.pairwise(live[:RAMP_IN]))
    assert ended.reason == "completed"
    assert ended.level_dbfs == pytest.approx(-16.8, abs=0.3)
    assert rig.board.relays["amp"] is False
    assert not rig.microphone.speak(BLOCK)
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "released"]


def test_what_was_said_during_the_chime_is_not_heard_late() -> None:
    """From the capture to the sink no more than the two bounds, however long the chime was."""
    rig = Hall()
    rig.voice.sounds["chime:gong"] = pcm_of(300, 48_000)
    rig.down("talk")
    rig.run(900)
    rig.block = pcm_of(SPOKEN + 1, 240)
    said = rig.clock.now
    rig.run(400)
    heard = rig.sink.channel(0).index(SPOKEN + 1, rig.at(said))
    assert heard - rig.at(said) <= 48_000 // 10 + MOST


def test_the_delay_of_a_running_microphone_is_bounded_even_after_a_stall() -> None:
    rig = Hall()
    rig.down("talk")
    rig.run(200)
    for _ in range(40):  # 200 ms too much, as after a stall
        rig.microphone.speak(BLOCK)
    rig.run(20)
    rig.block = pcm_of(SPOKEN + 1, 240)
    said = rig.clock.now
    rig.run(200)
    delay = rig.sink.channel(0).index(SPOKEN + 1, rig.at(said)) - rig.at(said)
    assert delay <= MOST + round(0.015 * 48_000)


def test_latch_ends_with_the_second_press() -> None:
    rig = Hall()
    rig.press("here", hold_ms=30)
    rig.run(300)
    assert rig.of(v.LocalEnded) == []
    rig.press("here", hold_ms=30)
    assert rig.one(v.LocalEnded).reason == "completed"
    rig.press("here", hold_ms=30)
    assert len(rig.of(v.LocalStarted)) == 2


def test_nobody_speaks_longer_than_the_longest_time() -> None:
    rig = Hall()
    rig.down("talk")
    rig.run(20_000)
    started, ended = rig.one(v.LocalStarted), rig.of(v.LocalEnded)
    assert {e.reason for e in ended} == {"longest"}
    assert ended[0].at_ns - started.at_ns == pytest.approx(5015 * MS, abs=11 * MS)
    rig.up("talk")
    rig.run(1000)
    assert rig.wake is None


def test_an_everyday_microphone_only_reports() -> None:
    rig = Hall()
    rig.press("daily")
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "released"]
    assert rig.of(v.LocalStarted) == []
    assert rig.microphone.opened == 0


def test_the_chime_loops_until_the_chain_is_warm_and_the_voice_waits_for_it() -> None:
    power = [{"relay": "amp", "warm_up_s": 0.5}]
    rig = Hall(hall([{"id": "a", "power": power}, {"id": "b"}], relays=[{"id": "amp", "pin": 9}]))
    begun = rig.clock.now
    rig.down("talk")
    rig.run(900)
    b = rig.sound(rig.one(v.LocalStarted).at_ns, 38_000, channel=1)
    first = next(i for i, s in enumerate(b) if s not in {300, 299, 301} and s > 400)
    assert 48_000 // 2 + 240 - 240 <= first <= 48_000 // 2 + 2 * 240
    assert b[:23_900] == [300] * 23_900
    assert rig.clock.now - begun < 1000 * MS


def test_without_a_chime_the_voice_begins_at_once() -> None:
    rig = Hall(hall(chime=None))
    rig.down("talk")
    rig.run(100)
    assert rig.one(v.LocalStarted).at_ns - rig.clock.now + 110 * MS <= 60 * MS


def test_a_microphone_takes_the_zones_of_a_message_and_what_waited_follows_it() -> None:
    rig = Hall()
    rig.voice.sounds["message:fire"] = pcm_of(310, 48_000)
    rig.voice.sounds["message:flood"] = pcm_of(200, 2400)
    rig.press("fire", hold_ms=20)
    rig.press("flood", hold_ms=20)
    rig.down("talk")
    rig.run(300)
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"local"}
    rig.up("talk")
    rig.run(500)
    assert [e.button for e in rig.of(v.LocalStarted)] == ["fire", "talk", "flood"]
    assert {e.reason for e in rig.of(v.LocalEnded)[2:]} == {"completed"}
    for before, after in (("fire", "talk"), ("talk", "flood")):
        ends = [i for i, e in enumerate(rig.events) if isinstance(e, v.LocalEnded) and f":{before}:" in e.play]
        begin = rig.events.index(rig.one(v.LocalStarted, button=after))
        assert max(ends) < begin


def test_a_message_takes_its_zones_from_the_microphone_at_once() -> None:
    rig = Hall()
    rig.press("here", hold_ms=20)
    rig.run(200)
    pressed = rig.clock.now
    rig.down("fire")
    assert rig.one(v.LocalEnded).reason == "local"
    rig.run(500)
    a = [e for e in rig.of(v.LocalStarted, button="fire") if "a" in e.zones]
    assert a[0].submitted_ns - pressed <= 10 * MS
    assert not rig.microphone.speak(BLOCK)


def test_a_microphone_begins_in_all_its_zones_together() -> None:
    rig = Hall()
    rig.voice.sounds["message:fire"] = pcm_of(310, 48_000)
    rig.press("here", hold_ms=20)
    rig.run(100)
    rig.down("talk")
    rig.run(100)
    assert [e.zones for e in rig.of(v.LocalStarted)] == [["a"], ["a", "b"]]
    assert rig.microphone.opened == 2


def test_stop_and_silence_end_the_microphone() -> None:
    rig = Hall()
    rig.press("here", hold_ms=20)
    rig.run(100)
    rig.press("stop")
    assert rig.one(v.LocalEnded).reason == "stopped"
    rig.press("here", hold_ms=20)
    rig.run(100)
    rig.do(v.Lock(zones=["a", "b"]))
    rig.run(50)
    assert rig.of(v.LocalEnded)[-1].reason == "silenced"
    rig.down("talk")
    assert len(rig.of(v.LocalStarted)) == 2


def test_a_microphone_that_fails_ends_its_play_and_is_told_and_its_lamp_tells_it() -> None:
    rig = Hall()
    rig.down("talk")
    rig.run(200)
    rig.microphone.fail("Input/output error")
    rig.run(200)
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"microphone"}
    assert rig.one(v.Fault).what == "microphone"
    rig.up("talk")
    before = len(rig.board.switched)
    rig.run(1000)
    assert len(rig.board.switched) - before >= 7
    rig.down("talk")
    rig.run(200)
    rig.up("talk")
    rig.run(100)
    assert rig.board.relays["lamp:talk"] is True


def test_without_a_microphone_the_chime_alone_sounds_and_a_fault_tells() -> None:
    rig = Hall()
    rig.voice.microphone = None
    rig.down("talk")
    rig.run(300)
    assert rig.of(v.LocalEnded)[0].samples == 240
    assert rig.of(v.LocalEnded)[0].reason == "microphone"
    assert rig.one(v.Fault).what == "microphone"


def test_a_microphone_that_falters_is_silent_and_the_chime_does_not_come_again() -> None:
    rig = Hall()
    rig.down("talk")
    rig.run(200)
    rig.silent = True
    begun = rig.clock.now
    rig.run(1000)
    assert set(rig.sound(begun + 100 * MS, 40_000)) == {0}
    rig.silent = False
    rig.run(200)
    assert rig.sink.channel(0)[-400] == SPOKEN


def test_an_everlasting_chime_while_the_microphone_never_comes_is_bounded() -> None:
    rig = Hall()
    rig.silent = True
    rig.down("talk")
    rig.run(10_000)
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"longest"}


def live_of(gain_db: float = 0.0) -> tuple[Live, int]:
    read, write = os.pipe()
    return Live(0, read, gain_db), write


@pytest.mark.parametrize("gain_db", [0, 12, 30])
def test_nothing_that_is_shouted_is_louder_than_the_ceiling(gain_db: float) -> None:
    live, write = live_of(gain_db)
    shout = array("h", [v for i in range(480) for v in ((32_767, -32_768)[i // 24 % 2],)]).tobytes()
    sent = array("h")
    for block in [pcm_of(100, 720), *[shout] * 20]:
        os.write(write, block)
        while data := live.take(240):
            sent.frombytes(data)
    assert max(sent) <= CEILING
    assert min(sent) >= -CEILING - 1
    assert 20 * math.log10(max(sent[-2000:]) / 32768) == pytest.approx(-6.0, abs=0.1)
    os.close(write)
    live.close()


def test_it_comes_up_within_20_ms_and_lets_go_of_the_limiter_slowly() -> None:
    live, write = live_of()
    os.write(write, pcm_of(8000, TARGET))
    os.write(write, pcm_of(8000, TARGET))
    sent = array("h")
    while data := live.take(240):
        sent.frombytes(data)
    assert sent[0] == 0
    assert sent[RAMP_IN // 2] == pytest.approx(4000, abs=20)
    assert sent[RAMP_IN] == 8000
    os.write(write, pcm_of(32_000, 240))
    live.take(240)
    os.write(write, pcm_of(8000, 240))
    assert array("h", live.take(240))[-1] == pytest.approx(8000 * CEILING / 32_000 * 1.0035, abs=2)
    os.close(write)
    live.close()


def put_on_the_air(rig: Hall) -> None:
    """What the agent does when an everyday button was pressed."""
    rig.do(
        v.Open(play="p", zones=["a", "b"], pinned=["chime:gong"]),
        v.Listen(play="p", segment=1, button="daily"),
        v.Close(play="p"),
    )


def test_an_everyday_microphone_goes_on_the_air_when_the_agent_says_so_and_off_when_it_is_released() -> None:
    rig = Hall()
    rig.down("daily")
    assert rig.sink.channel(0) == []
    assert not rig.microphone.speak(BLOCK)
    put_on_the_air(rig)
    rig.run(500)
    rig.up("daily")
    rig.run(100)
    ended = rig.of(v.Ended)
    assert [(e.zone, e.reason) for e in ended] == [("a", "completed"), ("b", "completed")]
    sound = rig.sound(rig.one(v.Started, zone="a").at_ns, 20_000)
    assert sound[:240] == [300] * 240
    assert sound[240 + RAMP_IN :].count(SPOKEN) > 15_000
    assert not rig.microphone.speak(BLOCK)


def test_an_everyday_button_that_has_opened_before_the_agent_answered_puts_nothing_on_the_air() -> None:
    rig = Hall()
    rig.press("daily", 40)
    put_on_the_air(rig)
    rig.run(50)
    assert [e.reason for e in rig.of(v.Ended)] == ["stopped", "stopped"]
    assert SPOKEN not in rig.sink.channel(0)


def test_an_everyday_microphone_ends_after_its_longest_time_though_nobody_tells_it_to() -> None:
    rig = Hall()
    rig.down("daily")
    put_on_the_air(rig)
    rig.run(6000)
    assert [e.reason for e in rig.of(v.Ended)] == ["longest", "longest"]
    assert not rig.microphone.speak(BLOCK)


@pytest.mark.parametrize("duck_db", [None, -18.0])
@pytest.mark.parametrize("button", ["stop", "fire", "talk"])
def test_stop_button_message_and_emergency_microphone_end_an_everyday_one(button: str, duck_db: float | None) -> None:
    rig = Hall(hall([{"id": "a", "duck_db": duck_db}, {"id": "b", "duck_db": duck_db}]))
    rig.down("daily")
    put_on_the_air(rig)
    rig.run(300)
    rig.down(button)
    rig.run(100)
    assert {e.reason for e in rig.of(v.Ended)} == {"stopped" if button == "stop" else "local"}


def test_a_play_may_listen_only_at_a_microphone_button() -> None:
    rig = Hall()
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:gong"]), v.Listen(play="p", segment=1, button="fire"))
    assert rig.one(v.Fault).what == "command"
    assert not rig.microphone.speak(BLOCK)


class Passed:
    """What voice passes on for the clusters."""

    def __init__(self, rig: Hall) -> None:
        self.told: list[tuple[str, bytes]] = []
        rig.voice.pass_on = lambda play, sound: self.told.append((play, sound))

    @property
    def sound(self) -> bytes:
        return b"".join(sound for _, sound in self.told[1:])

    @property
    def ends(self) -> int:
        return [sound for _, sound in self.told].count(b"")


def test_what_is_heard_is_passed_on_silence_first_and_its_end_is_told_once() -> None:
    rig = Hall()
    rig.voice.sounds["chime:gong"] = pcm_of(300, 24_000)
    passed = Passed(rig)
    rig.down("talk")
    opened = rig.one(v.LocalOpened)
    assert passed.told == [(opened.play, bytes(480))], "the clusters can come while the chime sounds"
    rig.run(1000)
    rig.up("talk")
    rig.run(200)
    started = rig.one(v.LocalStarted)
    assert {play for play, _ in passed.told} == {opened.play}
    assert array("h", passed.sound)[:19_200].tolist() == rig.sound(started.at_ns, 24_000 + 19_200)[24_000:]
    assert passed.told[-1] == (opened.play, b"")
    assert passed.ends == 1


@pytest.mark.parametrize("cut", ["stop", "longest", "microphone", "silence", "message"])
def test_however_a_talk_ends_its_end_is_told_once(cut: str) -> None:
    rig = Hall()
    passed = Passed(rig)
    rig.down("talk")
    rig.run(300)
    if cut == "stop":
        rig.down("stop")
    elif cut == "longest":
        rig.run(5000)
    elif cut == "microphone":
        rig.microphone.fail("gone")
    elif cut == "silence":
        rig.do(v.Lock(zones=["a", "b"]))
    else:
        rig.down("fire")
    rig.run(500)
    assert passed.ends == 1
    assert passed.told[-1][1] == b""


def test_an_everyday_talk_is_passed_on_by_the_name_of_the_agents_play() -> None:
    rig = Hall()
    passed = Passed(rig)
    rig.down("daily")
    put_on_the_air(rig)
    rig.run(300)
    rig.up("daily")
    rig.run(100)
    assert {play for play, _ in passed.told} == {"p"}
    assert passed.ends == 1
