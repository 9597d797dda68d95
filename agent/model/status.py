"""The retained status (CONTRACT section 7) as a type, for its schema: every field with its unit.

What nobody tells is absent.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

Time = Annotated[str, Meta(description="RFC 3339 with offset")]


class SelfTestStatus(Struct, kw_only=True):
    """What the last self-test found."""

    at: Time
    verdict: Annotated[str, Meta(description="ok, silent, howl, open, short, unknown or not-played")]
    level_db: Annotated[float, Meta(description="dB that the test tones stood out of what was before")] | None = None
    current_ma: Annotated[float, Meta(description="mA")] | None = None
    reason: str | None = None


class HealthStatus(Struct, kw_only=True):
    """Of a line or cluster."""

    line: Annotated[str, Meta(description="normal, open, short; unknown: no sensor")]
    amplifier: Annotated[bool, Meta(description="on, by its feedback contact")] | None = None
    temperature_c: Annotated[float, Meta(description="°C")] | None = None
    supply_v: Annotated[float, Meta(description="V")] | None = None
    current_ma: Annotated[float, Meta(description="mA")] | None = None
    volume_db: Annotated[float, Meta(description="dB")] | None = None
    test: SelfTestStatus | None = None


class OwnerStatus(Struct, kw_only=True):
    """What plays in a zone."""

    bulletin: str
    iss: str
    issuer: Annotated[str, Meta(description="the authority's name for people")]
    title: str
    class_: str = field(name="class")
    state: str
    since: Time | None = None
    drill: bool = False


class ZoneStatus(Struct, kw_only=True):
    """A zone: a sound zone has the members of `HealthStatus` too."""

    kind: Annotated[str, Meta(description="sound or screen")]
    name: str
    tags: list[str]
    power: Annotated[str, Meta(description="off, warming, on, cooling or fault")] | None = None
    level_dbfs: Annotated[float, Meta(description="dBFS, RMS of the last 5 ms; a full-scale sine is -3.01")] | None = (
        None
    )
    owner: OwnerStatus | None = None
    mode: Annotated[
        str, Meta(description="programme, relay, microphone, external (an old source is heard) or none")
    ] = "none"
    played_today_s: Annotated[int, Meta(description="seconds on the air since midnight, by the play log")] = 0
    line: str | None = None
    amplifier: bool | None = None
    temperature_c: Annotated[float, Meta(description="°C")] | None = None
    supply_v: Annotated[float, Meta(description="V")] | None = None
    current_ma: Annotated[float, Meta(description="mA")] | None = None
    volume_db: Annotated[float, Meta(description="dB, the zone's own gain")] | None = None
    test: SelfTestStatus | None = None


class ClusterStatus(HealthStatus, kw_only=True):
    """A loudspeaker cluster as people know it."""

    name: str
    hamlet: str
    tags: list[str]
    zone: str | None = None
    online: Annotated[bool, Meta(description="absent: it has no return channel, or never reported")] | None = None
    seen: Time | None = None


class FaultStatus(Struct, kw_only=True):
    """Something that is wrong now."""

    what: Annotated[str, Meta(description="stable word, with @device, @zone or @cluster behind it")]
    detail: str


class Status(Struct, kw_only=True):
    """The whole document. Members that this type does not name may stand beside them."""

    device: str
    name: str
    unit: str
    at: Time
    rev: int
    agent: str
    image: str
    since: Time
    online: bool
    zones: dict[str, ZoneStatus]
    clusters: dict[str, ClusterStatus]
    faults: list[FaultStatus]
    outbox: Annotated[dict[str, int], Meta(description="rows: messages waiting; dropped: lost, oldest and least first")]
    log: Annotated[list[Any], Meta(description="[number, hash] of the play log's head")]
    silences: list[dict[str, Any]]
    next: Annotated[list[dict[str, Any]], Meta(description="programmes of the next 24 hours, and what they lack")]
    clock: dict[str, Any]
    relays: Annotated[
        dict[str, bool], Meta(description="on, confirmed by its feedback contact where there is one")
    ] = {}
    voice: dict[str, Any] = {}
    frames: dict[str, str] = {}
    disk: Annotated[dict[str, int], Meta(description="free_mb, total_mb: MiB")] = {}
    temperature_c: Annotated[float, Meta(description="°C, of the processor")] | None = None
    uptime_s: Annotated[int, Meta(description="seconds")] | None = None
    undervoltage: Annotated[bool, Meta(description="the device's own supply is too low now")] | None = None
    network: Annotated[
        dict[str, Any],
        Meta(
            description="interface; type: lan, wifi or mobile; received_mb, sent_mb: MiB since the interface is up; "
            "by ModemManager: operator, technology, signal_percent"
        ),
    ] = {}
    position: Annotated[dict[str, float], Meta(description="lat, lon: degrees (WGS 84), by the configuration")] = {}
    microphone: Annotated[dict[str, bool], Meta(description="plugged: the microphone's sound card is there")] = {}
    reset: Annotated[
        dict[str, str],
        Meta(
            description="why the machine has started: code, the firmware's register; reason: power-on, restart, "
            "debugger, under-voltage, over-voltage or over-temperature"
        ),
    ] = {}
