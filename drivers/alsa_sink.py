"""ALSA sink on pyalsaaudio: one device by name, s16, 48 000 Hz, interleaved.

The device is asked how much it holds before every period, so that the moment of the next sample is known. After an
underrun (EPIPE) pyalsaaudio prepares the device again and the period is written anew. A device that fails or is gone
is closed; the samples are swallowed in real time, so that plays go on elsewhere, and a thread tries to open it again
with back-off. So is one that holds samples and plays none of them. A mono stream on a card that has no mono goes to
all its channels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import alsaaudio

from agent.model.config import AlsaOutput

RATE = 48_000
PERIOD = 240
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
FAST = 1.001
"""No real card runs faster than this. A plugin that swallows everything at once (`null`, `file`) is held to it."""
STUCK_NS = 500_000_000
"""A device that plays nothing of what it holds for so long is opened anew. Its driver would never say so."""
HOLDING = (alsaaudio.PCM_STATE_RUNNING, alsaaudio.PCM_STATE_PREPARED)


class AlsaSink:
    """A device of `channels` channels. A device that cannot be opened is a fault, not an error: see the module."""

    def __init__(self, device: str, channels: int, buffer_ms: float = 15.0) -> None:
        self.xruns = 0
        self._device = device
        self._channels = channels
        self._wished = max(round(buffer_ms * RATE / 1000), 2 * PERIOD)
        self._target = self._wished
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self._fresh: Any = None
        """A device that the retry thread has opened, to be taken over by the loop."""
        self._closing = threading.Event()
        self._pcm: Any = None
        self._spread = 1
        self._size = 0
        self._rest = b""
        self._started_ns = 0
        self._written = 0
        self._given = self._played = 0
        """Samples that the device took since it was prepared, and that it has played of them."""
        self._moved_ns = 0
        """When it had played more of them than before."""
        try:
            self._adopt(self._open())
        except alsaaudio.ALSAAudioError as error:
            self._lost(error)

    # -- the device --------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        periods = max(4, self._wished // PERIOD + 2)
        pcm = alsaaudio.PCM(
            type=alsaaudio.PCM_PLAYBACK,
            mode=alsaaudio.PCM_NONBLOCK,
            rate=RATE,
            channels=self._channels,
            format=alsaaudio.PCM_FORMAT_S16_LE,
            periodsize=PERIOD,
            periods=periods,
            device=self._device,
        )
        info = pcm.info()
        fits = info["rate"] == RATE and info["format"] == alsaaudio.PCM_FORMAT_S16_LE
        if not fits or (info["channels"] != self._channels and self._channels != 1):
            pcm.close()
            raise alsaaudio.ALSAAudioError(
                f"gives {info['rate']} Hz, {info['channels']} channels, {info['format_name']}; "
                f"wanted {RATE}, {self._channels}, S16_LE (use a plug device) [{self._device}]"
            )
        return pcm

    def _adopt(self, pcm: Any) -> None:
        info = pcm.info()
        self._spread = info["channels"] // self._channels
        self._size = info["buffer_size"]
        self._target = min(self._wished, self._size)
        self._pcm = pcm
        self._rest = b""
        self._given = 0

    def _lost(self, error: Exception) -> None:
        self._faults.append(str(error))
        if self._pcm is not None:
            self._pcm.close()
            self._pcm = None
        threading.Thread(target=self._retry, name=f"alsa-{self._device}", daemon=True).start()

    def _retry(self) -> None:
        wait_s = FIRST_RETRY_S
        while not self._closing.wait(wait_s):
            wait_s = min(2 * wait_s, LAST_RETRY_S)
            try:
                pcm = self._open()
            except alsaaudio.ALSAAudioError:
                continue  # the fault was reported when the device was lost
            with self._lock:
                self._fresh = pcm
            return

    def _take_fresh(self) -> None:
        if self._pcm is None and self._fresh is not None:
            with self._lock:
                pcm, self._fresh = self._fresh, None
            self._adopt(pcm)

    def _fill(self, now: int) -> int:
        """Samples that the device holds. One that is away, or lies about its speed, is reckoned by the clock."""
        elapsed = (now - self._started_ns) * RATE // 1_000_000_000
        least = self._written - int(elapsed * FAST)
        if self._pcm is None:
            return max(0, self._written - elapsed)
        try:
            held = int(self._size - self._pcm.avail()) if self._pcm.state() in HOLDING else 0
            self._watch(held, now)
        except alsaaudio.ALSAAudioError as error:
            self._lost(error)
            held = 0
        return max(held, least, 0)

    def _watch(self, held: int, now: int) -> None:
        """ALSAAudioError when the device is stuck."""
        played = self._given - held
        if held == 0 or played != self._played:
            self._played, self._moved_ns = played, now
        elif now - self._moved_ns > STUCK_NS:
            raise alsaaudio.ALSAAudioError(f"it plays no more of what it was given [{self._device}]")

    @property
    def away(self) -> bool:
        """No device is open; the retry thread is looking for it."""
        return self._pcm is None and self._fresh is None

    # -- the sink ----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Run: the device starts with the first period."""
        self._take_fresh()
        self._started_ns = self._moved_ns = now
        self._written = 0

    def stop(self, now: int) -> None:
        """Rest: drop what was not played; the next write prepares the device."""
        self._rest = b""
        self._given = 0
        if self._pcm is not None:
            try:
                self._pcm.drop()
            except alsaaudio.ALSAAudioError as error:
                self._lost(error)

    def next_ns(self, now: int) -> int:
        """When the next sample to be written will be at the converter."""
        return now + self._fill(now) * 1_000_000_000 // RATE

    def room(self, now: int) -> bool:
        """Whether a period should be written to keep the buffer filled."""
        self._take_fresh()
        return self._fill(now) + PERIOD <= self._target

    def wake_ns(self, now: int) -> int:
        """When one should."""
        return now + max(0, self._fill(now) + PERIOD - self._target) * 1_000_000_000 // RATE

    def write(self, frames: bytes, now: int) -> None:
        """Submit a period."""
        if self._written and self._fill(now) == 0:
            # It ran dry, or was away: what it is held to begins anew, lest it is given everything at once.
            self._started_ns, self._written = now, 0
        self._written += len(frames) // (2 * self._channels)
        if self._pcm is None:
            return
        data = self._rest + self._spread_out(frames)
        try:
            done = self._pcm.write(data)
            if done < 0:  # EPIPE: it is prepared again
                self.xruns += 1
                self._given = 0
                done = max(0, self._pcm.write(data))
        except alsaaudio.ALSAAudioError as error:
            self._lost(error)
            return
        self._given += done
        self._rest = data[done * 2 * self._channels * self._spread :][-4 * len(frames) * self._spread :]

    def take_faults(self) -> list[str]:
        """What went wrong since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def close(self, now: int) -> None:
        """Close the device and end the retries."""
        self._closing.set()
        with self._lock:
            for pcm in (self._pcm, self._fresh):
                if pcm is not None:
                    pcm.close()
            self._pcm = self._fresh = None

    def _spread_out(self, frames: bytes) -> bytes:
        if self._spread == 1:
            return frames
        return b"".join(frames[i : i + 2] * self._spread for i in range(0, len(frames), 2))


def open_sink(output: AlsaOutput, zones: Sequence[str]) -> AlsaSink:
    """The device that the configuration names."""
    return AlsaSink(output.device, len(zones), output.buffer_ms)
