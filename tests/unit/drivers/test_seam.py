"""Adding a driver is one file and one line: the file is `drivers/NAME_KIND.py`, the line names it to configurations."""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from agent.model.config import HdmiOutput, Microphone, Monitor, PngOutput, Sensor, SoundOutput
from drivers.sensor import open_sensor

DRIVERS = Path(__file__).parents[3] / "drivers"


def literals(kind: type[Any]) -> set[str]:
    return set(get_args(get_type_hints(kind)["driver"]))


def tags(*kinds: type[Any]) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in kinds}


KINDS: dict[str, tuple[set[str], str]] = {
    "sensor": (literals(Sensor), "open_sensor"),
    "capture": (literals(Microphone) | literals(Monitor), "open_capture"),
    "sink": (tags(*get_args(SoundOutput)), "open_sink"),
    "board": (tags(PngOutput, HdmiOutput), "Board"),
}
"""Kind of hardware: the drivers that a configuration may name, and what each file offers."""


@pytest.mark.parametrize("kind", KINDS)
def test_each_driver_of_the_configuration_is_a_file_of_its_name_and_each_file_is_named(kind: str) -> None:
    named, offers = KINDS[kind]
    files = {path.stem.removesuffix(f"_{kind}"): path for path in DRIVERS.glob(f"*_{kind}.py")}
    assert set(files) == named
    for path in files.values():
        tree = ast.parse(path.read_text("utf-8"))
        assert offers in {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}, path


def test_a_new_sensor_is_used_by_its_name_without_any_other_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = types.ModuleType("drivers.rain_sensor")
    made.open_sensor = lambda sensor, control: lambda: {"temperature_c": 24.5, "from": sensor.id}
    monkeypatch.setitem(sys.modules, "drivers.rain_sensor", made)
    known = msgspec.convert({"id": "mua", "zone": "loa", "driver": "virtual"}, Sensor)
    sensor = msgspec.structs.replace(known, driver="rain")
    assert open_sensor(sensor, None)() == {"temperature_c": 24.5, "from": "mua"}
