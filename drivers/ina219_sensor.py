"""INA219 on I²C, through smbus2: the current through its shunt and the voltage behind it.

In the supply of an amplifier it tells what the amplifier draws; in a line's supervision loop (a direct current of some
milliamperes through the end-of-line resistor, which the 100 V sound does not disturb) it tells open, short or normal.
The chip measures by itself from power-on (32 V, 320 mV, continuously), so two registers are read and none is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.model.config import Sensor

SHUNT, BUS = 1, 2
SHUNT_MV = 0.01
"""A step of the shunt's register: 10 µV."""
BUS_V = 0.004
OVERFLOW = 1
"""Bit of the bus register: the measurement is out of range."""


def open_sensor(sensor: Sensor, control: str | None, bus: Any = None) -> Any:
    """Opens the bus (`/dev/i2c-N`, kept open). OSError when it is not there, ImportError without smbus2."""
    if bus is None:
        from smbus2 import SMBus

        bus = SMBus(sensor.bus)

    def word(register: int) -> int:
        high, low = bus.read_i2c_block_data(sensor.address, register, 2)
        return int(high) << 8 | int(low)

    def read() -> Mapping[str, object]:
        shunt, voltage = word(SHUNT), word(BUS)
        if voltage & OVERFLOW:
            raise OSError("the current is out of the sensor's range")
        if shunt & 0x8000:
            shunt -= 0x10000
        return {"current_ma": shunt * SHUNT_MV / sensor.shunt_ohm, "supply_v": (voltage >> 3) * BUS_V}

    return read
