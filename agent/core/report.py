"""What the station says of itself: state, beat and status (CONTRACT sections 3 and 7). A missing sensor is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from agent.core import health
from agent.core.commands import Command, PublishBeat, PublishState, PublishStatus
from agent.core.silences import KEY
from agent.model import events as ev
from agent.model import screen
from agent.model import voice as vo
from agent.model.config import Station as Config
from agent.model.config import Zone
from agent.model.health import Sensed
from agent.model.time import Instant

if TYPE_CHECKING:
    from agent.core.station import Station

BEAT_S = 60.0
BEAT_BYTES = 120
COALESCE_S = 5.0
STATUS_S = 3600.0
MIN_GAP_S = 300.0
"""At most 12 status messages an hour on changes: after a burst of 3 the gap is five minutes."""
BURST = 3
PARENT_SILENT_S = 300.0
"""A cluster without its station is alone after so long."""
_SILENT = {"source": "no connection to the source system", "parent": "no connection to the station"}
CAPABILITIES = ["sound", "screen", "speech", "schedule", "silence"]


def _seconds(now: Instant) -> float:
    return now.mono_ns / 1e9


def _zone_of(zone: Zone) -> dict[str, Any]:
    """A zone in the state. `idle`: "external" of one that is taken over from somebody else's source."""
    told: dict[str, Any] = {"id": zone.id, "kind": zone.kind, "tags": zone.tags}
    return told | {"idle": "external"} if zone.idle.source == "external" else told


