"""The agent's side of the ear: a child process that is kept alive, its events and what it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import msgspec

from agent.model.config import Station
from agent.model.ear import Check, EarEvent, Noticed
from agent.model.events import ChildDied
from agent.ports import Inbox

RETRY_S = (0.5, 2.0, 10.0, 60.0)
"""Pauses before a restart; a child that ran for `STEADY_S` starts the series anew."""
STEADY_S = 30.0


class EarKeeper:
    """Posts `EarEvent`s, and `ChildDied("ear")` each time the child ends unasked. Of a station without monitors and
    sensors there is no child."""

    def __init__(self, config_path: str, config: Station, inbox: Inbox) -> None:
        self._config_path = os.path.abspath(config_path)
        self._wanted = bool(config.monitors or config.sensors)
        self._inbox = inbox
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="ear-keeper", daemon=True)

    def start(self) -> None:
        """Start the child; returns at once."""
        if self._wanted:
            self._thread.start()

    def send(self, check: Check) -> None:
        """Ask it; lost when it is not there, as a test is that nobody hears."""
        child = self._child
        if child is not None and child.stdin is not None:
            try:
                child.stdin.write(msgspec.json.encode(check) + b"\n")
                child.stdin.flush()
            except (OSError, ValueError):
                return

    def stop(self) -> None:
        """End the child. May be called twice."""
        self._stopping.set()
        child = self._child
        if child is not None and child.stdin is not None:
            try:
                child.stdin.close()
                child.wait(2.0)
            except (OSError, subprocess.TimeoutExpired):
                child.kill()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            code = self._one_life()
            if self._stopping.is_set():
                return
            self._inbox(ChildDied(name="ear", detail=f"exit code {code}"))
            failures = 0 if time.monotonic() - begun > STEADY_S else failures + 1
            self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _one_life(self) -> int:
        command = [sys.executable, "-m", "agent.ear", "--config", self._config_path]
        child = self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        decoder = msgspec.json.Decoder(EarEvent)
        if child.stdout is not None:
            for line in child.stdout:
                try:
                    self._inbox(decoder.decode(line))
                except msgspec.MsgspecError as error:
                    self._inbox(Noticed("ear", "ear", f"said what is no event: {error}"))
            child.stdout.close()
        return child.wait()
