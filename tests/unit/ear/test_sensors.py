"""Sensors that fail: what the ear says of each, and that the others go on."""

from __future__ import annotations

import json
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.ear.main import Ear
from agent.model.config import Sensor
from tests.unit.voice.rig import station

Reading = Callable[[], Mapping[str, object]]


def hangs() -> Mapping[str, object]:
    threading.Event().wait(30)
    return {}


def bus_error() -> Mapping[str, object]:
    raise OSError(121, "Remote I/O error")


CASES: dict[str, tuple[Reading, str]] = {
    "a bus that does not acknowledge": (bus_error, "Remote I/O error"),
    "a bus that hangs": (hangs, "no answer for"),
    "a value out of all reason": (lambda: {"current_ma": 1e12}, "reads"),
    "no number": (lambda: {"current_ma": float("nan")}, "reads"),
    "a word of a line that there is not": (lambda: {"line": "melted"}, "reads"),
    "a quantity that nobody knows": (lambda: {"humidity": 40.0}, "reads"),
}


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, read: Reading) -> None:
        for name, reads in (("broken", read), ("well", lambda: {"current_ma": 30.0})):
            module: Any = types.ModuleType(f"drivers.{name}_sensor")
            module.open_sensor = lambda sensor, control, reads=reads: reads
            monkeypatch.setitem(sys.modules, f"drivers.{name}_sensor", module)
        known = [
            Sensor(id=f"cam-bien-{n}", zone=n, driver="virtual", period_s=0.5, open_below_ma=5) for n in ("a", "b")
        ]
        drivers = dict(zip(("broken", "well"), known, strict=True))
        sensors = [msgspec.structs.replace(sensor, driver=name) for name, sensor in drivers.items()]
        self.ear = Ear(msgspec.structs.replace(station([{"id": "a"}, {"id": "b"}]), sensors=sensors))
        self.ear._read_ns["cam-bien-a"] -= 60 * 10**9


@pytest.mark.parametrize("case", CASES)
def test_a_sensor_that_fails_is_one_clear_alarm_and_the_others_go_on(
    case: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    read, words = CASES[case]
    rig = Rig(monkeypatch, read)
    told: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20

    def done() -> bool:
        rig.ear._turn()
        told.extend(json.loads(line) for line in capfdbinary.readouterr().out.splitlines())
        measured = [e for e in told if e["ev"] == "measured" and e["values"].get("line") == "normal"]
        return bool(measured) and any(e["ev"] == "noticed" for e in told)

    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (alarm,) = (e for e in told if e["ev"] == "noticed")
    assert (alarm["what"], alarm["device"], alarm["zone"]) == ("sensor", "cam-bien-a", "a")
    assert words in alarm["detail"]
    assert {e["zone"] for e in told if e["ev"] == "measured"} == {"b"}
