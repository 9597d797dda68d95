"""Relays, their feedback contacts, lamps, buttons and key switches on gpiozero.

The pin factory is `lgpio` (the kernel's GPIO character device) or `virtual` (gpiozero's MockFactory, driven through
`drivers.virtual_gpio`). Relays are off from their construction on, and `close` switches them off first. Closing a line
makes it a floating input, and so does the kernel when the process is killed: what then holds a relay off is its
hardware pull, which the wiring must have.

Buttons are gpiozero's DigitalInputDevice rather than its Button: the latter starts a thread per button that wakes ten
times a second. Edges come in threads of the library; they are only dated and posted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.model.config import Button, Hardware, Relay

Post = Callable[[str, int], None]
"""Takes a line (a button's id, or its `key_line`) and the monotonic nanosecond of an edge; from any thread."""


class GpioBoard:
    """The lines of a station. A line that cannot be had is a fault; the others work."""

    def __init__(self, factory: Any, relays: Sequence[Relay], buttons: Sequence[Button], post: Post) -> None:
        from gpiozero import DigitalInputDevice, DigitalOutputDevice, GPIOZeroError

        self._errors: tuple[type[Exception], ...] = (GPIOZeroError, OSError)
        self._faults: list[str] = []
        self._factory = factory
        self._relays: dict[str, Any] = {}
        self._inputs: dict[str, Any] = {}
        for relay in relays:
            try:
                self._relays[relay.id] = DigitalOutputDevice(
                    relay.pin, active_high=relay.active_high, initial_value=False, pin_factory=factory
                )
            except Exception as error:  # noqa: BLE001 - lgpio raises its own classes; one bad line must not stop the rest
                self._faults.append(f"relay {relay.id} on GPIO {relay.pin}: {error}")
        for button in buttons:
            try:
                self._inputs[button.id] = self._input(
                    DigitalInputDevice, button.id, button.pin, button.active_low, post
                )
            except Exception as error:  # noqa: BLE001 - as above
                self._faults.append(f"button {button.id} on GPIO {button.pin}: {error}")
        for line, pin, low in [*key_switches(buttons), *feedback_contacts(relays)]:
            try:
                self._inputs[line] = self._input(DigitalInputDevice, line, pin, low, post)
            except Exception as error:  # noqa: BLE001 - as above
                self._faults.append(f"{line} on GPIO {pin}: {error}")

    def _input(self, kind: Any, line: str, pin: int, active_low: bool, post: Post) -> Any:
        device = kind(pin, pull_up=active_low, pin_factory=self._factory)

        def moved() -> None:
            post(line, time.monotonic_ns())

        device.when_activated = device.when_deactivated = moved
        return device

    def switch(self, relay: str, on: bool) -> None:
        """Switch a relay or a lamp; OSError when there is no such line or it fails."""
        device = self._relays.get(relay)
        if device is None:
            raise OSError("its GPIO line is not available")
        try:
            device.value = on
        except self._errors as error:
            raise OSError(str(error)) from error

    def closed(self, line: str) -> bool:
        """Whether the contact of this button or key switch is closed; False when it has no line."""
        device = self._inputs.get(line)
        return device is not None and bool(device.is_active)

    def works(self, line: str) -> bool:
        """Whether this button or key switch has a line."""
        return line in self._inputs

    def relays(self) -> dict[str, bool]:
        """The state of every relay's line."""
        return {name: bool(device.value) for name, device in self._relays.items()}

    def take_faults(self) -> list[str]:
        """What went wrong since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def close(self) -> None:
        """Every relay off, then the lines are given back. Can be called twice.

        A line that cannot be given back is a fault, and the others are. lgpio fails with "GPIO busy" when its own
        thread was just looking at the line; the process that holds it is about to end.
        """
        for name, device in self._relays.items():
            try:
                if not device.closed:
                    device.off()
            except self._errors as error:
                self._faults.append(f"relay {name}: {error}")
        for name, device in [*self._relays.items(), *self._inputs.items()]:
            try:
                device.close()
            except Exception as error:  # noqa: BLE001 - lgpio raises its own classes
                self._faults.append(f"line {name}: {error}")


def key_switches(buttons: Sequence[Button]) -> list[tuple[str, int, bool]]:
    """Line, pin and whether it closes to ground, of each key switch; several buttons may have the same one."""
    return sorted({(b.key_line, b.key_switch, True) for b in buttons if b.key_line and b.key_switch is not None})


def feedback_contacts(relays: Sequence[Relay]) -> list[tuple[str, int, bool]]:
    """Line, pin and whether it closes to ground, of each contact that tells what a relay does."""
    contacts = []
    for relay in relays:
        if relay.feedback is not None:
            contacts.append((relay.contact_line, relay.feedback.pin, relay.feedback.active_low))
            if relay.rest_line is not None and relay.feedback.rest_pin is not None:
                contacts.append((relay.rest_line, relay.feedback.rest_pin, relay.feedback.active_low))
    return contacts


class NoBoard:
    """A station without any line, or whose GPIO library failed (`fault`): sound goes on, relays do not."""

    def __init__(self, fault: str | None = None) -> None:
        self._faults = [fault] if fault else []

    def switch(self, relay: str, on: bool) -> None:
        """Always fails: OSError."""
        if on:
            raise OSError("there is no GPIO")

    def closed(self, line: str) -> bool:
        """Never."""
        return False

    def works(self, line: str) -> bool:
        """No line does."""
        return False

    def take_faults(self) -> list[str]:
        """The fault, once."""
        faults, self._faults = self._faults, []
        return faults

    def close(self) -> None:
        """Nothing to close."""


Boards = GpioBoard | NoBoard


def open_board(
    hardware: Hardware,
    relays: Sequence[Relay],
    buttons: Sequence[Button],
    run_dir: str,
    post: Post,
    zones: Sequence[str] = (),
) -> tuple[Boards, Callable[[], None]]:
    """The board that the configuration asks for, and what to call at the end (after `close`). Never raises.

    With `gpio: virtual` the control socket (`hardware.control`) is served from now on; `zones` are those that have a
    loudspeaker line.
    """
    if hardware.gpio == "virtual":
        from drivers.virtual_gpio import ControlServer, VirtualFactory

        factory = VirtualFactory()
        board = GpioBoard(factory, relays, buttons, post)
        if hardware.control is None:
            return board, lambda: None
        server = ControlServer(hardware.control, factory, relays, buttons, zones)
        return board, server.close
    if not relays and not buttons:
        return NoBoard(), lambda: None
    # lgpio keeps a notification pipe in its working folder, which under systemd is not writable (gpiozero 1106).
    folder = Path(run_dir) / "lgpio"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("LG_WD", str(folder))
        from gpiozero.pins.lgpio import LGPIOFactory

        return GpioBoard(LGPIOFactory(), relays, buttons, post), lambda: None
    except Exception as error:  # noqa: BLE001 - no chip, no library, no permission: the siren must still sound
        return NoBoard(f"no GPIO: {type(error).__name__}: {error}"), lambda: None
