"""What an ear is tried with."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent.ear.compare import RATE


def babble(seed: int, seconds: float) -> np.ndarray[Any, Any]:
    """What speech is to the ear: noise in a few bands, each louder and softer by itself some times a second."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    out = np.zeros(n)
    for hertz in (250, 500, 900, 1600, 2800, 4200):
        course = np.repeat(rng.random(n // 4800 + 1) ** 3, 4800)[:n]
        out += course * np.sin(2 * np.pi * hertz * t + rng.normal(0, 0.4, n).cumsum() * 0.02)
    return (out / np.abs(out).max() * 0.5).astype(np.float32)
