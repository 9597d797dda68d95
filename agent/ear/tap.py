"""What voice says that it sends, as it comes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections import deque

from agent.model.ear import EAR_HEAD

HEAD = struct.Struct(EAR_HEAD)
PACKET = 65_536
KEPT = 4000
"""Datagrams: 20 s of one zone."""


class Tap:
    """A thread takes each datagram at once: the kernel keeps ten (net.unix.max_dgram_qlen), which are 50 ms, voice
    never waits for anybody, and a judgement takes longer than that.
    """

    def __init__(self, path: str) -> None:
        """Binds the socket at `path`, instead of one that is there. OSError when it cannot."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(path)
        self._came: deque[bytes] = deque(maxlen=KEPT)
        threading.Thread(target=self._run, name="tap", daemon=True).start()

    def take(self) -> list[tuple[int, int, bytes]]:
        """Since the last call: when it began (CLOCK_MONOTONIC, ns), the number of the zone, 16 bit PCM."""
        packets = [self._came.popleft() for _ in range(len(self._came))]
        return [(*HEAD.unpack_from(packet), packet[HEAD.size :]) for packet in packets]

    def _run(self) -> None:
        while True:
            self._came.append(self._socket.recv(PACKET))