class Reporter:
    """Gathers facts; says when state, beat and status are due.

    `machine` returns what the operating system knows (disk, temperature, …): a dict ready for the status.
    """

    def __init__(
        self, config: Config, version: str, image: str, machine: Callable[[], dict[str, Any]], now: Instant
    ) -> None:
        self._config = config
        self._version = version
        self._image = image
        self._machine = machine
        self._since = now
        self._rev = 0
        self._beats = 0
        start = _seconds(now)
        self._next_beat = start
        self._next_status: float | None = start
        self._last_status = start
        self._tokens = float(BURST)
        self._refilled = start
        self._dirty = True
        self._state_published = False
        self._links = {name: False for name, on in (("source", config.mqtt), ("parent", config.parent)) if on}
        self._link_changed = dict.fromkeys(self._links, start)
        self._silent: set[str] = set()
        self._relays: dict[str, bool] = {}
        self._power: dict[str, str] = {}
        self._levels: dict[str, float | None] = {}
        self._frames: dict[str, str] = {}
        self._films: dict[str, dict[str, int]] = {}
        self._faults: dict[str, str] = {}
        self._voice: dict[str, Any] = {}
        self.health = health.HealthBook(config.zones, config.clusters)
        """Of lines and clusters."""

    # facts

    def hello(self, event: vo.Hello) -> None:
        """Voice is there."""
        self._voice = {"version": event.version, "pid": event.pid}
        self._relays = dict(event.relays)
        self._contacts()
        self._faults.pop("voice-lost", None)
        self.changed()

    def voice_lost(self) -> None:
        """Voice is gone: what only voice knew is unknown now."""
        self._voice, self._relays, self._power, self._levels = {}, {}, {}, {}
        self._contacts()
        self._faults["voice-lost"] = "voice does not answer"
        self.changed()

    def voice(self, event: vo.VoiceEvent) -> None:
        """A fact from voice."""
        match event:
            case vo.RelayEvent():
                self._relays[event.relay] = event.on
                self._contacts()
                self.changed()
            case vo.Power():
                self._power[event.zone] = event.state
                self.changed()
            case vo.Level():
                self._levels = dict(event.zones)
            case _:
                pass

    def _contacts(self) -> None:
        """Whether each zone's amplifiers are on, as far as feedback contacts tell."""
        amplifiers = {r.id for r in self._config.relays if r.switches == "amplifier" and r.feedback is not None}
        for zone in self._config.zones:
            told = [self._relays.get(s.relay) for s in zone.power if s.relay in amplifiers]
            if told and zone.kind == "sound":
                on = None if None in told else all(told)
                self.health.take(Sensed(zone=zone.id, values={"amplifier": on}))

    def shown(self, event: screen.Shown) -> None:
        """A frame is on a board."""
        if event.zone is not None:
            self._frames[event.zone] = event.sha256

    def knows(self, alarm: ev.Alarm) -> bool:
        """Whether exactly this is known to be wrong."""
        return self._faults.get(alarm.what if alarm.zone is None else f"{alarm.what}@{alarm.zone}") == alarm.detail

    def dropped(self, event: screen.Dropped) -> None:
        """A film is over."""
        if event.zone is not None:
            self._films[event.zone] = {"shown": event.shown, "lost": event.lost}

    def board_well(self, zone: str, lasting: frozenset[str]) -> None:
        """A board is to show something else: what was wrong with the last is past, unless it is of a lasting kind."""
        for key in [k for k in self._faults if k.startswith("screen-") and k.endswith(f"@{zone}")]:
            if key.removeprefix("screen-").partition("@")[0] not in lasting:
                self.alarm(ev.Alarm(key.partition("@")[0], "", zone, on=False))

    def fault(self, what: str, detail: str, zone: str | None) -> None:
        """Something is wrong now."""
        self._faults[what if zone is None else f"{what}@{zone}"] = detail
        self.changed()

    def alarm(self, alarm: ev.Alarm) -> None:
        """An alarm began or ended."""
        where = [place for place in (alarm.device, alarm.zone, alarm.cluster) if place is not None]
        key = "@".join([alarm.what, *where])
        if alarm.on:
            self._faults[key] = alarm.detail
        else:
            self._faults.pop(key, None)
        self.changed()

    def link(self, name: str, up: bool, now: Instant) -> None:
        """The source, or a cluster's station ("parent"), came or went."""
        if up != self._links.get(name):
            self._links[name] = up
            self._link_changed[name] = _seconds(now)
        if up:
            self._state_published = False
        self.changed()

    @property
    def _link_up(self) -> bool:
        """Whether anybody hears what is published."""
        return any(self._links.values())

    def changed(self) -> None:
        """The status has changed; it is sent soon, together with what else changes."""
        self._rev += 1
        self._dirty = True

    # what is due

    def due(self, station: Station, now: Instant) -> Iterator[Command]:
        """State, status and beat messages that are due now."""
        self._source_silence(station, now)
        if self._link_up and not self._state_published:
            self._state_published = True
            yield PublishState(self.state(station, now))
        t = _seconds(now)
        self._tokens = min(float(BURST), self._tokens + (t - self._refilled) / MIN_GAP_S)
        self._refilled = t
        if self._next_status is None:
            self._next_status = t + COALESCE_S if self._dirty else self._last_status + STATUS_S
        elif self._dirty:
            self._next_status = min(self._next_status, t + COALESCE_S)
        if self._link_up and t >= self._next_status and self._tokens >= 1:
            self._tokens -= 1
            self._dirty = False
            self._next_status = None
            self._last_status = t
            yield PublishStatus(self.status(station, now))
        if t >= self._next_beat:
            if self._link_up:
                self._next_beat = t + BEAT_S
                yield PublishBeat(self.beat(station, now))
            else:
                self._next_beat = t + COALESCE_S

    def wake(self, now: Instant) -> float:
        """When `due` is to be asked again (epoch seconds)."""
        soon = self._next_beat
        if self._next_status is not None and self._tokens >= 1 and self._link_up:
            soon = min(soon, self._next_status)
        return now.wall + max(0.0, soon - _seconds(now))

    def _source_silence(self, station: Station, now: Instant) -> None:
        mqtt = self._config.mqtt
        limits = {"source": mqtt.source_silent_alarm_s if mqtt else 0.0, "parent": PARENT_SILENT_S}
        for name, up in self._links.items():
            silent = not up and _seconds(now) - self._link_changed[name] >= limits[name]
            if silent != (name in self._silent):
                self._silent ^= {name}
                alarm = ev.Alarm(f"{name}-silent", _SILENT[name], on=silent)
                self.alarm(alarm)
                station.ledger.alarm(alarm.what, alarm.detail, now.wall, on=silent)

    # the messages

    def state(self, station: Station, now: Instant) -> dict[str, Any]:
        """The retained state; the link adds `birth` and `online`."""
        return {
            "device": self._config.device.id,
            "agent": self._version,
            "image": self._image,
            "capabilities": CAPABILITIES,
            "zones": [_zone_of(z) for z in self._config.zones],
            "since": station.ledger.time(self._since.wall),
        }

    def beat(self, station: Station, now: Instant) -> dict[str, Any]:
        """At most 120 bytes with up to three zones: where names are long, less of the bulletins' ids is told."""
        self._beats += 1
        head = station.ledger.head
        beat: dict[str, Any] = {
            "n": self._beats,
            "at": int(now.wall),
            "zones": {},
            "faults": len(self._faults),
            "rev": self._rev,
            "log": [head.n, head.hash[:8]],
        }
        for letters in range(8, 0, -1):
            beat["zones"] = {zone: bulletin[:letters] for zone, bulletin in station.owned().items()}
            if len(msgspec.json.encode(beat)) <= BEAT_BYTES:
                break
        return beat

    def _silencer(self, iss: str) -> str:
        """Who silences, as people call it: an authority, or a key switch."""
        keys = {f"{KEY}{b.id}": b.name for b in self._config.buttons}
        return keys.get(iss) or self._config.trust.called(iss)

    def status(self, station: Station, now: Instant) -> dict[str, Any]:
        """The full status, also for `tram status`."""
        time = station.ledger.time
        zones: dict[str, Any] = {}
        for z in self._config.zones:
            zone: dict[str, Any] = {"kind": z.kind, "name": z.name, "tags": z.tags}
            owner = station.owner(z.id)
            if z.id in self.health.zones:
                zone |= {"volume_db": z.gain_db} | health.health_row(self.health.zones[z.id], time)
                zone["mode"] = station.mode(z, owner)
            since = None if owner is None else owner.parts[z.id].stretch_started
            zone["played_today_s"] = round(station.ledger.played(z.id, now.wall, since))
            if z.id in self._films:
                zone["film"] = self._films[z.id]
            if z.id in self._power:
                zone["power"] = self._power[z.id]
            if self._levels.get(z.id) is not None:
                zone["level_dbfs"] = self._levels[z.id]
            if owner is not None:
                zone["owner"] = {
                    "bulletin": owner.id,
                    "iss": owner.iss,
                    "issuer": self._config.trust.called(owner.iss),
                    "title": owner.title,
                    "class": owner.class_.value,
                    "state": owner.parts[z.id].stage.value,
                }
                if owner.drill:
                    zone["owner"]["drill"] = True
                if since is not None:
                    zone["owner"]["since"] = time(since)
            zones[z.id] = zone
        outbox = station.ledger.outbox
        status: dict[str, Any] = {
            "device": self._config.device.id,
            "name": self._config.device.name,
            "unit": self._config.device.unit,
            "at": time(now.wall),
            "rev": self._rev,
            "agent": self._version,
            "image": self._image,
            "since": time(self._since.wall),
            "online": self._links.get("source", self._link_up),
            "zones": zones,
            "clusters": self._clusters(station),
            "faults": [{"what": k, "detail": v} for k, v in sorted(self._faults.items())],
            "clock": {"trusted": now.trusted},
            "drill": station.drill_until_ns > now.mono_ns,
            "outbox": {"rows": len(outbox), "dropped": sum(outbox.dropped.values())},
            "log": [station.ledger.head.n, station.ledger.head.hash],
            "silences": [
                {
                    "iss": iss,
                    "issuer": self._silencer(iss),
                    "scope": scope,
                    "zones": sorted(h.zones),
                    "until": None if h.until is None else time(h.until),
                }
                for (iss, scope), h in station.silences.held.items()
            ],
            "next": station.coming(now, 24 * 3600.0),
        }
        place = self._config.device.position
        if place is not None:
            status["position"] = {"lat": place.lat, "lon": place.lon}
        if "parent" in self._links:
            status["parent"] = {"online": self._links["parent"]}
        if self._relays:
            status["relays"] = self._relays
        if self._voice:
            status["voice"] = self._voice
        if self._frames:
            status["frames"] = self._frames
        return status | self._machine()

    def _clusters(self, station: Station) -> dict[str, dict[str, Any]]:
        """Of each cluster its health, and what it says beside it."""
        rows = self.health.cluster_rows(station.ledger.time)
        for name, more in station.clusters.rows(station.ledger.time).items():
            rows[name] = {key: value for key, value in (rows[name] | more).items() if value is not None}
        return rows
