"""What ModemManager tells of a mobile connection: operator, access technology, strength. Absent where it is not there.

`mmcli -K` answers `key : value` lines and may take seconds, so it is asked in a thread, once a minute at most.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from typing import Any

EVERY_S = 60.0
WAIT_S = 20.0
NOTHING = ("", "--")


class Modem:
    """`facts` is what was last told: members of the status's `network`."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._facts: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name="modem", daemon=True)

    def start(self) -> None:
        """Begin to ask, where there is anybody to be asked."""
        if shutil.which("mmcli") is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask no more. An answer that is on its way is not waited for."""
        self._stopping.set()

    def facts(self) -> dict[str, Any]:
        """`operator`, `technology` ("lte"), `signal_percent`: those that are known."""
        return self._facts

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._facts = ask()
            self._stopping.wait(EVERY_S)


def ask() -> dict[str, Any]:
    """The first modem's facts now; nothing when there is no modem or it does not answer."""
    try:
        said = subprocess.run(
            ["mmcli", "-m", "any", "-K"], capture_output=True, text=True, timeout=WAIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in said.splitlines())}
    found: dict[str, Any] = {}
    for member, key in (
        ("operator", "3gpp.operator-name"),
        ("technology", r"generic.access-technologies.value\[\d+\]"),
    ):
        value = next((v for k, v in told.items() if re.fullmatch(rf"modem\.{key}", k) and v not in NOTHING), None)
        if value is not None:
            found[member] = value[:40]
    percent = told.get("modem.generic.signal-quality.value", "")
    if percent.isascii() and percent.isdigit() and int(percent) <= 100:
        found["signal_percent"] = int(percent)
    return found
