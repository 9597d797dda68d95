"""What is written to the store, as values. The owner decides; the store's thread commits; then it is acted on.

A batch of writes is one SQLite transaction (synchronous=FULL): all of it survives a power cut, or none.
"""

from __future__ import annotations

from msgspec import Struct


class PutOrder(Struct, frozen=True, kw_only=True):
    """Replay memory: an order that consumed its `jti` (and `ctr`), with its newest ack. Kept until exp + 1 day."""

    iss: str
    jti: str
    sha256: str
    kid: str
    ctr: int | None
    exp: float | None
    ack: bytes


class PutState(Struct, frozen=True, kw_only=True):
    """A state order in force: key (iss, scope, op)."""

    iss: str
    scope: str
    op: str
    version: int
    sha256: str
    raw: bytes


class PutProgramme(Struct, frozen=True, kw_only=True):
    """A programme's persisted state machine, as JSON. Written before each transition is acted on."""

    key: str
    doc: bytes


class DropProgramme(Struct, frozen=True, kw_only=True):
    """The programme has its one outcome."""

    key: str


class AppendLog(Struct, frozen=True, kw_only=True):
    """A play-log entry, already chained (`n`, `prev`, `hash` in it)."""

    n: int
    entry: bytes


class PutOut(Struct, frozen=True, kw_only=True):
    """An outbox row. `weight` 0 least important … 3 emergency (dropped last).

    `topic`: "event" or "ack" of this device, or "<device>/<leaf>" of a cluster that it passes on for.
    """

    seq: int
    topic: str
    weight: int
    body: bytes


class DropOut(Struct, frozen=True, kw_only=True):
    """The broker has taken the row (PUBACK)."""

    seq: int


class PutValue(Struct, frozen=True, kw_only=True):
    """A named value: birth, clock floor, authorities document, tombstones."""

    key: str
    value: bytes


class DropValue(Struct, frozen=True, kw_only=True):
    """Forget a named value."""

    key: str


Write = PutOrder | PutState | PutProgramme | DropProgramme | AppendLog | PutOut | DropOut | PutValue | DropValue


class Snapshot(Struct, kw_only=True):
    """All that the owner needs at boot."""

    orders: list[PutOrder] = []
    ctr_highest: dict[str, int] = {}
    states: list[PutState] = []
    programmes: dict[str, bytes] = {}
    outbox: list[PutOut] = []
    values: dict[str, bytes] = {}
    log_n: int = 0
    log_hash: str = "0" * 64
    played: tuple[str, dict[str, float]] = ("", {})
    """The newest day of the play log (as a date), and how many seconds each zone was on the air on it."""
    empty: bool = True
    """The store was new: nothing issued before the image time is accepted."""
    detail: str | None = None
    """What was wrong at opening, for people: an alarm (the damaged database was set aside, or none can be used)."""
    usable: bool = True
    """False: every batch will fail; replay memory lives in memory only and emergencies alone are admitted."""
