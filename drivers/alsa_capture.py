"""Microphone on pyalsaaudio: one capture device by name, s16, 48 000 Hz.

Periods are read in a thread, blocking; what the device lost in an overrun is lost, and it goes on. A microphone gives
5 ms at a time and keeps 20; a receiver of the ear, which is in no hurry and may wait long for the processor, gives
50 ms and keeps half a second. Of a device that has no mono the first of two channels is taken.
"""

from __future__ import annotations

import audioop
import time
from collections.abc import Iterator

import alsaaudio

from agent.model.config import Microphone, Monitor
from drivers.capture import PERIOD, RATE, Capture

PERIODS = 4
PERIOD_EAR, PERIODS_EAR = 2400, 10
FAST = 1.001
AHEAD_S = 0.1
"""A plugin that gives everything at once (`null`, `file`) is held to real time: no card is faster than `FAST`."""


class AlsaCapture(Capture):
    """A device by its ALSA name, for example "plughw:CARD=Device"."""

    def __init__(self, device: str, period: int = PERIOD, periods: int = PERIODS) -> None:
        super().__init__()
        self._device = device
        self._period, self._periods = period, periods

    def blocks(self) -> Iterator[bytes]:
        """What the device gives. ALSAAudioError when it cannot be opened, is of another kind, or fails."""
        pcm = alsaaudio.PCM(
            type=alsaaudio.PCM_CAPTURE,
            mode=alsaaudio.PCM_NORMAL,
            rate=RATE,
            channels=1,
            format=alsaaudio.PCM_FORMAT_S16_LE,
            periodsize=self._period,
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
                    time.sleep(self._period / RATE / 5)
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
    device = str(config.device)
    return AlsaCapture(device, PERIOD_EAR, PERIODS_EAR) if isinstance(config, Monitor) else AlsaCapture(device)
