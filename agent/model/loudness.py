"""Loudness (EBU R128): what is aimed at, and by how much a sound is changed for it."""

from __future__ import annotations

TARGET_LUFS = -20.0
"""Of what the station speaks itself, of what is recorded with `tram record`, and of the chimes before it."""
SIREN_LUFS = -17.0
"""Of the siren: over the rain, and yet no louder than that the words after it are heard as words."""
PEAK_DBTP = -1.0
"""No change of loudness brings a true peak above this."""
MOST_DB = 12.0
"""What lies farther below the target is a mistake, or noise when raised."""


def gain(lufs: float | None, peak: float, target: float = TARGET_LUFS) -> float:
    """The dB that bring a sound of `lufs` and true peak `peak` (dBTP) to the target; 0 for what has no loudness."""
    return 0.0 if lufs is None else round(min(target - lufs, PEAK_DBTP - peak, MOST_DB), 2)


LIVE_RAISE_DB, LIVE_LOWER_DB = 6.0, 12.0
"""By how much a live relay is raised or lowered at most: what is farther off is the sender's to mend."""
LIVE_UP_DB_S, LIVE_DOWN_DB_S = 0.5, 2.0
"""How fast at most: slower than anybody hears it happen."""
LIVE_SLACK_DB = 1.0
"""So near to the target nothing is changed."""
LIVE_GATE_DBFS = -50.0
"""What is quieter is no programme: it is not measured and changes nothing."""
LIVE_PAUSE_DB = 20.0
"""Nor is what is so much quieter than the last three seconds of sound: a pause, and the noise in it."""
