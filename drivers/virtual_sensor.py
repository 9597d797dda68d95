"""A sensor that shows what the virtual hardware's control socket was told (`set`, `line`): see `virtual_gpio`.

`set` a number for the sensor's `quantity`, or an object of quantities. Nothing set and no line told: nothing is
measured. "error" is a bus that does not answer; anything else is what garbage looks like.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from agent.model.config import Sensor

WAIT_S = 1.0


def open_sensor(sensor: Sensor, control: str | None) -> Any:
    """Reads through the socket. OSError when there is none."""
    if control is None:
        raise OSError("a virtual sensor needs hardware.control")

    def read() -> Mapping[str, object]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT_S)
            try:
                sock.connect(control)
            except OSError:
                return {}  # the process that keeps it is being started anew: nothing is measured
            sock.sendall(b'{"do": "sensors"}\n')
            told = json.loads(sock.makefile("rb").readline())
        value = told["sensors"].get(sensor.id)
        found: dict[str, object] = {}
        if value == "error":
            raise OSError("the bus does not answer")
        if isinstance(value, dict):
            found.update(value)
        elif value is not None:
            found[sensor.quantity] = value
        line = told["lines"].get(sensor.zone)
        if line is not None:
            found["line"] = line
        return found

    return read
