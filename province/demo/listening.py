"""Arithmetic on sound: likeness, level, jumps. Knows nothing of a run; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Signal = NDArray[np.float64]
"""Samples, full scale 1.0."""

STEP = 0.015
"""Smallest jump between two samples that can be a click (-36 dBFS)."""
SOUNDING_DBFS = -70.0
"""Blocks of 10 ms from this on are "the sounding part"."""


class Match(Struct, frozen=True):
    """Where a reference lies in a recording. `offset_samples`: of its first sample; `similarity`: 0 … 1."""

    offset_samples: int
    gain_db: float
    similarity: float


def locate(recording_channel: Signal, reference: Signal, around: int, search_s: float, rate: int = 48_000) -> Match:
    """Where `reference` lies, its first sample looked for at `around` ± `search_s`; exact to the sample.

    Normalised cross-correlation by FFT, so a gain does not matter. Similarity 0 when either is silent or the search
    lies outside the recording. A reference that reaches beyond the recording's end is compared as far as it goes.
    """
    reach = round(search_s * rate)
    first, last = max(0, around - reach), min(len(recording_channel), around + reach + len(reference))
    window = recording_channel[first:last]
    power = float(np.dot(reference, reference))
    count = min(around + reach, len(recording_channel)) - first + 1
    if power == 0 or count < 1 or not window.any():
        return Match(around, -np.inf, 0.0)
    products = correlate(window, reference)[:count]
    sums = np.concatenate(([0.0], np.cumsum(window * window)))
    starts = np.arange(len(products))
    local = sums[np.minimum(starts + len(reference), len(window))] - sums[np.minimum(starts, len(window))]
    # A window without sound has no likeness: without this floor rounding errors would be divided by nearly nothing.
    likeness = products / np.sqrt(power * np.maximum(local, max(power, float(local.max())) * 1e-9))
    best = likeness.max()
    ties = np.flatnonzero(likeness >= best - 1e-5)
    at = int(ties[np.argmin(np.abs(ties + first - around))])
    gain = abs(float(products[at])) / power
    return Match(first + at, decibel(gain), float(np.clip(likeness[at], 0.0, 1.0)))


def level_dbfs(sound: Signal, block: int = 480) -> float | None:
    """RMS over the sounding part (10 ms blocks from -70 dBFS on), a full-scale sine being -3.01; None: silence."""
    count = len(sound) // block
    power = np.mean(np.square(sound[: count * block].reshape(count, block)), axis=1)
    sounding = power[power >= 10 ** (SOUNDING_DBFS / 10)]
    return decibel(float(np.sqrt(sounding.mean()))) if len(sounding) else None


def correlate(signal: Signal, pattern: Signal) -> Signal:
    """Products of `pattern` with `signal` at each offset from 0; beyond the signal's end there is silence."""
    size = fft_size(len(signal) + len(pattern))
    product = np.fft.rfft(signal, size) * np.conj(np.fft.rfft(pattern, size))
    result: Signal = np.fft.irfft(product, size)[: len(signal)]
    return result


def fft_size(least: int) -> int:
    """The next size that a fast transform likes: 2^n, or 3 or 5 times one."""
    return min(m << max(0, (-(-least // m) - 1).bit_length()) for m in (1, 3, 5))


def jumps(channel: Signal, edge: int, rate: int) -> bool:
    """Whether two neighbouring samples at `edge` (± 1 ms) are further apart than anywhere in the 50 ms around."""
    near, far = rate // 1000, rate // 20
    first = max(0, edge - far)
    steps = np.abs(np.diff(channel[first : edge + far]))
    centre = edge - first
    inside = steps[max(0, centre - near) : centre + near]
    outside = np.concatenate((steps[: max(0, centre - near)], steps[centre + near :]))
    return bool(len(inside)) and float(inside.max()) > STEP + 3 * float(outside.max(initial=0.0))


def own_parts(sound: Signal, allowed: list[Signal], rate: int) -> Signal:
    """`sound` without the half seconds that it shares with sounds that may be heard: a common word is no intruder."""
    own, step, few = sound.copy(), rate // 2, rate // 6
    coarse = [_thinned(a) for a in allowed]
    for i in range(0, len(sound), step):
        part = _thinned(sound[i : i + step])
        if part.any() and any(locate(a, part, len(a) // 2, len(a) / few, few).similarity > 0.5 for a in coarse):
            own[i : i + step] = 0.0
    return own


def _thinned(sound: Signal) -> Signal:
    """A sixth of the samples, for speed where the sample does not matter."""
    thinned: Signal = sound[: len(sound) // 6 * 6].reshape(-1, 6).mean(axis=1)
    return thinned


def flatten(signal: Signal, rate: int) -> Signal:
    """The signal with its loudness and its spectrum evened out, so that quiet and loud stretches count alike.

    What is below -80 dBFS stays small: it is the rounding to 16 bit.
    """
    window = rate // 20
    sums = np.concatenate(([0.0], np.cumsum(np.square(np.diff(signal, prepend=0.0)))))
    ends = np.minimum(np.arange(len(signal)) + window // 2, len(signal))
    begins = np.maximum(ends - window, 0)
    envelope = np.sqrt((sums[ends] - sums[begins]) / window)
    flat: Signal = np.diff(signal, prepend=0.0) / (envelope + 1e-4)
    return flat


def listen(flat: Signal, pattern: Signal, rate: int) -> tuple[int, float, float]:
    """Where `pattern` is likest to be heard, how like, and from which likeness on that is no accident there.

    Chance is judged second by second, by how far likeness scatters there: ten times the usual, and at least 0.12,
    because a synthetic voice that says other words reaches 0.08.
    """
    products = np.abs(correlate(flat, pattern))
    sums = np.concatenate(([0.0], np.cumsum(flat * flat)))
    starts = np.arange(len(flat))
    local = sums[np.minimum(starts + len(pattern), len(flat))] - sums[starts]
    power = float(np.dot(pattern, pattern))
    likeness = products / np.sqrt(power * np.maximum(local, power / 10))
    best = (0, 0.0, 0.12)
    for first in range(0, len(likeness), rate):
        part = likeness[first : first + rate]
        threshold = max(0.12, 10 * 1.4826 * float(np.median(part)))
        at = int(np.argmax(part))
        if part[at] / threshold > best[1] / best[2]:
            best = (first + at, float(part[at]), threshold)
    return best


def spans(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one-past-last index of each run of True; runs less than a second (100 blocks) apart are one."""
    hits = np.flatnonzero(where)
    if not len(hits):
        return []
    breaks = np.flatnonzero(np.diff(hits) > 100)
    firsts = hits[np.concatenate(([0], breaks + 1))]
    lasts = hits[np.concatenate((breaks, [len(hits) - 1]))]
    return [(int(a), int(b) + 1) for a, b in zip(firsts, lasts, strict=True)]


def signal(samples: NDArray[Any]) -> Signal:
    """16-bit samples as a signal."""
    result: Signal = np.asarray(samples, dtype=np.float64) / 32768.0
    return result


def decibel(ratio: float) -> float:
    """Decibels of an amplitude ratio; minus infinity for 0."""
    return float(20 * np.log10(ratio)) if ratio > 0 else -np.inf
