"""How orders become programmes: the one door, offers, schedules, cancels, silence, configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from agent.core import commands as do
from agent.core import rules
from agent.core.airing import Airing
from agent.core.calendar import MAX_ENTRIES, late
from agent.core.catalogue import allowed
from agent.core.examination import Examination
from agent.core.intake import Admitted, Ignored, RefusalEvent, Refused, Rejected, Repeated
from agent.core.ledger import WEIGHT
from agent.core.outcomes import AHEAD_S
from agent.core.plays import Play
from agent.core.programme import By, Part, Programme, Stage, State
from agent.core.readiness import LATE_S
from agent.core.recurrence import parse_time
from agent.core.silences import SILENCES_KEY
from agent.model import events as ev
from agent.model import orders
from agent.model import voice as vo
from agent.model.orders import Class, Item, Reason
from agent.model.records import DropValue, PutValue
from agent.model.time import Instant
from agent.trust.refusal import Refusal as TrustRefusal
from agent.trust.verify import VerifiedOrder

REMOTE_KEYS: dict[str, Any] = {"normal_from_above": Literal["offer", "auto"], "priority_order": list[str]}
"""Configuration keys that may be set from afar (`configure`)."""
REJECTION_EVERY_NS = 60 * 10**9
"""The same order is answered once in this time when its rejection is not remembered."""
MAX_REJECTIONS = 1000


class Admission(Airing):
    """Takes what the intake admitted, the province's orders and the commune's own alike."""

    def _order(self, event: ev.OrderArrived, now: Instant, examination: Examination | None = None) -> None:
        if examination is None or examination.trusted is not self.intake.trusted:
            examination = self.intake.examine(event.topic, event.payload, event.retain)
        self._after.append(do.Acknowledge(event.token))
        rows, writes = self.passing.take(examination, now)
        if rows:
            self.ledger.write(*writes)
            self._wants_old_ns = 0
            self.send_down([row.send(now) for row in rows], urgent=any(row.urgent for row in rows))
        self._arrived_ns = event.at_ns
        self.admit(event.topic, event.payload, event.retain, now, examination)
        self._arrived_ns = 0

    def admit(
        self, topic: str, payload: bytes, retain: bool, now: Instant, examination: Examination | None = None
    ) -> tuple[str | None, str | None]:
        """The one door for orders, the province's and the commune's own. Returns reason and detail of a refusal."""
        verdict = self.intake.check(topic, payload, retain, now, examination)
        match verdict:
            case Ignored():
                return None, None
            case Refused():
                report = self.meter.refused(verdict, now)
                if report is not None:
                    self._refused(report, now)
                return verdict.reason.value, verdict.detail
            case Repeated():
                if verdict.ack:
                    self.ledger.ack(msgspec.json.decode(verdict.ack), 2)
                return None, None
            case Rejected():
                if verdict.reason is Reason.NOT_YET_VALID and verdict.order.authentic:
                    self._after.append(do.SignedTime(verdict.order.iat))
                self._reject(verdict, now)
                return verdict.reason.value, verdict.detail
            case Admitted():
                self._after.append(do.SignedTime(verdict.signed_time))
                return self._apply(verdict, now)
        raise LookupError(type(verdict).__name__)

    def _refused(self, report: RefusalEvent, now: Instant) -> None:
        self.ledger.event("refused", now.wall, 0, msgspec.to_builtins(report))

    def _reject(self, verdict: Rejected, now: Instant) -> None:
        order = verdict.order
        if not verdict.consumes:
            # Old orders can be sent again, and unauthentic ones made anew, by anyone who can write to the topic.
            key = order.sha256 if order.authentic else verdict.reason.value
            before = self._rejections.get(key)
            if before is not None and now.mono_ns - before < REJECTION_EVERY_NS:
                return
            if len(self._rejections) > MAX_REJECTIONS:
                self._rejections.clear()
            self._rejections[key] = now.mono_ns
        body = self._plain_ack(order, "rejected", now, verdict.reason.value)
        if verdict.detail:
            body["detail"] = verdict.detail
        weight = WEIGHT[order.class_] if order.class_ is not None else 1
        self.ledger.write(*self.intake.consume(verdict, self.ledger.ack(body, weight)))

    def _plain_ack(
        self, order: VerifiedOrder, state: str, now: Instant, reason: str | None = None, seq: int = 1
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"jti": order.jti, "iss": order.iss}
        if order.id is not None:
            body["id"] = order.id
        body |= {"seq": seq, "state": state, "at": self.ledger.time(now.wall)}
        if reason is not None:
            body["reason"] = reason
        body["zones"] = {}
        return body

    def _apply(self, admitted: Admitted, now: Instant) -> tuple[str | None, str | None]:
        order = admitted.order
        if isinstance(order.args, orders.Broadcast):
            return self._broadcast(admitted, order.args, now)
        if isinstance(order.args, orders.Configure):
            trouble = _unfit(order.args)
            if trouble is not None:
                self._reject(admitted.rejected(Reason.BAD_ARGS, trouble), now)
                return Reason.BAD_ARGS.value, trouble
        if isinstance(order.args, orders.Schedule):
            total = self.calendar.size(without=order.iss) + len(order.args.entries)
            if total > MAX_ENTRIES:
                detail = f"{total} schedule entries over all issuers; at most {MAX_ENTRIES}"
                self._reject(admitted.rejected(Reason.BAD_ARGS, detail), now)
                return Reason.BAD_ARGS.value, detail
        if isinstance(order.args, orders.Report) and (refusal := self._unreportable(order.args)) is not None:
            self._reject(admitted.rejected(*refusal), now)
            return refusal[0].value, refusal[1]
        first = self.ledger.ack(self._plain_ack(order, "received", now), 2)
        if isinstance(order.args, orders.Report):
            self.ledger.write(*self.intake.consume(admitted, first))
            self.inspections.ask(self, order, order.args)
            return None, None
        if isinstance(order.args, orders.Test):
            self.ledger.write(*self.intake.consume(admitted, first))
            self._now = now
            self.tests.ask(self, admitted.zones, order.iss, order.jti)
            return None, None
        self.ledger.write(*self.intake.consume(admitted, first))
        reason = self._apply_state(order, now)
        last = self._plain_ack(order, "done" if reason is None else "failed", now, reason, seq=2)
        self._remember_ack(order.iss, order.jti, self.ledger.ack(last, 2))
        return reason, None

    def _apply_state(self, order: VerifiedOrder, now: Instant, *, boot: bool = False) -> str | None:
        match order.args:
            case orders.Schedule() as schedule:
                self._schedule(order, schedule, now, boot=boot)
            case orders.Silence() as silence:
                rank = order.authority.rank if order.authority else 0
                self.silences.apply(order.iss, rank, silence, order.iat, self.config)
                self.ledger.write(PutValue(key=SILENCES_KEY, value=self.silences.encode()))
                self._urgent = not boot
                self._silence(now)
            case orders.Cancel() as cancel:
                self._cancel(order, cancel, now)
            case orders.Authorities():
                pass  # the intake has taken them over
            case orders.Update() | orders.Reboot():
                return Reason.UNKNOWN_OP.value  # known to the contract, not built yet
            case orders.Configure() as configure:
                self._configure(configure)
            case _:
                return Reason.UNKNOWN_OP.value
        return None

    def _unreportable(self, report: orders.Report) -> tuple[Reason, str] | None:
        """Why a report cannot be uploaded: content goes only to where content may come from."""
        if report.upload.startswith("local:") or not allowed(report.upload, self.config):
            return Reason.CONTENT_UNAVAILABLE, f"{report.upload[:200]}: not a host that a report may go to"
        if self.inspections.full:
            return Reason.RATE_LIMITED, "other reports are still on their way"
        return None

    def _configure(self, order: orders.Configure) -> None:
        for key, value in order.set.items():
            self.config = msgspec.structs.replace(self.config, **{key: msgspec.convert(value, REMOTE_KEYS[key])})
        self.intake.station = self.config

    def _broadcast(self, admitted: Admitted, b: orders.Broadcast, now: Instant) -> tuple[str | None, str | None]:
        order = admitted.order
        start = now.wall if b.start == "now" else parse_time(b.start).timestamp()
        until = None if b.until is None else parse_time(b.until).timestamp()
        p = Programme(
            key=f"{order.iss}/{b.id}",
            iss=order.iss,
            id=b.id,
            title=b.title,
            class_=b.class_,
            rank=order.authority.rank if order.authority else 0,
            by=By.ORDER,
            by_whom=self.pressed.get(b.id, "") if order.iss == self.config.trust.station_authority else "",
            items=b.items,
            start=start,
            until=until,
            resume=b.resume,
            repeat=b.repeat,
            replaces=list(b.replaces),
            volume_db=b.volume_db,
            drill=b.drill,
            approved_by=b.approved_by,
            jti=order.jti,
            received_at=now.wall,
            received_mono_ns=self._arrived_ns or now.mono_ns,
            order_exp=order.exp,
            parts={z: Part() for z in admitted.zones},
        )
        refusal = self._refusal(p, now)
        if refusal is not None:
            self._reject(admitted.rejected(*refusal), now)
            return refusal[0].value, refusal[1]
        mute = self._voiceless(p) is not None
        for zone, part in p.parts.items():
            if mute and self._zones[zone].kind == "sound":
                part.reason = Reason.NO_VOICE.value
            elif not p.overrides and (bar := rules.barred(self._zones[zone], p.start, self.tz)):
                part.reason = bar.value
        offered = b.class_ is Class.NORMAL and self.offered(order.iss)
        formers = self._bulletins(p.iss, p.id)
        if len(formers) == 1 and self._renews(formers[0], p):
            self.ledger.write(*self.intake.consume(admitted, self.ledger.programme_ack(p, now.wall) or b""))
            self._renew(formers[0], p, now)
            return None, None
        for former in formers:
            # The same bulletin again: a renewed stream or a corrected text; it goes on under the new order.
            self._end(former, Reason.SUPERSEDED.value, now)
        if p.key in self.programmes:
            p.key = f"{p.key}/{order.jti}"  # voice has not ended the former yet
        self.programmes[p.key] = p
        self._expect(p)
        self.ledger.write(*self.intake.consume(admitted, self.ledger.programme_ack(p, now.wall) or b""))
        for part in p.parts.values():
            part.reason = None
        p.state = State.OFFERED if offered else State.ACCEPTED
        self._ack(p, now)
        self._touch(p)
        for zone in p.parts if mute else ():
            if self._zones[zone].kind == "sound":
                self._end_part(p, zone, Reason.NO_VOICE.value, now)
        return None, None

    def _renews(self, former: Programme, p: Programme) -> bool:
        """Whether an order only lets the stream that is on go on: the same bulletin but for its lease and its end."""

        def form(programme: Programme) -> tuple[object, ...]:
            items = [{**msgspec.to_builtins(i), "lease_s": None} for i in programme.items]
            more = (programme.class_, programme.resume, programme.repeat, programme.volume_db, programme.drill)
            return items, set(programme.parts), *more

        stages = {part.stage for part in former.parts.values()}
        return (
            former.state is State.RUNNING
            and p.start <= p.received_at
            and form(former) == form(p)
            and stages <= {Stage.WAITING, Stage.PLAYING}
            and not any((former.key, zone) in self._leaving for zone in former.parts)
            and any(True for _ in self._streams(former))
        )

    def _streams(self, p: Programme) -> Iterator[tuple[Play, int, float]]:
        """The programme's streams that are on: play, segment and lease."""
        leases = {i.stream: i.lease_s for i in p.items if i.stream is not None and i.lease_s is not None}
        for play in self.plays.values():
            for number, segment in enumerate(play.segments):
                url = play.cues[segment.cues[0]].url
                if play.key == p.key and url in leases and not segment.done:
                    yield play, number, leases[url]

    def _renew(self, former: Programme, p: Programme, now: Instant) -> None:
        """The programme goes on, without a gap, under the new order; the old one is over."""
        over = {
            zone: msgspec.structs.replace(part, stage=Stage.ENDED, reason=Reason.SUPERSEDED.value)
            for zone, part in former.parts.items()
        }
        ended = msgspec.structs.replace(former, state=State.FAILED, parts=over)
        self._ack(ended, now, Reason.SUPERSEDED.value)
        self._ack(p, now)
        for name in ("jti", "seq", "items", "title", "until", "order_exp", "approved_by", "rank", "replaces"):
            setattr(former, name, getattr(p, name))
        former.replaced = False
        self._ack(former, now)
        for play, segment, lease in self._streams(former):
            self._act.append(do.ExtendFeed(play.id, segment, lease))
        for key in [k for k in self._prepared if k[0] == former.key]:
            self._unprepare(key)
        self._touch(former)

    def offered(self, iss: str) -> bool:
        """Whether normal bulletins of this issuer wait for the commune: those from above do, unless `auto`."""
        own = self.config.trust.station_authority
        if self.config.normal_from_above == "auto" or iss == own:
            return False
        known = self.intake.trusted.authorities
        mine, theirs = known.get(own or ""), known.get(iss)
        return mine is None or theirs is None or theirs.rank > mine.rank

    def _refusal(self, p: Programme, now: Instant) -> tuple[Reason, str] | None:
        """Why a programme cannot be taken at all: the contract's reason, and a sentence for people."""
        own = p.iss == self.config.trust.station_authority
        for media in self.catalogue.media(p.items):
            if own and media.url == f"local:{media.sha256}":
                continue  # adopted into the library before the order was made
            if not allowed(media.url, self.config) and self.catalogue.cue(0, Item(media=media)).path is None:
                return Reason.CONTENT_UNAVAILABLE, f"{media.url[:200]}: not a host that content may come from"
        for item in p.items:
            if item.stream is not None and not allowed(item.stream, self.config):
                return Reason.CONTENT_UNAVAILABLE, f"{item.stream[:200]}: not a host that content may come from"
        talks = self._talker(p) is not None
        unknown = self.catalogue.unknown([i for i in p.items if not (talks and i.local == vo.MICROPHONE)])
        if unknown is not None:
            return Reason.CONTENT_UNAVAILABLE, unknown
        lang = self._voiceless(p)
        if lang is not None and all(self._zones[z].kind == "sound" for z in p.parts):
            return Reason.NO_VOICE, f"there is no voice for the language {lang!r}"
        if all(self._silenced(p, z, now) for z in p.parts):
            return Reason.SILENCED, "all zones are silenced"
        if f"{p.iss}/{p.id}" in self._tombstones:
            return Reason.CANCELLED, "it was cancelled before it came"
        if not now.trusted and not p.overrides:
            return Reason.CLOCK_UNTRUSTED, "the station does not know the time yet"
        if self.storage_bad is not None and not p.overrides:
            return Reason.STORAGE, self.storage_bad
        return None

    def accept(self, key: str, at: float | None, now: Instant) -> bool:
        """The commune accepts an offered bulletin, for its own time or `at`. False: nothing is offered by that key."""
        p = self.programmes.get(key)
        if p is None or p.state is not State.OFFERED:
            return False
        p.advance(State.ACCEPTED)
        p.start = at if at is not None else max(p.start, now.wall)
        if p.by is By.SCHEDULE:
            self.calendar.accepted.add(f"{p.iss}/{p.id}")
            self.ledger.write(PutValue(key=f"accepted/{p.iss}/{p.id}", value=b"1"))
        self._ack(p, now)
        self._touch(p)
        return True

    def decline(self, key: str, now: Instant) -> bool:
        """The commune declines an offered bulletin."""
        p = self.programmes.get(key)
        if p is None or p.state is not State.OFFERED:
            return False
        p.state = State.REJECTED
        self._conclude(p, Reason.DECLINED.value, now, "declined")
        return True

    def _schedule(self, order: VerifiedOrder, schedule: orders.Schedule, now: Instant, *, boot: bool) -> None:
        """A schedule replaces the issuer's former one. What it left as it was, and what is on, goes on."""
        self._wants_old_ns = 0
        changed = self.calendar.replace(order.iss, order.authority.rank if order.authority else 0, schedule.entries)
        if not boot:
            for entry_id in sorted(changed):
                self.ledger.write(DropValue(key=f"accepted/{order.iss}/{entry_id}"))
        live = {e.id for e in schedule.entries}
        for p in list(self.programmes.values()):
            if p.by is not By.SCHEDULE or p.iss != order.iss or p.id not in changed:
                continue
            opened = any(part.stage is not Stage.WAITING for part in p.parts.values())
            if p.state in (State.OFFERED, State.ACCEPTED) and not opened:
                self._forget(p)  # it may come again as its entry says now
            elif p.id not in live:
                self._end(p, Reason.CANCELLED.value, now)
        for entry in schedule.entries:
            self._speak([*entry.items, *orders.as_items(entry.fallback)])

    def _occurrences(self, now: Instant) -> None:
        """Scheduled occurrences that come near become programmes; none while the time is not known."""
        if not now.trusted:
            return
        for iss, authority_rank, entry, start in self.calendar.take(now.wall + AHEAD_S):
            key = f"{iss}/{entry.id}/{int(start)}"
            zones = self._meant(iss, entry.zones)
            if key in self.programmes or not zones or key in self._tombstones:
                continue
            until = None if entry.duration_s is None else start + entry.duration_s
            if late(entry, start, now.wall, LATE_S):
                continue
            offered = (
                entry.class_ is Class.NORMAL and self.offered(iss) and f"{iss}/{entry.id}" not in self.calendar.accepted
            )
            p = Programme(
                key=key,
                iss=iss,
                id=entry.id,
                title=entry.title,
                class_=entry.class_,
                rank=authority_rank,
                by=By.SCHEDULE,
                items=entry.items,
                start=start,
                until=until,
                resume=entry.resume,
                on_late=entry.on_late,
                fallback=orders.as_items(entry.fallback),
                approved_by=entry.approved_by,
                received_at=now.wall,
                received_mono_ns=now.mono_ns,
                state=State.OFFERED if offered else State.ACCEPTED,
                parts={z: Part() for z in zones},
            )
            self.programmes[key] = p
            self._expect(p)
            self._touch(p)

    def _meant(self, iss: str, selectors: list[str]) -> list[str]:
        """The zones a schedule entry reaches; none once its issuer has lost the right."""
        try:
            return self.intake.zones(iss, selectors)
        except TrustRefusal:
            return []

    def _cancel(self, order: VerifiedOrder, cancel: orders.Cancel, now: Instant) -> None:
        if cancel.ids is not None:
            targets: list[tuple[str, str, str | None]] = [(order.iss, i, None) for i in cancel.ids]
        else:
            targets = [(cancel.iss or "", cancel.id or "", cancel.occurrence)]
        for iss, bulletin, occurrence in targets:
            suffix = "" if occurrence is None else f"/{int(parse_time(occurrence).timestamp())}"
            key = f"{iss}/{bulletin}{suffix}"
            hit = [
                p for p in self.programmes.values() if p.key == key or (not suffix and (p.iss, p.id) == (iss, bulletin))
            ]
            for p in hit:
                self._end(p, Reason.CANCELLED.value, now)
            if not hit or suffix:
                self._bury(key, order.exp or now.wall + 86400.0)

    def drill(self, minutes: float, now: Instant) -> None:
        """For so long what the commune's buttons start is an exercise; 0: it is over."""
        on = minutes > 0
        if on or self.drill_until_ns:
            self.ledger.alarm("drill-mode", "the buttons are in drill mode", now.wall, on=on)
        self.drill_until_ns = now.mono_ns + round(minutes * 60e9) if on else 0
        self._act.append(do.ToVoice(vo.Drill(until_ns=self.drill_until_ns)))
        self.reporter.changed()

    def _locked(self, now: Instant) -> list[str]:
        return [z for z in self._zones if self.silences.covers(z, now.surely, local=True)]

    def _silence(self, now: Instant) -> None:
        self._act.append(do.ToVoice(vo.Lock(zones=self._locked(now))))
        for p in list(self.programmes.values()):
            for zone, part in p.parts.items():
                if part.stage in (Stage.OPENED, Stage.PLAYING, Stage.PAUSED) and self._silenced(p, zone, now):
                    self._cut(p, zone, Reason.SILENCED.value, now)

    def coming(self, now: Instant, within_s: float) -> list[dict[str, Any]]:
        """Programmes on, waiting and to come, soonest first, each with what its content still lacks."""
        rows = [
            self._row(p.start, p.title, p.class_, p.iss, p.id, list(p.parts), p.state.value, [*p.items, *p.fallback])
            for p in self.programmes.values()
        ]
        for iss, entry, start in self.calendar.coming():
            zones = self._meant(iss, entry.zones)
            if start < now.wall + within_s and zones:
                rows.append(self._row(start, entry.title, entry.class_, iss, entry.id, zones, "planned", entry.items))
        return sorted(rows, key=lambda row: str(row["at"]))

    def _row(
        self,
        at: float,
        title: str,
        class_: Class,
        iss: str,
        bulletin: str,
        zones: list[str],
        state: str,
        items: list[Item],
    ) -> dict[str, Any]:
        pending = [
            i
            for i, item in enumerate(items)
            if any(self.catalogue.cue(i, part).pending for part in self.catalogue.spread([item]))
        ]
        row: dict[str, Any] = {
            "at": self.ledger.time(at),
            "title": title,
            "class": class_.value,
            "iss": iss,
            "issuer": self.config.trust.called(iss),
            "id": bulletin,
            "zones": zones,
            "state": state,
            "ready": not pending,
        }
        if pending:
            row["missing"] = pending
        return row


def _unfit(order: orders.Configure) -> str | None:
    """Why a configuration value cannot be, with its place."""
    for key, value in order.set.items():
        try:
            msgspec.convert(value, REMOTE_KEYS[key])
        except (KeyError, msgspec.ValidationError) as error:
            return f"args.set.{key}: {error}"
    return None
