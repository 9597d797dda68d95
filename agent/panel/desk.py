"""The desk: a Unix socket at which the `tram` commands put questions to the running agent.

One JSON line in, `{"do": NAME, "args": {…}}`; one JSON line out. The socket is for the user of the agent and its group.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.model.events import Asked
from agent.ports import Inbox

log = logging.getLogger("tram.desk")
LONGEST_LINE = 256 * 1024
ANSWER_S = 20.0
PATIENCE_S = 10.0


class _Question(Struct):
    do: str
    args: dict[str, Any] = {}


class Desk:
    """Listens; hands each question to the owner as `Asked` and returns what `reply` brings."""

    def __init__(self, path: Path, inbox: Inbox) -> None:
        self._path = path
        self._inbox = inbox
        self._tokens = itertools.count(1)
        self._open: dict[int, tuple[threading.Event, list[dict[str, Any]]]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Begin to listen; OSError when the socket cannot be made."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        mask = os.umask(0o117)
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(mask)
        self._socket.listen(16)
        threading.Thread(target=self._listen, name="desk", daemon=True).start()

    def stop(self) -> None:
        """No more questions."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def reply(self, token: int, body: dict[str, Any]) -> None:
        """The owner's answer; a question that nobody waits for any more is forgotten."""
        waiting = self._open.pop(token, None)
        if waiting is not None:
            waiting[1].append(body)
            waiting[0].set()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="desk-question", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(PATIENCE_S)
                answer = self._ask(_line(connection))
                connection.sendall(msgspec.json.encode(answer) + b"\n")
            except OSError as error:
                log.info("a question was given up: %s", error)

    def _ask(self, line: bytes) -> dict[str, Any]:
        try:
            question = msgspec.json.decode(line, type=_Question)
        except msgspec.DecodeError as error:
            return {"ok": False, "reason": "bad-args", "detail": f"not a question: {error}"}
        token = next(self._tokens)
        waiting: tuple[threading.Event, list[dict[str, Any]]] = (threading.Event(), [])
        self._open[token] = waiting
        self._inbox(Asked(question.do, question.args, token))
        if not waiting[0].wait(ANSWER_S):
            self._open.pop(token, None)
            return {"ok": False, "reason": "busy", "detail": "the agent did not answer in time"}
        return waiting[1][0]


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) <= LONGEST_LINE:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return bytes(received.partition(b"\n")[0])
