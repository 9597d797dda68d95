"""What the owner wants done: the station's answer to an event. `agent.app` carries each out through a port."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from agent.model.ear import Check
from agent.model.orders import Entry
from agent.model.records import PutOut, Write
from agent.model.screen import ScreenCommand
from agent.model.voice import VoiceCommand
from agent.ports import Need, Piece


class ToVoice(Struct, frozen=True):
    """Send to voice."""

    command: VoiceCommand


class ToEar(Struct, frozen=True):
    """Ask the ear."""

    command: Check


class StartFeed(Struct, frozen=True):
    """Start decoding a segment ahead; the pipe is kept until `HandFeed` or `DropFeeds`."""

    play: str
    segment: int
    pieces: tuple[Piece, ...]
    skip_samples: int = 0


class HandFeed(Struct, frozen=True):
    """Give a started segment's pipe to voice. `spoken`: somebody speaks live."""

    play: str
    segment: int
    live: bool = False
    spoken: bool = False


class ExtendFeed(Struct, frozen=True):
    """A live stream that is on may go on for so many seconds from now: its lease was renewed."""

    play: str
    segment: int
    seconds: float


class DropFeeds(Struct, frozen=True):
    """End the decoders of a play and close what was not handed over."""

    play: str


class ToScreen(Struct, frozen=True):
    """Send to the board of a zone."""

    zone: str
    command: ScreenCommand


class Speak(Struct, frozen=True):
    """Speak a text into a file. `urgency`: 2 an alert's first words, 1 what follows them, 0 anything else."""

    key: str
    text: str
    lang: str
    urgency: int = 0


class PinMessage(Struct, frozen=True):
    """Put a stored message's sound where voice keeps it, and have it loaded."""

    message: str
    path: str


class Measure(Struct, frozen=True):
    """Measure how loud a media file is; answered by `Measured`."""

    sha256: str
    path: str


class Want(Struct, frozen=True):
    """The media that is needed from now on."""

    needs: tuple[Need, ...]


class Expand(Struct, frozen=True):
    """Compute the occurrences of these entries off the owner's thread; answered by `Expanded`."""

    issuer: str
    generation: int
    entries: tuple[Entry, ...]
    after: float
    before: float


class Persist(Struct, frozen=True):
    """Commit a batch; answered by `Committed` or `CommitFailed`."""

    batch: int
    writes: tuple[Write, ...]


class PassOn(Struct, frozen=True):
    """Publish on the station's own link to its clusters; retained on a desired topic (`op`, `iss`)."""

    target: str
    payload: bytes
    op: str | None = None
    iss: str | None = None
    expiry_s: int | None = None


class Acknowledge(Struct, frozen=True):
    """PUBACK of an arrived order, or of what a cluster said."""

    token: int


class OfferRows(Struct, frozen=True):
    """Outbox rows for the link."""

    rows: tuple[PutOut, ...]


class PublishState(Struct, frozen=True):
    """The retained state."""

    body: dict[str, Any]


class PublishStatus(Struct, frozen=True):
    """The retained full status."""

    body: dict[str, Any]


class PublishBeat(Struct, frozen=True):
    """The beat."""

    body: dict[str, Any]


class SignedTime(Struct, frozen=True):
    """A verified `iat`: time has come at least this far."""

    iat: float


class Upload(Struct, frozen=True):
    """Put a JSON document at an address of an allowed host, with the play log of `period` (epoch seconds) as `entries`;
    answered by `Uploaded`."""

    key: str
    url: str
    document: bytes
    period: tuple[float, float] | None


class Reply(Struct, frozen=True):
    """The answer to a person's command."""

    token: int
    body: dict[str, Any]


Command = (
    ToVoice
    | ToEar
    | StartFeed
    | HandFeed
    | ExtendFeed
    | DropFeeds
    | ToScreen
    | Speak
    | PinMessage
    | Measure
    | Want
    | Expand
    | Persist
    | PassOn
    | Acknowledge
    | OfferRows
    | PublishState
    | PublishStatus
    | PublishBeat
    | SignedTime
    | Upload
    | Reply
)
