"""Sensors: one file for each kind. The driver NAME is `drivers/NAME_sensor.py` with `open_sensor`, and stands in the
configuration (`Sensor.driver` in `agent/model/config.py`).

`open_sensor(sensor, control)` returns a callable that reads once and gives a mapping of `current_ma`, `supply_v`,
`temperature_c`, or `line` ("normal", "open", "short"); it may block for a second and raises OSError.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from agent.model.config import Sensor

Read = Callable[[], Mapping[str, object]]


def open_sensor(sensor: Sensor, control: str | None) -> Read:
    """The sensor that the configuration names; `control`: the virtual hardware's socket. OSError, ImportError."""
    read: Read = importlib.import_module(f"drivers.{sensor.driver}_sensor").open_sensor(sensor, control)
    return read
