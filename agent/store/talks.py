"""What an officer says live, from voice's datagrams to the clusters that listen (`agent.model.talk`).

It is made smaller once, for all of them, and each takes it at its own pace from the same few seconds: who is slower
than that has lost the oldest, and holds up nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from agent.model.talk import TALK_RATE
from agent.model.voice import BYTES_PER_SAMPLE, RATE
from drivers.soxr import Resampler

BLOCK_S = 0.04
KEPT = 50
"""Blocks: 2 s."""
STALLED_S = 2.0
"""Voice is gone when it has begun to speak and then says nothing for so long."""
COLD_S = 120.0
"""So long it may take until it begins: relays warm up, the chime sounds."""
ENDED = 16
"""Talks of which it is remembered that they are over."""
_BLOCK = round(BLOCK_S * RATE) * BYTES_PER_SAMPLE
_PACKET = 65_536


class LostError(Exception):
    """Voice is gone in the middle of a talk."""


class Talk:
    """One talk; voice's thread adds, those of the listeners take."""

    def __init__(self, now: float) -> None:
        self._news = threading.Condition()
        self._blocks: deque[bytes] = deque(maxlen=KEPT)
        self._count = 0
        self._over = self._lost = False
        self._resampler = Resampler(RATE, TALK_RATE, 1)
        self._rest = b""
        self._spoken = False
        self._told_at = now

    def say(self, sound: bytes, now: float) -> None:
        """More of it, as voice has it."""
        self._spoken = True
        self._told_at = now
        self._add(sound)

    def wait(self, now: float) -> bool:
        """Nothing is said: it goes on with silence. False: for so long that voice must be gone."""
        self._add(bytes(_BLOCK))
        return now - self._told_at < (STALLED_S if self._spoken else COLD_S)

    def _add(self, sound: bytes) -> None:
        self._rest += sound
        if len(self._rest) >= _BLOCK:
            whole, self._rest = self._rest, b""
            self._put(self._resampler.process(whole))

    def end(self, *, lost: bool = False) -> None:
        """It is over."""
        if not lost:
            self._put(self._resampler.process(self._rest) + self._resampler.flush())
        self._resampler.close()
        with self._news:
            self._over, self._lost = True, lost
            self._news.notify_all()

    def listen(self) -> Iterator[bytes]:
        """It, from now on, to its end; LostError when it is torn off."""
        at = self._count
        while True:
            with self._news:
                while at >= self._count and not self._over:
                    self._news.wait()
                if at >= self._count:
                    if self._lost:
                        raise LostError
                    return
                at = max(at, self._count - len(self._blocks))
                block = self._blocks[at - self._count]
            yield block
            at += 1

    def _put(self, block: bytes) -> None:
        with self._news:
            if block:
                self._blocks.append(block)
                self._count += 1
                self._news.notify_all()


class Talks:
    """All that is said now. Takes over the socket at `path`."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(path))
        os.chmod(path, 0o660)
        self._socket.settimeout(BLOCK_S)
        self._lock = threading.Lock()
        self._on: dict[str, Talk] = {}
        self._ended: deque[str] = deque(maxlen=ENDED)

    def start(self) -> None:
        """Begin to take what voice says, in a thread."""
        threading.Thread(target=self._work, name="talks", daemon=True).start()

    def listen(self, name: str) -> Iterator[bytes] | None:
        """The talk of that name from now on, nothing of one that is over, None: there is no such talk."""
        with self._lock:
            talk = self._on.get(name)
            if talk is None:
                return iter(()) if name in self._ended else None
            return talk.listen()

    def _work(self) -> None:
        while True:
            now = time.monotonic()
            try:
                name, _, sound = self._socket.recv(_PACKET).partition(b"\0")
            except TimeoutError:
                self._wait(now)
            else:
                with contextlib.suppress(UnicodeDecodeError):
                    self._take(name.decode(), sound, now)

    def _take(self, name: str, sound: bytes, now: float) -> None:
        with self._lock:
            talk = self._on.get(name)
            if not sound:
                self._on.pop(name, None)
                self._ended.append(name)
            elif talk is None:
                self._on[name] = Talk(now)
        if talk is None:
            return
        if sound:
            talk.say(sound, now)
        else:
            talk.end()

    def _wait(self, now: float) -> None:
        for name, talk in list(self._on.items()):
            if not talk.wait(now):
                with self._lock:
                    del self._on[name]
                talk.end(lost=True)
