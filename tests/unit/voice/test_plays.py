from __future__ import annotations

import contextlib
import itertools
import math
import os
from typing import Any

import pytest

from agent.model import voice as v
from tests.unit.voice.rig import MS, PERIOD_NS, Rig, packed, pcm_of, rising, station


def test_an_idle_station_has_nothing_to_wake_for() -> None:
    assert Rig().wake is None


def test_a_play_begins_in_the_turn_of_its_command() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:gong"]), v.Close(play="p"))
    started = rig.one(v.Started)
    assert (started.at_ns, started.submitted_ns, started.error_ms) == (rig.clock.now, rig.clock.now, 0)
    assert rig.sound(started.at_ns, 241) == [300] * 240 + [0]
    ended = rig.one(v.Ended)
    assert (ended.samples, ended.segments, ended.reason, ended.underrun_samples) == (240, [240], "completed", 0)
    assert ended.at_ns == started.at_ns + PERIOD_NS


@pytest.mark.parametrize("ahead_samples", [4800, 4801, 5039, 4800 + 239, 96_001])
def test_a_scheduled_play_begins_on_the_exact_sample(ahead_samples: int) -> None:
    rig = Rig()
    due = rig.clock.now + ahead_samples * 1_000_000_000 // 48_000
    rig.do(v.Open(play="p", zones=["a"], at_ns=due, pinned=["chime:gong"]), v.Close(play="p"))
    rig.run(3000)
    assert abs(rig.one(v.Started).error_ms) < 0.011  # half a sample
    begin = rig.at(due)
    assert rig.sink.channel()[begin - 1 : begin + 241] == [0] + [300] * 240 + [0]


def test_a_scheduled_play_costs_nothing_until_its_chain_must_start() -> None:
    rig = Rig(station([{"id": "a", "power": [{"relay": "amp", "warm_up_s": 2}]}], relays=[{"id": "amp", "pin": 1}]))
    due = rig.clock.now + 60_000 * MS
    rig.do(v.Open(play="p", zones=["a"], at_ns=due, pinned=["chime:gong"]), v.Close(play="p"))
    assert rig.wake == due - 2000 * MS - 100 * MS
    rig.run(59_000)
    assert rig.board.relays == {"amp": True}
    assert rig.of(v.Started) == []
    rig.run(1500)
    assert rig.one(v.Started).at_ns == due
    assert rig.board.switched == [("amp", True), ("amp", False)]


def test_without_due_time_the_bridge_sounds_while_the_chain_warms_up() -> None:
    zones = [{"id": "a", "power": [{"relay": "amp", "warm_up_s": 0.1}]}]
    rig = Rig(station(zones, relays=[{"id": "amp", "pin": 1}]))
    opened = rig.clock.now
    rig.do(v.Open(play="p", zones=["a"], pinned=["message:fire"], bridge="siren"), v.Close(play="p"))
    rig.run(1000)
    sound = rig.sound(opened, 4800 + 96 + 4800)
    assert sound[:4800] == [250] * 4800
    assert sound[4800] > 500  # both, while the bridge fades
    assert sound[4896:9600] == [310] * 4704
    assert rig.one(v.Started).at_ns == opened
    ended = rig.one(v.Ended)
    assert (ended.samples, ended.segments, ended.underrun_samples) == (4800, [4800], 0)


