"""The GPIO lines of a station, on gpiozero's mock of them."""

from __future__ import annotations

import pytest
from gpiozero.pins.mock import MockFactory, MockPin

from agent.model.config import Action, Button, Relay
from drivers.gpio import GpioBoard


class BusyPin(MockPin):
    """A line that cannot be given back at first, as lgpio's sometimes cannot."""

    tries = 0

    def close(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("GPIO busy")


def test_all_relays_are_off_and_all_lines_tried_when_one_cannot_be_given_back() -> None:
    factory = MockFactory(pin_class=BusyPin)
    board = GpioBoard(
        factory,
        [Relay(id="tang-am", pin=17), Relay(id="den-do", pin=27, active_high=False)],
        [Button(id="khan-cap", pin=5, action=Action(stop=True))],
        lambda line, at: None,
    )
    board.switch("tang-am", on=True)
    board.switch("den-do", on=True)

    board.close()

    assert [factory.pin(n).state for n in (17, 27)] == [False, True]
    assert board.take_faults() == ["line tang-am: GPIO busy", "line den-do: GPIO busy", "line khan-cap: GPIO busy"]


def test_lines_can_be_given_back_twice() -> None:
    board = GpioBoard(MockFactory(), [Relay(id="tang-am", pin=17)], [], lambda line, at: None)
    board.close()
    board.close()
    assert board.take_faults() == []
    with pytest.raises(OSError, match="not available"):
        board.switch("den-do", on=True)
