"""Loudness (EBU R128): what is aimed at, and by how much a sound is changed for it."""

from __future__ import annotations

TARGET_LUFS = -20.0
"""Of what the station speaks itself, and of what is recorded with `tram record`."""
PEAK_DBTP = -1.0
"""No change of loudness brings a true peak above this."""
MOST_DB = 12.0
"""What lies farther below the target is a mistake, or noise when raised."""


def gain(lufs: float | None, peak: float, target: float = TARGET_LUFS) -> float:
    """The dB that bring a sound of `lufs` and true peak `peak` (dBTP) to the target; 0 for what has no loudness."""
    return 0.0 if lufs is None else round(min(target - lufs, PEAK_DBTP - peak, MOST_DB), 2)
