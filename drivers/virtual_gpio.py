"""The virtual hardware's control socket: one JSON line in, one JSON line out (CONTRACT section 9).

    {"do": "press", "button": ID, "seconds": S}     close the contact now, open it after S (default 0.1)
    {"do": "key", "button": ID, "closed": BOOL}     turn the key switch of that button
    {"do": "set", "sensor": NAME, "value": V}       note a sensor's value
    {"do": "line", "zone": ID, "state": STATE}      note a loudspeaker line's state: "ok", "open", "short"
    {"do": "relays"}                                {"ok": true, "relays": {ID: bool}}
    {"do": "sensors"}                               {"ok": true, "sensors": {…}, "lines": {…}}

The form {"press": {"button": …}} is the same. Answers are {"ok": true, …} or {"ok": false, "error": "…"}; that of a
press has `at_ns`, CLOCK_MONOTONIC at the edge. The pins are those of gpiozero's MockFactory: levels, so that an
active-low button is pressed by a low one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from agent.model.config import Button, Relay

LINE = 65_536
LONGEST_PRESS_S = 3600.0
LINE_STATES = ("ok", "open", "short")


class ControlServer:
    """Serves the socket at `path` in threads of its own until `close`. OSError when it cannot be bound."""

    def __init__(self, path: str, factory: Any, relays: Sequence[Relay], buttons: Sequence[Button]) -> None:
        self._path = path
        self._factory = factory
        self._relays = {r.id: r for r in relays}
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
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(8)
        threading.Thread(target=self._accept, name="virtual-gpio", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
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

    def _set(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._sensors[str(asked["sensor"])] = asked["value"]
        return {}

    def _line(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["state"] not in LINE_STATES:
            raise ValueError(f"state must be one of {', '.join(LINE_STATES)}")
        self._lines[str(asked["zone"])] = asked["state"]
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
