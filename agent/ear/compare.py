"""Whether what is heard is what was sent. Pure; sound is numpy arrays of 48 000 samples a second, full scale 1.

Both sides become *features*: the logarithm of the energy in `BANDS` bands, 50 times a second. What a path does to a
sound (gain, a filter, emphasis, noise, a delay) shifts or blurs these, and their course over time stays; two different
programmes have different courses. The score is the mean correlation of the bands' courses over `WINDOW_S`, the best
over all delays that a path may have. A sound that does not change (a siren's tone) has no course: its strongest
frequencies are looked for instead. How well that tells right from wrong: docs/supervision.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

RATE = 48_000
FRAME = 2048
HOP = 960
BANDS = 12
LOWEST_HZ, HIGHEST_HZ = 200.0, 5000.0
WINDOW_S = 4.0
LATEST_S = 1.5
"""The longest delay between sending and hearing that is looked for."""
EARLIEST_S = 0.2
LATELY_S = 2.0
"""Of the window, what decides whether there is anything at all: so that a sound that broke off is not another one."""
SENT_FLOOR_DB = 45.0
HEARD_FLOOR_DB = 30.0
"""What is quieter than the loudest frame of a band by so much is as good as silence: noise fills it anyway."""
MATCH = 0.55
"""The least score of the same programme."""
STEADY_DB = 2.5
"""A sound whose bands vary less does not change: noise, a tone."""
QUIET_DBFS = -55.0
"""A receiver or a programme below is silent."""
TONAL = 0.35
"""So much of the energy in a few lines is a tone, not noise."""

Sound = NDArray[np.float32]
Features = NDArray[np.float64]


class Heard(StrEnum):
    """What a receiver gives while a zone sounds, or while it does not."""

    RIGHT = "right"
    """What was sent."""
    DEAD = "dead"
    """Silence or noise, though something was sent."""
    WRONG = "wrong"
    """Something else than what was sent."""
    FOREIGN = "foreign"
    """Something, though nothing was sent."""
    QUIET = "quiet"
    """Nothing, and nothing was sent."""
    UNCLEAR = "unclear"
    """A pause in what was sent, or too short: no judgement."""


class Judgement(Struct, frozen=True):
    """`score`: how alike, −1 … 1; None where nothing was compared. `delay_s`: from sending to hearing."""

    heard: Heard
    score: float | None = None
    delay_s: float | None = None
    level_dbfs: float | None = None


def _edges() -> list[tuple[int, int]]:
    hertz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)
    bins = np.round(hertz * FRAME / RATE).astype(int)
    return [(int(a), int(max(a + 1, b))) for a, b in itertools.pairwise(bins)]


_EDGES = _edges()
_SHAPE = np.hanning(FRAME).astype(np.float32)


def samples(data: bytes) -> Sound:
    """From 16 bit PCM."""
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0


def level_dbfs(sound: Sound) -> float:
    """RMS; −120 for nothing. A full-scale sine is −3.01."""
    if not len(sound):
        return -120.0
    return max(-120.0, 10 * math.log10(float(np.mean(np.square(sound, dtype=np.float64))) + 1e-12))


def spectra(sound: Sound) -> NDArray[Any]:
    """Power spectra of the frames."""
    count = max(0, (len(sound) - FRAME) // HOP + 1)
    if not count:
        return np.zeros((0, FRAME // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP][:count]
    return np.square(np.abs(np.fft.rfft(frames * _SHAPE, axis=1)))


def features(power: NDArray[Any], floor_db: float) -> Features:
    """Decibels of each band (columns) in each frame (rows), not below the loudest frame by more than `floor_db`."""
    bands = np.stack([power[:, a:b].sum(axis=1) for a, b in _EDGES], axis=1)
    top = bands.max(axis=0, initial=0.0) + 1e-9
    result: Features = 10 * np.log10(bands + top * 10 ** (-floor_db / 10))
    return result


def judge(sent: Sound, heard: Sound, *, sending: bool, offset_s: float = 0.0) -> Judgement:
    """What the last seconds were. `sent` and `heard` end at the same moment; `heard` may be shorter.

    `sending`: whether the zone sounded in that time. `offset_s`: how much later `heard` begins than `sent`.
    """
    power = spectra(heard)
    level = level_dbfs(heard)
    if len(power) < WINDOW_S / 2 * RATE / HOP:
        return Judgement(Heard.UNCLEAR, level_dbfs=level)
    nothing = _nothing(heard[-round(LATELY_S * RATE) :], power[-round(LATELY_S * RATE / HOP) :])
    if not sending:
        return Judgement(Heard.QUIET if nothing else Heard.FOREIGN, level_dbfs=level)
    if level_dbfs(sent) < QUIET_DBFS:
        return Judgement(Heard.UNCLEAR, level_dbfs=level)
    sent_power = spectra(sent)
    score, delay = best(sent_power, power, offset_s)
    if score >= MATCH:
        return Judgement(Heard.RIGHT, round(score, 3), round(delay, 2), level)
    return Judgement(Heard.DEAD if nothing else Heard.WRONG, round(score, 3), None, level)


def _nothing(heard: Sound, power: NDArray[Any]) -> bool:
    """Whether it is silence, or the noise of a receiver without a carrier."""
    if level_dbfs(heard) < QUIET_DBFS:
        return True
    course = 10 * np.log10(power[:, _EDGES[0][0] : _EDGES[-1][1]].sum(axis=1) + 1e-9)
    return float(np.std(course)) < STEADY_DB and tonality(power) < TONAL


def tonality(power: NDArray[Any]) -> float:
    """How much of the energy lies in the three strongest lines of the mean spectrum: 0 … 1; noise has little."""
    mean = power[:, _EDGES[0][0] : _EDGES[-1][1]].mean(axis=0)
    total = float(mean.sum())
    if total <= 0:
        return 0.0
    found = 0.0
    left = mean.copy()
    for _ in range(3):
        at = int(left.argmax())
        low, high = max(0, at - 2), at + 3
        found += float(left[low:high].sum())
        left[low:high] = 0
    return found / total


def best(sent: NDArray[Any], heard: NDArray[Any], offset_s: float = 0.0) -> tuple[float, float]:
    """The best score over all delays, and that delay in seconds."""
    a, b = features(sent, SENT_FLOOR_DB), features(heard, HEARD_FLOOR_DB)
    if float(a.std(axis=0).mean()) < STEADY_DB:
        return _tones(sent, heard), 0.0
    per_s = RATE / HOP
    first = round((offset_s - LATEST_S) * per_s)
    last = round((offset_s + EARLIEST_S) * per_s)
    scores: list[tuple[float, float]] = [(-1.0, 0.0)]
    for shift in range(first, last + 1):
        begin, end = max(0, shift), min(len(a), shift + len(b))
        if end - begin < WINDOW_S / 2 * per_s:
            continue
        scores.append((_alike(a[begin:end], b[begin - shift : end - shift]), offset_s - shift / per_s))
    return max(scores)


def _alike(a: Features, b: Features) -> float:
    """The mean correlation of the bands' courses; bands in which more happens count for more."""
    x, y = a - a.mean(axis=0), b - b.mean(axis=0)
    spread_x, spread_y = np.sqrt((x * x).sum(axis=0)), np.sqrt((y * y).sum(axis=0))
    both = spread_x * spread_y
    alike = np.divide((x * y).sum(axis=0), both, out=np.zeros_like(both), where=both > 1e-9)
    weight = spread_x * spread_y
    total = float(weight.sum())
    return float((alike * weight).sum() / total) if total > 1e-9 else 0.0


