"""What the operating system knows of this machine, and what it wants to be told (sd_notify(3), the journal)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agent import __version__

IMAGE_FILE = Path("/etc/tram-image.json")
"""Written by the image build: `{"name": …, "built": epoch seconds}`."""
CARDS = Path("/proc/asound")
CHOSEN = Path("/proc/device-tree/chosen")
RESETS = {
    "power/power_reset": ((0b10, "under-voltage"), (0b1, "over-voltage"), (0b100, "over-temperature")),
    "bootloader/rsts": ((0x1000, "power-on"), (0x7, "debugger"), (0x70, "restart"), (0x700, "restart")),
}
"""Registers in the order in which they are believed (Raspberry Pi 5 has the first), and what their bits mean."""
FIRST = -10
"""The niceness of threads on which an emergency depends."""
BUILT = 1_795_392_000
"""2026-11-23: no copy of this software is older."""


def version() -> str:
    """The version of the agent."""
    return __version__


def _image() -> dict[str, Any]:
    try:
        found = json.loads(IMAGE_FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def image() -> str:
    """The name of the system image, "none" where the agent was installed by hand."""
    return str(_image().get("name", "none"))


def image_time() -> float:
    """When this software was built (epoch seconds): a time that has passed for certain."""
    return max(float(BUILT), float(_image().get("built", 0)))


def facts(data: Path, microphone: str | None = None) -> dict[str, Any]:
    """Disk, temperature, memory, network: what can be read. What cannot is absent.

    `microphone`: the ALSA name of the station's microphone, to tell whether it is plugged in.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(data)
        found["disk"] = {"free_mb": usage.free // 2**20, "total_mb": usage.total // 2**20}
    with contextlib.suppress(OSError, ValueError):
        raw = Path("/sys/class/thermal/thermal_zone0/temp").read_text("ascii")
        found["temperature_c"] = int(raw) / 1000
    with contextlib.suppress(OSError, ValueError, IndexError):
        found["uptime_s"] = int(float(Path("/proc/uptime").read_text("ascii").split()[0]))
    low = _undervoltage()
    if low is not None:
        found["undervoltage"] = low
    network = _network()
    if network is not None:
        found["network"] = network
    reset = _reset()
    if reset is not None:
        found["reset"] = reset
    plugged = None if microphone is None else card_is_there(microphone)
    if plugged is not None:
        found["microphone"] = {"plugged": plugged}
    return found


def card_is_there(device: str, cards: Path = CARDS) -> bool | None:
    """Whether the sound card that an ALSA name ("plughw:CARD=Device", "hw:1,0") means is plugged in.

    None when the name means no certain card.
    """
    card = re.match(r"(?:plug)?hw:(?:CARD=)?([A-Za-z0-9_]+)", device)
    if card is None or not cards.is_dir():
        return None
    return (cards / (f"card{card[1]}" if card[1].isdigit() else card[1])).exists()


def _reset(chosen: Path = CHOSEN) -> dict[str, str] | None:
    """Why this Raspberry Pi has started: its firmware's word in the device tree. None on other machines.

    `code` is the register as it stands there, `reason` what it means. An orderly restart uses the watchdog too.
    """
    for name, reasons in RESETS.items():
        with contextlib.suppress(OSError):
            code = int.from_bytes((chosen / name).read_bytes()[:4], "big")
            reason = next((word for bits, word in reasons if code & bits), None)
            if reason is not None:
                return {"code": f"{code:#x}", "reason": reason}
    return None


def _network() -> dict[str, Any] | None:
    """The interface of the default route and its kind."""
    try:
        lines = Path("/proc/net/route").read_text("ascii").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 1 and fields[1] == "00000000":
            name = fields[0]
            kind = "wifi" if name.startswith("wl") else "mobile" if name.startswith(("ww", "usb", "ppp")) else "lan"
            return {"interface": name, "type": kind} | _traffic(name)
    return None


def supervised() -> bool:
    """Whether voice and the decoders are units of their own beside the agent (systemd/units/tram-agent.service)."""
    return os.environ.get("TRAM_SUPERVISOR") == "systemd"


def go_first(names: Collection[str]) -> None:
    """Threads of this process, by name, that are to run before decoders, painters and the rest of the machine.

    What a thread starts inherits it. Without the right to ask (RLIMIT_NICE) nothing changes; nothing depends on it.
    """
    with contextlib.suppress(OSError):
        for thread in threading.enumerate():
            if thread.name in names and thread.native_id is not None:
                os.setpriority(os.PRIO_PROCESS, thread.native_id, FIRST)


def stand_back() -> None:
    """This thread, made by one that goes first, does not, nor do the processes that it starts."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, os.getpid())))


def _traffic(interface: str) -> dict[str, int]:
    """MiB received and sent since the interface is up."""
    folder = Path("/sys/class/net") / interface / "statistics"
    found: dict[str, int] = {}
    for member, file in (("received_mb", "rx_bytes"), ("sent_mb", "tx_bytes")):
        with contextlib.suppress(OSError, ValueError):
            found[member] = int((folder / file).read_text("ascii")) // 2**20
    return found


def _undervoltage() -> bool | None:
    """Whether a Raspberry Pi finds its own supply too low; None where nothing tells."""
    for folder in Path("/sys/class/hwmon").glob("hwmon*"):
        with contextlib.suppress(OSError, ValueError):
            if (folder / "name").read_text("ascii").strip() == "rpi_volt":
                return bool(int((folder / "in0_lcrit_alarm").read_text("ascii")))
    return None


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


class _Structured(logging.Formatter):
    """One JSON object a line, in English, at most 2 KB: what machines read."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "level": record.levelname.lower(),
            "room": record.name,
            "text": record.getMessage()[:1500],
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-1500:]
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr() -> None:
    """Machine logs go to standard error, which systemd keeps in a bounded journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Structured())
    logging.basicConfig(level=os.environ.get("TRAM_LOG", "INFO"), handlers=[handler], force=True)
