"""The INA219's registers as its data sheet has them, on a bus that answers what we say."""

from __future__ import annotations

import pytest

from agent.model.config import Sensor
from drivers.ina219_sensor import open_sensor

SENSOR = Sensor(id="dong", zone="a", driver="ina219", shunt_ohm=0.1)


class Bus:
    def __init__(self, shunt: int, voltage: int) -> None:
        self.words = {1: shunt, 2: voltage}

    def read_i2c_block_data(self, address: int, register: int, length: int) -> list[int]:
        assert (address, length) == (0x40, 2)
        return list(self.words[register].to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("shunt", "current_ma"), [(0x0000, 0.0), (0x0064, 10.0), (0x8300, -3200.0), (0xFFFF, -0.1), (0x7D00, 3200.0)]
)
def test_the_shunts_voltage_is_the_current(shunt: int, current_ma: float) -> None:
    reading = open_sensor(SENSOR, None, Bus(shunt, (6000 << 3) | 2))()
    assert reading["current_ma"] == pytest.approx(current_ma)
    assert reading["supply_v"] == pytest.approx(24.0)


def test_a_measurement_out_of_range_is_an_error_and_no_number() -> None:
    with pytest.raises(OSError, match="out of the sensor's range"):
        open_sensor(SENSOR, None, Bus(100, 1))()