def _tones(sent: NDArray[Any], heard: NDArray[Any]) -> float:
    """Of a sound that does not change: how many of its three strongest lines are heard. 0 … 1."""
    low, high = _EDGES[0][0], _EDGES[-1][1]
    lines, there = sent[:, low:high].mean(axis=0).copy(), heard[:, low:high].mean(axis=0)
    ground = float(np.median(there)) + 1e-12
    found: list[float] = []
    strongest = float(lines.max(initial=0.0))
    for _ in range(3):
        at = int(lines.argmax())
        if lines[at] < strongest * 1e-2:
            break
        around = there[max(0, at - 1) : at + 2]
        found.append(float(around.max(initial=0.0) > 30 * ground))
        lines[max(0, at - 2) : at + 3] = 0
    return sum(found) / len(found) if found else 0.0


def howls(power: NDArray[Any], sent: NDArray[Any] | None) -> float | None:
    """The frequency in Hz of a tone that stands through all frames and that nobody sent; None: there is none."""
    low, high = _EDGES[0][0], round(8000 * FRAME / RATE)
    part = power[:, low:high]
    if len(part) < RATE / HOP:
        return None
    peaks = part.argmax(axis=1)
    line = int(np.bincount(peaks).argmax())
    near = np.abs(peaks - line) <= 1
    energy = part[:, max(0, line - 2) : line + 3].sum(axis=1)
    share = energy / (part.sum(axis=1) + 1e-12)
    if near.mean() < 0.9 or float(np.median(share)) < 0.6:
        return None
    if sent is not None and len(sent):
        ours = sent[:, low:high]
        mine = ours[:, max(0, line - 2) : line + 3].sum(axis=1) / (ours.sum(axis=1) + 1e-12)
        if float(np.mean(mine > 0.3)) > 0.3:
            return None
    return round((line + low) * RATE / FRAME, 1)


def tone_rise_db(before: Sound, during: Sound, hertz: Sequence[float]) -> float | None:
    """How far these tones rise out of what was there before: the median over the tones, in dB. None: too short."""
    quiet, loud = spectra(before), spectra(during)
    if not len(quiet) or not len(loud):
        return None
    rises = []
    for tone in hertz:
        at = round(tone * FRAME / RATE)
        ground = quiet[:, at - 1 : at + 2].max(axis=1)
        peak = loud[:, at - 1 : at + 2].max(axis=1)
        top = np.sort(peak)[-max(3, len(peak) // 8) :]
        rises.append(10 * math.log10((float(np.median(top)) + 1e-9) / (float(np.median(ground)) + 1e-9)))
    return round(float(np.median(rises)), 1)
