"""Loudness by EBU R128: the meter against the recommendation's own cases, and what is done with it."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.loudness import MOST_DB, PEAK_DBTP, SIREN_LUFS, gain
from agent.sound import chimes
from agent.sound.wav import examine
from agent.voice.pcm import alarm_tone
from drivers.ebur128 import Meter, measure

RATE = 48_000


def tone(dbfs: float, seconds: float = 3.0, hertz: float = 1000.0) -> bytes:
    """A sine whose peak is at `dbfs`."""
    peak = 32767 * 10 ** (dbfs / 20)
    return array("h", [round(peak * math.sin(2 * math.pi * hertz * n / RATE)) for n in range(round(seconds * RATE))])


@pytest.mark.parametrize("dbfs", [-23.0, -33.0, -10.0])
def test_a_sine_of_1_khz_has_the_loudness_of_ebu_tech_3341(dbfs: float) -> None:
    """Two channels at −23 dBFS are −23 LUFS there, so one is 3 dB less."""
    lufs, peak = measure(bytes(tone(dbfs)), RATE)
    assert lufs == pytest.approx(dbfs - 3.0, abs=0.1)
    assert peak == pytest.approx(dbfs, abs=0.2)


def test_quiet_parts_are_gated_out() -> None:
    alone, _ = measure(bytes(tone(-20.0, 5.0)), RATE)
    with_pause, _ = measure(bytes(tone(-20.0, 5.0)) + bytes(20 * RATE) + bytes(tone(-60.0, 10.0)), RATE)
    assert with_pause == pytest.approx(alone, abs=0.2)


def test_a_true_peak_lies_between_the_samples() -> None:
    """EBU Tech 3341, case 15: a quarter of the rate, sampled beside its peaks."""
    samples = [round(16384 * math.sin(math.pi / 2 * n + math.pi / 4)) for n in range(RATE)]
    _, peak = measure(array("h", samples).tobytes(), RATE)
    assert peak > 20 * math.log10(max(samples) / 32768) + 2.5


@pytest.mark.parametrize("sound", [b"", bytes(2 * RATE), bytes(tone(-20.0, 0.2))], ids=["none", "silence", "too short"])
def test_what_has_no_loudness_has_none(sound: bytes) -> None:
    meter = Meter(RATE)
    meter.add(sound)
    assert meter.loudness() is None
    meter.close()
    meter.close()


@given(
    lufs=st.none() | st.floats(-70, 0),
    peak=st.floats(-90, 6),
    target=st.floats(-40, -10),
)
def test_no_gain_makes_a_sound_clip_or_raises_it_without_end(lufs: float | None, peak: float, target: float) -> None:
    change = gain(lufs, peak, target)
    if lufs is None:
        assert change == 0
    else:
        assert peak + change <= PEAK_DBTP + 0.01
        assert change <= MOST_DB
        assert lufs + change <= target + 0.01


@pytest.mark.parametrize(("name", "lufs"), [("gong", -20.0), ("siren", -17.0), ("drill", -20.0), ("info", -20.0)])
def test_a_chime_is_as_loud_as_documented(name: str, lufs: float) -> None:
    with chimes.path(name).open("rb") as file:
        form = examine(file)
        file.seek(form.offset)
        found, peak = measure(file.read(), RATE)
    assert found == pytest.approx(lufs, abs=0.1)
    assert peak <= PEAK_DBTP


def test_the_tone_in_place_of_a_lost_siren_is_as_loud_as_that() -> None:
    found, peak = measure(alarm_tone() * 5, RATE)
    assert found == pytest.approx(SIREN_LUFS, abs=0.5)
    assert peak <= PEAK_DBTP
