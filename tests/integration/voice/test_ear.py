"""The ear as a process, with voice beside it: what is on the air is heard through a named pipe, spoilt on the way."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.ear.compare import FRAME, RATE
from agent.model import voice as v
from agent.model.ear import TEST_TONES_HZ, Check, Checked, EarEvent, Measured, Noticed
from agent.model.health import Verdict
from tests.integration.voice.process import HEAD, Process, write_wav
from tests.unit.ear.babble import babble

CONFIG = (
    HEAD
    + """
zones:
  - {id: fm, kind: sound, output: {driver: wav, path: out/station.wav, buffer_ms: 100}}
messages: [{id: talk, title: Thử, text: Thử, chime: null}]
monitors: [{id: thu, zone: fm, driver: pipe, path: air}]
sensors: [{id: dong, zone: fm, driver: virtual, open_below_ma: 5, short_above_ma: 100, period_s: 0.5}]
"""
)
WAIT_S = 30.0
BLOCK = RATE // 50


def tones() -> np.ndarray[Any, Any]:
    t = np.arange(round(0.4 * RATE)) / RATE
    return np.concatenate([0.05 * np.sin(2 * np.pi * hertz * t) for hertz in TEST_TONES_HZ]).astype(np.float32)


class Air:
    """What the receiver hears: `now(seconds since the start)` gives 20 ms at a time, in real time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rng = np.random.default_rng(7)
        self.programme: np.ndarray[Any, Any] | None = None
        self.begin = 0.0
        self.hiss = 0.001
        self.running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def carry(self, sound: np.ndarray[Any, Any] | None, at: float) -> None:
        """This is on the air from that moment (time.monotonic)."""
        self.programme, self.begin = sound, at

    def close(self) -> None:
        self.running = False
        self._thread.join()

    def _run(self) -> None:
        while not self._path.exists():
            time.sleep(0.05)
        pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        at = time.monotonic()
        while self.running:
            sound = self._rng.normal(0, self.hiss, BLOCK)
            programme = self.programme
            if programme is not None:
                first = round((at - self.begin) * RATE)
                places = np.arange(first, first + BLOCK)
                inside = (places >= 0) & (places < len(programme))
                sound[inside] += 0.4 * programme[places[inside]]
            with contextlib.suppress(BlockingIOError):  # an ear that is gone or slow misses what was on the air
                os.write(pipe, (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
            at += BLOCK / RATE
            time.sleep(max(0.0, at - time.monotonic()))
        os.close(pipe)


class Stage:
    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.voice = Process(folder, config)
        self.seen: list[EarEvent] = []
        self._events: queue.SimpleQueue[EarEvent] = queue.SimpleQueue()
        self.air = Air(folder / "air")
        self.voice.start()
        self.voice.connect()
        command = [sys.executable, "-m", "agent.ear", "--config", str(folder / "station.yaml")]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(EarEvent)
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._events.put(decoder.decode(line))

    def wait(self, fits: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if fits(event):
                return event

    def noticed(self, what: str, *, on: bool = True) -> Any:
        return self.wait(lambda e: isinstance(e, Noticed) and (e.what, e.on) == (what, on))

    def ask(self, check: Check) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(msgspec.json.encode(check) + b"\n")
        self.child.stdin.flush()

    def play(self, name: str) -> float:
        """Voice plays the message; when its first sample is out (time.monotonic)."""
        self.voice.do(v.Open(play=name, zones=["fm"], pinned=["message:talk"]), v.Close(play=name))
        return float(self.voice.wait(v.Started, play=name).at_ns) / 1e9

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        assert self.child.wait(10) == 0
        self.air.close()
        self.voice.end("kill")


@pytest.fixture
def programme() -> np.ndarray[Any, Any]:
    return babble(1, 40)


@pytest.fixture
def stage(tmp_path: Path, programme: np.ndarray[Any, Any]) -> Iterator[Stage]:
    write_wav(tmp_path / "data" / "pinned" / "talk.wav", [int(x) for x in programme * 32767])
    found = Stage(tmp_path)
    yield found
    found.close()


def test_a_carrier_that_dies_and_a_programme_of_others_are_alarms_that_end_by_themselves(
    stage: Stage, programme: np.ndarray[Any, Any]
) -> None:
    begin = stage.play("p")
    stage.air.carry(programme, begin + 0.12)
    time.sleep(8.0)
    stage.air.carry(None, 0)  # nothing but hiss
    dead_at = time.monotonic()
    stage.noticed("air-dead")
    took = time.monotonic() - dead_at
    assert [e for e in stage.seen if isinstance(e, Noticed)] == [stage.seen[-1]]  # what is right is no alarm
    stage.air.carry(programme, begin + 0.12)
    stage.noticed("air-dead", on=False)
    stage.air.carry(babble(2, 60), begin)
    stage.noticed("air-wrong")
    assert took < 10.0 + 5.0  # 10 s are the bound; a busy test machine gets some more


def test_a_sound_of_others_while_nothing_is_sent_is_an_alarm(stage: Stage) -> None:
    time.sleep(5.0)
    stage.air.carry(babble(3, 60), time.monotonic())
    stage.noticed("air-foreign")
    stage.air.carry(None, 0)
    stage.noticed("air-foreign", on=False)


def test_a_howl_that_nobody_sent_is_found_and_told_when_it_stops(stage: Stage) -> None:
    time.sleep(5.0)
    t = np.arange(60 * RATE) / RATE
    stage.air.carry((0.6 * np.sin(2 * np.pi * 2310 * t)).astype(np.float32), time.monotonic())
    hertz = float(stage.noticed("howl").detail.removesuffix(" Hz").rpartition(" ")[2])
    assert abs(hertz - 2310) <= RATE / FRAME  # a line of the spectrum is so wide
    stage.air.carry(None, 0)
    stage.noticed("howl", on=False)


@pytest.mark.parametrize(("heard", "verdict"), [(True, Verdict.OK), (False, Verdict.SILENT)])
def test_a_self_test_measures_how_far_its_tones_stand_out(stage: Stage, heard: bool, verdict: Verdict) -> None:
    time.sleep(6.0)
    begin = time.monotonic()
    if heard:
        stage.air.carry(tones(), begin + 0.2)
    time.sleep(1.3)
    stage.ask(Check("fm", round(begin * 1e9), time.monotonic_ns()))
    checked = stage.wait(lambda e: isinstance(e, Checked))
    assert checked.verdict is verdict
    assert checked.level_db is not None
    assert (checked.level_db > 10) is heard


def test_the_lines_state_and_garbage_from_its_sensor(stage: Stage) -> None:
    def set_to(value: Any) -> None:
        stage.voice.control(do="set", sensor="dong", value=value)

    set_to(30.0)
    normal = stage.wait(lambda e: isinstance(e, Measured) and e.values.get("line") == "normal")
    assert normal.zone == "fm"
    set_to(0.4)
    asked = time.monotonic()
    stage.wait(lambda e: isinstance(e, Measured) and e.values.get("line") == "open")
    assert time.monotonic() - asked < 5.0 + 5.0
    set_to(400)
    stage.wait(lambda e: isinstance(e, Measured) and e.values.get("line") == "short")
    for nonsense in ("error", "melted", 1e300, [], True):
        set_to(nonsense)
        stage.noticed("sensor")
        assert stage.wait(lambda e: isinstance(e, Measured)).values["line"] is None
        set_to(30)
        stage.noticed("sensor", on=False)
        stage.wait(lambda e: isinstance(e, Measured) and e.values.get("line") == "normal")
    stage.voice.control(do="line", zone="fm", state="open")
    stage.wait(lambda e: isinstance(e, Measured) and e.values.get("line") == "open")


def test_a_receiver_that_gives_nothing_is_told(tmp_path: Path) -> None:
    config = CONFIG.replace("path: air", "path: nowhere/air")
    write_wav(tmp_path / "data" / "pinned" / "talk.wav", [0] * 480)
    stage = Stage(tmp_path, config)
    try:
        assert "thu" in stage.noticed("ear").detail
    finally:
        (tmp_path / "air").touch()
        stage.close()


def test_numpy_is_not_loaded_by_agent_and_voice() -> None:
    code = (
        "import sys, agent.app, agent.voice.main, agent.ear.client, agent.ear.main;"
        "print(json.dumps([m for m in ('numpy', 'smbus2') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", "import json;" + code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
