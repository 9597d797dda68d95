"""The owner: every event of the station comes in here, every decision leaves here. Pure: time is an argument.

    handle(event, now) -> commands

One thread calls it. What an event changes is first written to the store; the commands that act on it wait until the
commit is reported — but an emergency does not wait for the disk (CONTRACT section 4).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core import people, rules
from agent.core.arbiter import Claim, arbitrate
from agent.core.calendar import BACK_S, MAX_ENTRIES, Calendar, late
from agent.core.catalogue import Catalogue, Cue, allowed
from agent.core.commands import Command
from agent.core.intake import (
    Admitted,
    Ignored,
    Intake,
    RefusalEvent,
    RefusalMeter,
    Refused,
    Rejected,
    Repeated,
)
from agent.core.ledger import WEIGHT, Ledger
from agent.core.plays import Play
from agent.core.programme import (
    By,
    Part,
    Position,
    Programme,
    Stage,
    State,
    Step,
    decode,
    encode,
    rank,
)
from agent.core.recurrence import parse_time
from agent.core.report import Reporter
from agent.core.silences import Silences
from agent.model import config as conf
from agent.model import events as ev
from agent.model import orders, screen
from agent.model import voice as vo
from agent.model.orders import Class, Item, OnLate, Reason, Resume
from agent.model.playlog import Result
from agent.model.records import (
    AppendLog,
    DropOut,
    DropProgramme,
    DropValue,
    PutOrder,
    PutOut,
    PutProgramme,
    PutState,
    PutValue,
    Snapshot,
    Write,
)
from agent.model.time import Instant
from agent.ports import Need
from agent.trust.refusal import Refusal as TrustRefusal
from agent.trust.verify import VerifiedOrder, recall

PREPARE_S = 3.0
"""Decoders start this long before a programme is due."""
LEAD_S = 0.5
"""A play is handed to voice this long before its power chain must start."""
DWELL_S = 10.0
"""How long a board shows an item without `dwell_s`."""
LATE_S = 5.0
"""A scheduled start this late is late (`on_late` decides)."""
AHEAD_S = 900.0
"""A scheduled occurrence becomes a programme this long before its start."""
REMOTE_KEYS: dict[str, Any] = {"normal_from_above": Literal["offer", "auto"], "priority_order": list[str]}
"""Configuration keys that may be set from afar (`configure`)."""
REJECTION_EVERY_NS = 60 * 10**9
"""The same order is answered once in this time when its rejection is not remembered."""
MAX_REJECTIONS = 1000
TAKEN_NS = 10**9
"""A zone in which voice refused a play for a button's message is tried again after this."""
RETRY_NS = 5 * 10**9
"""What the disk did not take is tried again this often."""
DRILL_CHIME = "drill"
BRIDGE = "siren"


class Leaving(Struct):
    """A part whose play was told to stop; voice's `Ended` is still to come. `final`: it does not come back."""

    play: str
    reason: str
    final: bool


