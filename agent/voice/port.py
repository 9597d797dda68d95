"""Voice's end of the command socket: one agent at a time, packets in, events out, nothing ever blocks."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from agent.model import voice as v

PACKET = 65_536
KEPT = 1000
"""Events that wait for an agent (facts of local plays, buttons and faults), and for a slow one."""
ENDED = 64
"""Plays of which a later agent is told how far they came; its `Hello` must stay within a packet."""
ONE_GO = 32
"""Commands taken before the mixer has its turn."""
SURVIVING = (v.LocalPlay, v.LocalEnded, v.ButtonEvent, v.Fault)

_decoder = msgspec.json.Decoder(v.VoiceCommand)
_encoder = msgspec.json.Encoder()


class Port:
    """The listening socket at `path` and the connection, if there is one.

    A newer connection replaces the older. `hello` makes the first packet; after it comes what was kept.
    """

    def __init__(self, path: str, hello: Callable[[], v.Hello]) -> None:
        self.path = path
        self._hello = hello
        self._kept: deque[v.Event] = deque(maxlen=KEPT)
        self._ended: deque[v.Ended] = deque(maxlen=ENDED)
        self._out: deque[v.Event] = deque()
        self.connection: socket.socket | None = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.listener.bind(path)
        os.chmod(path, 0o660)
        self.listener.listen(4)

    def emit(self, event: v.Event) -> None:
        """Send an event, or keep it if it is one that must reach a later agent."""
        if self.connection is None:
            if isinstance(event, SURVIVING):
                self._kept.append(event)
            elif isinstance(event, v.Ended):
                self._ended.append(event)
        elif len(self._out) < KEPT:
            self._out.append(event)
            self.flush()
        elif isinstance(event, SURVIVING):
            self._kept.append(event)  # the agent does not read; it will be dropped by the loop

    @property
    def mask(self) -> int:
        """What the connection should be polled for."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    @property
    def stuck(self) -> bool:
        """The agent has not read its events for so long that they had to be held back."""
        return len(self._out) >= KEPT

    def flush(self) -> None:
        """Send as much as the agent takes."""
        while self._out and self.connection is not None:
            try:
                self.connection.send(_encoder.encode(self._out[0]), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                return  # the loop finds the hang-up
            self._out.popleft()

    def accept(self) -> bool:
        """Take a new connection; says whether there is one now that there was not before this call."""
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return False
        connection.setblocking(False)
        self.connection = connection
        self._out.clear()
        hello = self._hello()
        local = [*hello.local, *(e.play for e in self._kept if isinstance(e, v.LocalEnded))]
        self._out.append(msgspec.structs.replace(hello, ended=list(self._ended), local=local))
        self._ended.clear()
        self._out.extend(self._kept)
        self._kept.clear()
        self.flush()
        return True

    def drop(self) -> None:
        """Close the connection. Facts that it did not take are kept for the next one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._kept.extendleft(reversed([e for e in self._out if isinstance(e, SURVIVING)]))
        self._ended.extend(e for e in self._out if isinstance(e, v.Ended))
        self._out.clear()

    def receive(self) -> list[tuple[v.VoiceCommand | str, int | None]] | None:
        """Commands (or what was wrong with a packet) with the descriptor that came along; None: the agent is gone."""
        taken: list[tuple[v.VoiceCommand | str, int | None]] = []
        while self.connection is not None and len(taken) < ONE_GO:
            try:
                data, fds, flags, _ = socket.recv_fds(self.connection, PACKET, 4)
            except BlockingIOError:
                return taken
            except OSError:
                return taken or None
            if not data:
                for fd in fds:
                    os.close(fd)
                return taken or None
            for fd in fds[1:]:
                os.close(fd)
            fd_or_none = fds[0] if fds else None
            if flags & socket.MSG_TRUNC:
                taken.append((f"a packet of more than {PACKET} bytes", fd_or_none))
                continue
            try:
                taken.append((_decoder.decode(data), fd_or_none))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                taken.append((f"malformed packet: {error}", fd_or_none))
        return taken

    def close(self) -> None:
        """No more connections; the socket's file is removed."""
        self.drop()
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
