"""The agent's hold on the ear: as a child, and as a unit that systemd starts for its connection."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.ear.client import EarKeeper
from agent.model.ear import EarLost, Measured, Noticed, Ready
from agent.model.loader import load
from tests.integration.voice.process import HEAD, Process

CONFIG = (
    HEAD
    + """
zones:
  - {id: fm, kind: sound, output: {driver: wav, path: out/station.wav, buffer_ms: 100}}
monitors: [{id: thu, zone: fm, driver: wav, path: nothing.wav}]
sensors: [{id: dong, zone: fm, driver: virtual, open_below_ma: 5, period_s: 0.5}]
"""
)
WAIT_S = 30.0
WAYS = ("child", "unit")


class Held:
    """A keeper with voice beside it, whose virtual sensor it reads. `way`: "child", or "unit" behind systemd's socket
    ("no unit": which nobody serves yet)."""

    def __init__(self, folder: Path, way: str, patience_s: float = 60.0) -> None:
        self.folder = folder
        self.voice = Process(folder, CONFIG)
        self.voice.start()
        self.voice.connect()
        self.voice.control(do="set", sensor="dong", value=30)
        self.seen: list[Any] = []
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.socket = folder / "run" / "ear-control.sock"
        self.systemd: subprocess.Popen[bytes] | None = None
        if way == "unit":
            self.listen()
        self.keeper = EarKeeper(
            str(folder / "station.yaml"),
            load(str(folder / "station.yaml")),
            self._take,
            unit=None if way == "child" else self.socket,
            patience_s=patience_s,
        )
        self.keeper.start()

    def _take(self, event: Any, *, urgent: bool = False) -> None:
        del urgent
        self._events.put(event)

    def listen(self) -> None:
        ear = [sys.executable, "-m", "agent.ear", "--config", str(self.folder / "station.yaml")]
        self.systemd = subprocess.Popen(
            ["systemd-socket-activate", "--accept", "--inetd", f"--listen={self.socket}", *ear],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + WAIT_S
        while not self.socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait(self, fits: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if fits(event):
                return event

    def pid(self) -> int:
        """Of the ear that listens now."""
        found = subprocess.run(
            ["pgrep", "-f", f"agent.ear --config {self.folder}"], capture_output=True, text=True, check=True
        )
        return max(int(pid) for pid in found.stdout.split())

    def gone(self, pid: int) -> bool:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                    return True  # whoever started it may be slow to look
            except OSError:
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self.keeper.stop()
        if self.systemd is not None:
            self.systemd.terminate()
            self.systemd.wait()
        self.voice.end("kill")


@pytest.fixture(params=WAYS)
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path, request.param)
    yield made
    made.close()


def is_normal(event: Any) -> bool:
    return isinstance(event, Measured) and event.values.get("line") == "normal"


def test_what_the_ear_measures_arrives_and_a_killed_one_is_told_and_started_again(held: Held) -> None:
    held.wait(is_normal)
    os.kill(held.pid(), signal.SIGKILL)
    held.wait(lambda e: isinstance(e, EarLost))
    held.wait(is_normal)
    kinds = [type(e) for e in held.seen if isinstance(e, Ready | EarLost)]
    assert kinds == [Ready, EarLost, Ready]


def test_an_ear_whose_agent_goes_ends(held: Held) -> None:
    held.wait(is_normal)
    pid = held.pid()
    held.keeper.stop()
    assert held.gone(pid)


@pytest.mark.parametrize("way", WAYS)
def test_an_ear_that_hangs_is_told_and_another_one_takes_its_place(way: str, tmp_path: Path) -> None:
    held = Held(tmp_path, way, patience_s=12.0)
    try:
        held.wait(is_normal)
        hung = held.pid()
        os.kill(hung, signal.SIGSTOP)
        assert "nothing for" in held.wait(lambda e: isinstance(e, EarLost)).detail
        held.wait(lambda e: isinstance(e, Ready))
        os.kill(hung, signal.SIGKILL)  # as the unit's watchdog does; a child is ended by its keeper
    except ProcessLookupError:
        pass
    finally:
        held.close()


def test_an_ear_whose_unit_is_missing_is_told_and_taken_when_it_comes(tmp_path: Path) -> None:
    held = Held(tmp_path, "no unit")
    try:
        assert "tram-ear.socket" in held.wait(lambda e: isinstance(e, EarLost)).detail
        held.listen()
        held.wait(is_normal)
    finally:
        held.close()


def test_without_numpy_the_receivers_are_an_alarm_and_sensors_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "numpy.py").write_text("raise ImportError('No module named numpy')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    held = Held(tmp_path, "child")
    try:
        noticed = held.wait(lambda e: isinstance(e, Noticed))
        assert (noticed.what, noticed.device, noticed.on) == ("ear", "thu", True)
        assert "numpy" in noticed.detail
        held.wait(is_normal)
    finally:
        held.close()
