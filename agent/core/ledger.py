"""What leaves the station in writing: acks, events, alarms and the play log. Gathers the writes of one event."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

import msgspec

from agent.core.outbox import Outbox
from agent.core.programme import Part, Programme, Stage, State
from agent.model.orders import Class
from agent.model.playlog import Head, LogEntry, Result, chain, encode, played_s
from agent.model.records import AppendLog, Snapshot, Write

WEIGHT = {Class.NORMAL: 1, Class.PRIORITY: 2, Class.EMERGENCY: 3}


class Ledger:
    """Acks, events and log entries in the order in which they happened; `take` empties what one event gathered."""

    def __init__(self, tz: tzinfo, snapshot: Snapshot, outbox: Outbox) -> None:
        self._tz = tz
        self.outbox = outbox
        self.head = Head(snapshot.log_n, snapshot.log_hash)
        self._writes: list[Write] = []
        self._day, self._played = snapshot.played[0], dict(snapshot.played[1])

    def time(self, at: float) -> str:
        """RFC 3339 with milliseconds, in the station's time zone."""
        return datetime.fromtimestamp(at, self._tz).isoformat(timespec="milliseconds")

    def played(self, zone: str, now: float, since: float | None = None) -> float:
        """Seconds that the zone was on the air today, the stretch that began at `since` and goes on included."""
        today = datetime.fromtimestamp(now, self._tz)
        before = self._played.get(zone, 0.0) if today.date().isoformat() == self._day else 0.0
        return before + (0.0 if since is None else played_s(datetime.fromtimestamp(since, self._tz), today))

    def _count(self, zone: str, started: float, ended: float) -> None:
        end = datetime.fromtimestamp(ended, self._tz)
        day = end.date().isoformat()
        if day != self._day:
            self._day, self._played = day, {}
        seconds = played_s(datetime.fromtimestamp(started, self._tz), end)
        self._played[zone] = self._played.get(zone, 0.0) + seconds

    def write(self, *writes: Write) -> None:
        """Add to this event's transaction."""
        self._writes.extend(writes)

    def take(self) -> list[Write]:
        """The transaction of this event."""
        writes, self._writes = self._writes, []
        return writes

    def event(self, kind: str, at: float, weight: int, body: dict[str, Any]) -> None:
        """Queue an event for the province."""
        self.write(*self.outbox.append("event", weight, {"kind": kind, "at": self.time(at), **body}))

    def alarm(
        self,
        what: str,
        detail: str,
        at: float,
        zone: str | None = None,
        *,
        on: bool = True,
        cluster: str | None = None,
        device: str | None = None,
    ) -> None:
        """Queue an alarm, or its end."""
        body: dict[str, Any] = {"what": what, "detail": detail, "on": on}
        places = {"zone": zone, "cluster": cluster, "device": device}
        body |= {name: place for name, place in places.items() if place is not None}
        self.event("alarm", at, 2, body)

    def pass_up(self, device: str, leaf: str, weight: int, body: bytes) -> None:
        """Queue what a cluster says to the province, unchanged, on the cluster's own topic."""
        self.write(*self.outbox.relay(device, leaf, weight, body))

    def ack(self, body: dict[str, Any], weight: int) -> bytes:
        """Queue an ack; returns its bytes, to be recorded with the order."""
        self.write(*self.outbox.append("ack", weight, body))
        return msgspec.json.encode(body)

    def programme_ack(self, p: Programme, at: float, reason: str | None = None) -> bytes | None:
        """The next ack of a programme that came as an order; None for schedule, officer and button."""
        if p.jti is None:
            return None
        p.seq += 1
        state = "received" if p.seq == 1 else p.state.value
        body: dict[str, Any] = {"jti": p.jti, "iss": p.iss, "id": p.id, "seq": p.seq, "state": state}
        body["at"] = self.time(at)
        if reason is not None:
            body["reason"] = str(reason)
        body["zones"] = {zone: self._zone(p, part) for zone, part in p.parts.items()}
        return self.ack(body, WEIGHT[p.class_])

    def log(
        self,
        p: Programme,
        zone: str,
        *,
        planned: float,
        started: float | None,
        ended: float,
        result: Result,
        reason: str | None = None,
        start_error_ms: float | None = None,
        level_dbfs: float | None = None,
        content: list[str] | None = None,
    ) -> None:
        """Chain one play-log entry (CONTRACT section 6) and queue it as an event."""
        entry = chain(
            self.head,
            LogEntry(
                bulletin=p.id,
                title=p.title,
                class_=p.class_.value,
                drill=p.drill,
                iss=p.iss,
                zone=zone,
                result=result,
                by=f"{p.by.value}:{p.by_whom}" if p.by_whom else p.by.value,
                approved_by=p.approved_by,
                planned=self.time(planned),
                started=None if started is None else self.time(started),
                ended=self.time(ended),
                start_error_ms=start_error_ms,
                reason=None if reason is None else str(reason),
                level_dbfs=level_dbfs,
                content=content or [],
            ),
        )
        self.head = Head(entry.n, entry.hash)
        if started is not None:
            self._count(zone, started, ended)
        self.write(AppendLog(n=entry.n, entry=encode(entry)))
        self.event("log", ended, WEIGHT[p.class_], {"entry": entry.to_dict()})

    def _zone(self, p: Programme, part: Part) -> dict[str, Any]:
        zone: dict[str, Any] = {"state": _zone_state(p, part)}
        if part.reason is not None:
            zone["reason"] = str(part.reason)
        if part.first_sample_at is not None:
            zone["first_sample_at"] = self.time(part.first_sample_at)
        return zone


def _zone_state(p: Programme, part: Part) -> str:
    if part.stage is Stage.ENDED:
        return "done" if part.completed else "rejected" if p.state is State.REJECTED else "failed"
    if part.stage in (Stage.PLAYING, Stage.PAUSED):
        return "running"
    if p.seq == 1:
        return "received"
    return p.state.value if p.state is State.OFFERED else "accepted"
