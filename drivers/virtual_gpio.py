"""The virtual hardware's control socket: one JSON line in, one JSON line out (CONTRACT section 9).

    {"do": "press", "button": ID, "seconds": S}     close the contact now, open it after S (default 0.1)
    {"do": "key", "button": ID, "closed": BOOL}     turn the key switch of that button
    {"do": "set", "sensor": NAME, "value": V}       a sensor's value from now on; null: as if nobody had set it
    {"do": "line", "zone": ID, "state": STATE}      a loudspeaker line's state: "normal", "open", "short"
    {"do": "relays"}                                {"ok": true, "relays": {ID: bool}}
    {"do": "sensors"}                               {"ok": true, "sensors": {…}, "lines": {…}}

A feedback contact ("feedback:RELAY", "rest:RELAY") is a sensor too: it follows its relay, until `set` holds it at true
(closed) or false (open).

The file `<socket>.pins` shows the pins from outside, as the kernel would: see `positions`.

The form {"press": {"button": …}} is the same. Answers are {"ok": true, …} or {"ok": false, "error": "…"}; that of a
press has `at_ns`, CLOCK_MONOTONIC at the edge. The pins are those of gpiozero's MockFactory: levels, so that an
active-low button is pressed by a low one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from gpiozero.pins.mock import MockFactory, MockPin

from agent.model.config import Button, Relay

LINE = 65_536
LONGEST_PRESS_S = 3600.0
LINE_STATES = {"ok": "normal", "normal": "normal", "open": "open", "short": "short"}
PINS = 54


class VirtualPin(MockPin):  # type: ignore[misc]
    """A pin of gpiozero's mock whose changes are told to its factory."""

    def _change_state(self, value: bool) -> bool:
        changed = bool(super()._change_state(value))
        if changed and self._function == "output":
            self.factory.driven(self.info.name, value)
        return changed


class VirtualFactory(MockFactory):  # type: ignore[misc]
    """gpiozero's mock pins. `driven` is called with the name of an output ("GPIO17") that changed, and its level."""

    def __init__(self) -> None:
        super().__init__(pin_class=VirtualPin)
        self.driven: Callable[[str, bool], None] = lambda name, level: None


def positions(control: str, relays: Sequence[Relay]) -> dict[str, bool]:
    """Which relays have current, seen from outside the process that drives them.

    A line lives as long as the process that asked the kernel for it, however that process ends; then it is an input,
    and the relay's own pull holds it off. Here a lock on the file is what the kernel takes away: without one every
    relay is off. A process that hangs keeps its lines, until its watchdog kills it.
    """
    try:
        with open(_pins(control), "rb") as file:
            levels = file.read(PINS)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return {r.id: bool(levels[r.pin]) == r.active_high for r in relays if r.pin < len(levels)}
    except FileNotFoundError:
        pass
    return {r.id: False for r in relays}


def _pins(control: str) -> str:
    return f"{control}.pins"


