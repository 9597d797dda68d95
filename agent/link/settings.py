"""What the link needs to know, and how long it waits between attempts."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from agent.model.config import Station


class Settings(Struct, frozen=True, kw_only=True):
    """Where to connect and how to behave. Times in seconds.

    `in_flight` bounds unacknowledged messages in each direction. After a break shorter than `refresh_after_s` whose
    session the broker kept, retained orders are not asked for again: the session has queued what is new.
    `outbox_pause_s`: longest pause before a row that the source did not take is tried again.
    `settle_s`: rows acknowledged so shortly before a connection was lost are sent once more.
    `stable_s`: a connection that lasted so long resets the back-off.
    """

    device: str
    groups: list[str] = []
    others: list[str] = []
    """Devices whose orders are received too: the clusters for which a station stands in."""
    section: str = "mqtt"
    """Of the configuration, for sentences about what is wrong there."""
    host: str
    port: int = 8883
    ca: str
    cert: str
    key: str
    keepalive_s: int = 240
    session_expiry_s: int = 14 * 86400
    will_delay_s: int = 30
    in_flight: int = 20
    max_packet_bytes: int = 2**20
    connect_timeout_s: float = 15.0
    backoff_min_s: float = 1.0
    backoff_max_s: float = 120.0
    stable_s: float = 10.0
    refresh_after_s: float = 300.0
    outbox_pause_s: float = 60.0
    settle_s: float = 5.0
    stale_state_pause_s: float = 5.0
    farewell_s: float = 2.0
    beat_period_s: int = 60

    @classmethod
    def of(cls, station: Station) -> Settings:
        """The settings of a station's configuration; ValueError when it has no `mqtt`."""
        m = station.mqtt
        if m is None:
            raise ValueError("the configuration has no mqtt section")
        return cls(
            device=station.device.id,
            groups=list(station.device.groups),
            others=list(station.fleet()),
            host=m.host,
            port=m.port,
            ca=m.ca,
            cert=m.cert,
            key=m.key,
            backoff_max_s=m.reconnect_max_s,
        )

    @classmethod
    def to_parent(cls, station: Station) -> Settings:
        """A cluster's to its station, on the local network: traffic is free there, and what is gone is missed soon.

        ValueError when the configuration has no `parent`.
        """
        p = station.parent
        if p is None:
            raise ValueError("the configuration has no parent section")
        return cls(
            device=station.device.id,
            groups=list(station.device.groups),
            section="parent",
            host=p.host,
            port=p.port,
            ca=p.ca,
            cert=p.cert,
            key=p.key,
            keepalive_s=20,
            will_delay_s=5,
            backoff_max_s=10.0,
        )


class Backoff:
    """Waits between attempts: anywhere between the least and a bound that doubles, so that a fleet spreads out."""

    def __init__(self, least_s: float, most_s: float, jitter: Callable[[], float] = random.random) -> None:
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        """A connection was good."""
        self._failures = 0

    def next(self) -> float:
        """How long to wait now, in seconds."""
        self._failures += 1
        bound = min(self._most_s, self._least_s * 2.0 ** min(self._failures, 32))
        return self._least_s + (bound - self._least_s) * self._jitter()
