"""A programme: one bulletin, occurrence or button message on its way through this station, and what it may do next.

A programme has one *part* a zone. The states of both are tables here, and nothing about them lives elsewhere.
Programmes are written to the store before a transition is acted on, and taken up again at boot.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from agent.model.orders import Class, Item, OnLate, Repeat, Resume


class State(StrEnum):
    """A programme as a whole: the words of the ack."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"


class Stage(StrEnum):
    """A part: one programme in one zone."""

    WAITING = "waiting"
    """Not on yet, or interrupted and to come back."""
    OPENED = "opened"
    """Handed to the zone's driver, first sample still to come."""
    PLAYING = "playing"
    PAUSED = "paused"
    """Between the repeats of a repeated alert; the zone is free."""
    ENDED = "ended"


class Step(StrEnum):
    """What can happen to a part."""

    OPEN = "open"
    START = "start"
    INTERRUPT = "interrupt"
    FINISH = "finish"
    END = "end"
    AGAIN = "again"


STAGES: dict[tuple[Stage, Step], Stage] = {
    (Stage.WAITING, Step.OPEN): Stage.OPENED,
    (Stage.OPENED, Step.START): Stage.PLAYING,
    (Stage.OPENED, Step.INTERRUPT): Stage.WAITING,
    (Stage.PLAYING, Step.INTERRUPT): Stage.WAITING,
    (Stage.OPENED, Step.FINISH): Stage.PAUSED,
    (Stage.PLAYING, Step.FINISH): Stage.PAUSED,
    (Stage.PAUSED, Step.AGAIN): Stage.WAITING,
    (Stage.WAITING, Step.END): Stage.ENDED,
    (Stage.OPENED, Step.END): Stage.ENDED,
    (Stage.PLAYING, Step.END): Stage.ENDED,
    (Stage.PAUSED, Step.END): Stage.ENDED,
}
"""A missing pair is an error of ours (`LookupError`)."""

STATES: dict[State, frozenset[State]] = {
    State.OFFERED: frozenset({State.ACCEPTED, State.REJECTED, State.FAILED}),
    State.ACCEPTED: frozenset({State.RUNNING, State.DONE, State.FAILED}),
    State.RUNNING: frozenset({State.DONE, State.FAILED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.REJECTED: frozenset(),
}


class By(StrEnum):
    """What set a programme off; its log entry's `by` adds who."""

    ORDER = "order"
    SCHEDULE = "schedule"
    BUTTON = "button"
    TEST = "test"


class Position(Struct, frozen=True):
    """Where an interrupted programme goes on: `samples` into the pieces from `piece` on, joined together."""

    piece: int = 0
    samples: int = 0


class Part(Struct, kw_only=True):
    """One programme in one zone."""

    stage: Stage = Stage.WAITING
    completed: bool = False
    reason: str | None = None
    position: Position = Position()
    first_sample_at: float | None = None
    play: str | None = None
    """The play that is on now, by which voice tells a later agent how far it came."""
    stretch_started: float | None = None
    """Wall time at which the stretch that is on now began; persisted, so that a power cut leaves a log entry."""
    ending: str | None = None
    """Why it is being stopped for good; persisted, so that a power cut before its end does not bring it back."""
    stretch_planned: float | None = None
    """When this stretch was to begin: the programme's start, or the moment its zone came free again."""
    ducked: bool = False
    """This stretch has gone on under an alert, quieter."""

    def take(self, step: Step) -> None:
        """Move on; LookupError when the table has no such transition."""
        self.stage = STAGES[self.stage, step]


class Programme(Struct, kw_only=True):
    """One programme. Times are epoch seconds; `start` None in a bulletin means "now" and is set on admission."""

    key: str
    """`iss/id`, with `/occurrence` for a schedule's, or `/jti` where the same id still fades out: unique here."""
    iss: str
    id: str
    title: str
    class_: Class
    rank: int
    by: By
    by_whom: str = ""
    items: list[Item]
    start: float
    until: float | None = None
    resume: Resume
    on_late: OnLate = OnLate.PLAY
    repeat: Repeat | None = None
    replaces: list[str] = []
    fallback: list[Item] = []
    volume_db: float | None = None
    drill: bool = False
    approved_by: str | None = None
    jti: str | None = None
    seq: int = 0
    state: State = State.ACCEPTED
    rounds: int = 0
    again_at: float | None = None
    """When the next repeat begins, while all parts pause."""
    received_at: float = 0.0
    received_mono_ns: int = 0
    order_exp: float | None = None
    replaced: bool = False
    parts: dict[str, Part]

    @property
    def over(self) -> bool:
        """Whether the programme has its one outcome."""
        return not STATES[self.state]

    @property
    def overrides(self) -> bool:
        """Whether the class overrides the rules of the zones."""
        return self.class_ is Class.EMERGENCY

    def advance(self, to: State) -> None:
        """Change the state; LookupError when the table has no such transition."""
        if to not in STATES[self.state]:
            raise LookupError(f"a programme does not go from {self.state} to {to}")
        self.state = to


def rank(programme: Programme, priority_order: list[str], *, playing: bool) -> tuple[float, ...]:
    """The sort key of CONTRACT section 1; the greater goes first.

    Class; among emergencies the authority's rank, then the earlier start; among priority programmes the commune's own
    order of preference; normal ones do not interrupt each other. A button's own emergency goes before all.
    """
    weight = programme.class_.weight
    if programme.by is By.BUTTON and programme.class_ is Class.EMERGENCY:
        weight = 3
    if weight >= 2:
        within = (float(programme.rank), 0.0)
    elif weight == 1:
        place = priority_order.index(programme.iss) if programme.iss in priority_order else len(priority_order)
        within = (-float(place), float(playing))
    else:
        within = (0.0, float(playing))
    return (float(weight), *within, -programme.start)


def encode(programme: Programme) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(programme)


def decode(doc: bytes) -> Programme:
    """From the store; `msgspec.DecodeError` or `ValidationError` when it is damaged."""
    return msgspec.json.decode(doc, type=Programme)
