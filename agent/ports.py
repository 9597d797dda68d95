"""The Protocols between the owner and the rooms that touch the world. Each has a shipped fake under `agent.fakes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from agent.model.orders import Media
from agent.model.records import PutOut, Snapshot, Write
from agent.model.screen import ScreenCommand
from agent.model.time import Instant
from agent.model.voice import VoiceCommand


class Inbox(Protocol):
    """The owner's one door. `urgent` events are handled before all others."""

    def __call__(self, event: Struct, *, urgent: bool = False) -> None:
        """Hand an event over and return at once; never raises, callable from any thread."""


class Clock(Protocol):
    """Monotonic and wall time of this machine."""

    def now(self) -> Instant:
        """Now. `trusted` says what the trusted-time rules (agent.trust.time) make of the wall clock."""


class Store(Protocol):
    """The durable memory. One thread writes; the owner never waits for the disk."""

    def load(self) -> Snapshot:
        """All that survived. Called once, before anything is submitted."""

    def submit(self, batch: int, writes: Sequence[Write]) -> None:
        """Queue one transaction; posts Committed(batch) or CommitFailed(batch)."""


class Link(Protocol):
    """The MQTT link."""

    def start(self) -> None:
        """Begin to connect, and go on for ever with jittered back-off."""

    def stop(self) -> None:
        """Publish the offline state and disconnect."""

    def acknowledge(self, token: int) -> None:
        """The order of this token is durably recorded (or refused): send its PUBACK."""

    def offer(self, rows: Sequence[PutOut]) -> None:
        """Rows for the broker, in order; each is reported by OutTaken when the broker has it."""

    def publish_state(self, body: bytes) -> None:
        """Publish the retained state now and after each later connection (`online:true`)."""

    def publish_status(self, body: bytes) -> None:
        """Publish the retained status (QoS 1)."""

    def publish_beat(self, body: bytes) -> None:
        """Publish a beat (QoS 0); dropped when not connected."""

    def set_clock_trusted(self, trusted: bool) -> None:
        """Whether the dates of the other side's certificate can be judged."""


class Library(Protocol):
    """The content library: media by hash, fetched ahead."""

    def want(self, needs: Sequence[Need]) -> None:
        """Replace the list of what is needed. Missing files are fetched, soonest and highest weight first."""

    def path(self, sha256: str) -> Path | None:
        """The verified file, or None."""


class Need(Struct, frozen=True):
    """A media file and when it is due (epoch seconds; 0: now). `pinned`: never evicted while wanted."""

    media: Media
    due: float
    weight: int
    pinned: bool = False


class Feeds(Protocol):
    """Starts decoder children for the segments of plays."""

    def open(self, play: str, segment: int, pieces: Sequence[Piece], skip_samples: int = 0) -> int:
        """Start decoding `pieces` into one pipe and return its read end (the caller closes it after handing it on)."""

    def extend(self, play: str, segment: int, seconds: float) -> None:
        """A live segment ends so many seconds from now, not when it was to. Nothing happens where it has ended."""

    def close(self, play: str) -> None:
        """End all children of a play."""


class Piece(Struct, frozen=True):
    """One item ready to be decoded: a file (`path`), or a live stream (`url`) for at most `seconds`.

    `fallback` files replace a stream that is silent below `silence_dbfs` for `silence_s`, or gone that long, for
    what is left of `seconds`.
    """

    item: int
    path: str | None = None
    url: str | None = None
    gain_db: float = 0.0
    """Of the file, so that all are equally loud; never so much that it clips."""
    level_lufs: float | None = None
    """Where what cannot be measured in advance (a stream, its fallback) is brought to, slowly; None: as it comes."""
    seconds: float | None = None
    silence_s: float = 10.0
    silence_dbfs: float = -60.0
    fallback: tuple[str, ...] = ()
    talk: bool = False
    """An officer speaks live at the station (`agent.model.talk`): a pause is no silence, the fallback is said once."""


class Speech(Protocol):
    """Offline speech."""

    def render(self, key: str, text: str, lang: str, *, urgency: int = 0) -> None:
        """Speak into a file; posts SpeechReady or SpeechFailed. The same text and language are spoken once.

        A text of a higher `urgency` does not wait for lower ones that were asked for before it.
        """

    def speaks(self, lang: str) -> bool:
        """Whether there is a voice for that language."""


class Voice(Protocol):
    """The voice process, as the owner sees it."""

    def send(self, command: VoiceCommand, fd: int | None = None) -> None:
        """Send one command; `fd` rides along and is closed here afterwards."""


class Screen(Protocol):
    """A board's process."""

    def send(self, zone: str, command: ScreenCommand) -> None:
        """Send one command to the board of that zone."""
