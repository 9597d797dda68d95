"""What the ear (`agent.ear`) and the agent say to each other: JSON lines of tagged Structs over a socket."""

from __future__ import annotations

from msgspec import Struct

from agent.model.health import Verdict

TEST_CHIME = "test"
TEST_TONES_HZ = (600.0, 900.0, 1350.0)
"""The tones of the chime that a self-test plays, one after the other."""


class Check(Struct, frozen=True, tag_field="do", tag="check"):
    """Agent → ear: the chime of a self-test sounded in this zone from `begin_ns` to `end_ns` (CLOCK_MONOTONIC)."""

    zone: str
    begin_ns: int
    end_ns: int


class Ready(Struct, frozen=True, tag_field="ev", tag="ready"):
    """The ear is there; said at its beginning and every `ALIVE_S` from then on."""


class EarLost(Struct, frozen=True):
    """The ear is gone, hangs, or cannot be had: what it told is known no longer."""

    detail: str


class Measured(Struct, frozen=True, tag_field="ev", tag="measured"):
    """Values of a zone that are news: members of `agent.model.health.Health`; None: can no longer be told."""

    zone: str
    values: dict[str, float | str | None]


class Noticed(Struct, frozen=True, tag_field="ev", tag="noticed"):
    """Something is wrong, or over (`on` False).

    `what`: "air-dead", "air-wrong", "air-foreign" (a receiver), "speaker-silent" (a microphone), "howl", "sensor"
    (a sensor fails or reads nonsense), "ear" (a receiver or microphone gives nothing), "supply-low", "hot".
    """

    what: str
    device: str
    detail: str
    zone: str | None = None
    on: bool = True


class Checked(Struct, frozen=True, tag_field="ev", tag="checked"):
    """What a self-test found."""

    zone: str
    verdict: Verdict
    level_db: float | None = None
    current_ma: float | None = None


EarEvent = Ready | Measured | Noticed | Checked
ALIVE_S = 10.0
EAR_SOCKET = "ear.sock"
"""In run_dir: a datagram socket to which voice sends each period of a watched zone that sounds, behind a head of
the time of its first sample at the converter (ns) and the zone's number in the configuration: struct "=qH"."""
EAR_HEAD = "=qH"
