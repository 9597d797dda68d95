"""What a station knows of its clusters: what each says of itself on the station's own link, and what that means.

A cluster is believed about itself only. What it says on the way to the province is passed up unchanged; one that has
a link of its own to the province says it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from agent.core.recurrence import parse_time
from agent.model import events as ev
from agent.model.config import Cluster
from agent.model.health import ClusterSeen, Health, Line
from agent.model.time import Instant

if TYPE_CHECKING:
    from agent.core.station import Station

FINAL = frozenset({"done", "rejected", "failed"})
MISSED_S = 120.0
"""A cluster that has not come so long after the link began to serve is missed."""
LIFETIMES = 4
MAX_ZONES = 32
MEASURED = ("amplifier", "temperature_c", "supply_v", "current_ma", "volume_db", "test")
_BADNESS = (Line.NORMAL, Line.UNKNOWN, Line.OPEN, Line.SHORT)


class View(Struct):
    """One cluster. Times are epoch seconds."""

    cluster: Cluster
    online: bool = False
    seen: float | None = None
    birth: int | None = None
    lives: list[str] = []
    """`since` of the process that speaks, and of those before it: an old one that speaks again is another device."""
    kinds: set[str] = set()
    """Kinds of its zones, as far as it has said."""
    health: Health = Health()
    plays: dict[str, str] = {}
    """Zone → bulletin that owns it, by the newest beat or status."""
    faults: int | None = None
    troubles: set[str] = set()


class Clusters:
    """All clusters of a station that run Trạm themselves, by device id."""

    def __init__(self, fleet: dict[str, Cluster]) -> None:
        self.views = {device: View(cluster) for device, cluster in fleet.items()}
        self._missed_at: float | None = None

    def said(self, station: Station, event: ev.ClusterSaid, now: Instant) -> bool:
        """Take a cluster's message. True when it has just come (back) and must be given what it may have missed."""
        view = self.views.get(event.device)
        if view is None:
            return False
        body = _object(event.payload)
        if body is None or body.get("device", event.device) != event.device:
            detail = "it sends what is not a message of ours" if body is None else "it speaks in another device's name"
            self._trouble(station, view, "cluster-garbage" if body is None else "cluster-lies", detail, now)
            return False
        view.seen = now.wall
        match event.leaf:
            case "state":
                return self._state(station, view, body, event, now)
            case "beat":
                view.plays = _bulletins(body.get("zones"))
                view.faults = _count(body.get("faults"))
            case "status":
                self._status(station, view, body, now)
            case "ack" | "event":
                if event.leaf == "ack":
                    order = str(body.get("iss")), str(body.get("jti"))
                    final = body.get("state") in FINAL
                    station.ledger.write(*station.passing.acknowledged(event.device, *order, final=final))
                station.ledger.pass_up(event.device, event.leaf, _weight(event.leaf, body), event.payload)
        return False

    def _state(self, station: Station, view: View, body: dict[str, Any], event: ev.ClusterSaid, now: Instant) -> bool:
        online, birth, life = body.get("online"), body.get("birth"), str(body.get("since"))[:40]
        if not isinstance(online, bool) or not isinstance(birth, int):
            self._trouble(station, view, "cluster-garbage", "its state has neither online nor birth", now)
            return False
        if not online and (life != _last(view.lives) or birth != view.birth) and view.lives:
            return False  # the Will of a connection that has been replaced
        zones = body.get("zones")
        view.kinds = {str(z.get("kind")) for z in zones if isinstance(z, dict)} if isinstance(zones, list) else set()
        came = online and (not view.online or birth != view.birth or life != _last(view.lives))
        if online and life != _last(view.lives):
            if life in view.lives:
                detail = "two devices use its certificate in turn: a copied card, or a stolen key"
                self._trouble(station, view, "cluster-twin", detail, now)
            view.lives = [*(known for known in view.lives if known != life), life][-LIFETIMES:]
        view.birth = birth
        if online != view.online:
            view.online = online
            station.reporter.changed()
        if not online:
            view.plays = {}
        self._tell(station, view, now)
        station.ledger.pass_up(event.device, "state", 1, msgspec.json.encode({**body, "via": station.config.device.id}))
        return came

    def _status(self, station: Station, view: View, body: dict[str, Any], now: Instant) -> None:
        zones = body.get("zones")
        rows = {str(z): row for z, row in zones.items() if isinstance(row, dict)} if isinstance(zones, dict) else {}
        view.plays = _bulletins(
            {z: o.get("bulletin") for z, row in rows.items() if isinstance(o := row.get("owner"), dict)}
        )
        faults = body.get("faults")
        view.faults = len(faults) if isinstance(faults, list) else None
        health = _health(body, rows)
        if health != view.health:
            view.health = health
            station.reporter.changed()
        self._tell(station, view, now)

    def _tell(self, station: Station, view: View, now: Instant) -> None:
        station.learn(ClusterSeen(cluster=view.cluster.id, online=view.online, at=now.wall, health=view.health), now)

    def _trouble(self, station: Station, view: View, what: str, detail: str, now: Instant) -> None:
        """Say it once in the life of this process: a cluster that does it all the time must not fill the outbox."""
        if what in view.troubles:
            return
        view.troubles.add(what)
        detail = f"{_who(view)}: {detail}"
        station.ledger.alarm(what, detail, now.wall, cluster=view.cluster.id)
        station.reporter.fault(what, detail, view.cluster.id)

    def up(self, now: Instant) -> None:
        """The link has begun to serve: all may come."""
        self._missed_at = now.mono_ns / 1e9 + MISSED_S

    def due(self, station: Station, now: Instant) -> None:
        """Those that should be there by now and are not."""
        if self._missed_at is None or now.mono_ns / 1e9 < self._missed_at:
            return
        self._missed_at = None
        for view in self.views.values():
            if not view.online:
                self._tell(station, view, now)

    def rows(self, time: Callable[[float], str]) -> dict[str, dict[str, Any]]:
        """What the status says of each beside its health, by cluster id; None where nothing is known."""
        return {
            view.cluster.id: {
                "device": device,
                "seen": None if view.seen is None else time(view.seen),
                "faults": view.faults,
                "plays": view.plays or None,
            }
            for device, view in self.views.items()
        }


