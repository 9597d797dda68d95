"""What is known of a zone's line and of a cluster now, whoever says it: contacts, sensors, ears, the cluster itself.

One shape for both. What no hardware tells is absent, and the state of a line without a sensor is `unknown`, never
`normal`: a legacy cluster without a return channel must not look healthy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct


class Line(StrEnum):
    """Of a loudspeaker line."""

    NORMAL = "normal"
    OPEN = "open"
    SHORT = "short"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """Of a self-test."""

    OK = "ok"
    SILENT = "silent"
    """The tone was sent, and not heard."""
    HOWL = "howl"
    """A tone that nobody sent was heard before it began."""
    OPEN = "open"
    SHORT = "short"
    UNKNOWN = "unknown"
    """The tone was sent; nothing here can hear or measure it."""
    NOT_PLAYED = "not-played"
    """It could not be sent: see `reason`."""


class SelfTest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the last self-test of a zone or cluster found. `at`: epoch seconds (RFC 3339 in the status)."""

    at: float
    verdict: Verdict
    level_db: float | None = None
    """How far the test tones stood out of what was heard before them, in dB."""
    current_ma: float | None = None
    """Of the line or amplifier, as last read before the verdict."""
    reason: str | None = None


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a zone or cluster. None: no hardware tells."""

    line: Line = Line.UNKNOWN
    amplifier: bool | None = None
    """On, by its feedback contact."""
    temperature_c: float | None = None
    supply_v: float | None = None
    current_ma: float | None = None
    volume_db: Annotated[float, Meta(ge=-60, le=12)] | None = None
    test: SelfTest | None = None


class Sensed(Struct, frozen=True, kw_only=True):
    """Something measured it anew: `values` are members of `Health`; None: it can no longer be told."""

    zone: str
    values: dict[str, float | bool | str | None]


class ClusterSeen(Struct, frozen=True, kw_only=True):
    """A cluster reported, or was missed. `at`: epoch seconds; `online` None: it has no return channel."""

    cluster: str
    online: bool | None
    at: float
    health: Health = Health()
