"""Paced WAV sink: a sound card whose converter is a file and whose clock is CLOCK_MONOTONIC.

Sample k of the file is played at t0 + k / 48 000 s for as long as the file exists. While the sink rests nothing is
written; the gap is filled with zeros (sparsely) when it runs again or is closed. Beside `station.wav` lies
`station.json`, `{"t0", "rate", "zones"}`: the wall time (epoch seconds) of sample 0 and the zone of each channel.

`drift_ppm` simulates a card whose own clock is fast (or slow, below 0): sample k is then played at
t0 + k / (48 000 × (1 + drift_ppm / 10⁶)) s, and `station.json` says so (`drift_ppm`).

A process that opens the same path again continues the timeline: t0 stays, its time away is silence. That rests on the
wall clock; if it has jumped so far that the old recording cannot be continued, or if the zones are others, the old
files are moved aside (`station.<t0>.wav`) and a new recording begins.

The WAV header is correct after `close` and about once a second of written sound. Killed in between, the file has a
header that is right for all but its last second, so every reader takes it. RIFF sizes end at 4 GiB: the header of a
longer recording stays at the maximum.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.model.config import WavOutput

RATE = 48_000
PERIOD = 240
HEADER = 44
MAX_DATA = 0xFFFFFFFF - HEADER
SCALE = 10**15
"""Samples are counted from nanoseconds by `ns × micro-samples a second // SCALE`."""
STEP_NS = 2_000_000_000
"""A file may be this far ahead of the wall clock and still be continued (a clock that was set back a little)."""


class WavSink:
    """One file, one channel per zone. `buffer_ms` is the simulated device buffer, at least two periods.

    Raises OSError when the file cannot be written.
    """

    def __init__(self, path: str, zones: Sequence[str], buffer_ms: float = 15.0, drift_ppm: float = 0.0) -> None:
        self.xruns = 0
        self._drift_ppm = drift_ppm
        self._speed = RATE * 1_000_000 + round(RATE * drift_ppm)
        """Samples played in a million seconds."""
        self.away = False
        """A file is always there."""
        self._path = Path(path)
        self._zones = list(zones)
        self._frame = 2 * len(self._zones)
        self._buffer = max(round(buffer_ms * RATE / 1000), 2 * PERIOD)
        self._faults: list[str] = []
        self._told = 0
        """Samples that the header counts."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        now, wall = _both_clocks()
        t0, self._end = self._continued(wall) or self._fresh(wall)
        self._origin_ns = now - round((wall - t0) * 1e9)
        self._position = max(self._end, 0)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._header()

    # -- the timeline ------------------------------------------------------------------------------------------------

    @property
    def _sidecar(self) -> Path:
        return self._path.with_suffix(".json")

    def _continued(self, wall: float) -> tuple[float, int] | None:
        """t0 and length of the recording that is there, if it can be continued."""
        try:
            told = json.loads(self._sidecar.read_bytes())
            t0 = float(told["t0"])
            samples = max(0, self._path.stat().st_size - HEADER) // self._frame
            same = told["rate"] == RATE and told["zones"] == self._zones and told.get("drift_ppm", 0) == self._drift_ppm
        except (OSError, ValueError, KeyError, TypeError):
            return None
        elapsed = (wall - t0) * self._speed / 1e6
        if same and samples <= elapsed + STEP_NS * RATE // 1_000_000_000 and 0 <= elapsed * self._frame < MAX_DATA:
            return t0, samples
        for old in (self._path, self._sidecar):
            old.replace(old.with_name(f"{self._path.stem}.{t0:.0f}{old.suffix}"))
        return None

    def _fresh(self, wall: float) -> tuple[float, int]:
        t0 = round(wall, 6)
        self._path.write_bytes(b"")
        scratch = self._sidecar.with_suffix(".json.new")
        drift = {"drift_ppm": self._drift_ppm} if self._drift_ppm else {}
        scratch.write_text(json.dumps({"t0": t0, "rate": RATE, "zones": self._zones, **drift}), encoding="utf-8")
        scratch.replace(self._sidecar)
        return t0, 0

    def _played(self, now: int) -> int:
        return (now - self._origin_ns) * self._speed // SCALE

    def _header(self) -> None:
        data = min(self._end * self._frame, MAX_DATA)
        channels = len(self._zones)
        riff = struct.pack("<4sI4s", b"RIFF", data + HEADER - 8, b"WAVE")
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, RATE, RATE * self._frame, self._frame, 16)
        os.pwrite(self._file, riff + form + struct.pack("<4sI", b"data", data), 0)
        self._told = self._end

    # -- the sink ----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Run: the next sample is the first one that is not in the past."""
        self._position = max(self._position, -(-(now - self._origin_ns) * self._speed // SCALE))

    def stop(self, now: int) -> None:
        """Rest. The header is brought up to date."""
        self._guarded(self._header)

    def next_ns(self, now: int) -> int:
        """When the next sample to be written will be played."""
        return self._origin_ns + self._position * SCALE // self._speed

    def room(self, now: int) -> bool:
        """Whether a period fits into the simulated buffer."""
        return self._position + PERIOD - self._played(now) <= self._buffer

    def wake_ns(self, now: int) -> int:
        """When one will."""
        return self._origin_ns + -(-(self._position + PERIOD - self._buffer) * SCALE // self._speed)

    def write(self, frames: bytes, now: int) -> None:
        """Submit frames. If their time has passed already it was an underrun: they come later, nothing is lost."""
        played = self._played(now)
        if played > self._position:
            self.xruns += 1
            self._position = played
        self._guarded(lambda: self._put(frames))

    def take_faults(self) -> list[str]:
        """Errors of the file (disk full) since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def close(self, now: int) -> None:
        """Silence up to now, a correct header, and the file is closed."""
        if self._file < 0:
            return
        self._end = max(self._end, self._played(now))
        self._guarded(lambda: os.ftruncate(self._file, HEADER + self._end * self._frame))
        self._guarded(self._header)
        os.close(self._file)
        self._file = -1

    def _put(self, frames: bytes) -> None:
        at = self._position
        self._position += len(frames) // self._frame
        os.pwrite(self._file, frames, HEADER + at * self._frame)
        self._end = max(self._end, self._position)
        if self._end - self._told >= RATE:
            self._header()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            self._faults.append(str(error))


def _both_clocks() -> tuple[int, float]:
    """Monotonic nanoseconds and wall seconds of one moment: the closest of a few readings."""
    best = (1 << 62, 0, 0.0)
    for _ in range(8):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        best = min(best, (after - before, (before + after) // 2, wall / 1e9))
    return best[1], best[2]


def open_sink(output: WavOutput, zones: Sequence[str]) -> WavSink:
    """The file that the configuration names; OSError when it cannot be written."""
    return WavSink(output.path, zones, output.buffer_ms, output.drift_ppm)