def _who(view: View) -> str:
    return view.cluster.name or view.cluster.id


def _last(lives: list[str]) -> str | None:
    return lives[-1] if lives else None


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000 else None


def _bulletins(zones: object) -> dict[str, str]:
    found = list(zones.items())[:MAX_ZONES] if isinstance(zones, dict) else []
    return {str(zone)[:40]: str(bulletin)[:64] for zone, bulletin in found}


def _health(status: dict[str, Any], zones: dict[str, dict[str, Any]]) -> Health:
    """Of the whole cluster: its worst line, and the first of its zones that says anything else."""
    found: dict[str, Any] = {}
    lines = [_word(zone.get("line")) for zone in zones.values()]
    for row in (status, *zones.values()):
        for member in MEASURED:
            if member not in found and (value := _value(member, row.get(member))) is not None:
                found[member] = value
    return Health(line=max(lines, key=_BADNESS.index, default=Line.UNKNOWN), **found)


def _word(value: object) -> Line:
    return Line(value) if isinstance(value, str) and value in set(Line) else Line.UNKNOWN


def _value(member: str, value: object) -> Any:
    """A member of a health, if that is what was sent."""
    if value is None:
        return None
    if member == "test" and isinstance(value, dict):
        try:
            value = {**value, "at": parse_time(str(value.get("at"))).timestamp()}
        except ValueError:
            return None
    try:
        return getattr(msgspec.convert({member: value}, Health), member)
    except msgspec.ValidationError:
        return None


def _weight(leaf: str, body: dict[str, Any]) -> int:
    """How long it is kept when the outbox is full: never as long as what this station says itself."""
    return 1 if leaf == "ack" or body.get("kind") == "alarm" else 0
