"""The live microphone as a segment of a play: short, level and safe.

Its delay from capture to the sink is kept between bounds (the capture's and the sink's own buffers come on top): at
least `TARGET`, so that a late thread is not heard, and at most `MOST`: what is older is left out, with a cross-fade.
So neither a stall nor two cards with different clocks add up to an echo of the speaker's own voice.
"""

from __future__ import annotations

import audioop
from collections.abc import Callable

from agent.model.voice import BYTES_PER_SAMPLE, MICROPHONE, PERIOD, RATE
from agent.voice import pcm
from agent.voice.mixer import ATTACK, RECOVERY
from agent.voice.stream import Pipe

TARGET = RATE * 15 // 1000
"""Samples held when it goes on the air."""
MOST = 2 * TARGET
RAMP_IN = RATE * 20 // 1000
"""Samples over which it comes up."""
CEILING = 16422
"""The limiter's: −6 dBFS. A loudspeaker that howls into the microphone stays at this level."""


class Live(Pipe):
    """Gain, limiter and ramp-in over a pipe of captured samples, which it takes over."""

    def __init__(self, number: int, fd: int, gain_db: float) -> None:
        super().__init__(number, fd, TARGET, spoken=True)
        self.name = MICROPHONE
        self._gain = pcm.factor(gain_db)
        self._scale = 1.0
        self._risen = 0
        self._pass_on: Callable[[bytes], None] | None = None

    def pass_on(self, to: Callable[[bytes], None]) -> None:
        """From now on `to` is given what is heard, silence to begin with, and nothing (`b""`) when it is over."""
        self._pass_on = to
        to(bytes(PERIOD * BYTES_PER_SAMPLE))

    @property
    def lost(self) -> bool:
        """The device gave up; what it gave before is still to be taken."""
        return self._eof

    @property
    def wants_data(self) -> bool:
        """Only while it waits: on the air it is read for every period anyway."""
        return not self._eof and not self.running

    def ready(self) -> bool:
        """It holds enough to begin, or to go on after it was late."""
        self.fill()
        return self._eof or len(self._buffer) >= TARGET * BYTES_PER_SAMPLE

    def take(self, samples: int) -> bytes:
        """The next samples, fewer when the capture is late."""
        self.running = True
        self.fill()
        self._catch_up()
        size = min(samples, len(self._buffer) // BYTES_PER_SAMPLE) * BYTES_PER_SAMPLE
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if data:
            data = self._rising(self._limited(data))
            if self._pass_on is not None:
                self._pass_on(data)
        return data

    def close(self) -> None:
        """Nobody is listened to any more."""
        if self.fd >= 0 and self._pass_on is not None:
            self._pass_on(b"")
        super().close()

    def _catch_up(self) -> None:
        surplus = len(self._buffer) // BYTES_PER_SAMPLE - TARGET
        if surplus <= MOST - TARGET:
            return
        fade = pcm.DECLICK * BYTES_PER_SAMPLE
        old = bytes(self._buffer[:fade])
        del self._buffer[: surplus * BYTES_PER_SAMPLE]
        new = bytes(self._buffer[:fade])
        self._buffer[:fade] = pcm.mix_head(pcm.ramp(new, 0.0, 1.0), pcm.ramp(old, 1.0, 0.0))

    def _limited(self, data: bytes) -> bytes:
        before = self._scale
        peak = audioop.max(data, BYTES_PER_SAMPLE) * self._gain
        self._scale = min(1.0, before * RECOVERY, CEILING / peak if peak else 1.0)
        gain = self._gain * self._scale
        if self._scale >= before:
            return data if gain == 1.0 else audioop.mul(data, BYTES_PER_SAMPLE, gain)
        head = pcm.ramp(data[:ATTACK], self._gain * before, gain, CEILING)
        return head + audioop.mul(data[ATTACK:], BYTES_PER_SAMPLE, gain)

    def _rising(self, data: bytes) -> bytes:
        if self._risen >= RAMP_IN:
            return data
        begin = self._risen
        self._risen += len(data) // BYTES_PER_SAMPLE
        return pcm.ramp(data, begin / RAMP_IN, min(1.0, self._risen / RAMP_IN))
