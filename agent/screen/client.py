"""The agent's side of the boards: one child process per screen zone, kept alive, told the newest command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.model.config import Zone
from agent.model.events import ChildDied
from agent.model.screen import (
    Capture,
    Captured,
    Rest,
    ScreenCommand,
    ScreenEvent,
    ScreenFault,
    Show,
    Shown,
    Turn,
)
from agent.ports import Inbox
from agent.screen.main import CHANGED

RETRY_S = (0.1, 0.5, 2.0, 5.0)
"""Pauses before a restart; a child that showed something starts the series anew."""

ALIVE_EVERY_S = 5.0
PROGRAM = ("-m", "agent.screen")


class Screens:
    """All boards of a station; implements `agent.ports.Screen`.

    Posts `Shown` and `ScreenFault` with their zone, and `ChildDied("screen:<zone>")` each time a child ends unasked;
    it is started again and told what holds. Commands of a kind replace each other: only the newest is delivered.
    `run`: the folder for what a board's children need at work. `program`: what a board's process runs.
    """

    def __init__(self, zones: Sequence[Zone], post: Inbox, run: Path, program: Sequence[str] = PROGRAM) -> None:
        self._boards = {
            zone.id: _Child(zone, post, run / f"board-{zone.id}", program) for zone in zones if zone.kind == "screen"
        }
        self._alive_at = 0.0

    def start(self) -> None:
        """Start the children; returns at once."""
        for board in self._boards.values():
            board.start()

    def send(self, zone: str, command: ScreenCommand) -> None:
        """Show it as soon as the child can; never blocks. KeyError for a zone that is no screen."""
        self._boards[zone].send(command)

    def alive(self) -> None:
        """The owner turns: a board that is not told so for half a minute goes dark."""
        now = time.monotonic()
        if now >= self._alive_at:
            self._alive_at = now + ALIVE_EVERY_S
            for board in self._boards.values():
                board.alive()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Boards go dark and the children end; a child that does not is killed. May be called twice."""
        for board in self._boards.values():
            board.ask_to_stop()
        for board in self._boards.values():
            board.join(timeout_s)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by zone, of children that run."""
        return {zone: board.pid for zone, board in self._boards.items() if board.pid is not None}


def _environment() -> dict[str, str]:
    """The allocator of the child gives a painted frame's memory back instead of keeping it for the next one."""
    return {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


class _Child:
    """One child: a thread that starts it and reads it, a thread that writes to it."""

    def __init__(self, zone: Zone, post: Inbox, work: Path, program: Sequence[str]) -> None:
        self._zone, self._post, self._work, self._program = zone, post, work, program
        self._change = threading.Condition()
        self._holds: dict[type[ScreenCommand], ScreenCommand] = {}
        """What holds: the slide or the programme with the pages it is turned to, and the brightness."""
        self._news: list[ScreenCommand | None] = []
        """What is to be said; None: only that we are alive."""
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._supervise, name=f"screen-{zone.id}", daemon=True),
            threading.Thread(target=self._write, name=f"screen-{zone.id}-out", daemon=True),
        ]

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def send(self, command: ScreenCommand) -> None:
        with self._change:
            if isinstance(command, Capture):
                if self.pid is None:
                    self._post(Captured(token=command.token, detail="the board's process does not run"))
                    return
            else:
                if isinstance(command, Show | Rest):
                    for kind in (Show, Rest, Turn):
                        self._holds.pop(kind, None)
                    self._news = [c for c in self._news if not isinstance(c, Show | Rest | Turn)]
                self._holds[type(command)] = command
            self._news.append(command)
            self._change.notify_all()

    def alive(self) -> None:
        with self._change:
            if not self._news:
                self._news.append(None)
                self._change.notify_all()

    def ask_to_stop(self) -> None:
        with self._change:
            self._stopping = True
            self._change.notify_all()

    def join(self, timeout_s: float) -> None:
        if self._threads[0].ident is None:
            return
        self._threads[0].join(timeout_s)
        process = self._process
        if self._threads[0].is_alive() and process is not None:
            process.kill()
            self._threads[0].join(timeout_s)

    def _supervise(self) -> None:
        failures = 0
        detail, showed = self._one_life()
        while not self._stopping:
            self._post(ChildDied(name=f"screen:{self._zone.id}", detail=detail))
            failures = 0 if showed else failures + 1
            with self._change:
                stopped = self._change.wait_for(lambda: self._stopping, RETRY_S[min(failures, len(RETRY_S) - 1)])
            if stopped:
                return
            detail, showed = self._one_life()

    def _one_life(self) -> tuple[str, bool]:
        """Start the child and read it to its end. Returns why it ended, and whether it had shown anything."""
        output, board = (msgspec.json.encode(v).decode() for v in (self._zone.output, self._zone.board))
        command = [sys.executable, *self._program, "--zone", self._zone.id]
        command += ["--output", output, "--board", board, "--work", str(self._work)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=_environment()
            )
        except OSError as error:
            return str(error), False
        with self._change:
            self._process, self._news = process, list(self._holds.values())
            self._change.notify_all()
            if self._stopping and process.stdin is not None:
                process.stdin.close()
        showed = False
        decoder = msgspec.json.Decoder(ScreenEvent)
        if process.stdout is not None:
            for line in process.stdout:
                try:
                    event: ScreenEvent = msgspec.structs.replace(decoder.decode(line), zone=self._zone.id)
                except msgspec.DecodeError as error:
                    event = ScreenFault(what="protocol", detail=str(error), zone=self._zone.id)
                showed = showed or isinstance(event, Shown)
                self._post(event)
            process.stdout.close()
        code = process.wait()
        return "the display has another resolution" if code == CHANGED else f"exit code {code}", showed

    def _write(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._stopping or (bool(self._news) and self._process is not None))
                process, stopping = self._process, self._stopping
                news, self._news = self._news, []
            if process is None or process.stdin is None:
                return
            try:
                if stopping:
                    process.stdin.close()
                    return
                data = b"".join((b"" if c is None else msgspec.json.encode(c)) + b"\n" for c in news)
                while data:
                    data = data[process.stdin.write(data) :]
            except (BrokenPipeError, ValueError):
                continue  # the child is gone: its reader starts another one, which is told what holds
