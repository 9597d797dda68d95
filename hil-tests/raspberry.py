"""A real Raspberry Pi over ssh, with a rig of bought parts beside it (README.md). Not run yet: there is none here.

The rig hangs on this machine: a USB sound card whose line-in hears the Pi's line-out, and a USB adapter with GPIO lines
(a kernel driver's `gpiochip`, by the tools of libgpiod 2) that presses buttons, reads relays and switches the supply.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import msgspec
import yaml
from board import BoardError, Ran, samples
from msgspec import Struct

from province.demo.listening import Signal

BOOT_LIMIT_S = 300.0
BOOT_USUAL_S = 30.0


class Rig(Struct, frozen=True, forbid_unknown_fields=True):
    """`rig.yaml`: how the parts are wired. `buttons` and `relays`: GPIO of the Pi → line of the adapter."""

    host: str
    """The Pi: as ssh knows it, with root's key."""
    chip: str
    """The adapter: its name or path for libgpiod."""
    buttons: dict[int, int]
    """A line that is driven low closes the contact; not driven it is open."""
    relays: dict[int, int]
    supply: int | None = None
    """A line that switches the Pi's supply on while it is driven high."""
    ear: str = "hw:CARD=Device"
    """ALSA name of the capture device."""
    sound_device: str = "hw:CARD=sndrpihifiberry"
    """ALSA name of the Pi's card."""


class RaspberryBoard:
    """Implements `board.Board`. The surroundings on this machine are reached through ssh's reverse tunnels."""

    host = "127.0.0.1"

    def __init__(self, rig: Path, folder: Path, tunnels: Sequence[int] = ()) -> None:
        self.rig = msgspec.convert(yaml.safe_load(rig.read_text("utf-8")), Rig, strict=False)
        self.sound_device = self.rig.sound_device
        self.capabilities = frozenset(
            {"raspberry", "sound", "gpio"} | ({"powercut"} if self.rig.supply is not None else set())
        )
        self.patience = 1.0
        self._raw = folder / "heard.raw"
        self._tunnels = tunnels
        self._held: dict[int, subprocess.Popen[bytes]] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """See `Board.start`. Without a supply line the Pi has to be on already."""
        begun = monotonic()
        if self.rig.supply is not None:
            self._hold(self.rig.supply, active=True)
        while self._ssh("true", 10.0, b"").code:
            if monotonic() - begun > BOOT_LIMIT_S:
                raise BoardError(f"{self.rig.host} does not answer by ssh")
            sleep(1)
        self.patience = max(1.0, (monotonic() - begun) / BOOT_USUAL_S)
        if self._tunnels:
            ways = [word for port in self._tunnels for word in ("-R", f"127.0.0.1:{port}:127.0.0.1:{port}")]
            self._children.append(subprocess.Popen(["ssh", "-N", *ways, self.rig.host]))
        with self._raw.open("ab") as raw:
            record = ["arecord", "-q", "-D", self.rig.ear, "-t", "raw", "-f", "S16_LE", "-r", "48000", "-c", "2"]
            self._children.append(subprocess.Popen(record, stdout=raw))

    def power_cut(self) -> None:
        """See `Board.power_cut`."""
        if self.rig.supply is None:
            raise BoardError("the rig has no line for the supply")
        self._end_children()
        self._let_go(self.rig.supply)

    def close(self) -> None:
        """See `Board.close`. A Pi without a supply line stays on."""
        self._end_children()
        for line in list(self._held):
            self._let_go(line)

    def run(self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"") -> Ran:
        """See `Board.run`."""
        ran = self._ssh(command, timeout_s * self.patience, stdin)
        if ran.code == 255:
            raise BoardError(f"ssh {self.rig.host}: {ran.err}")
        return ran

    def press(self, line: int) -> None:
        """See `Board.press`."""
        self._hold(self.rig.buttons[line], active=False)

    def release(self, line: int) -> None:
        """See `Board.release`."""
        self._let_go(self.rig.buttons[line])

    def level(self, line: int) -> bool:
        """See `Board.level`."""
        read = subprocess.run(
            ["gpioget", "--numeric", "-c", self.rig.chip, str(self.rig.relays[line])],
            capture_output=True,
            text=True,
            check=False,
        )
        if read.returncode:
            raise BoardError(f"gpioget: {read.stderr}")
        return read.stdout.strip() == "1"

    def heard(self) -> Signal:
        """See `Board.heard`: everything, silence included."""
        return samples(self._raw.read_bytes(), 2)

    def _ssh(self, command: str, timeout_s: float, stdin: bytes) -> Ran:
        words = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", self.rig.host, command]
        try:
            ran = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise BoardError(f"{command!r} had not ended after {timeout_s:.0f} s") from None
        return Ran(ran.returncode, ran.stdout.decode("utf-8", "replace"), ran.stderr.decode("utf-8", "replace"))

    def _hold(self, line: int, *, active: bool) -> None:
        """Drive a line of the adapter for as long as `gpioset` lives."""
        self._let_go(line)
        self._held[line] = subprocess.Popen(["gpioset", "-c", self.rig.chip, f"{line}={int(active)}"])

    def _let_go(self, line: int) -> None:
        held = self._held.pop(line, None)
        if held is not None:
            held.terminate()
            held.wait()
            subprocess.run(
                ["gpioget", "-c", self.rig.chip, str(line)], capture_output=True, check=False
            )  # an input again

    def _end_children(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
            child.wait()
        self._children = []
