"""The states of an enrolment, as a table. Each is on the disk before anything is done because of it.

    new ── BEGIN ─▶ keyed ── GRANTED ─▶ issued ── PLACED ─▶ installed ── TIDIED ─▶ enrolled
                     │ └── DENIED ─▶ refused                                        │
                     └◀────────────── BEGIN (a new code; a renewal) ◀───────────────┘

keyed: the new private key is on the disk; the request may have been sent, once or often. issued: the certificate is on
the disk beside it. installed: both are where the configuration says. A power cut in any state is followed by the same
step again; the province answers the same request for the same key with the same certificate.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from agent.model.problem import Text


class State(StrEnum):
    """How far it has come."""

    NEW = "new"
    KEYED = "keyed"
    ISSUED = "issued"
    INSTALLED = "installed"
    ENROLLED = "enrolled"
    REFUSED = "refused"


class Step(StrEnum):
    """What happened."""

    BEGIN = "begin"
    GRANTED = "granted"
    DENIED = "denied"
    PLACED = "placed"
    TIDIED = "tidied"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.NEW, Step.BEGIN): State.KEYED,
    (State.ENROLLED, Step.BEGIN): State.KEYED,
    (State.REFUSED, Step.BEGIN): State.KEYED,
    (State.KEYED, Step.GRANTED): State.ISSUED,
    (State.KEYED, Step.DENIED): State.REFUSED,
    (State.ISSUED, Step.PLACED): State.INSTALLED,
    (State.INSTALLED, Step.TIDIED): State.ENROLLED,
}


class How(StrEnum):
    """What the request is vouched for by."""

    CODE = "code"
    RENEWAL = "renewal"


class Record(Struct, frozen=True):
    """What is kept in `enrolment.json`."""

    state: State = State.NEW
    how: How = How.CODE
    reason: str | None = None

    def after(self, step: Step, *, how: How | None = None, reason: str | None = None) -> Record:
        """The record after a step; KeyError for one that cannot happen in this state."""
        return Record(TRANSITIONS[self.state, step], how or self.how, reason)


def read(data: bytes) -> Record:
    """The record in a file; one that is damaged counts as new: keys are made again, and the code decides."""
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.MsgspecError:
        return Record()


REASONS: dict[str, Text] = {
    "wrong-code": Text("The province does not know this code. Compare it letter by letter, or ask for a new one."),
    "used-code": Text(
        "This code was already used, by another device or an earlier card. Ask the province for a new one."
    ),
    "expired-code": Text("This code is too old. Ask the province for a new one."),
    "wrong-name": Text("The code is for another device than the one in the configuration."),
    "bad-request": Text("The province cannot read the request. Is the software of both sides of the same time?"),
    "revoked": Text("The province has withdrawn this device's certificate. A new code is needed."),
    "bad-certificate": Text("The province has answered with a certificate that is not for this device."),
    "no-code": Text("There is no code. Ask the province for one."),
}
"""The province's answers that end an enrolment; a new code begins it anew."""
