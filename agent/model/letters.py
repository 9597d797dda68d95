"""How large letters must be on a board, from the distance at which people stand (ISO 9241-303: 16 minutes of arc)."""

from __future__ import annotations

import math

ANGLE = math.radians(16 / 60)
"""Least height of a capital letter as the eye sees it."""
CAPITAL = 0.714
"""Height of a capital over the size of its font (Noto Sans)."""
ROOM = 2.6
"""A board has at least two lines: over the font's size, line spacing and margins included."""


def letter_px(pitch_mm: float, viewing_m: float) -> float:
    """Size of a font in pixels whose capitals can just be read from there; `pitch_mm` is a pixel's."""
    return math.tan(ANGLE) * viewing_m * 1000 / pitch_mm / CAPITAL
