"""The agent's side of the ear: a connection that is kept, its events and what it is asked."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from agent.model.config import Station
from agent.model.ear import ALIVE_S, Check, EarEvent, EarLost, Ready
from agent.ports import Inbox

RETRY_S = (0.5, 2.0, 10.0, 60.0)
"""Pauses before a restart; an ear that listened for `STEADY_S` starts the series anew."""
STEADY_S = 30.0
LONGEST = 65_536
"""A line of the ear, in bytes."""


class EarKeeper:
    """Posts what the ear tells, `EarLost` each time it goes or cannot be had, and `Ready` when it is there (again).

    Of a station without monitors and sensors there is none. `unit`: the socket behind which systemd starts the ear in a
    sandbox of its own, which may open sound cards and buses; without it the ear is a child. Hanging up ends either.
    `patience_s`: an ear that is silent for so long hangs.
    """

    def __init__(
        self,
        config_path: str,
        config: Station,
        inbox: Inbox,
        *,
        unit: Path | None = None,
        patience_s: float = 3 * ALIVE_S,
    ) -> None:
        self._config_path = os.path.abspath(config_path)
        self._wanted = bool(config.monitors or config.sensors)
        self._inbox = inbox
        self._unit = unit
        self._patience_s = patience_s
        self._stopping = threading.Event()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._keep, name="ear-keeper", daemon=True)

    def start(self) -> None:
        """Start the ear; returns at once."""
        if self._wanted:
            self._thread.start()

    def send(self, check: Check) -> None:
        """Ask it; lost when it is not there, as a test is that nobody hears."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sendall(msgspec.json.encode(check) + b"\n")

    def stop(self) -> None:
        """Hang up, which ends it. May be called twice."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                detail = self._one_life()
            except OSError as error:
                detail = f"the ear cannot be started: {error}"
            if self._stopping.is_set():
                return
            self._inbox(EarLost(detail))
            failures = 0 if time.monotonic() - begun > STEADY_S else failures + 1
            self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _one_life(self) -> str:
        """From the first word of an ear to its last: why it ended. OSError when there is none to be had."""
        connection, child = self._begin()
        with connection:
            connection.settimeout(self._patience_s)
            self._connection = connection
            if self._stopping.is_set():
                connection.shutdown(socket.SHUT_RDWR)
            try:
                detail = self._read(connection)
            except TimeoutError:
                detail = f"the ear has said nothing for {self._patience_s:.0f} s"
            except OSError as error:
                detail = str(error)
            finally:
                self._connection = None
        if child is None:
            return detail
        try:
            return f"{detail} (exit code {child.wait(2.0)})"
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return detail

    def _begin(self) -> tuple[socket.socket, subprocess.Popen[bytes] | None]:
        if self._unit is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connection.connect(str(self._unit))
            except OSError as error:
                connection.close()
                raise OSError(f"{self._unit}: {error.strerror} (tram-ear.socket)") from error
            return connection, None
        connection, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "agent.ear", "--config", self._config_path]
            return connection, subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno())

    def _read(self, connection: socket.socket) -> str:
        decoder = msgspec.json.Decoder(EarEvent)
        ready = False
        with connection.makefile("rb") as lines:
            while line := lines.readline(LONGEST):
                try:
                    event = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    return f"the ear said what is no event: {error}"
                if not (ready and isinstance(event, Ready)):
                    self._inbox(event)
                ready = ready or isinstance(event, Ready)
        return "the ear has ended"