class Station:
    """All state of the agent. See `handle`."""

    def __init__(
        self,
        config: conf.Station,
        snapshot: Snapshot,
        intake: Intake,
        ledger: Ledger,
        catalogue: Catalogue,
        reporter: Reporter,
        now: Instant,
    ) -> None:
        self.config = config
        self.tz = ZoneInfo(config.timezone)
        self.intake = intake
        self.ledger = ledger
        self.catalogue = catalogue
        self.reporter = reporter
        self.meter = RefusalMeter()
        self.programmes: dict[str, Programme] = {}
        self.plays: dict[str, Play] = {}
        self.silences = Silences()
        self.calendar = Calendar()
        self.sign: people.Sign | None = None
        """Signs what the commune's own officers start; None: this station has no key."""
        self.storage_bad: str | None = None
        self.voice_up = False
        self._prepared: dict[tuple[str, Position, float], Play] = {}
        self._on: dict[tuple[str, str], str] = {}
        """(programme, zone) → the play or screen showing that is opened or playing there."""
        self._leaving: dict[tuple[str, str], Leaving] = {}
        self._taken: dict[str, int] = {}
        """Zones which voice keeps for a button's message, until (monotonic ns) we try again."""
        self._screen_until: dict[tuple[str, str], float] = {}
        self._resting: set[str] = set()
        self._dirty: set[str] = set()
        self._stretches = 0
        self._batch = 0
        self._waiting: dict[int, list[Command]] = {}
        self._writing: dict[int, list[Write]] = {}
        self._unwritten: dict[Hashable, tuple[int, Write]] = {}
        """What failed batches should have written, by what it is about, each with its batch; tried again as one."""
        self._unanswered: list[Command] = []
        self._retry_ns = 0
        self._seqs: dict[int, int] = {}
        self._act: list[Command] = []
        self._after: list[Command] = []
        self._urgent = False
        self._wants: tuple[Need, ...] = ()
        self._tombstones: dict[str, float] = {}
        self._rejections: dict[str, int] = {}
        self._zones = {z.id: z for z in config.zones}
        self._lead = {z.id: sum(s.warm_up_s for s in z.power) + LEAD_S for z in config.zones}
        self._now = now
        self._restore(snapshot, now)

    # ---------------------------------------------------------------- the one door

    def handle(self, event: Struct, now: Instant) -> list[Command]:
        """Take one event and answer with what is to be done, in order."""
        ready = self._react(event, now)
        self._settle(now)
        return ready + self._close(now)

    def begin(self, now: Instant) -> list[Command]:
        """What the restored state asks for; once, before the first event."""
        self._settle(now)
        return self._close(now)

    def next_wake(self, now: Instant) -> float:
        """Seconds until time itself is an event, at most 1."""
        at = min(self._wakes(now), default=now.wall + 1.0)
        return min(1.0, max(0.0, at - now.wall))

    def _react(self, event: Struct, now: Instant) -> list[Command]:
        match event:
            case ev.Tick():
                pass
            case ev.OrderArrived():
                self._order(event, now)
            case ev.Committed():
                return self._committed(event.batch)
            case ev.CommitFailed():
                return self._commit_failed(event, now)
            case vo.Started():
                self._started(event, now)
            case vo.Ended():
                self._ended(event, now)
            case vo.LocalStarted():
                self._local_started(event, now)
            case vo.LocalEnded():
                self._local_ended(event, now)
            case vo.ButtonEvent():
                self._button(event, now)
            case vo.Hello():
                self.voice_up = True
                self.reporter.hello(event)
                for name, sound in self.catalogue.messages.items():
                    if f"message:{name}" not in event.pinned:
                        self._act.append(do.PinMessage(name, sound.path))
                self._act.extend(do.ToVoice(c) for c in (vo.Lock(zones=self._locked(now)), vo.Levels(every_ms=200)))
            case ev.VoiceLost():
                self._voice_lost(now)
            case vo.Fault(what="pinned") if self._still_spoken(event.detail):
                pass  # a first start: the message is being spoken and will be loaded
            case vo.Fault():
                self.ledger.alarm(f"voice-{event.what}", event.detail, now.wall, event.zone)
                self.reporter.fault(f"voice-{event.what}", event.detail, event.zone)
            case vo.RelayEvent() | vo.Power() | vo.Level() | vo.SegmentStarted():
                self.reporter.voice(event)
            case ev.FeedMark():
                self._feed(event, now)
            case ev.SpeechReady():
                self._spoken(event)
            case ev.SpeechFailed():
                self.catalogue.unspeakable[event.key] = event.detail
                self.ledger.alarm("speech", event.detail, now.wall)
                self._content_changed()
            case ev.MediaReady():
                self.catalogue.lost.pop(event.sha256, None)
                self._content_changed()
                self._picture_came(event.sha256)
            case ev.MediaFailed():
                self._media_failed(event, now)
            case ev.MessageRecorded():
                self.catalogue.messages[event.message] = event.sound
                self._act.append(do.PinMessage(event.message, event.sound.path))
            case ev.Expanded():
                self.calendar.expanded(event)
            case screen.Shown():
                self._shown(event, now)
            case screen.ScreenFault():
                self.ledger.alarm("screen", event.detail, now.wall)
                self.reporter.fault("screen", event.detail, None)
            case ev.LinkUp():
                self.reporter.link(True, now)
            case ev.LinkDown():
                self.reporter.link(False, now)
            case ev.OutTaken():
                self.ledger.write(*self.ledger.outbox.taken(event.seq))
                rows = self.ledger.outbox.hand_over()
                if rows:
                    return [do.OfferRows(tuple(rows))]
            case ev.Alarm():
                self.ledger.alarm(event.what, event.detail, now.wall, event.zone, on=event.on)
                self.reporter.alarm(event)
            case ev.ChildDied():
                self.ledger.alarm("child-died", f"{event.name}: {event.detail}", now.wall)
                self.reporter.fault("child-died", f"{event.name}: {event.detail}", None)
            case ev.Asked():
                people.answer(self, event, now)
            case _:
                raise LookupError(f"nothing handles {type(event).__name__}")
        return []

    # ---------------------------------------------------------------- what was written comes first

    def _close(self, now: Instant) -> list[Command]:
        """End of one event: gather its transaction; urgent actions leave now, others once it is on the disk."""
        for key in sorted(self._dirty):
            p = self.programmes.get(key)
            self.ledger.write(PutProgramme(key=key, doc=encode(p)) if p else DropProgramme(key=key))
        self._dirty.clear()
        writes = self._with_unwritten(self.ledger.take(), now)
        act, after = self._act, self._after
        self._act, self._after, urgent, self._urgent = [], [], self._urgent, False
        ready: list[Command] = []
        if urgent:
            # Earlier decisions leave first, or an older Open would overtake this one.
            for batch in sorted(self._waiting):
                commands = self._waiting[batch]
                ready += [c for c in commands if not isinstance(c, _AFTER_COMMIT)]
                self._waiting[batch] = [c for c in commands if isinstance(c, _AFTER_COMMIT)]
            ready += act
            act = []
        if self.storage_bad is not None:
            # Nothing waits for a disk that takes nothing, but orders stay unacknowledged.
            ready += [c for c in act + after if not isinstance(c, do.Acknowledge)]
            self._unanswered += [c for c in after if isinstance(c, do.Acknowledge)]
            act, after = [], []
        if writes:
            self._batch += 1
            ready.append(do.Persist(self._batch, tuple(writes)))
            self._writing[self._batch] = writes
            self._waiting[self._batch] = act + after
            self._seqs[self._batch] = self.ledger.outbox.last_seq
        elif self._waiting and act:
            self._waiting[max(self._waiting)] += act + after
        else:
            ready += act + after
        ready.extend(self.reporter.due(self, now))
        return ready

    def _with_unwritten(self, writes: list[Write], now: Instant) -> list[Write]:
        """What to write now. While the disk takes nothing, all of it waits and is tried together now and then."""
        if self.storage_bad is None and not self._unwritten:
            return writes
        for write in writes:
            self._unwritten[_about(write)] = (self._batch + 1, write)
        if now.mono_ns < self._retry_ns:
            return []
        self._retry_ns = now.mono_ns + RETRY_NS
        return [write for _, write in self._unwritten.values()]

    def _committed(self, batch: int) -> list[Command]:
        for write in self._writing.pop(batch, []):
            about = _about(write)
            if about in self._unwritten and self._unwritten[about][0] <= batch:
                del self._unwritten[about]
        ready = self._waiting.pop(batch, []) + self._hand_over(batch)
        if self.storage_bad is not None:
            self.storage_bad = None
            self._retry_ns = 0
            self.reporter.alarm(ev.Alarm("storage", "", on=False))
        if not self._unwritten:
            ready += self._unanswered
            self._unanswered = []
        return ready

    def _hand_over(self, batch: int) -> list[Command]:
        self.ledger.outbox.durable(self._seqs.pop(batch, 0))
        rows = self.ledger.outbox.hand_over()
        return [do.OfferRows(tuple(rows))] if rows else []

    def _commit_failed(self, event: ev.CommitFailed, now: Instant) -> list[Command]:
        """Only emergencies go on without a disk. The order stays unacknowledged until it could be written."""
        if event.own:
            self.ledger.alarm("internal", event.detail, now.wall)
        else:
            if self.storage_bad is None:
                self.reporter.alarm(ev.Alarm("storage", event.detail))
                self.ledger.alarm("storage", event.detail, now.wall)
            self.storage_bad = event.detail
        for write in self._writing.pop(event.batch, []):
            newest, _ = self._unwritten.get(_about(write), (0, None))
            if event.batch > newest and not event.own:
                self._unwritten[_about(write)] = (event.batch, write)
        self._retry_ns = now.mono_ns + RETRY_NS
        waiting = self._waiting.pop(event.batch, [])
        self._unanswered += [c for c in waiting if isinstance(c, do.Acknowledge)]
        return [c for c in waiting if not isinstance(c, do.Acknowledge)] + self._hand_over(event.batch)

    def _touch(self, p: Programme) -> None:
        self._dirty.add(p.key)
        if p.class_ is Class.EMERGENCY:
            self._urgent = True

    # ---------------------------------------------------------------- boot

    def _restore(self, snapshot: Snapshot, now: Instant) -> None:
        for key, doc in snapshot.programmes.items():
            try:
                p = decode(doc)
            except msgspec.DecodeError as error:
                self.ledger.alarm("store-damaged", f"programme {key}: {error}", now.wall)
                self.ledger.write(DropProgramme(key=key))
                continue
            self.programmes[key] = p
            self._touch(p)
            for zone, part in list(p.parts.items()):
                if part.stage in (Stage.OPENED, Stage.PLAYING):
                    self._cut_by_power(p, zone, part, now)
                if part.stage is not Stage.ENDED and (p.by is By.BUTTON or zone not in self._zones):
                    self._end_part(p, zone, "power" if zone in self._zones else Reason.NO_SUCH_ZONE.value, now)
            # Zones that the configuration no longer has.
            p.parts = {zone: part for zone, part in p.parts.items() if zone in self._zones}
            self._expect(p)
        for value_key, value in snapshot.values.items():
            if value_key.startswith("tombstone/"):
                self._tombstones[value_key.removeprefix("tombstone/")] = float(value)
            elif value_key.startswith("accepted/"):
                self.calendar.accepted.add(value_key.removeprefix("accepted/"))
        for state in snapshot.states:
            try:
                self._apply_state(recall(state.raw, self.intake.trusted), now, boot=True)
            except TrustRefusal as refusal:
                self.ledger.alarm("store-damaged", f"{state.op} of {state.iss}: {refusal.detail}", now.wall)
        for m in self.config.messages:
            recording = self.catalogue.messages.get(m.id)
            if recording is not None:
                self._act.append(do.PinMessage(m.id, recording.path))
            else:
                self._act.append(do.Speak(f"message:{m.id}", m.text, m.lang))
        for source in self.config.sources:
            self._speak(orders.as_items(source.fallback))
        for spec in self.config.zones:
            if spec.kind == "screen":
                self._rest(spec.id)
        rows = self.ledger.outbox.hand_over()
        if rows:
            self._act.append(do.OfferRows(tuple(rows)))

    def _cut_by_power(self, p: Programme, zone: str, part: Part, now: Instant) -> None:
        """A part that was on when the agent ended. How long it sounded then, nobody knows."""
        started = part.stretch_started
        if started is not None:
            self.ledger.log(
                p,
                zone,
                planned=part.stretch_planned or p.start,
                started=started,
                ended=started,
                result="interrupted",
                reason=part.ending or "power",
            )
        part.take(Step.INTERRUPT)
        part.stretch_started = None
        if part.ending is not None:
            self._end_part(p, zone, part.ending, now, logged=started is not None)
        elif started is not None and (p.by is By.BUTTON or (p.resume is Resume.DROP and not p.overrides)):
            self._end_part(p, zone, "power", now, logged=True)
        elif p.resume is Resume.RESTART:
            part.position = Position()

    # ---------------------------------------------------------------- orders

    def _order(self, event: ev.OrderArrived, now: Instant) -> None:
        self._after.append(do.Acknowledge(event.token))
        self.admit(event.topic, event.payload, event.retain, now)

    def admit(self, topic: str, payload: bytes, retain: bool, now: Instant) -> tuple[str | None, str | None]:
        """The one door for orders, the province's and the commune's own. Returns reason and detail of a refusal."""
        verdict = self.intake.check(topic, payload, retain, now)
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
        first = self.ledger.ack(self._plain_ack(order, "received", now), 2)
        self.ledger.write(*self.intake.consume(admitted, first))
        reason = self._apply_state(order, now)
        last = self._plain_ack(order, "done" if reason is None else "failed", now, reason, seq=2)
        self._remember_ack(order.iss, order.jti, self.ledger.ack(last, 2))
        return reason, None

    def _remember_ack(self, iss: str, jti: str, ack: bytes) -> None:
        self.ledger.write(*self.intake.record_ack(iss, jti, ack))

    def _apply_state(self, order: VerifiedOrder, now: Instant, *, boot: bool = False) -> str | None:
        match order.args:
            case orders.Schedule() as schedule:
                self._schedule(order, schedule, now, boot=boot)
            case orders.Silence() as silence:
                self.silences.apply(order.iss, order.authority.rank if order.authority else 0, silence, self.config)
                self._urgent = not boot
                self._silence(now)
            case orders.Cancel() as cancel:
                self._cancel(order, cancel, now)
            case orders.Authorities():
                pass  # the intake has taken them over
            case orders.Update() | orders.Test() | orders.Report() | orders.Reboot():
                return Reason.UNKNOWN_OP.value  # known to the contract, not built yet
            case orders.Configure() as configure:
                self._configure(configure)
            case _:
                return Reason.UNKNOWN_OP.value
        return None

    def _configure(self, order: orders.Configure) -> None:
        for key, value in order.set.items():
            self.config = msgspec.structs.replace(self.config, **{key: msgspec.convert(value, REMOTE_KEYS[key])})
        self.intake.station = self.config

    # ---------------------------------------------------------------- programmes come in

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
            received_mono_ns=now.mono_ns,
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
            elif not p.overrides and rules.quiet_at(self._zones[zone], p.start, self.tz):
                part.reason = Reason.QUIET_HOURS.value
        offered = b.class_ is Class.NORMAL and self.offered(order.iss)
        for former in self._bulletins(p.iss, p.id):
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

    def _bulletins(self, iss: str, bulletin: str) -> list[Programme]:
        """What is alive of a bulletin that came as an order; two while the former version is being stopped."""
        return [p for p in self.programmes.values() if p.by is By.ORDER and (p.iss, p.id) == (iss, bulletin)]

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
            if not allowed(media.url, self.config) and self.catalogue.cue(0, Item(media=media)).pending:
                return Reason.CONTENT_UNAVAILABLE, f"{media.url[:200]}: not a host that content may come from"
        for item in p.items:
            if item.stream is not None and not allowed(item.stream, self.config):
                return Reason.CONTENT_UNAVAILABLE, f"{item.stream[:200]}: not a host that content may come from"
        unknown = self.catalogue.unknown(p.items)
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

    def _voiceless(self, p: Programme) -> str | None:
        """A language of the programme's texts that no voice speaks: its sound zones are refused, its boards are not."""
        return next((lang for _, _, lang in self.catalogue.texts(p.items) if not self.catalogue.speaks(lang)), None)

    def _expect(self, p: Programme) -> None:
        """Have the programme's texts spoken; its media is asked for by `_want`."""
        if any(self._zones[z].kind == "sound" for z in p.parts if z in self._zones):
            self._speak([*p.items, *p.fallback])

    def _speak(self, items: Iterable[Item]) -> None:
        for key, text, lang in self.catalogue.texts(items):
            if key not in self.catalogue.spoken and self.catalogue.speaks(lang):
                self._act.append(do.Speak(key, text, lang))

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
            if start < now.wall - LATE_S and entry.on_late is OnLate.JOIN:
                for part in p.parts.values():
                    part.position = Position(0, round((now.wall - start) * vo.RATE))
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

    def _bury(self, key: str, until: float) -> None:
        """Nothing of that key may begin until then."""
        self._tombstones[key] = max(until, self._tombstones.get(key, 0.0))
        self.ledger.write(PutValue(key=f"tombstone/{key}", value=str(self._tombstones[key]).encode()))

    # ---------------------------------------------------------------- silence

    def _silenced(self, p: Programme, zone: str, now: Instant) -> bool:
        local = p.by is By.BUTTON or p.iss == self.config.trust.station_authority
        return self.silences.covers(zone, now.surely, local=local)

    def _locked(self, now: Instant) -> list[str]:
        return [z for z in self._zones if self.silences.covers(z, now.surely, local=True)]

    def _silence(self, now: Instant) -> None:
        self._act.append(do.ToVoice(vo.Lock(zones=self._locked(now))))
        for p in list(self.programmes.values()):
            for zone, part in p.parts.items():
                if part.stage in (Stage.OPENED, Stage.PLAYING) and self._silenced(p, zone, now):
                    self._cut(p, zone, Reason.SILENCED.value, now)

    # ---------------------------------------------------------------- who owns each zone

    def _settle(self, now: Instant) -> None:
        """Compare what should be with what is, and mend the difference. Every event ends here."""
        self._clock_set(now)
        self._now = now
        for report in self.meter.due(now):
            self._refused(report, now)
        self._occurrences(now)
        self._expire(now)
        opening: dict[str, list[tuple[str, bool]]] = {}
        for zone in self._zones:
            self._zone(zone, now, opening)
        for key, zones in opening.items():
            self._open(self.programmes[key], zones, now)
        for zone_id, spec in self._zones.items():
            if spec.kind == "screen" and zone_id not in self._resting and not self._owners(zone_id):
                self._rest(zone_id)
        self._prepare_ahead(now, {(key, zone) for key, zones in opening.items() for zone, _ in zones})
        self._want(now)

    def _zone(self, zone: str, now: Instant, opening: dict[str, list[tuple[str, bool]]]) -> None:
        claims: list[Claim] = []
        screen_zone = self._zones[zone].kind == "screen"
        for p in self.programmes.values():
            part = p.parts.get(zone)
            if part is None or p.state not in (State.ACCEPTED, State.RUNNING) or (p.key, zone) in self._leaving:
                continue
            if part.stage in (Stage.ENDED, Stage.PAUSED):
                continue
            due_at = self._due(p)
            due = now.wall >= due_at or part.stage is Stage.PLAYING
            if not due and (screen_zone or now.wall < due_at - self._lead[zone]):
                continue
            if part.stage is Stage.WAITING and not self._may_start(p, zone, now):
                continue
            playing = part.stage in (Stage.OPENED, Stage.PLAYING)
            claims.append(Claim(p.key, rank(p, self.config.priority_order, playing=playing), due_at, due))
        ruling = arbitrate(claims)
        keep = {c.key for c in (ruling.owner, ruling.following) if c is not None}
        for key in self._owners(zone):
            if key not in keep and (key, zone) not in self._leaving:
                winner = self.programmes[ruling.owner.key] if ruling.owner else None
                local = winner is not None and winner.by is By.BUTTON
                self._stop(self.programmes[key], zone, "local" if local else Reason.OUTRANKED.value, final=False)
        if now.mono_ns < self._taken.get(zone, 0):
            return
        for claim in (ruling.owner, ruling.following):
            if claim is not None and self.programmes[claim.key].parts[zone].stage is Stage.WAITING:
                opening.setdefault(claim.key, []).append((zone, claim.due))

    def _owners(self, zone: str) -> list[str]:
        return [key for key, z in self._on if z == zone]

    def owner(self, zone: str) -> Programme | None:
        """The programme that is on in a zone."""
        on = [self.programmes[key] for key in self._owners(zone) if key in self.programmes]
        return max(on, key=lambda p: p.parts[zone].stage is Stage.PLAYING, default=None)

    def owned(self) -> dict[str, str]:
        """Zones that somebody owns, with the bulletin's id."""
        return {zone: p.id for zone in self._zones if (p := self.owner(zone)) is not None}

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
        pending = [i for i, item in enumerate(items) if self.catalogue.cue(i, item).pending]
        row: dict[str, Any] = {
            "at": self.ledger.time(at),
            "title": title,
            "class": class_.value,
            "iss": iss,
            "id": bulletin,
            "zones": zones,
            "state": state,
            "ready": not pending,
        }
        if pending:
            row["missing"] = pending
        return row

    def reply(self, reply: do.Reply) -> None:
        """Answer a person, after what was asked is durable."""
        self._after.append(reply)

    @staticmethod
    def _due(p: Programme) -> float:
        return p.again_at if p.again_at is not None else p.start

    def _may_start(self, p: Programme, zone: str, now: Instant) -> bool:
        if not p.overrides and (not now.trusted or self.storage_bad is not None):
            return False
        if self._silenced(p, zone, now):
            return False
        if not p.overrides and rules.quiet_at(self._zones[zone], max(now.wall, self._due(p)), self.tz):
            return False
        if self._zones[zone].kind == "screen":
            if not _shows(p.items):
                return any(part.stage is Stage.PLAYING for z, part in p.parts.items() if self._zones[z].kind == "sound")
            if p.overrides:
                return True
            pictures = self._pictures(p)
            if any(cue.pending for cue in pictures):
                return now.wall >= self._due(p) + LATE_S and len(pictures) < len(_shown_items(p.items))
            return not self._unshowable(p)
        if p.overrides or p.by is By.BUTTON:
            return self.voice_up
        cues = self._cues(p, zone)
        if all(c.failed is not None for c in cues):
            return False
        return self.voice_up and (not any(c.pending for c in cues) or self._give_up(p, now))

    def _pictures(self, p: Programme) -> list[Cue]:
        """Where the programme's pictures are, as far as it is known now."""
        return [self._picture(i.media) for i in p.items if i.media is not None and i.media.type.startswith("image/")]

    def _picture(self, media: orders.Media) -> Cue:
        return self.catalogue.cue(0, Item(media=msgspec.structs.replace(media, type="audio/file")))

    def _content_lost(self, p: Programme, zone: str) -> bool:
        """Whether nothing of a programme can be had for a zone any more."""
        if self._zones[zone].kind == "sound":
            return all(cue.failed is not None for cue in self._cues(p, zone))
        return not p.overrides and _shows(p.items) and self._unshowable(p)

    def _unshowable(self, p: Programme) -> bool:
        """Whether all that a board was to show of it is lost."""
        pictures = self._pictures(p)
        return len(pictures) == len(_shown_items(p.items)) and all(cue.failed is not None for cue in pictures)

    def _give_up(self, p: Programme, now: Instant) -> bool:
        """A scheduled programme with a fallback does not wait for missing content beyond its start."""
        return bool(p.fallback) and now.wall >= self._due(p) - LEAD_S

    def _cues(self, p: Programme, zone: str, live_seconds: float | None = None) -> list[Cue]:
        """The programme as sound. A drill is marked before and after."""
        items = [i for i in p.items if self._sounds(i)]
        cues = [self.catalogue.cue(i, item, live_seconds) for i, item in enumerate(items)]
        missing = [c for c in cues if c.pending or c.failed]
        if p.fallback and missing and len(missing) == len(cues):
            cues = [self.catalogue.cue(i, item) for i, item in enumerate(p.fallback)]
        if p.drill:
            mark = self.catalogue.cue(0, Item(chime=DRILL_CHIME))
            cues = [mark, *cues, mark]
            for index, cue in enumerate(cues):
                cues[index] = msgspec.structs.replace(cue, item=index)
        return cues

    @staticmethod
    def _sounds(item: Item) -> bool:
        return item.media is None or not item.media.type.startswith("image/")

    def _open(self, p: Programme, zones: list[tuple[str, bool]], now: Instant) -> None:
        groups: dict[tuple[Position, float, bool], list[str]] = {}
        for zone, due in zones:
            if self._zones[zone].kind == "screen":
                self._show(p, zone, now)
                continue
            gain = rules.gain(self._zones[zone], p.volume_db, now.wall, self.tz, overrides=p.overrides)
            groups.setdefault((p.parts[zone].position, gain, due), []).append(zone)
        for (position, gain, due), names in groups.items():
            play = self._prepare(p, position, gain, names[0], now)
            if play is None:
                for zone in names:
                    self._end_part(p, zone, Reason.CONTENT_UNAVAILABLE.value, now)
                continue
            if due and not p.overrides and not play.ready and now.wall < self._due(p) + LATE_S:
                continue
            del self._prepared[p.key, position, gain]
            self.plays[play.id] = play
            play.due = self._due(p)
            if any(p.parts[z].stretch_planned is not None for z in names):
                play.due = max(play.due, now.wall)  # opened ahead and put off, it still does not begin before its time
            at_ns = None if due else now.mono_of(play.due)
            self._urgent = self._urgent or p.overrides
            play.open(names, at_ns, self._act.append, f"chime:{BRIDGE}" if p.overrides else None)
            for zone in names:
                part = p.parts[zone]
                part.take(Step.OPEN)
                part.stretch_planned = play.due
                self._on[p.key, zone] = play.id
            self._touch(p)

    def _can_take_over(self, p: Programme, now: Instant) -> bool:
        """Whether a replacing programme would sound at once, so that its predecessor leaves no gap."""
        if not any(self._may_start(p, zone, now) for zone in p.parts):
            return False
        return p.overrides or any(play.ready for play in self._prepared.values() if play.key == p.key)

    def _replace(self, p: Programme, now: Instant) -> None:
        if p.replaced:
            return
        p.replaced = True
        self._touch(p)
        for bulletin in p.replaces:
            for old in self._bulletins(p.iss, bulletin):
                if old is not p:
                    self._end(old, Reason.SUPERSEDED.value, now)

    def _prepare(self, p: Programme, position: Position, gain: float, zone: str, now: Instant) -> Play | None:
        """The play that is ready, or getting ready, to take the programme on from `position`. None: no sound in it."""
        found = self._prepared.get((p.key, position, gain))
        if found is not None:
            return found
        live_seconds = None
        if p.parts[zone].stretch_planned is not None or now.wall > self._due(p) + LATE_S:
            live_seconds = self._live_left(p, now)
        cues = self._cues(p, zone, live_seconds)
        if all(c.failed is not None for c in cues[position.piece :]):
            return None
        self._stretches += 1
        play = Play(
            id=f"{p.key}#{now.mono_ns // 1_000_000}.{self._stretches}",
            key=p.key,
            origin=position,
            cues=cues,
            due=self._due(p),
            gain_db=gain,
            urgent=p.overrides,
        )
        self._prepared[p.key, position, gain] = play
        self._urgent = self._urgent or p.overrides
        play.begin(self._act.append, now.wall)
        return play

    def _live_left(self, p: Programme, now: Instant) -> float | None:
        """Seconds left of a relay that was interrupted or had to wait: it ends when it would have ended."""
        bounds = [i.duration_s for i in p.items if i.duration_s is not None]
        return max(1.0, self._due(p) + bounds[0] - now.wall) if bounds else None

    def _prepare_ahead(self, now: Instant, winning: set[tuple[str, str]]) -> None:
        for p in self.programmes.values():
            if p.state not in (State.ACCEPTED, State.RUNNING) or p.overrides:
                continue
            for zone, part in p.parts.items():
                if (
                    part.stage is not Stage.WAITING
                    or self._zones[zone].kind != "sound"
                    or (p.key, zone) in self._leaving
                ):
                    continue
                if now.wall < self._due(p) - self._lead[zone] - PREPARE_S or not self._may_start(p, zone, now):
                    continue
                gain = rules.gain(self._zones[zone], p.volume_db, now.wall, self.tz, overrides=False)
                if _live(p.items) and now.wall > self._due(p) and (p.key, zone) not in winning:
                    # Its zone is another's for who knows how long, and a stream that waits is no longer live.
                    self._unprepare((p.key, part.position, gain))
                else:
                    self._prepare(p, part.position, gain, zone, now)

    def _unprepare(self, key: tuple[str, Position, float]) -> None:
        play = self._prepared.pop(key, None)
        if play is not None:
            self._act.append(do.DropFeeds(play.id))

    def _content_changed(self) -> None:
        """Emergencies that are on grow by what has come."""
        for play in [*self.plays.values(), *self._prepared.values()]:
            p = self.programmes.get(play.key)
            if p is None or play.closed or not play.urgent:
                continue
            zone = next((z for z in p.parts if self._zones[z].kind == "sound"), None)
            if zone is not None:
                play.cues = self._cues(p, zone)
                self._urgent = True
                play.grow(self._act.append, self._now.wall)

    def _still_spoken(self, detail: str) -> bool:
        """Whether a pinned sound that voice misses is a stored message that has not been spoken yet."""
        waiting = {m.id for m in self.config.messages} - self.catalogue.messages.keys()
        return any(detail.startswith(f"message:{name}:") for name in waiting)

    def _spoken(self, event: ev.SpeechReady) -> None:
        sound = ev.Sound(event.path, event.sha256, round(event.seconds * vo.RATE))
        if event.key.startswith("message:"):
            name = event.key.removeprefix("message:")
            if name not in self.catalogue.messages:
                self.catalogue.messages[name] = msgspec.structs.replace(sound, pinned=event.key)
                self._act.append(do.PinMessage(name, event.path))
        else:
            self.catalogue.spoken[event.key] = sound
        self._content_changed()

    def _media_failed(self, event: ev.MediaFailed, now: Instant) -> None:
        if event.final:
            self.catalogue.lost[event.sha256] = event.detail
        self.ledger.alarm("content", event.detail, now.wall)
        self._content_changed()

    def _want(self, now: Instant) -> None:
        needs: dict[str, Need] = {}
        for p in self.programmes.values():
            for media in self.catalogue.media([*p.items, *p.fallback]):
                weight = p.class_.weight
                needs[media.sha256] = Need(media, self._due(p), weight, pinned=True)
        for _, entry, start in self.calendar.coming():
            for media in self.catalogue.media([*entry.items, *orders.as_items(entry.fallback)]):
                if media.sha256 not in needs and allowed(media.url, self.config):
                    needs[media.sha256] = Need(media, start, entry.class_.weight, pinned=start < now.wall + 86400.0)
        if now.trusted:
            self._act.extend(self.calendar.expansions(now.wall))
        wanted = tuple(needs[k] for k in sorted(needs))
        if wanted != self._wants:
            self._wants = wanted
            self._act.append(do.Want(wanted))

    # ---------------------------------------------------------------- boards

    def _show(self, p: Programme, zone: str, now: Instant) -> None:
        part = p.parts[zone]
        self._stretches += 1
        play = f"{p.key}#{now.mono_ns // 1_000_000}.{self._stretches}"
        self._resting.discard(zone)
        self._urgent = self._urgent or p.overrides
        self._act.append(do.ToScreen(zone, screen.Show(play=play, pages=self._pages(p))))
        self._on[p.key, zone] = play
        part.take(Step.OPEN)
        part.stretch_planned = self._due(p) if part.stretch_planned is None else now.wall
        dwell = sum(i.dwell_s or DWELL_S for i in _shown_items(p.items))
        self._screen_until[p.key, zone] = now.wall + (dwell or DWELL_S)
        self._touch(p)

    def _picture_came(self, sha256: str) -> None:
        """A board that shows a programme without one of its pictures gets it now."""
        for (key, zone), play in self._on.items():
            p = self.programmes[key]
            if self._zones[zone].kind == "screen" and any(i.media and i.media.sha256 == sha256 for i in p.items):
                self._act.append(do.ToScreen(zone, screen.Show(play=play, pages=self._pages(p))))

    def _pages(self, p: Programme) -> list[screen.Page]:
        mark = "DIỄN TẬP" if p.drill else ""
        issuer = self.config.trust.called(p.iss)
        pages: list[screen.Page] = []
        for item in p.items:
            image = None
            if item.media is not None and item.media.type.startswith("image/"):
                image = self._picture(item.media).path
                if image is None:
                    continue
            elif item.text is None:
                continue
            pages.append(
                screen.Page(
                    title=p.title,
                    body=item.text or "",
                    class_=p.class_.value,
                    mark=mark,
                    issuer=issuer,
                    image=image,
                    dwell_s=item.dwell_s,
                )
            )
        return pages or [screen.Page(title=p.title, class_=p.class_.value, mark=mark, issuer=issuer)]

    def _rest(self, zone: str) -> None:
        self._resting.add(zone)
        self._act.append(do.ToScreen(zone, screen.Rest(title=self.config.device.name)))

    def _shown(self, event: screen.Shown, now: Instant) -> None:
        for (key, zone), play in self._on.items():
            if play == event.play and self._zones[zone].kind == "screen":
                p = self.programmes[key]
                part = p.parts[zone]
                if part.stage is Stage.OPENED:
                    self._on_air(p, zone, now.wall_of(event.at_ns), now)
        self.reporter.shown(event)

    def _overridden(self, p: Programme, zone: str, at: float) -> str | None:
        """The zone's rule that an emergency did not keep, for the log (CONTRACT section 1)."""
        if not p.overrides:
            return None
        if rules.quiet_at(self._zones[zone], at, self.tz):
            return "overrides quiet-hours"
        return None if rules.cap_at(self._zones[zone], at, self.tz) is None else "overrides cap"

    def _close_screen(self, p: Programme, zone: str, now: Instant, reason: str | None) -> None:
        part = p.parts[zone]
        self._on.pop((p.key, zone), None)
        self._screen_until.pop((p.key, zone), None)
        if part.stretch_started is not None:
            planned = part.stretch_planned or p.start
            self.ledger.log(
                p,
                zone,
                planned=planned,
                started=part.stretch_started,
                ended=now.wall,
                result="completed" if reason is None else "interrupted",
                reason=reason or self._overridden(p, zone, part.stretch_started),
                start_error_ms=(part.stretch_started - planned) * 1000,
                content=[m.sha256 for i in p.items if (m := i.media) is not None],
            )
        part.stretch_started = None

    # ---------------------------------------------------------------- what happened

    def _on_air(self, p: Programme, zone: str, at: float, now: Instant) -> None:
        part = p.parts[zone]
        part.take(Step.START)
        part.stretch_started = at
        first = part.first_sample_at is None
        if first:
            part.first_sample_at = at
        if p.state is State.ACCEPTED:
            p.advance(State.RUNNING)
        if first:
            self._ack(p, now)
        self._touch(p)

    def _started(self, event: vo.Started, now: Instant) -> None:
        play = self.plays.get(event.play)
        if play is None:
            return
        p = self.programmes[play.key]
        if p.parts[event.zone].stage is Stage.OPENED:
            at = now.wall_of(event.at_ns)
            play.started[event.zone] = at
            self._on_air(p, event.zone, at, now)

    def _ended(self, event: vo.Ended, now: Instant) -> None:
        play = self.plays.get(event.play)
        if play is None or event.zone not in play.zones:
            return
        play.zones.remove(event.zone)
        p = self.programmes[play.key]
        part = p.parts[event.zone]
        leaving = self._leaving.pop((p.key, event.zone), None)
        self._on.pop((p.key, event.zone), None)
        sent = event.segments or [event.samples]
        final = leaving.reason if leaving is not None and leaving.final else None
        completed = event.reason == "completed"  # it may have come to its end before our Stop arrived
        reason = None if completed else leaving.reason if leaving else event.reason
        nothing = completed and event.samples == 0
        if nothing:
            reason = Reason.CONTENT_UNAVAILABLE.value
        if play.fell_back and completed:
            reason = "fallback"
        started = play.started.get(event.zone)
        if started is not None and not nothing:
            zone = self._zones[event.zone]
            error = (started - play.due) * 1000 - zone.delay_ms
            self.ledger.log(
                p,
                event.zone,
                planned=play.due,
                started=started,
                ended=now.wall_of(event.at_ns),
                result="completed" if completed else "interrupted",
                reason=reason or self._overridden(p, event.zone, started),
                start_error_ms=error,
                level_dbfs=event.level_dbfs,
                content=play.content(sent),
            )
        part.stretch_started = None
        if not play.zones:
            self._act.append(do.DropFeeds(play.id))
            del self.plays[play.id]
        if event.reason == "local" and leaving is None:
            # A button's message is there which we have not been told of, or no longer know after a restart.
            self._taken[event.zone] = now.mono_ns + TAKEN_NS
        if nothing and play.origin != Position():
            # It was to go on, or to be joined, where nothing was left of it.
            if part.first_sample_at is not None:
                self._finish(p, event.zone, now)
            else:
                self._end_part(p, event.zone, "late", now)
        elif nothing:
            self._end_part(p, event.zone, final or reason or "", now)
        elif completed:
            self._finish(p, event.zone, now)
            if final is not None:
                self._end_part(p, event.zone, final, now, logged=True)
        elif final is not None:
            self._end_part(p, event.zone, final, now, logged=started is not None)
        else:
            self._come_back(p, event.zone, play.position(sent), reason or "", now, logged=started is not None)
        self._touch(p)
        self._urgent = True  # the zone is free: the next one does not wait for the disk

    def _come_back(
        self, p: Programme, zone: str, position: Position, reason: str, now: Instant, *, logged: bool
    ) -> None:
        part = p.parts[zone]
        part.take(Step.INTERRUPT)
        if not logged:
            return  # it was only opened: it begins anew
        if p.resume is Resume.DROP:
            self._end_part(
                p, zone, Reason.OUTRANKED.value if reason in ("outranked", "local") else reason, now, logged=True
            )
        elif p.resume is Resume.CONTINUE:
            part.position = position
        else:
            part.position = Position()

    def _finish(self, p: Programme, zone: str, now: Instant) -> None:
        """The part is through. It pauses if the alert is repeated, else it has ended well."""
        part = p.parts[zone]
        part.completed = True
        part.position = Position()
        more = p.repeat is not None and (p.repeat.count is None or p.rounds + 1 < p.repeat.count)
        if more:
            part.take(Step.FINISH)
        else:
            part.take(Step.END)
        self._touch(p)
        self._after_part(p, now)

    def _after_part(self, p: Programme, now: Instant, *, counted: bool = False) -> None:
        """`counted`: the round was over already."""
        stages = {part.stage for part in p.parts.values()}
        if stages == {Stage.ENDED}:
            self._conclude(p, None, now)
        elif stages <= {Stage.ENDED, Stage.PAUSED} and p.repeat is not None and not counted:
            p.rounds += 1
            p.again_at = now.wall + (p.repeat.interval_s or 0.0)

    def _end_part(self, p: Programme, zone: str, reason: str, now: Instant, *, logged: bool = False) -> None:
        part = p.parts[zone]
        if part.stage is Stage.ENDED:
            return
        paused = part.stage is Stage.PAUSED
        part.take(Step.END)
        part.reason = reason
        if not logged and not part.completed:
            skipped = reason in (
                Reason.QUIET_HOURS,
                Reason.SILENCED,
                Reason.CANCELLED,
                Reason.SUPERSEDED,
                "late",
                "until",
            )
            result: Result = "declined" if reason == Reason.DECLINED else "skipped" if skipped else "failed"
            self.ledger.log(p, zone, planned=self._due(p), started=None, ended=now.wall, result=result, reason=reason)
        self._touch(p)
        self._after_part(p, now, counted=paused)

    def _conclude(self, p: Programme, reason: str | None, now: Instant, result: Result | None = None) -> None:
        """The programme's one outcome."""
        for zone, part in p.parts.items():
            if part.stage is not Stage.ENDED:
                part.stage = Stage.ENDED
                part.reason = reason
                if result is not None:
                    self.ledger.log(
                        p, zone, planned=p.start, started=None, ended=now.wall, result=result, reason=reason
                    )
        if p.state is not State.REJECTED:
            done = any(part.completed for part in p.parts.values())
            ended_early = [str(part.reason) for part in p.parts.values() if part.reason is not None]
            replaced = {Reason.CANCELLED.value, Reason.SUPERSEDED.value} & set(ended_early)
            if done and not replaced:
                p.state = State.DONE
            else:
                p.state = State.FAILED
                reason = next(iter(replaced), None) or reason or next(iter(ended_early), None)
        self._ack(p, now, reason)
        if p.by is By.SCHEDULE:
            # Its occurrence is computed again after a boot and with each version of the schedule.
            self._bury(p.key, max(now.wall, p.start) + BACK_S + AHEAD_S)
        self._forget(p)

    def _forget(self, p: Programme) -> None:
        self.programmes.pop(p.key, None)
        for key in [k for k in self._prepared if k[0] == p.key]:
            self._unprepare(key)
        self._touch(p)

    def _end(self, p: Programme, reason: str, now: Instant) -> None:
        """End a programme in all zones for good."""
        if p.state is State.OFFERED:
            p.advance(State.FAILED)
            self._conclude(p, reason, now, "skipped")
            return
        for zone in list(p.parts):
            self._cut(p, zone, reason, now)

    def _cut(self, p: Programme, zone: str, reason: str, now: Instant) -> None:
        """End one part for good: now where it has not begun, else once voice has stopped it."""
        part = p.parts[zone]
        if part.stage in (Stage.OPENED, Stage.PLAYING):
            leaving = self._leaving.get((p.key, zone))
            part.ending = reason
            self._touch(p)
            if leaving is not None:
                leaving.final, leaving.reason = True, reason
            else:
                self._stop(p, zone, reason, final=True)
                if self._zones[zone].kind == "screen":
                    self._end_part(p, zone, reason, now, logged=True)
        elif part.stage is not Stage.ENDED:
            self._end_part(p, zone, reason, now)

    def _stop(self, p: Programme, zone: str, reason: str, *, final: bool) -> None:
        now = self._now
        self._urgent = True
        if self._zones[zone].kind == "screen":
            self._close_screen(p, zone, now, reason)
            if not final:
                self._come_back(p, zone, Position(), reason, now, logged=True)
            return
        play = self._on[p.key, zone]
        self._leaving[p.key, zone] = Leaving(play, reason, final)
        self._act.append(do.ToVoice(vo.Stop(play=play, zones=[zone], reason=reason)))

    def _voice_lost(self, now: Instant) -> None:
        """Voice is gone: what it played has ended, as far as we know; it is opened again when voice is back."""
        self.voice_up = False
        self.reporter.voice_lost()
        for play in list(self.plays.values()):
            for zone in list(play.zones):
                started = play.started.get(zone)
                sent = 0 if started is None else max(0, round((now.wall - started) * vo.RATE))
                self._ended(
                    vo.Ended(play=play.id, zone=zone, at_ns=now.mono_ns, samples=sent, reason="voice-lost"), now
                )
        for p in [p for p in self.programmes.values() if p.by is By.BUTTON]:
            self._end(p, "voice-lost", now)

    # ---------------------------------------------------------------- buttons

    def _local_started(self, event: vo.LocalStarted, now: Instant) -> None:
        """Voice has put a pressed emergency button on the air; here it becomes a programme like any other."""
        button = next((b for b in self.config.buttons if b.id == event.button), None)
        message = next((m for m in self.config.messages if m.id == event.message), None)
        pressed = now.wall_of(event.pressed_ns)
        title = message.title if message else event.button
        text = [Item(text=message.text, lang=message.lang)] if message else []
        boards = [z for z in self.config.match(button.zones if button else ["*"]) if self._zones[z].kind == "screen"]
        iss = self.config.trust.station_authority or self.config.device.id
        p = Programme(
            key=f"{iss}/{event.play}",
            iss=iss,
            id=event.play,
            title=title,
            class_=Class.EMERGENCY,
            rank=0,
            by=By.BUTTON,
            by_whom=event.button,
            items=[Item(local=event.message), *text] if message else [Item(chime=BRIDGE)],
            start=pressed,
            resume=Resume.DROP,
            received_at=now.wall,
            received_mono_ns=now.mono_ns,
            parts={z: Part() for z in [*event.zones, *boards]},
        )
        self.programmes[p.key] = p
        play = Play(id=event.play, key=p.key, origin=Position(), cues=[], due=pressed, opened=True, closed=True)
        play.zones = list(event.zones)
        self.plays[play.id] = play
        for zone in event.zones:
            self._taken.pop(zone, None)
            for key in self._owners(zone):
                if (key, zone) not in self._leaving:
                    self._leaving[key, zone] = Leaving(self._on[key, zone], "local", False)
            part = p.parts[zone]
            part.take(Step.OPEN)
            part.stretch_planned = pressed
            self._on[p.key, zone] = event.play
            play.started[zone] = now.wall_of(event.at_ns)
            self._on_air(p, zone, play.started[zone], now)
        self._urgent = True

    def _local_ended(self, event: vo.LocalEnded, now: Instant) -> None:
        self._taken.pop(event.zone, None)
        play = self.plays.get(event.play)
        if play is None or event.zone not in play.zones:
            return
        p = self.programmes[play.key]
        message = self.catalogue.messages.get(next((i.local for i in p.items if i.local), ""))
        chime = self.catalogue.chimes.get(BRIDGE)
        content: list[str] = []
        begin = 0
        for sound in (chime, message):
            if sound is not None and begin < event.samples:
                content.append(sound.sha256)
                begin += sound.samples
        part = p.parts[event.zone]
        play.zones.remove(event.zone)
        self._on.pop((p.key, event.zone), None)
        started = play.started[event.zone]
        completed = event.reason == "completed"
        self.ledger.log(
            p,
            event.zone,
            planned=p.start,
            started=started,
            ended=now.wall_of(event.at_ns),
            result="completed" if completed else "interrupted",
            reason=self._overridden(p, event.zone, started) if completed else event.reason,
            start_error_ms=(started - p.start) * 1000,
            level_dbfs=event.level_dbfs,
            content=content,
        )
        part.stretch_started = None
        if not play.zones:
            del self.plays[play.id]
        if completed:
            self._finish(p, event.zone, now)
        else:
            self._end_part(p, event.zone, event.reason, now, logged=True)
        self._urgent = True

    def _button(self, event: vo.ButtonEvent, now: Instant) -> None:
        button = next((b for b in self.config.buttons if b.id == event.button), None)
        self.ledger.event("progress", now.wall, 1, {"what": "button", "button": event.button, "state": event.state})
        if button is None:
            return
        if event.state == "stuck":
            self.ledger.alarm("button-stuck", f"button {event.button} does not come back", now.wall)
            return
        if button.action.stop and event.state in ("pressed", "held"):
            self.stop_local(now, remote_emergencies=event.state == "held", zones=self.config.match(button.zones))
        elif button.action.message and event.state == "pressed" and button.class_ is not Class.EMERGENCY:
            people.everyday_button(self, button, now)

    def stop_local(self, now: Instant, *, remote_emergencies: bool, zones: list[str]) -> None:
        """The stop button: local programmes at once, a remote emergency only when it is held."""
        self._urgent = True
        self._act.append(do.ToVoice(vo.EndLocal(zones=zones)))
        for p in list(self.programmes.values()):
            local = p.iss == self.config.trust.station_authority and p.by is not By.BUTTON
            if local or (remote_emergencies and p.class_ is Class.EMERGENCY):
                for zone in zones:
                    if zone in p.parts:
                        self._cut(p, zone, "stopped", now)

    # ---------------------------------------------------------------- time

    def _clock_set(self, now: Instant) -> None:
        """The wall clock was set: what was counted from a wrong time goes on by the right one."""
        step = now.wall - self._now.wall - (now.mono_ns - self._now.mono_ns) / 1e9
        if abs(step) < 1.0:
            return
        for p in self.programmes.values():
            if p.again_at is not None:
                p.again_at += step
            elif p.overrides and p.start <= self._now.wall:
                p.start = min(p.start, now.wall)
            self._touch(p)
        self._screen_until = {key: at + step for key, at in self._screen_until.items()}

    def _expire(self, now: Instant) -> None:
        if self.silences.expire(now.surely):
            self._act.append(do.ToVoice(vo.Lock(zones=self._locked(now))))
        for key in [k for k, exp in self._tombstones.items() if exp < now.surely]:
            del self._tombstones[key]
            self.ledger.write(DropValue(key=f"tombstone/{key}"))
        for p in list(self.programmes.values()):
            self._expire_programme(p, now)

    def _expire_programme(self, p: Programme, now: Instant) -> None:
        end = p.until
        if p.repeat is not None and p.repeat.count is None and end is None:
            end = p.order_exp
        if end is not None and now.surely >= end:
            for zone, part in list(p.parts.items()):
                if part.stage is Stage.PLAYING and not self._sounding(p):
                    part.completed = True  # a notice on boards alone is through when its time is over
                    self._close_screen(p, zone, now, None)
            self._end(p, "until", now)
            return
        if p.state is State.OFFERED:
            if p.order_exp is not None and now.surely >= p.order_exp:
                self._end(p, Reason.EXPIRED.value, now)
            elif p.by is By.SCHEDULE and now.surely > p.start + LATE_S:
                self._end(p, Reason.DECLINED.value, now)
            return
        if (
            p.again_at is not None
            and now.wall >= p.again_at
            and all(part.stage in (Stage.PAUSED, Stage.ENDED) for part in p.parts.values())
        ):
            for part in p.parts.values():
                if part.stage is Stage.PAUSED:
                    part.take(Step.AGAIN)
                    part.stretch_planned = None
            self._touch(p)
        if p.replaces and not p.replaced and now.wall >= p.start and self._can_take_over(p, now):
            self._replace(p, now)
        sounding = self._sounding(p)
        for zone, part in list(p.parts.items()):
            self._expire_part(p, zone, part, sounding, now)

    def _sounding(self, p: Programme) -> list[str]:
        return [z for z in p.parts if self._zones[z].kind == "sound"]

    def _expire_part(self, p: Programme, zone: str, part: Part, sounding: list[str], now: Instant) -> None:
        spec = self._zones[zone]
        if part.stage is Stage.WAITING and now.wall >= self._due(p):
            if self._silenced(p, zone, now):
                self._end_part(p, zone, Reason.SILENCED.value, now)
            elif not p.overrides and rules.quiet_at(spec, now.wall, self.tz) and now.trusted:
                self._end_part(p, zone, Reason.QUIET_HOURS.value, now)
            elif self._content_lost(p, zone):
                self._end_part(p, zone, Reason.CONTENT_UNAVAILABLE.value, now)
            elif (
                now.trusted
                and p.by is By.SCHEDULE
                and p.on_late is OnLate.SKIP
                and part.stretch_planned is None
                and now.wall > self._due(p) + LATE_S
            ):
                self._end_part(p, zone, "late", now)
        if part.stage is Stage.PLAYING and not p.overrides:
            longest = spec.rules.longest_session_s
            if rules.quiet_at(spec, now.wall, self.tz) and now.trusted:
                self._cut(p, zone, Reason.QUIET_HOURS.value, now)
            elif longest is not None and now.wall - (part.first_sample_at or now.wall) >= longest:
                self._cut(p, zone, "longest-session", now)
        if spec.kind == "screen" and part.stage is Stage.WAITING and not _shows(p.items):
            # Sound alone: the board only names what is heard, and has nothing to say when nothing was.
            stages = {p.parts[z].stage for z in sounding}
            if stages <= {Stage.ENDED} and now.wall >= self._due(p):
                reason = next((str(p.parts[z].reason) for z in sounding if p.parts[z].reason is not None), None)
                self._end_part(p, zone, reason or Reason.CONTENT_UNAVAILABLE.value, now)
                return
        if spec.kind == "screen" and part.stage in (Stage.OPENED, Stage.PLAYING) and (p.key, zone) in self._on:
            if _shows(p.items):
                # What never sounded (no voice, quiet hours, no content) takes no words off a board.
                sounding = [
                    z for z in sounding if p.parts[z].stage is not Stage.ENDED or p.parts[z].first_sample_at is not None
                ]
            stages = {p.parts[z].stage for z in sounding}
            if sounding:
                over = stages <= {Stage.PAUSED, Stage.ENDED}
            else:
                over = p.until is None and now.wall >= self._screen_until[p.key, zone]
            if over:
                if part.stage is Stage.OPENED:
                    self._on_air(p, zone, now.wall, now)
                failed = next((p.parts[z].reason for z in sounding if p.parts[z].reason is not None), None)
                if failed is not None and not any(p.parts[z].completed for z in sounding):
                    self._close_screen(p, zone, now, failed)
                    self._end_part(p, zone, failed, now, logged=True)
                    return
                self._close_screen(p, zone, now, None)
                self._finish(p, zone, now)

    def _wakes(self, now: Instant) -> Iterable[float]:
        for p in self.programmes.values():
            for at in (p.start, p.until, p.again_at):
                if at is not None and at > now.wall:
                    yield at
            due = self._due(p)
            for zone in p.parts:
                for at in (
                    due - self._lead[zone] - PREPARE_S,
                    due - self._lead[zone],
                    self._screen_until.get((p.key, zone)),
                ):
                    if at is not None and at > now.wall:
                        yield at
        yield self.reporter.wake(now)

    def _ack(self, p: Programme, now: Instant, reason: str | None = None) -> None:
        ack = self.ledger.programme_ack(p, now.wall, reason)
        if ack is not None and p.jti is not None:
            self._remember_ack(p.iss, p.jti, ack)

    def _feed(self, event: ev.FeedMark, now: Instant) -> None:
        play = self.plays.get(event.play) or next((x for x in self._prepared.values() if x.id == event.play), None)
        if play is None:
            return
        if event.what == "failed":
            title = self.programmes[play.key].title if play.key in self.programmes else play.key
            self.ledger.alarm("item-failed", f"{title}: item {event.item + 1}: {event.detail}", now.wall)
        elif event.what == "fallback":
            self.ledger.alarm("relay-fallback", f"{event.detail}", now.wall)
        play.mark(event, self._act.append, now.wall)