def test_a_play_of_which_only_the_bridge_was_heard_ended_with_its_last_sample_and_was_as_loud_as_it() -> None:
    rig = Rig()
    opened = rig.clock.now
    rig.do(v.Open(play="p", zones=["a"], bridge="siren"))
    rig.run(100)
    rig.do(v.Stop(play="p", reason="silenced"))
    told = rig.clock.now
    rig.run(100)
    ended = rig.one(v.Ended)
    sound = rig.sound(opened, 48_000 // 5)
    last = max(i for i, sample in enumerate(sound) if sample)
    assert ended.at_ns > told, "what the card had already was still heard"
    assert abs(rig.at(ended.at_ns) - rig.at(opened) - last) <= 1
    assert ended.level_dbfs == pytest.approx(20 * math.log10(250 / 32768), abs=0.2)
    assert ended.samples == 0, "nothing of its own"


def test_emergency_takes_over_in_the_same_period_with_a_fade_and_no_gap() -> None:
    rig = Rig()
    rig.voice.sounds["chime:low"] = pcm_of(8000, 48_000)
    rig.voice.sounds["chime:rise"] = packed(rising(48_000))
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:low"]))
    rig.run(100)
    rig.do(v.Stop(play="p", reason="outranked"), v.Open(play="e", zones=["a"], pinned=["chime:rise"]))
    rig.run(100)
    started = rig.one(v.Started, play="e")
    assert rig.one(v.Ended, play="p").at_ns - started.submitted_ns < 4 * PERIOD_NS
    before = rig.sound(started.at_ns - MS, 48)
    mixed = rig.sound(started.at_ns, 240)
    assert before == [8000] * 48
    fade = [m - r for m, r in zip(mixed, rising(240), strict=True)]
    assert fade == sorted(fade, reverse=True)
    assert fade[0] == 8000
    assert 0 <= fade[-1] < 50
    assert max(abs(a - b) for a, b in itertools.pairwise(mixed)) < 50  # no click
    assert rig.sound(started.at_ns + PERIOD_NS, 240) == rising(480)[240:]
    ended = rig.one(v.Ended, play="p")
    assert ended.reason == "outranked"
    assert ended.at_ns == started.at_ns + PERIOD_NS


def test_segments_follow_each_other_without_a_gap_in_mid_period() -> None:
    rig = Rig()
    whole = rising(1000)
    rig.do(v.Open(play="p", zones=["a"], at_ns=rig.clock.now + 100 * MS))
    for i, (low, high) in enumerate([(0, 101), (101, 110), (110, 333), (333, 1000)]):
        with os.fdopen(rig.pipe("p", i), "wb") as file:
            file.write(packed(whole[low:high]))
    rig.do(v.Close(play="p"))
    rig.run(300)
    assert rig.sound(rig.one(v.Started).at_ns, 1001) == [*whole, 0]
    ended = rig.one(v.Ended)
    assert (ended.samples, ended.segments, ended.underrun_samples) == (1000, [101, 9, 223, 667], 0)
    starts = [e.at_ns - rig.one(v.Started).at_ns for e in rig.of(v.SegmentStarted)]
    assert [round(ns * 48 / MS) for ns in starts] == [0, 101, 110, 333]


def test_a_late_pipe_is_bridged_by_silence_and_loses_nothing() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"]))
    write = rig.pipe("p", 0)
    os.write(write, packed(rising(1200)))
    rig.run(100)
    os.write(write, packed(rising(2400)))
    os.close(write)
    rig.do(v.Close(play="p"))
    rig.run(200)
    ended = rig.one(v.Ended)
    assert ended.samples == 3600
    assert ended.underrun_samples > 0
    sound = rig.sound(rig.one(v.Started).at_ns, 1200 + ended.underrun_samples + 2400)
    assert sound[:1200] == rising(1200)
    assert sound[1200 + ended.underrun_samples :] == rising(2400)
    gap = sound[1200 : 1200 + ended.underrun_samples]
    assert abs(gap[0] - sound[1199]) < 10  # it falls, it does not break off
    assert set(gap[96:]) == {0}


def test_a_pipe_that_stays_away_is_bridged_by_the_chime_after_a_moment() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], bridge="chime:gong"))
    write = rig.pipe("p", 0)
    os.write(write, packed(rising(1200)))
    rig.run(500)
    started = rig.one(v.Started)
    assert set(rig.sound(started.at_ns + 150 * MS, 4800)) == {0}
    assert set(rig.sound(started.at_ns + 400 * MS, 480)) == {300}
    os.close(write)


def test_who_speaks_live_is_waited_for_under_the_chime_but_a_pause_of_hers_is_silence() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], bridge="chime:gong"))
    write = rig.pipe("p", 0, live=True, spoken=True)
    rig.run(500)
    begun = rig.clock.now
    assert 300 in rig.sound(begun - 100 * MS, 4800), "she is not there yet"
    os.write(write, packed(rising(1200)))
    rig.run(1000)
    assert set(rig.sound(begun + 300 * MS, 28_800)) == {0}
    os.close(write)


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"\x01\x00\x02"])
def test_a_pipe_of_odd_or_no_length_ends_quietly(garbage: bytes) -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:gong"]))
    with os.fdopen(rig.pipe("p", 1), "wb") as file:
        file.write(garbage)
    rig.do(v.Pin(play="p", segment=2, names=["chime:gong"]), v.Close(play="p"))
    rig.run(100)
    ended = rig.one(v.Ended)
    assert ended.segments == [240, len(garbage) // 2, 240] if garbage else [240, 0, 240]
    assert ended.reason == "completed"


def test_a_live_pipe_joins_at_its_live_edge() -> None:
    rig = Rig()
    due = rig.clock.now + 2000 * MS
    rig.do(v.Open(play="p", zones=["a"], at_ns=due))
    write = rig.pipe("p", 0, live=True, live_ms=100)
    for second in range(20):
        os.write(write, pcm_of(100 + second, 4800))
        rig.turn()
        rig.run(100)
    os.close(write)
    rig.do(v.Close(play="p"))
    rig.run(500)
    heard = rig.sound(due, 4800)
    assert heard[240:] == [119] * 4560
    assert heard[0] == 0
    assert heard[:240] == sorted(heard[:240]), "a stream is joined with a fade of a period"
    assert rig.one(v.Ended).samples == 4800


def test_a_pipe_is_read_half_a_second_ahead_and_no_further() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], at_ns=rig.clock.now + 10_000 * MS))
    read, write = os.pipe()
    os.set_blocking(write, False)
    rig.do(v.Feed(play="p", segment=0), fd=read)
    written = 0
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            written += os.write(write, bytes(9600))
        rig.turn()
    assert written <= 48_000 + 65_536 + 9600
    os.close(write)


