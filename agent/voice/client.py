"""The agent's end of voice's command socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Protocol

import msgspec
from msgspec import Struct

from agent.model import voice as v
from agent.model.events import VoiceLost

PACKET = 65_536
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0

_decoder = msgspec.json.Decoder(v.VoiceEvent)
_encoder = msgspec.json.Encoder()


class Post(Protocol):
    """Where events go (`agent.ports.Inbox`)."""

    def __call__(self, event: Struct, *, urgent: bool = False) -> None:
        """Take one event; called from the client's thread."""


class VoiceClient:
    """Keeps a connection to voice at `path`: `start`, then events arrive at `post` until `close`.

    Each connection begins with a `Hello`; a broken one is told by `VoiceLost`, once, and retried for ever. What is sent
    while there is none is dropped: voice has ended the plays, the owner opens them again after the next `Hello`.
    """

    def __init__(self, path: str, post: Post) -> None:
        self._path = path
        self._post = post
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="voice-client", daemon=True)

    def start(self) -> None:
        """Begin to connect, in a thread."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._socket is not None

    def send(self, command: v.VoiceCommand, fd: int | None = None) -> None:
        """Send one command, never blocking or raising; `fd` rides along and is closed here in any case."""
        try:
            with self._lock:
                if self._socket is None:
                    return
                fds = [fd] if fd is not None else []
                socket.send_fds(
                    self._socket, [_encoder.encode(command)], fds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                )
        except OSError:
            self._hang_up()  # voice is gone, or has not read for hundreds of packets: begin anew
        finally:
            if fd is not None:
                os.close(fd)

    def close(self) -> None:
        """Disconnect and end the thread. No VoiceLost is posted."""
        self._closing.set()
        self._hang_up()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    def _hang_up(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._closing.wait(wait_s):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            try:
                connection.connect(self._path)
            except OSError:
                connection.close()
                wait_s = min(max(2 * wait_s, FIRST_RETRY_S), LAST_RETRY_S)
                continue
            with self._lock:
                self._socket = connection
            detail = self._read(connection)
            with self._lock:
                self._socket = None
            connection.close()
            wait_s = FIRST_RETRY_S
            if not self._closing.is_set():
                self._post(VoiceLost(detail), urgent=True)

    def _read(self, connection: socket.socket) -> str:
        while True:
            try:
                packet = connection.recv(PACKET)
            except OSError as error:
                return str(error)
            if not packet:
                return "voice closed the connection"
            try:
                event = _decoder.decode(packet)
            except msgspec.MsgspecError as error:
                return f"voice sent what is no event: {error}"
            self._post(event, urgent=isinstance(event, URGENT))


URGENT = (v.LocalPlay, v.ButtonEvent, v.Ended)
"""Events that decide what sounds next."""
