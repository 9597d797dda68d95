"""Keeps a programme in step with the clock while the sound card's own clock drifts (CONTRACT: start in step).

A card that runs 50 ppm slow is 180 ms behind after an hour, and its horn then echoes its neighbour's. For each period
it is known when its first sample will be at the converter, and so how far the programme is from where it should be.
From half a millisecond on, one sample more or fewer is taken now and then and spread over a period: at most 200 ppm,
which nobody hears. A card that keeps time is never corrected. A jump is no drift: what an underrun has cost is told
as a fault and stays lost, lest a station that stumbled bends its sound for minutes.
"""

from __future__ import annotations

from agent.model.voice import PERIOD, RATE

SLACK = RATE // 2000
"""Samples (0.5 ms) that are let be."""
MOST_PPM = 200
SPACING = 1_000_000 // MOST_PPM
"""Samples from one correction to the next."""
JUMP = PERIOD
"""Samples from one period to the next that are no drift."""
SMOOTHING = 2 * RATE // PERIOD
"""Periods (2 s) over which the error is averaged: a card tells its fill level in lumps."""


class Pace:
    """Of one programme on one card."""

    def __init__(self) -> None:
        self._error = 0.0
        self._before = 0
        self._lost = 0
        self._pause = 0

    def step(self, ahead: int) -> int:
        """How many samples more (1), or fewer (−1), this period takes; `ahead`: samples that the programme is early."""
        if abs(ahead - self._before) > JUMP:
            self._lost += ahead - self._before
        self._before = ahead
        self._error += (ahead - self._lost - self._error) / SMOOTHING
        self._pause -= PERIOD
        if self._pause > 0 or abs(self._error) < SLACK:
            return 0
        self._pause = SPACING
        step = -1 if self._error > 0 else 1
        self._error += step
        return step