def _live(items: Iterable[Item]) -> bool:
    return any(i.relay is not None or i.stream is not None for i in items)


def _shown_items(items: Iterable[Item]) -> list[Item]:
    """What a board has of its own to show: texts and pictures."""
    return [i for i in items if i.text is not None or (i.media is not None and i.media.type.startswith("image/"))]


def _shows(items: Iterable[Item]) -> bool:
    """Whether a board has something of its own to show."""
    return bool(_shown_items(items))


def _unfit(order: orders.Configure) -> str | None:
    """Why a configuration value cannot be, with its place."""
    for key, value in order.set.items():
        try:
            msgspec.convert(value, REMOTE_KEYS[key])
        except (KeyError, msgspec.ValidationError) as error:
            return f"args.set.{key}: {error}"
    return None


def _about(write: Write) -> Hashable:
    """What a write is about: the newest of the same replaces all before it."""
    match write:
        case PutOrder():
            return "order", write.iss, write.jti
        case PutState():
            return "state", write.iss, write.scope, write.op
        case PutProgramme() | DropProgramme():
            return "programme", write.key
        case AppendLog():
            return "log", write.n
        case PutOut() | DropOut():
            return "out", write.seq
        case PutValue() | DropValue():
            return "value", write.key


_AFTER_COMMIT = (do.Acknowledge, do.SignedTime)
