"""Sensors: one file for each kind. Adding one is a module with `open_sensor` and a line in `SENSORS`.

`open_sensor(sensor, control)` returns a callable that reads once and gives a mapping of `current_ma`, `supply_v`,
`temperature_c`, or `line` ("normal", "open", "short"); it may block for a second and raises OSError.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from agent.model.config import Sensor

Read = Callable[[], Mapping[str, object]]
SENSORS = {"ina219": "ina219_sensor", "virtual": "virtual_sensor"}


def open_sensor(sensor: Sensor, control: str | None) -> Read:
    """The sensor that the configuration names; `control`: the virtual hardware's socket. OSError, ImportError."""
    read: Read = importlib.import_module(f"drivers.{SENSORS[sensor.driver]}").open_sensor(sensor, control)
    return read
