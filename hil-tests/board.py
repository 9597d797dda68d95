"""What a test may do with a board: the virtual one (`virtual.py`) or a Raspberry Pi (`raspberry.py`)."""

from __future__ import annotations

import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple, Protocol

import numpy as np

from province.demo.listening import Signal

RATE = 48_000
AMPLIFIER, LAMP = 17, 27
"""Pins of config/commune-station.yaml: the amplifier's relay is on at high level, the red lamp's at low level."""


class BoardError(Exception):
    """The board, or what stands around it, does not do what it is there for; nothing is said about the station."""


class Ran(NamedTuple):
    """How a command on the board ended. Text with what cannot be decoded replaced."""

    code: int
    out: str
    err: str


class Board(Protocol):
    """A board with power, buttons, relays, and an ear on its sound card."""

    capabilities: frozenset[str]
    """The markers of pytest that it can serve, e.g. "sound", "powercut"."""
    patience: float
    """How much slower than a fast machine it is: deadlines are multiplied by it. Never below 1."""
    host: str
    """How the board reaches this machine."""
    sound_device: str
    """ALSA name of the card that is listened to."""

    def start(self) -> None:
        """Power on, and wait until commands are answered. BoardError."""

    def power_cut(self) -> None:
        """Take the power away, at once."""

    def close(self) -> None:
        """Off, and everything given back. May be called twice."""

    def run(self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"") -> Ran:
        """Have root's shell run a command. BoardError when no answer comes."""

    def press(self, line: int) -> None:
        """Close the contact between GPIO `line` and ground."""

    def release(self, line: int) -> None:
        """Open it."""

    def level(self, line: int) -> bool:
        """Whether GPIO `line` is high, as the relay behind it sees it."""

    def heard(self) -> Signal:
        """What the sound card has given since `start`, 48 kHz, the channels' mean. Silence may be left out."""


def wait(what: str, holds: Callable[[], object], within_s: float, every_s: float = 0.25) -> None:
    """Wait until `holds()` is true. AssertionError, with `what` was waited for, when it is not in time."""
    deadline = monotonic() + within_s
    while not holds():
        if monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        sleep(every_s)


def answered(board: Board, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"") -> str:
    """The output of a command that has to succeed; BoardError with what it said."""
    ran = board.run(command, timeout_s=timeout_s, stdin=stdin)
    if ran.code:
        raise BoardError(f"{command!r} on the board: exit code {ran.code}\n{ran.out}{ran.err}")
    return ran.out


def put(board: Board, files: Mapping[str, bytes], mode: int = 0o640) -> None:
    """Write files on the board, whole or not at all each, owned by root and readable for the group tram."""
    for path, content in files.items():
        answered(
            board,
            f"install -D -m {mode:o} -o root -g tram /dev/stdin {path}.new && mv {path}.new {path} && sync {path}",
            stdin=content,
        )


def armed(board: Board) -> bool:
    """Whether voice has told that its buttons are armed."""
    return board.run("systemctl is-active --quiet tram-voice.service").code == 0


def sounding(board: Board) -> bool:
    """Whether the amplifier's relay is on."""
    return board.level(AMPLIFIER)


def relays_are_off(board: Board) -> bool:
    """Both relays, as their wiring sees them."""
    return not board.level(AMPLIFIER) and board.level(LAMP)


def samples(raw: bytes, channels: int) -> Signal:
    """Little-endian 16-bit samples as one channel, full scale 1.0; a torn last frame is left out."""
    whole = len(raw) // (2 * channels) * 2 * channels
    return np.frombuffer(raw[:whole], "<i2").reshape(-1, channels).mean(axis=1) / 32768.0


def wav(path: Path) -> Signal:
    """A complete WAV file of 16 bit and 48 kHz."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getsampwidth()) != (RATE, 2):
            raise BoardError(f"{path}: {file.getframerate()} Hz, {8 * file.getsampwidth()} bit")
        return samples(file.readframes(file.getnframes()), file.getnchannels())
