"""What the rooms report to the owner. Beside these, the inbox takes `agent.model.voice` and `screen` events."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from agent.model.orders import Media
from agent.model.records import PutOut


class LinkUp(Struct, frozen=True):
    """Connected and subscribed. `birth` is this connection's number.

    `link`: "source", or "parent", a cluster's station.
    """

    birth: int
    link: str = "source"


class LinkDown(Struct, frozen=True):
    """The source, or the `link` that is named, is gone; `reason` is for people."""

    reason: str
    link: str = "source"


class ClustersUp(Struct, frozen=True):
    """The station's own link to its clusters serves, and knows nothing: not a session, not a retained message."""


class ClusterSaid(Struct, frozen=True):
    """A cluster's message on one of its own topics. `token` goes back to `Acknowledge` once durably recorded."""

    device: str
    leaf: str
    payload: bytes
    token: int


class OrderArrived(Struct, frozen=True):
    """A message on an order or desired topic. `token` goes back to `Link.acknowledge` once durably recorded."""

    topic: str
    payload: bytes
    retain: bool
    token: int
    at_ns: int = 0
    """When it arrived (CLOCK_MONOTONIC); 0: not known."""


class OutTaken(Struct, frozen=True):
    """The broker acknowledged an outbox row."""

    seq: int


class Committed(Struct, frozen=True):
    """A batch of writes is on the disk."""

    batch: int


class CommitFailed(Struct, frozen=True):
    """A batch of writes failed and left nothing behind; `detail` is for people.

    `own`: not the disk but the batch is at fault; it would fail again.
    """

    batch: int
    detail: str
    own: bool = False


class MediaReady(Struct, frozen=True):
    """The file of that hash is complete, verified and on the disk."""

    sha256: str
    path: str


class MediaFailed(Struct, frozen=True):
    """The file cannot be had now. `final`: do not wait for it (wrong hash, host not allowed)."""

    sha256: str
    detail: str
    final: bool


class Measured(Struct, frozen=True):
    """How loud a media file is: `lufs` (EBU R128; None: not known, `detail` may say why) and true peak in dBTP."""

    sha256: str
    lufs: float | None
    peak: float
    detail: str = ""


class SpeechReady(Struct, frozen=True):
    """Text was spoken into a WAV file (48 000 Hz, mono, 16 bit). `key` as given to `Speech.render`."""

    key: str
    path: str
    sha256: str
    seconds: float


class SpeechFailed(Struct, frozen=True):
    """The text could not be spoken."""

    key: str
    detail: str


class FeedMark(Struct, frozen=True):
    """A decoder child's progress on item `item` of a segment.

    `what`: "ready" (first samples are in the pipe), "started", "ended", "failed" (the item is skipped), "fallback"
    (a relay went silent or away and its fallback began), "done" (the segment's pipe is closed). `samples` counts PCM
    samples of the item written so far.
    """

    play: str
    segment: int
    item: int
    what: str
    samples: int = 0
    detail: str = ""


class Uploaded(Struct, frozen=True):
    """A document is where it was to be put; without `sha256` (of what went out, `size` bytes) it could not be had."""

    key: str
    sha256: str = ""
    size: int = 0
    detail: str = ""


class Expanded(Struct, frozen=True):
    """Occurrences of an issuer's schedule entries (id → epoch seconds) up to `before`; `generation` as asked."""

    issuer: str
    generation: int
    starts: dict[str, list[float]]
    before: float


class Sound(Struct, frozen=True):
    """A sound of this station: 48 000 Hz, mono, 16 bit WAV. `sha256` of the file; `pinned`: its name in voice."""

    path: str
    sha256: str
    samples: int
    pinned: str | None = None


class MessageRecorded(Struct, frozen=True):
    """The officer recorded a stored message."""

    message: str
    sound: Sound


class MessageShared(Struct, frozen=True):
    """A stored message is a file of the content library, so that clusters can have it."""

    message: str
    media: Media


class Alarm(Struct, frozen=True):
    """Something a person must know; `what` is a stable word. `on` False: it is over."""

    what: str
    detail: str
    zone: str | None = None
    on: bool = True
    cluster: str | None = None
    device: str | None = None
    """Which relay, sensor, receiver or output of the station."""


class Tick(Struct, frozen=True):
    """Time has passed."""


class VoiceLost(Struct, frozen=True):
    """The connection to voice broke."""

    detail: str


class ChildDied(Struct, frozen=True):
    """A child process ended without being asked to."""

    name: str
    detail: str


class Asked(Struct, frozen=True):
    """A person's command over the agent's control socket; the answer goes to `reply` (called once)."""

    what: str
    args: dict[str, Any]
    token: int


__all__ = [
    "Alarm",
    "Asked",
    "ChildDied",
    "ClusterSaid",
    "ClustersUp",
    "CommitFailed",
    "Committed",
    "Expanded",
    "FeedMark",
    "LinkDown",
    "LinkUp",
    "Measured",
    "MediaFailed",
    "MediaReady",
    "MessageRecorded",
    "MessageShared",
    "OrderArrived",
    "OutTaken",
    "PutOut",
    "Sound",
    "SpeechFailed",
    "SpeechReady",
    "Tick",
    "Uploaded",
    "VoiceLost",
]
