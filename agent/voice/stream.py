"""The sound of a play: pinned sounds and pipes that follow each other without a gap, read by several zones at once."""

from __future__ import annotations

import audioop
import os
from collections import deque
from collections.abc import Iterable

from agent.model.voice import BYTES_PER_SAMPLE, RATE
from agent.voice import pcm

READ_AHEAD = RATE // 2
"""Samples read out of a pipe before its writer has to wait: 500 ms."""
LOW_WATER = RATE // 4
"""Below this a pipe is read again."""
READY = RATE // 50
"""Samples (20 ms) that a pipe must hold before it begins, or goes on after it was late; a live one half of that."""
PATIENCE = RATE * 3 // 10
"""A late pipe is bridged by silence for 300 ms before the bridge chime begins, lest a hiccup sound like an alarm."""
KEPT = 2 * RATE
"""Samples that stay for the slowest reader; one that is further behind has lost them."""
FILLER = -1
"""The segment number of silence and bridge."""


class Pinned:
    """A segment from memory."""

    def __init__(self, number: int, name: str, data: bytes) -> None:
        self.number = number
        self.name: str | None = name
        self._data = memoryview(data)
        self._at = 0

    @property
    def exhausted(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._data)

    @property
    def left(self) -> int:
        """Samples that are left."""
        return (len(self._data) - self._at) // BYTES_PER_SAMPLE

    def ready(self) -> bool:
        """It may begin."""
        return True

    def take(self, samples: int) -> bytes:
        """The next samples, at most so many."""
        size = samples * BYTES_PER_SAMPLE
        data = bytes(self._data[self._at : self._at + size])
        self._at += len(data)
        return data

    def close(self) -> None:
        """Nothing to close."""


