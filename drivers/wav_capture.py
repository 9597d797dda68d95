"""Virtual microphone: somebody speaks what stands in a WAV file, again and again, in real time.

The speaking never stops, whether anybody listens or not: sample k of the file is spoken when CLOCK_MONOTONIC, counted
in samples, is k modulo the file's length. So the delay from here to a recording can be read off the recording.
"""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator

from agent.model.config import Microphone, Monitor
from drivers.capture import PERIOD, RATE, Capture


class WavCapture(Capture):
    """The file at `path`: 48 000 Hz, one channel, 16 bit. It is read when somebody begins to listen."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def blocks(self) -> Iterator[bytes]:
        """A period whenever its last sample has been spoken. OSError or ValueError when the file is not usable."""
        data = self._read()
        samples = len(data) // 2
        at = time.monotonic_ns() * RATE // 1_000_000_000
        while True:
            end_ns = -(-(at + PERIOD) * 1_000_000_000 // RATE)
            time.sleep(max(0, end_ns - time.monotonic_ns()) / 1e9)
            begin = at % samples
            block = data[2 * begin : 2 * (begin + PERIOD)]
            while len(block) < 2 * PERIOD:
                block += data[: 2 * PERIOD - len(block)]
            yield block
            at += PERIOD

    def _read(self) -> bytes:
        try:
            with wave.open(self._path, "rb") as file:
                if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                    raise ValueError(f"{self._path}: 48000 Hz, one channel, 16 bit are wanted")
                data = file.readframes(file.getnframes())
        except (wave.Error, EOFError) as error:
            raise ValueError(f"{self._path}: not a WAV file ({error or 'too short'})") from error
        if not data:
            raise ValueError(f"{self._path}: no sound in it")
        return data


def open_capture(config: Microphone | Monitor) -> WavCapture:
    """The one that the configuration names by its `path`."""
    return WavCapture(str(config.path))