def test_zones_run_in_lockstep_when_the_last_of_them_is_warm() -> None:
    zones: list[dict[str, Any]] = [{"id": "a"}, {"id": "b", "power": [{"relay": "amp", "warm_up_s": 0.2}]}]
    rig = Rig(station(zones, relays=[{"id": "amp", "pin": 1}]), cards=[["a"], ["b"]])
    rig.clock.now += 1_234_567
    opened = rig.clock.now
    rig.do(v.Open(play="p", zones=["a", "b"], pinned=["message:fire"]), v.Close(play="p"))
    rig.run(1000)
    first, second = rig.of(v.Started)
    assert abs(first.at_ns - second.at_ns) < 21_000
    assert first.at_ns > opened + 200 * MS - 11_000  # half a sample
    assert [e.samples for e in rig.of(v.Ended)] == [4800, 4800]


def test_stop_in_one_zone_leaves_the_other_playing() -> None:
    rig = Rig(station([{"id": "a"}, {"id": "b"}]))
    rig.do(v.Open(play="p", zones=["a", "b"], pinned=["message:fire"]), v.Close(play="p"))
    rig.run(20)
    rig.do(v.Stop(play="p", zones=["a"]))
    rig.run(500)
    assert rig.one(v.Ended, zone="a").reason == "stopped"
    assert rig.one(v.Ended, zone="b").samples == 4800
    assert rig.one(v.Ended, zone="a").samples < 4800


def test_gain_delay_and_level_are_those_of_what_was_sent() -> None:
    rig = Rig(station([{"id": "a", "gain_db": -10}, {"id": "b", "delay_ms": 7.5}]))
    rig.voice.sounds["chime:x"] = pcm_of(10_000, 9600) + bytes(9600) + pcm_of(10_000, 4800)
    rig.do(v.Open(play="p", zones=["a", "b"], pinned=["chime:x"], gain_db=-10), v.Close(play="p"))
    rig.run(1000)
    a, b = rig.one(v.Started, zone="a"), rig.one(v.Started, zone="b")
    assert b.at_ns - a.at_ns == 7_500_000
    assert a.error_ms == b.error_ms == 0
    assert rig.sound(a.at_ns, 2)[0] in {0, 1000}
    assert rig.sound(a.at_ns, 200)[100] == 1000
    assert rig.sound(b.at_ns, 200, channel=1)[100] in {3162, 3163}
    assert rig.sound(a.at_ns, 360, channel=1) == [0] * 360
    assert rig.one(v.Ended, zone="a").level_dbfs == pytest.approx(-30.31, abs=0.03)
    assert rig.one(v.Ended, zone="b").level_dbfs == pytest.approx(-20.31, abs=0.03)


def test_what_is_too_loud_is_limited_not_clipped() -> None:
    rig = Rig()
    rig.voice.sounds["chime:x"] = packed([0] * 480 + [20_000, -20_000] * 4800)
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:x"], gain_db=12), v.Close(play="p"))
    rig.run(1000)
    loud = rig.sound(rig.one(v.Started).at_ns + 20 * MS, 480)
    assert 32_000 < max(loud) < 32_768
    assert min(loud) > -32_768


def test_two_plays_in_a_zone_are_mixed() -> None:
    rig = Rig()
    rig.do(
        v.Open(play="p", zones=["a"], pinned=["message:fire"]),
        v.Open(play="q", zones=["a"], pinned=["chime:gong"]),
        v.Close(play="q"),
    )
    assert rig.sound(rig.of(v.Started)[0].at_ns, 241) == [610] * 240 + [310]


