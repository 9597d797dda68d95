"""Microphone on pyalsaaudio: one capture device by name, s16, 48 000 Hz.

Periods of 5 ms are read in a thread, blocking; what the device lost in an overrun is lost, and it goes on. For a
microphone it keeps 20 ms, for the ear, which may wait long for the processor, half a second. Of a device that has no
mono the first of two channels is taken.
"""

from __future__ import annotations

import audioop
import time
from collections.abc import Iterator

import alsaaudio

from agent.model.config import Microphone, Monitor
from drivers.capture import PERIOD, RATE, Capture

PERIODS, PERIODS_EAR = 4, 100
FAST = 1.001
AHEAD_S = 0.1
"""A plugin that gives everything at once (`null`, `file`) is held to real time: no card is faster than `FAST`."""


class AlsaCapture(Capture):
    """A device by its ALSA name, for example "plughw:CARD=Device"."""

    def __init__(self, device: str, periods: int = PERIODS) -> None:
        super().__init__()
        self._device = device
        self._periods = periods

    def blocks(self) -> Iterator[bytes]:
        """What the device gives. ALSAAudioError when it cannot be opened, is of another kind, or fails."""
        pcm = alsaaudio.PCM(
            type=alsaaudio.PCM_CAPTURE,
            mode=alsaaudio.PCM_NORMAL,
            rate=RATE,
            channels=1,
            format=alsaaudio.PCM_FORMAT_S16_LE,
            periodsize=PERIOD,
            periods=self._periods,
            device=self._device,
        )
        try:
            info = pcm.info()
            channels = info["channels"]
            if info["rate"] != RATE or info["format"] != alsaaudio.PCM_FORMAT_S16_LE or channels > 2:
                raise alsaaudio.ALSAAudioError(
                    f"gives {info['rate']} Hz, {channels} channels, {info['format_name']}; "
                    f"wanted {RATE}, 1, S16_LE (use a plug device) [{self._device}]"
                )
            begun, given = time.monotonic(), 0
            while True:
                length, data = pcm.read()
                if length <= 0:  # an overrun (the device is prepared again), or nothing yet
                    time.sleep(PERIOD / RATE / 5)
                    continue
                yield data if channels == 1 else audioop.tomono(data, 2, 1, 0)
                given += length
                ahead = given / RATE - (time.monotonic() - begun) * FAST - AHEAD_S
                if ahead > 0:
                    time.sleep(ahead)
        finally:
            pcm.close()


def open_capture(config: Microphone | Monitor) -> AlsaCapture:
    """The one that the configuration names by its `device`."""
    return AlsaCapture(str(config.device), PERIODS_EAR if isinstance(config, Monitor) else PERIODS)
