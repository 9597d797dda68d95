"""Voice's world without hardware: a clock that is advanced, a sink that keeps its samples, a board of switches."""

from __future__ import annotations

import os

from agent.model.voice import PERIOD, RATE


class ManualClock:
    """CLOCK_MONOTONIC that stands still until it is advanced."""

    def __init__(self, now: int = 1_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        """Nanoseconds."""
        return self.now


class FakeSink:
    """A sink of exact samples: sample k is played at `origin_ns` + k / 48 000 s, and `frames` is all that was sent.

    `broken` makes it report a fault once and then behave like a device that is away: it swallows in real time.
    `drift_ppm`: so much faster than the clock it plays.
    """

    def __init__(self, clock: ManualClock, channels: int = 1, buffer_ms: float = 15.0, drift_ppm: int = 0) -> None:
        self._speed = RATE * (1_000_000 + drift_ppm)
        """Samples in a million seconds."""
        self.xruns = 0
        self.running = False
        self.closed = False
        self.away = False
        self.channels = channels
        self.origin_ns = clock.now
        self.frames = bytearray()
        """From `origin_ns` on; zeros while it did not run."""
        self.faults: list[str] = []
        self._position = 0
        self._buffer = round(buffer_ms * RATE / 1000)

    def channel(self, index: int = 0) -> list[int]:
        """The samples of one channel."""
        return list(memoryview(bytes(self.frames)).cast("h"))[index :: self.channels]

    def _played(self, now: int) -> int:
        return (now - self.origin_ns) * self._speed // 10**15

    def start(self, now: int) -> None:
        """Begin to run."""
        self.running = True
        self._position = max(self._position, -(-(now - self.origin_ns) * self._speed // 10**15))

    def stop(self, now: int) -> None:
        """Stop."""
        self.running = False

    def next_ns(self, now: int) -> int:
        """The moment of the next sample, exactly."""
        return self.origin_ns + self._position * 10**15 // self._speed

    def room(self, now: int) -> bool:
        """One more period fits into the buffer."""
        return self._position + PERIOD - self._played(now) <= self._buffer

    def wake_ns(self, now: int) -> int:
        """When the next one does."""
        return self.origin_ns + -(-(self._position + PERIOD - self._buffer) * 10**15 // self._speed)

    def write(self, frames: bytes, now: int) -> None:
        """Keep the samples."""
        if self._played(now) > self._position:
            self.xruns += 1
            self._position = self._played(now)
        size = 2 * self.channels
        self.frames += bytes(self._position * size - len(self.frames)) + frames
        self._position += len(frames) // size

    def take_faults(self) -> list[str]:
        """What `faults` held."""
        faults, self.faults = self.faults, []
        return faults

    def close(self, now: int) -> None:
        """Remember it."""
        self.closed = True


class FakeMicrophone:
    """A microphone into which a test speaks; `write` is the end of the newest pipe."""

    def __init__(self) -> None:
        self.opened = 0
        self.write = -1
        self.faults: list[str] = []

    def open(self) -> int:
        """A new pipe; the old one is let go."""
        self.fail()
        read, self.write = os.pipe()
        self.opened += 1
        return read

    def speak(self, samples: bytes) -> bool:
        """Give samples; whether somebody listens."""
        try:
            os.write(self.write, samples)
        except OSError:
            return False
        return True

    def fail(self, *faults: str) -> None:
        """End of the pipe."""
        self.faults += faults
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def take_faults(self) -> list[str]:
        """What `fail` was given."""
        faults, self.faults = self.faults, []
        return faults


class FakeBoard:
    """Relays and lamps as a dict, buttons and key switches as a set of closed contacts."""

    def __init__(self) -> None:
        self.relays: dict[str, bool] = {}
        self.switched: list[tuple[str, bool]] = []
        self.pressed: set[str] = set()
        self.dead: set[str] = set()
        """Lines that could not be had."""
        self.shut = False

    def switch(self, relay: str, on: bool) -> None:
        """Switch it."""
        if relay in self.dead:
            raise OSError("its GPIO line is not available")
        self.relays[relay] = on
        self.switched.append((relay, on))

    def closed(self, line: str) -> bool:
        """Whether it is pressed, or the key turned."""
        return line in self.pressed

    def works(self, line: str) -> bool:
        """Whether it is not in `dead`."""
        return line not in self.dead

    def take_faults(self) -> list[str]:
        """None ever."""
        return []

    def close(self) -> None:
        """Relays off."""
        self.relays = dict.fromkeys(self.relays, False)
        self.shut = True
