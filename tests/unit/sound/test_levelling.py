"""The slow hand on the fader of what cannot be measured in advance: a live relay is as loud as the rest, unnoticed."""

from __future__ import annotations

import audioop
import itertools
import math
import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.loudness import LIVE_DOWN_DB_S, LIVE_LOWER_DB, LIVE_RAISE_DB, LIVE_SLACK_DB, LIVE_UP_DB_S, PEAK_DBTP
from agent.sound.levelling import Levelling
from drivers.ebur128 import Passing, measure

RATE = 48_000
TARGET = -20.0


def programme(lufs: float, seconds: float, seed: int = 1) -> bytes:
    """Noise in syllables, five a second, at that loudness: it rises and falls like speech."""
    chance = random.Random(seed)
    made = array("h")
    held = 0.0
    for n in range(round(seconds * RATE)):
        held += 0.2 * (chance.uniform(-1, 1) - held)
        made.append(round(9000 * held * math.sin(math.pi * 5 * n / RATE) ** 2))
    loudness, _ = measure(made.tobytes(), RATE)
    assert loudness is not None
    return audioop.mul(made.tobytes(), 2, 10 ** ((lufs - loudness) / 20))


def levelled(sound: bytes, block: int = 4800) -> bytes:
    level = Levelling(Passing(RATE), TARGET)
    out = b"".join(level.add(sound[i : i + 2 * block]) for i in range(0, len(sound), 2 * block))
    return out + level.rest()


def loudness(sound: bytes) -> float:
    found, _ = measure(sound, RATE)
    assert found is not None
    return found


def seconds_of(sound: bytes, first: float, last: float) -> bytes:
    return sound[round(first * RATE) * 2 : round(last * RATE) * 2]


def change(before: bytes, after: bytes) -> list[float]:
    """dB by which each second was changed."""
    pairs = [(seconds_of(before, s, s + 1), seconds_of(after, s, s + 1)) for s in range(len(before) // 2 // RATE)]
    return [20 * math.log10(audioop.rms(b, 2) / audioop.rms(a, 2)) for a, b in pairs]


@pytest.mark.parametrize(
    ("lufs", "ends_at"),
    [(-24.0, TARGET), (-14.0, TARGET), (-29.0, -29.0 + LIVE_RAISE_DB), (-4.0, -4.0 - LIVE_LOWER_DB)],
    ids=["quiet", "loud", "farther below than it may be raised", "farther above than it may be lowered"],
)
def test_a_programme_is_brought_to_the_target_as_far_as_the_bounds_allow(lufs: float, ends_at: float) -> None:
    sound = levelled(programme(lufs, 24))
    assert loudness(seconds_of(sound, 18, 24)) == pytest.approx(ends_at, abs=LIVE_SLACK_DB + 0.3)


@pytest.mark.parametrize(("lufs", "most_db_s"), [(-26.0, LIVE_UP_DB_S), (-16.0, LIVE_DOWN_DB_S)])
def test_nobody_hears_the_fader_move(lufs: float, most_db_s: float) -> None:
    sound = programme(lufs, 16)
    changes = change(sound, levelled(sound))
    assert changes[0] == pytest.approx(0.0, abs=0.01)
    assert max(abs(b - a) for a, b in itertools.pairwise(changes)) <= most_db_s + 0.1


def test_what_is_loud_enough_is_left_as_it_is() -> None:
    sound = programme(TARGET - 0.3, 8)
    assert levelled(sound) == sound


@pytest.mark.parametrize("noise_lufs", [None, -52.0, -60.0], ids=["silence", "hum", "noise"])
def test_silence_is_not_pumped_up(noise_lufs: float | None) -> None:
    """A programme that is being raised breaks off: what follows stays as it was when it did."""
    noise = bytes(2 * 10 * RATE) if noise_lufs is None else programme(noise_lufs, 10, 2)
    sound = programme(-25.0, 6) + noise + programme(-25.0, 6, 3)
    out = levelled(sound)
    if noise_lufs is not None:
        changes = change(sound, out)
        assert changes[15] - changes[6] == pytest.approx(0.0, abs=0.4)
        assert changes[17] - changes[5] <= 2.5 * LIVE_UP_DB_S, "it goes on from there"
    else:
        assert not seconds_of(out, 6.1, 15.9).strip(b"\0")


def test_a_peak_never_passes_the_ceiling_however_far_the_rest_is_raised() -> None:
    """A whisper with strokes of a gong at full scale in it."""
    sound = bytearray(programme(-27.0, 20))
    stroke = array("h", [round(32000 * math.sin(n * 0.9) * math.exp(-n / 3000)) for n in range(9600)]).tobytes()
    for at in (5.003, 11.5, 17.0):
        sound[round(at * RATE) * 2 : round(at * RATE) * 2 + len(stroke)] = stroke
    _, peak = measure(levelled(bytes(sound)), RATE)
    assert peak <= PEAK_DBTP + 0.3


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_every_sample_comes_out_once_however_it_came_in(blocks: list[int]) -> None:
    sound = array("h", [n % 20_000 + 1 for n in range(sum(blocks))]).tobytes()
    level = Levelling(Passing(RATE), TARGET)
    out, at = b"", 0
    for block in blocks:
        out += level.add(sound[at : at + 2 * block])
        at += 2 * block
    assert len(out + level.rest()) == len(sound)