class Pipe:
    """A segment from the read end of a pipe. Any error of the pipe is its end."""

    def __init__(self, number: int, fd: int, live_samples: int | None, *, spoken: bool = False) -> None:
        os.set_blocking(fd, False)
        self.number = number
        self.name: str | None = None
        self.fd = fd
        self._live = live_samples
        self._spoken = spoken
        self._buffer = bytearray()
        self._eof = False
        self._filling = True
        self.running = False
        """It is its turn."""

    @property
    def exhausted(self) -> bool:
        """The writer is gone and all was taken; half a sample at the end is dropped."""
        return self._eof and len(self._buffer) < BYTES_PER_SAMPLE

    @property
    def wants_data(self) -> bool:
        """It should be polled for data (with hysteresis, so that a slow writer does not wake us for every byte)."""
        if self._eof:
            return False
        held = len(self._buffer) // BYTES_PER_SAMPLE
        if self._waiting_live:
            return True
        if held >= READ_AHEAD:
            self._filling = False
        elif held < LOW_WATER:
            self._filling = True
        return self._filling

    @property
    def bridged(self) -> bool:
        """What it is late with may be the chime; not where somebody speaks: who falters is no chain that warms up."""
        return not (self._spoken and self.running)

    @property
    def _waiting_live(self) -> bool:
        return self._live is not None and not self.running

    def ready(self) -> bool:
        """It holds enough to begin, or all there will be."""
        enough = READY // 2 if self._live is not None else READY
        if not self._eof and len(self._buffer) < enough * BYTES_PER_SAMPLE:
            self.fill()
        return self._eof or len(self._buffer) >= enough * BYTES_PER_SAMPLE

    def fill(self) -> None:
        """Read what is there, up to the read-ahead; while a live one waits, only the newest is kept."""
        limit = READ_AHEAD * BYTES_PER_SAMPLE
        rounds = 0
        while not self._eof and rounds < 16 and (len(self._buffer) < limit or self._waiting_live):
            rounds += 1
            try:
                data = os.read(self.fd, 65536 if self._waiting_live else limit - len(self._buffer))
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if data:
                self._buffer += data
            else:
                self._eof = True
        if self._waiting_live and self._live is not None:
            surplus = len(self._buffer) // BYTES_PER_SAMPLE - self._live
            if surplus > 0:
                del self._buffer[: surplus * BYTES_PER_SAMPLE]

    def take(self, samples: int) -> bytes:
        """The next samples, at most so many; fewer when the pipe is late or over. A stream is joined with a fade."""
        joining = self._waiting_live
        self.running = True
        size = samples * BYTES_PER_SAMPLE
        if len(self._buffer) < size:
            self.fill()
        size = min(size, len(self._buffer) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return pcm.ramp(data, 0.0, 1.0) if joining else data

    def close(self) -> None:
        """Close the read end; its writer gets EPIPE."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._eof = True


Segment = Pinned | Pipe


class Stream:
    """The samples of a play, made once and read by each of its zones at its own position.

    What a pipe is late with is replaced by filler that counts as part of the stream, so that all zones stay together;
    nothing of the programme is lost by it.
    """

    def __init__(self, bridge: bytes | None = None) -> None:
        self.bridge = bridge
        self.closed = False
        self.ended = False
        self.head = 0
        """Samples made so far; once `ended`, the length."""
        self._base = 0
        self._queue: deque[Segment] = deque()
        self._chunks: deque[tuple[int, int, bytes]] = deque()
        self._bridge_at = 0
        self._late = 0
        self._last = 0
        self._rest = True
        self.names: dict[int, str | None] = {}
        """Segment numbers that exist or existed, and the name of its (first) pinned sound, in order."""

    def append(self, segment: Segment) -> None:
        """One more segment at the end."""
        self._queue.append(segment)
        self.names.setdefault(segment.number, segment.name)

    @property
    def pinned(self) -> int:
        """Samples of the pinned segments that are still to come."""
        return sum(s.left for s in self._queue if isinstance(s, Pinned))

    def pipes(self) -> Iterable[Pipe]:
        """The pipes that are still open."""
        return (s for s in self._queue if isinstance(s, Pipe))

    def ready(self) -> bool:
        """The first segment can begin (or the stream is over without any)."""
        segment = self._current()
        return self.closed if segment is None else segment.ready()

    def read(self, at: int, samples: int) -> list[tuple[int, bytes]]:
        """The samples from position `at`, as (segment number or FILLER, data); fewer only at the end of the stream."""
        if at + samples > self.head and not self.ended:
            self._produce(at + samples - self.head)
        parts: list[tuple[int, bytes]] = []
        end = at + samples
        if at < self._base:
            parts.append((FILLER, pcm.silence(min(self._base, end) - at)))
            at = min(self._base, end)
        for start, number, data in self._chunks:
            stop = start + len(data) // BYTES_PER_SAMPLE
            if stop <= at:
                continue
            if start >= end:
                break
            low, high = max(at, start) - start, min(end, stop) - start
            parts.append((number, data[low * BYTES_PER_SAMPLE : high * BYTES_PER_SAMPLE]))
        return parts

    def forget(self, slowest: int) -> None:
        """No reader needs anything before `slowest`."""
        keep = max(slowest, self.head - KEPT)
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][2]) // BYTES_PER_SAMPLE <= keep:
            start, _, data = self._chunks.popleft()
            self._base = start + len(data) // BYTES_PER_SAMPLE

    def close(self) -> None:
        """Give up everything that was not read."""
        for segment in self._queue:
            segment.close()
        self._queue.clear()
        self.closed = self.ended = True

    def _current(self) -> Segment | None:
        while self._queue and self._queue[0].exhausted:
            self._queue.popleft().close()
        return self._queue[0] if self._queue else None

    def _produce(self, samples: int) -> None:
        while samples > 0:
            segment = self._current()
            if segment is None and self.closed:
                self.ended = True
                return
            bridge = None if isinstance(segment, Pipe) and not segment.bridged else self.bridge
            # After a pause the segment must hold enough to go on, lest it stutters.
            data = b"" if segment is None or (self._rest and not segment.ready()) else segment.take(samples)
            if data and segment is not None:
                samples -= self._own(segment.number, data, bridge)
            elif segment is None or not segment.exhausted:
                self._filler(samples, bridge)
                return

    def _own(self, number: int, data: bytes, bridge: bytes | None) -> int:
        if self._rest:
            data = pcm.fade_in(data)
            if self._late > PATIENCE and bridge:
                size = min(pcm.DECLICK, len(data) // BYTES_PER_SAMPLE)
                data = pcm.mix_head(data, pcm.ramp(self._looped(bridge, size), 1.0, 0.0))
        self._rest = False
        self._late = 0
        self._last = audioop.getsample(data, 2, len(data) // BYTES_PER_SAMPLE - 1)
        return self._add(number, data)

    def _filler(self, samples: int, bridge: bytes | None) -> None:
        data = pcm.fall(self._last, samples)
        if bridge and self._late > PATIENCE:
            data = self._looped(bridge, samples)
        self._rest = True
        self._last = 0
        self._late += samples
        if self._late > PATIENCE >= self._late - samples:
            self._bridge_at = 0
        self._add(FILLER, data)

    def _looped(self, bridge: bytes, samples: int) -> bytes:
        data, self._bridge_at = looped(bridge, self._bridge_at, samples)
        return data

    def _add(self, number: int, data: bytes) -> int:
        samples = len(data) // BYTES_PER_SAMPLE
        self._chunks.append((self.head, number, data))
        self.head += samples
        return samples


def looped(sound: bytes, at: int, samples: int) -> tuple[bytes, int]:
    """`samples` samples of an endlessly repeated sound from byte offset `at`, and the offset after them."""
    size = samples * BYTES_PER_SAMPLE
    parts = []
    while size > 0:
        part = sound[at : at + size]
        parts.append(part)
        size -= len(part)
        at = (at + len(part)) % len(sound)
    return b"".join(parts), at