class ControlServer:
    """Serves the socket at `path` in threads of its own until `close`. OSError when it cannot be bound."""

    def __init__(
        self,
        path: str,
        factory: VirtualFactory,
        relays: Sequence[Relay],
        buttons: Sequence[Button],
        zones: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._zones = zones
        self._factory = factory
        self._relays = {r.id: r for r in relays}
        self._by_pin = {f"GPIO{r.pin}": r for r in relays}
        self._buttons = {b.id: b for b in buttons}
        self._sensors: dict[str, Any] = {}
        self._lines: dict[str, str] = {}
        self._releases: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "press": self._press,
            "key": self._key,
            "set": self._set,
            "line": self._line,
            "relays": self._states,
            "sensors": self._noted,
        }
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._pins = os.open(_pins(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._pins, fcntl.LOCK_EX)
        os.pwrite(self._pins, bytes(PINS), 0)
        factory.driven = self._driven
        for relay in relays:
            self._driven(f"GPIO{relay.pin}", bool(factory.pin(relay.pin).state))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(8)
        threading.Thread(target=self._accept, name="virtual-gpio", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._factory.driven = lambda name, level: None
        with contextlib.suppress(OSError):
            os.close(self._pins)
            self._pins = -1
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for timer in self._releases.values():
            timer.cancel()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), name="virtual-gpio-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            while line := lines.readline(LINE):
                connection.sendall(json.dumps(self.answer(line)).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line; never raises for what stands in it."""
        try:
            asked = _asked(line)
            verb = self._verbs.get(asked.get("do", ""))
            if verb is None:
                return {"ok": False, "error": f"unknown verb; known are {', '.join(self._verbs)}"}
            with self._lock:
                return {"ok": True, **verb(asked)}
        except KeyError as error:
            return {"ok": False, "error": f"{error} is missing or unknown"}
        except (ValueError, TypeError, RecursionError) as error:
            return {"ok": False, "error": str(error)}

    def _press(self, asked: dict[str, Any]) -> dict[str, Any]:
        button = self._buttons[asked["button"]]
        seconds = float(asked.get("seconds", 0.1))
        if not 0 <= seconds <= LONGEST_PRESS_S:
            raise ValueError(f"seconds must be from 0 to {LONGEST_PRESS_S:.0f}")
        running = self._releases.pop(button.id, None)
        if running is not None:
            running.cancel()
        release = threading.Timer(seconds, self._drive, (button, False))
        release.daemon = True
        self._releases[button.id] = release
        at_ns = time.monotonic_ns()
        self._drive(button, True)
        release.start()
        return {"at_ns": at_ns}

    def _key(self, asked: dict[str, Any]) -> dict[str, Any]:
        button = self._buttons[asked["button"]]
        if button.key_switch is None:
            raise ValueError("this button has no key switch")
        if not isinstance(asked["closed"], bool):
            raise TypeError("closed must be true or false")
        self._level(button.key_switch, low=asked["closed"])
        return {"at_ns": time.monotonic_ns()}

    def _drive(self, button: Button, closed: bool) -> None:
        self._level(button.pin, low=closed == button.active_low)

    def _level(self, number: int, *, low: bool) -> None:
        pin = self._factory.pin(number)
        if low:
            pin.drive_low()
        else:
            pin.drive_high()

    def _driven(self, name: str, level: bool) -> None:
        """An output moved: the world sees it, and the contacts of its relay follow."""
        relay = self._by_pin.get(name)
        if relay is not None and self._pins >= 0:
            os.pwrite(self._pins, bytes([level]), relay.pin)
            self._follow(relay)

    def _follow(self, relay: Relay) -> None:
        if relay.feedback is None:
            return
        on = bool(self._factory.pin(relay.pin).state) == relay.active_high
        contacts = [(relay.contact_line, relay.feedback.pin, on), (relay.rest_line, relay.feedback.rest_pin, not on)]
        for line, pin, follows in contacts:
            if line is not None and pin is not None:
                held = self._sensors.get(line)
                closed = held if isinstance(held, bool) else follows
                self._level(pin, low=closed == relay.feedback.active_low)

    def _set(self, asked: dict[str, Any]) -> dict[str, Any]:
        name, value = str(asked["sensor"]), asked["value"]
        if value is None:
            self._sensors.pop(name, None)
        else:
            self._sensors[name] = value
        prefix, _, relay = name.partition(":")
        if prefix in ("feedback", "rest") and relay in self._relays:
            self._follow(self._relays[relay])
        return {}

    def _line(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["state"] not in LINE_STATES:
            raise ValueError(f"state must be one of {', '.join(LINE_STATES)}")
        zone = str(asked["zone"])
        if zone not in self._zones:
            raise ValueError(f"there is no loudspeaker line {zone!r}; name a sound zone: {', '.join(self._zones)}")
        self._lines[zone] = LINE_STATES[asked["state"]]
        return {}

    def _states(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"relays": {r.id: bool(self._factory.pin(r.pin).state) == r.active_high for r in self._relays.values()}}

    def _noted(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"sensors": self._sensors, "lines": self._lines}


def _asked(line: bytes) -> dict[str, Any]:
    """The line as an object with "do", whichever of the two forms it has."""
    asked = json.loads(line)
    if not isinstance(asked, dict):
        raise TypeError("an object is expected")
    if "do" not in asked and len(asked) == 1:
        ((verb, inner),) = asked.items()
        return {**(inner if isinstance(inner, dict) else {}), "do": verb}
    return asked
