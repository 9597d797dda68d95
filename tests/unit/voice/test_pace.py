"""Clusters stay in step while their sound cards drift, and nobody hears how."""

from __future__ import annotations

import itertools
import math
from array import array

import pytest

from agent.model import voice as v
from agent.model.voice import PERIOD, RATE
from agent.voice import pcm
from agent.voice.fakes import FakeSink
from agent.voice.pace import MOST_PPM, SLACK, Pace
from agent.voice.stream import Pinned
from tests.unit.voice.rig import MS, Rig, station

HOUR = 3600.0


def after(seconds: float, drift_ppm: float) -> tuple[float, int, int]:
    """A programme on a card that drifts: (ms from where it should be, corrections, the most in any 10 s)."""
    pace, at, played, steps = Pace(), 0, 0, []
    speed = RATE * (1 + drift_ppm / 1e6)
    while played < seconds * RATE:
        step = pace.step(at - round(played / speed * RATE))
        if step:
            steps.append(played)
        at += PERIOD + step
        played += PERIOD
    per_10_s = max((sum(1 for s in steps if s // (10 * RATE) == t) for t in range(int(seconds) // 10)), default=0)
    return (at - played / speed * RATE) / RATE * 1000, len(steps), per_10_s


@pytest.mark.parametrize("drift_ppm", [-150, -50, 20, 50, 150])
def test_after_an_hour_it_is_within_a_millisecond_of_the_clock(drift_ppm: float) -> None:
    error_ms, steps, per_10_s = after(HOUR, drift_ppm)
    assert abs(error_ms) < 1.0
    assert steps == pytest.approx(abs(drift_ppm) * 1e-6 * HOUR * RATE, rel=0.05)
    assert per_10_s <= MOST_PPM * 1e-6 * 10 * RATE + 1


def test_two_neighbours_that_drift_apart_stay_within_five_milliseconds() -> None:
    assert abs(after(HOUR, 100)[0] - after(HOUR, -100)[0]) < 5.0


def test_a_card_that_keeps_time_is_never_corrected_nor_is_one_that_is_little_off() -> None:
    assert after(600, 0)[1] == 0
    pace = Pace()
    assert not any(pace.step(SLACK - 1) for _ in range(10_000))


def test_a_fill_level_that_is_told_in_lumps_makes_no_corrections() -> None:
    """A USB card reports a millisecond's packets at once."""
    pace = Pace()
    assert not any(pace.step((i % 3 - 1) * 40) for i in range(5_000))


def test_what_an_underrun_cost_is_not_made_up_for_but_drift_still_is() -> None:
    pace, ahead, steps = Pace(), 0.0, 0
    for period in range(round(60 * RATE / PERIOD)):
        ahead -= 1440 if period == 100 else 0
        ahead -= PERIOD * 100e-6
        step = pace.step(round(ahead))
        ahead += step
        steps += step
    assert -1440 - RATE // 1000 <= ahead <= -1440
    assert steps == pytest.approx(60 * RATE * 100e-6 - SLACK, rel=0.15)


@pytest.mark.parametrize("given", [PERIOD - 1, PERIOD + 1])
@pytest.mark.parametrize("hertz", [300, 1000, 3000])
def test_a_period_is_stretched_without_a_click(given: int, hertz: int) -> None:
    wave = [round(12_000 * math.sin(2 * math.pi * hertz * i / RATE)) for i in range(given + 1)]
    fitted = array("h", pcm.fit(array("h", wave[:given]).tobytes(), PERIOD))
    assert len(fitted) == PERIOD
    steepest = max(abs(b - a) for a, b in itertools.pairwise(wave))
    joined = [*fitted, wave[given]]
    assert max(abs(b - a) for a, b in itertools.pairwise(joined)) <= steepest * 1.05 + 1
    assert fitted[0] == wave[0]
    assert abs(fitted[-1] - wave[given - 1]) <= steepest


class Telling:
    """A segment whose samples tell their position."""

    number, name, exhausted = 0, None, False

    def __init__(self) -> None:
        self.at = 0

    def ready(self) -> bool:
        return True

    def take(self, samples: int) -> bytes:
        values = array("h", [(self.at + i) % 24_000 for i in range(samples)])
        self.at += samples
        return values.tobytes()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("drift_ppm", [-150, 0, 150])
def test_in_the_mixer_each_sample_is_where_the_clock_wants_it(drift_ppm: int) -> None:
    rig = Rig(station())
    sink = FakeSink(rig.clock, 1, drift_ppm=drift_ppm)
    rig.cards[0].sink = sink
    at_ns = rig.clock.now + 1_000 * MS
    rig.do(v.Open(play="p", zones=["a"], at_ns=at_ns))
    (play,) = rig.voice.mixer.plays.values()
    play.stream.append(Telling())  # type: ignore[arg-type]
    seconds = 40
    rig.run(seconds * 1000)
    end_ns = sink.next_ns(rig.clock.now)
    last = sink.channel()[-1]
    due = (end_ns - at_ns) * RATE / 1e9 - 1
    off = (last - due + 12_000) % 24_000 - 12_000
    assert abs(off) <= RATE // 1000
    drifted = abs(drift_ppm) * 1e-6 * (seconds - 1) * RATE
    assert drifted > 5 * RATE // 1000 or drift_ppm == 0, "without correction it would be seen"
    if drift_ppm == 0:
        assert abs(off) <= 1


def test_a_buttons_message_is_played_as_it_is() -> None:
    rig = Rig(station())
    sink = FakeSink(rig.clock, 1, drift_ppm=-200)
    rig.cards[0].sink = sink
    from agent.voice.mixer import Local, Play
    from agent.voice.stream import Stream

    stream = Stream(None)
    stream.append(Pinned(0, "message:fire", array("h", [i % 300 for i in range(20 * RATE)]).tobytes()))
    stream.closed = True
    now = rig.clock.now
    play = Play("local", arrived_ns=now, at_ns=None, gain_db=0.0, stream=stream, local=Local("b", "fire", now))
    rig.voice.mixer.open(play, ["a"])
    rig.wake = rig.voice.tick(rig.clock.now)
    rig.run(21_000)
    heard = sink.channel()
    first = next(i for i, s in enumerate(heard) if s)
    assert heard[first : first + 19 * RATE] == [i % 300 for i in range(1, 19 * RATE + 1)]