def test_every_event_of_a_play_comes_in_order() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:gong", "chime:gong"]), v.Close(play="p"))
    rig.run(100)
    assert [type(e).__name__ for e in rig.events] == ["Power", "Started", "SegmentStarted", "Ended", "Power"]
    assert [e.state for e in rig.of(v.Power)] == ["on", "off"]
    assert not rig.sink.running


def test_an_underrun_of_the_card_is_reported_and_the_play_goes_on() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], pinned=["message:fire"]), v.Close(play="p"))
    rig.clock.now += 40 * MS
    rig.turn()
    rig.run(500)
    assert rig.one(v.Fault).what == "xrun"
    assert rig.one(v.Ended).samples == 4800
    assert rig.sink.channel().count(310) == 4800


def test_a_broken_card_does_not_disturb_the_other() -> None:
    rig = Rig(station([{"id": "a"}, {"id": "b"}]), cards=[["a"], ["b"]])
    rig.sinks[1].faults = ["no such device"]
    rig.do(v.Open(play="p", zones=["a", "b"], pinned=["message:fire"]), v.Close(play="p"))
    rig.run(500)
    assert "no such device" in rig.one(v.Fault, what="sink").detail
    assert [e.samples for e in rig.of(v.Ended)] == [4800, 4800]


def test_also_outputs_carry_the_same_samples_and_report_nothing() -> None:
    rig = Rig(cards=[["a"], ["a"]])
    rig.do(v.Open(play="p", zones=["a"], pinned=["message:fire"]), v.Close(play="p"))
    rig.run(500)
    rig.one(v.Started)
    rig.one(v.Ended)
    assert [s.channel().count(310) for s in rig.sinks] == [4800, 4800]


def test_levels_are_sent_while_something_runs() -> None:
    rig = Rig()
    rig.do(v.Levels(every_ms=50), v.Open(play="p", zones=["a"], pinned=["message:fire"]), v.Close(play="p"))
    rig.run(500)
    levels = [e.zones["a"] for e in rig.of(v.Level)]
    assert levels[0] == pytest.approx(-40.5, abs=0.1)
    assert levels[-1] is None
    assert 2 <= len(levels) <= 4


BAD = {
    "unknown zone": (v.Open(play="p", zones=["nowhere"]), "command"),
    "unknown play": (v.Close(play="nobody"), "command"),
    "feed without pipe": (v.Feed(play="p", segment=0), "command"),
    "unknown chime": (v.Open(play="p", zones=["a"], pinned=["chime:none"]), "pinned"),
    "unknown bridge": (v.Open(play="p", zones=["a"], bridge="none"), "pinned"),
    "lock of nothing": (v.Lock(zones=["nowhere"]), "command"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_command_is_a_fault_and_nothing_else(name: str) -> None:
    rig = Rig()
    command, what = BAD[name]
    rig.do(command)
    assert rig.one(v.Fault).what == what
    rig.do(v.Open(play="next", zones=["a"], pinned=["chime:gong"]))
    rig.run(5)
    rig.one(v.Started)


def test_an_unknown_zone_ends_at_once_and_the_known_ones_play() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["nowhere", "a"], pinned=["chime:gong"]), v.Close(play="p"))
    rig.run(100)
    assert [(e.zone, e.reason, e.samples) for e in rig.of(v.Ended)] == [
        ("nowhere", "no-such-zone", 0),
        ("a", "completed", 240),
    ]


def test_commands_that_crossed_the_end_of_their_play_are_ignored() -> None:
    rig = Rig()
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:gong"]), v.Close(play="p"))
    rig.run(100)
    read, write = os.pipe()
    rig.do(v.Feed(play="p", segment=1), fd=read)
    rig.do(v.Stop(play="p"), v.Close(play="p"))
    assert rig.of(v.Fault) == []
    with pytest.raises(BrokenPipeError):
        os.write(write, b"xx")
    os.close(write)


def test_when_the_agent_goes_away_its_plays_fade_and_scheduled_ones_are_dropped() -> None:
    rig = Rig()
    rig.voice.sounds["chime:low"] = pcm_of(8000, 48_000)
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:low"]))
    rig.do(v.Open(play="later", zones=["a"], at_ns=rig.clock.now + 10**10, pinned=["chime:low"]))
    rig.run(50)
    rig.voice.disconnected(rig.clock.now)
    rig.turn()
    rig.run(100)
    assert {(e.play, e.reason) for e in rig.of(v.Ended)} == {("p", "disconnected"), ("later", "disconnected")}
    assert rig.sink.channel()[-1] == 0
    assert not rig.sink.running
