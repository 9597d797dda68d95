"""What a microphone at a loudspeaker hears: the virtual card's recording, in real time, into a named pipe."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np

RATE = 48_000
BLOCK = RATE // 50
BEHIND_S = 0.25
"""From the card to the microphone."""


class Loopback:
    """One channel of `wav` into the pipe. `state`: "well", "silent" (a torn cone), "shrieking" (a tone stands)."""

    def __init__(self, wav: Path, channel: int, channels: int, pipe: Path) -> None:
        self.state = "well"
        self._wav, self._channel, self._channels, self._pipe = wav, channel, channels, pipe
        self._rng = np.random.default_rng(channel)
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._pipe)
        pipe = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        at = time.monotonic()
        while self._running:
            sound = self._rng.normal(0, 0.001, BLOCK)
            if self.state != "silent":
                sound += 0.4 * self._played(time.time() - BEHIND_S)
            if self.state == "shrieking":
                sound += 0.3 * np.sin(2 * np.pi * 2310 * (at + np.arange(BLOCK) / RATE))
            with contextlib.suppress(BlockingIOError):
                os.write(pipe, (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
            at += BLOCK / RATE
            time.sleep(max(0.0, at - time.monotonic()))
        os.close(pipe)

    def _played(self, wall: float) -> np.ndarray:
        """The block that was played then; where the card rested there is silence."""
        found = np.zeros(BLOCK)
        with contextlib.suppress(OSError, ValueError):
            t0 = json.loads(self._wav.with_suffix(".json").read_bytes())["t0"]
            first = round((wall - t0) * RATE)
            with self._wav.open("rb") as file:
                file.seek(44 + 2 * self._channels * max(0, first))
                data = np.frombuffer(file.read(2 * self._channels * BLOCK), "<i2")
            data = data[: len(data) // self._channels * self._channels]
            mine = data[self._channel :: self._channels]
            found[: len(mine)] = mine / 32768
        return found
