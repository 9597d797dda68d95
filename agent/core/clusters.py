"""What a station knows of its clusters: what each says of itself on the station's own link, and what that means.

A cluster is believed about itself only. What it says on the way to the province is passed up unchanged; one that has
a link of its own to the province says it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from agent.model import events as ev
from agent.model.config import Cluster
from agent.model.time import Instant

if TYPE_CHECKING:
    from agent.core.station import Station

TOLD = ("line", "amplifier", "volume_db", "temperature_c", "supply_v", "power_lost", "last_test")
"""Members of a cluster's own status that the station's repeats, of the device and of each of its zones."""
CHANGES = ("line", "amplifier", "power_lost")
"""Of these, those whose change is an event."""
LIFETIMES = 4
MAX_WEIGHT = 3
LONGEST_WORD = 200


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
    status: dict[str, Any] = {}
    zones: dict[str, str] = {}
    """Zone → bulletin that owns it, by the newest beat or status."""
    faults: int | None = None
    troubles: set[str] = set()


class Clusters:
    """All clusters of a station that run Trạm themselves, by device id."""

    def __init__(self, fleet: dict[str, Cluster]) -> None:
        self.views = {device: View(cluster) for device, cluster in fleet.items()}

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
                zones = body.get("zones")
                view.zones = {str(z)[:40]: str(b)[:64] for z, b in zones.items()} if isinstance(zones, dict) else {}
                view.faults = _count(body.get("faults"))
            case "status":
                self._status(station, view, body, now)
            case "ack" | "event":
                if event.leaf == "ack":
                    iss, jti = body.get("iss"), body.get("jti")
                    station.ledger.write(*station.passing.acknowledged(event.device, str(iss), str(jti)))
                station.ledger.pass_up(event.device, event.leaf, _weight(event.leaf, body), event.payload)
        return False

    def _state(
        self, station: Station, view: View, body: dict[str, Any], event: ev.ClusterSaid, now: Instant
    ) -> bool:
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
            station.ledger.alarm(
                "cluster-offline", _who(view), now.wall, on=not online, cluster=view.cluster.id
            )
            station.reporter.changed()
        if not online:
            view.zones = {}
        station.ledger.pass_up(
            event.device, "state", 1, msgspec.json.encode({**body, "via": station.config.device.id})
        )
        return came

    def _status(self, station: Station, view: View, body: dict[str, Any], now: Instant) -> None:
        before = {key: _told(view.status, key) for key in CHANGES}
        view.status = body
        zones = body.get("zones")
        if isinstance(zones, dict):
            owners = {z: o.get("owner") for z, o in zones.items() if isinstance(o, dict)}
            view.zones = {str(z)[:40]: str(o.get("bulletin"))[:64] for z, o in owners.items() if isinstance(o, dict)}
        faults = body.get("faults")
        view.faults = len(faults) if isinstance(faults, list) else None
        after = {key: _told(body, key) for key in CHANGES}
        changed = {key: value for key, value in after.items() if value != before[key]}
        if changed:
            body = {"what": "cluster", "cluster": view.cluster.id, **changed}
            station.ledger.event("progress", now.wall, 2, body)
            station.reporter.changed()

    def _trouble(self, station: Station, view: View, what: str, detail: str, now: Instant) -> None:
        """Say it once in the life of this process: a cluster that does it all the time must not fill the outbox."""
        if what in view.troubles:
            return
        view.troubles.add(what)
        detail = f"{_who(view)}: {detail}"
        station.ledger.alarm(what, detail, now.wall, cluster=view.cluster.id)
        station.reporter.fault(what, detail, view.cluster.id)

    def lost(self, station: Station, now: Instant) -> None:
        """The link itself is gone: of no cluster it is known whether it is there."""
        for view in self.views.values():
            view.online = False
            view.zones = {}

    def report(self, station: Station) -> dict[str, Any]:
        """The status member `clusters`: what is known of each, by id. What is not known is absent."""
        found: dict[str, Any] = {}
        time = station.ledger.time
        for cluster in station.config.clusters:
            row: dict[str, Any] = {"name": cluster.name, "hamlet": cluster.hamlet}
            view = self.views.get(cluster.device or "")
            if view is None:
                row |= {"zone": cluster.zone, "state": "unknown"}
            else:
                row |= {"device": cluster.device, "online": view.online}
                if view.seen is not None:
                    row["seen"] = time(view.seen)
                row |= {key: value for key in TOLD if (value := _told(view.status, key)) is not None}
                if view.faults is not None:
                    row["faults"] = view.faults
                if view.zones:
                    row["plays"] = view.zones
            found[cluster.id] = {key: value for key, value in row.items() if value not in (None, "")}
        return found


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


def _told(status: dict[str, Any], key: str) -> Any:
    """A member of the device's status, or else what its zones say, each by name; only plain values are repeated."""
    value = _plain(status.get(key))
    if value is not None:
        return value
    zones = status.get("zones")
    if not isinstance(zones, dict):
        return None
    told = {str(z)[:40]: v for z, zone in zones.items() if isinstance(zone, dict) and (v := _plain(zone.get(key)))}
    return next(iter(told.values())) if len(told) == 1 else told or None


def _plain(value: object) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_WORD]
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict) and len(value) <= 16:
        flat = {str(k)[:40]: v for k, v in value.items() if isinstance(v, str | int | float)}
        return {k: v[:LONGEST_WORD] if isinstance(v, str) else v for k, v in flat.items()}
    return None


def _weight(leaf: str, body: dict[str, Any]) -> int:
    """How long it is kept when the outbox is full: receipts of emergencies are not told apart, so all acks weigh 2."""
    return 2 if leaf == "ack" or body.get("kind") == "alarm" else 1
