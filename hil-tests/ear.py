"""Whether a sound was heard: parts of what should sound are looked for in what was recorded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from board import RATE

from province.demo.listening import Signal, locate

PART_S = 0.05
"""So short that an emulator which stutters on a busy machine still gives whole parts."""
ALIKE = 0.6
"""Normalised correlation from which a part counts as heard; other sounds of these tests stay below 0.3."""


class Heard(NamedTuple):
    """A part of the reference that begins at `at_s` of it, found at `found_s` of the recording."""

    at_s: float
    found_s: float


def heard(recording: Signal, reference: Signal, every_s: float = 0.5) -> list[Heard]:
    """Those of the reference's parts (a twentieth of a second every `every_s`) that are in the recording, in order.

    A part that has not enough sound of its own to be known again is not asked for.
    """
    found = []
    length = round(PART_S * RATE)
    if len(recording) < length:
        return found
    for begin in range(0, len(reference) - length, round(every_s * RATE)):
        part = reference[begin : begin + length]
        if float(np.sqrt(np.mean(part**2))) < 0.003:
            continue
        match = locate(recording, part, 0, len(recording) / RATE)
        if match.similarity >= ALIKE:
            found.append(Heard(begin / RATE, match.offset_samples / RATE))
    return found
