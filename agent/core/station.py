"""The owner: every event of the station comes in here, every decision leaves here. Pure: time is an argument.

    handle(event, now) -> commands

One thread calls it. Its layers, each in a file of its own and each using only those before it: `gate` (state, written
before acted on), `outcomes`, `readiness`, `airing`, `admission`, and here the door, boot and time."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core import commune, people, rules
from agent.core.admission import Admission
from agent.core.airing import PREPARE_S
from agent.core.catalogue import Catalogue, is_talk
from agent.core.commands import Command
from agent.core.examination import OrderExamined
from agent.core.intake import Intake
from agent.core.ledger import Ledger
from agent.core.outcomes import NOT_SHOWN
from agent.core.plays import Play, heard
from agent.core.programme import By, Part, Position, Programme, Stage, State, Step, decode
from agent.core.readiness import BRIDGE_S, LATE_S, LOUDNESS, shows
from agent.core.report import Reporter
from agent.core.silences import SILENCES_KEY
from agent.model import config as conf
from agent.model import events as ev
from agent.model import orders, screen
from agent.model import voice as vo
from agent.model.config import Zone
from agent.model.ear import Checked, EarLost, Measured, Noticed, Ready
from agent.model.health import ClusterSeen, Sensed
from agent.model.orders import Class, OnLate, Reason, Resume
from agent.model.records import DropProgramme, DropValue, PutValue, Snapshot
from agent.model.time import Instant
from agent.trust.refusal import Refusal as TrustRefusal
from agent.trust.verify import recall

TALK_WAITS_S = 2.0
"""An everyday microphone whose zones are not free by then does not go on the air."""
RELAY_FAULTS = {
    "not-following": "its contact does not confirm that it switched on",
    "stuck": "its contact says that it is on though it was switched off",
    "contradiction": "the contacts of both its positions are closed",
    "interlock": "the relay that it needs is not on, or one that it excludes does not let go",
    "gpio": "its line cannot be switched",
}


class Station(Admission):
    """The agent's mind. See `handle`."""

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
        super().__init__(config, snapshot, intake, ledger, catalogue, reporter, now)
        self._heard_wrong: dict[tuple[str, str], Noticed] = {}
        self._deaf = False
        self._restore(snapshot, now)

    def handle(self, event: Struct, now: Instant) -> list[Command]:
        """Take one event and answer with what is to be done, in order."""
        ready = self._react(event, now)
        self._settle(now)
        return ready + self._close(now) + list(self.reporter.due(self, now))

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
            case OrderExamined():
                self._order(event.arrived, now, event.examination)
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
            case vo.LocalOpened():
                self._local_opened(event, now)
            case vo.LocalEnded():
                self._local_ended(event, now)
            case vo.ButtonEvent():
                self._button(event, now)
            case vo.Hello():
                self.voice_up = True
                self._hold_again()
                self.reporter.hello(event)
                for relay in event.relays:
                    self._relay(relay, event.relay_faults.get(relay), now)
                self._settle_cut(event.ended, now)
                self._settle_presses(event.local, now)
                if self.drill_until_ns > now.mono_ns:
                    self._act.append(do.ToVoice(vo.Drill(until_ns=self.drill_until_ns)))
                for key, closed in event.keys.items():
                    self._turned(key, closed, now)
                for name, sound in self.catalogue.messages.items():
                    if f"message:{name}" not in event.pinned:
                        self._act.append(do.PinMessage(name, sound.path))
                self._idle = []
                self._act.extend(do.ToVoice(c) for c in (vo.Lock(zones=self._locked(now)), vo.Levels(every_ms=200)))
            case ev.VoiceLost():
                self._voice_lost(now)
            case vo.Fault(what="pinned") if self._still_spoken(event.detail):
                pass  # a first start: the message is being spoken and will be loaded
            case vo.Fault():
                self._alarm(
                    ev.Alarm(f"voice-{event.what}", event.detail, event.zone, on=event.on, device=event.device), now
                )
            case vo.RelayEvent():
                self.reporter.voice(event)
                self._relay(event.relay, event.fault, now)
            case vo.Power():
                self.reporter.voice(event)
                self._board_power(event, now)
            case vo.SegmentStarted():
                self._segment(event, now)
            case vo.Level():
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
                self.catalogue.troubled.pop(event.sha256, None)
                self._content_changed()
                self._measure(event.sha256, event.path, now)
                self._picture_came(event.sha256, now)
            case ev.Measured():
                self._measured(event, now)
            case ev.MediaFailed():
                self._media_failed(event, now)
            case ev.MessageRecorded():
                self.catalogue.messages[event.message] = event.sound
                self._act.append(do.PinMessage(event.message, event.sound.path))
            case ev.Expanded():
                self.calendar.expanded(event)
                self._wants_old_ns = 0
            case screen.Shown():
                self._shown(event, now)
            case screen.Lasts():
                self._lasts(event)
            case screen.Dropped():
                self.reporter.dropped(event)
            case screen.Captured():
                self._captured(event, now)
            case ev.Uploaded():
                self.inspections.uploaded(self, event, now)
            case screen.ScreenFault():
                self._board_fault(event, now)
            case ev.LinkUp():
                self.reporter.link(event.link, True, now)
            case ev.LinkDown():
                self.reporter.link(event.link, False, now)
            case ev.OutTaken():
                self.ledger.write(*self.ledger.outbox.taken(event.seq))
                rows = self.ledger.outbox.hand_over()
                if rows:
                    return [do.OfferRows(tuple(rows))]
            case Measured():
                self.learn(Sensed(zone=event.zone, values=dict(event.values)), now)
            case Noticed():
                self._noticed(event, now)
            case Checked():
                self.tests.checked(self, event, now)
            case Ready():
                self._ear(None, now)
            case EarLost():
                self._ear(event.detail, now)
            case ev.Alarm():
                self._alarm(event, now)
            case Sensed() | ClusterSeen():
                self.learn(event, now)
            case ev.ClustersUp():
                self.reporter.alarm(ev.Alarm("cluster-link", "", on=False))
                self.send_down(self.passing.all_of(now), urgent=False)
                self.clusters.up(now)
            case ev.ClusterSaid():
                self._after.append(do.Acknowledge(event.token))
                if self.clusters.said(self, event, now):
                    self.send_down(self.passing.for_cluster(event.device, now), urgent=True)
            case ev.MessageShared():
                self.shared[event.message] = event.media
                self._wants_old_ns = 0
            case ev.ChildDied():
                self.ledger.alarm("child-died", f"{event.name}: {event.detail}", now.wall)
                self.reporter.fault("child-died", f"{event.name}: {event.detail}", None)
            case ev.Asked(what="screen"):
                self._capture(event)
            case ev.Asked():
                people.answer(self, event, now)
            case _:
                raise LookupError(f"nothing handles {type(event).__name__}")
        return []

    def learn(self, news: Sensed | ClusterSeen, now: Instant) -> None:
        """Something is known anew of a line or a cluster."""
        for alarm in self.reporter.health.take(news):
            self._alarm(alarm, now)

    def _noticed(self, event: Noticed, now: Instant) -> None:
        """What the ear hears, or no longer."""
        if event.on:
            self._heard_wrong[event.what, event.device] = event
        else:
            self._heard_wrong.pop((event.what, event.device), None)
        self._alarm(ev.Alarm(event.what, event.detail, event.zone, on=event.on, device=event.device), now)

    def _ear(self, lost: str | None, now: Instant) -> None:
        """The ear is gone (why), or there. What only it knew is unknown then, and said by its alarm alone."""
        if (lost is None) != self._deaf:
            return  # as before
        self._deaf = lost is not None
        self._alarm(ev.Alarm("ear-lost", lost or "", on=self._deaf), now)
        if self._deaf:
            for event in list(self._heard_wrong.values()):
                self._noticed(msgspec.structs.replace(event, detail="", on=False), now)
            for news in self.reporter.health.unmeasured():
                self.learn(news, now)

    def _relay(self, relay: str, fault: str | None, now: Instant) -> None:
        """What is wrong with a relay, or no longer."""
        before = self._relay_faults.get(relay)
        if fault == before:
            return
        if before is not None:
            del self._relay_faults[relay]
            self._alarm(ev.Alarm(f"relay-{before}", "", on=False, device=relay), now)
        if fault is not None:
            self._relay_faults[relay] = fault
            self._alarm(ev.Alarm(f"relay-{fault}", f"relay {relay}: {RELAY_FAULTS[fault]}", device=relay), now)

    def _button(self, event: vo.ButtonEvent, now: Instant) -> None:
        button = next((b for b in self.config.buttons if b.id == event.button), None)
        self.ledger.event("progress", now.wall, 1, {"what": "button", "button": event.button, "state": event.state})
        if button is None:
            return
        if event.state == "stuck":
            self.ledger.alarm("button-stuck", f"button {event.button} does not come back", now.wall)
            return
        if button.action.silence:
            if event.state in ("pressed", "released"):
                self._turned(button.id, event.state == "pressed", now)
            return
        acts = "held" if button.hold_s and not button.action.stop else "pressed"
        if button.action.stop and event.state in ("pressed", "held"):
            self.stop_local(now, remote_emergencies=event.state == "held", selectors=button.zones)
        elif button.class_ is not Class.EMERGENCY and event.state == acts:
            people.everyday_button(self, button, event.at_ns, now)
        elif button.action.microphone and button.action.mode == "hold" and event.state == "released":
            self.hang_up(button, now)

    def _turned(self, key: str, closed: bool, now: Instant) -> None:
        """The key switch that silences is closed, or open."""
        button = next((b for b in self.config.buttons if b.id == key and b.action.silence), None)
        if button is None:
            return
        if not self.silences.turn(key, self.config.device.id, self.config.match(button.zones), closed):
            return
        self.ledger.write(PutValue(key=SILENCES_KEY, value=self.silences.encode()))
        self.ledger.alarm("silence-key", f"{button.name or key}", now.wall, on=closed)
        if closed:
            self.stop_local(now, remote_emergencies=False, selectors=button.zones)
        if self.sign is not None:
            commune.silence_clusters(self, {"on": closed, "zones": button.zones}, now)
        self._urgent = True
        self._silence(now)

    def finish(self, now: Instant) -> list[Command]:
        """The agent is to end: what is on is interrupted, so that it is known how far it came. See `finished`."""
        self._now = now
        self._ending = True
        for key, zone in list(self._on):
            p = self.programmes[key]
            if p.by is not By.BUTTON and (key, zone) not in self._leaving:
                self._stop(p, zone, "restart", final=False)
        return self._close(now)

    @property
    def finished(self) -> bool:
        """Whether voice has told how far everything came."""
        return not self._leaving

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
                if p.by is By.BUTTON and zone in self._zones and self._goes_on(p, zone, part):
                    continue
                over = p.by is By.BUTTON and p.id not in self.plays
                by_hand = over or p.by is By.TEST or self._talker(p) is not None
                ours = zone in self._zones and p.by is not By.BUTTON
                if part.stage is Stage.PLAYING and part.play is not None and ours:
                    self._orphans[part.play, zone] = p.key  # voice may know how far it came
                    continue
                if part.stage in (Stage.OPENED, Stage.PLAYING):
                    self._cut_by_power(p, zone, part, now)
                if part.stage is not Stage.ENDED and (by_hand or zone not in self._zones):
                    self._end_part(p, zone, "power" if zone in self._zones else Reason.NO_SUCH_ZONE.value, now)
            # Zones that the configuration no longer has.
            p.parts = {zone: part for zone, part in p.parts.items() if zone in self._zones}
            self._expect(p)
        for value_key, value in snapshot.values.items():
            if value_key.startswith("tombstone/"):
                self._tombstones[value_key.removeprefix("tombstone/")] = float(value)
            elif value_key.startswith(LOUDNESS):
                self._restore_loudness(value_key, value)
            elif value_key.startswith("accepted/"):
                self.calendar.accepted.add(value_key.removeprefix("accepted/"))
        if self.config.trust.station_authority is not None:
            self.ledger.write(self._own_counter.begin())
        self.tests.restore(self, snapshot.values, now)
        self.inspections.restore(self, snapshot.values)
        for detail in self.passing.damaged:
            self.ledger.alarm("store-damaged", detail, now.wall)
        silences_known = self._restore_silences(snapshot.values.get(SILENCES_KEY), now)
        for state in snapshot.states:
            if state.op == "silence" and silences_known:
                continue
            try:
                self._apply_state(recall(state.raw, self.intake.trusted), now, boot=True)
            except TrustRefusal as refusal:
                self.ledger.alarm("store-damaged", f"{state.op} of {state.iss}: {refusal.detail}", now.wall)
        for m in self.config.stored:
            recording = self.catalogue.messages.get(m.id)
            if recording is not None:
                self._act.append(do.PinMessage(m.id, recording.path))
            else:
                self._act.append(do.Speak(f"message:{m.id}", m.text, m.lang))
        for source in self.config.sources:
            self._speak(orders.as_items(source.fallback))
        if self.config.parent is not None:  # the decoder of a talk must have them from the beginning
            self._speak([orders.Item(text=self.config.talk_words, lang=self.config.language)])
        rows = self.ledger.outbox.hand_over()
        if rows:
            self._act.append(do.OfferRows(tuple(rows)))

    def _restore_silences(self, stored: bytes | None, now: Instant) -> bool:
        """Whether it is known what is in force; if not, the orders themselves are the next best."""
        if stored is None:
            return False
        try:
            self.silences.restore(stored)
            there = {b.id for b in self.config.buttons if b.action.silence}
            for key in self.silences.turned():
                if key not in there:
                    self.silences.turn(key, self.config.device.id, [], False)
        except msgspec.DecodeError as error:
            self.ledger.alarm("store-damaged", f"silences: {error}", now.wall)
            return False
        self._silence(now)
        return True

    def _goes_on(self, p: Programme, zone: str, part: Part) -> bool:
        """A button's message may still be on: voice does not need us for it, and says so when it is there."""
        if self._zones[zone].kind != "sound" or part.stage not in (Stage.OPENED, Stage.PLAYING):
            return False
        play = self.plays.setdefault(
            p.id, Play(id=p.id, key=p.key, origin=Position(), cues=[], due=p.start, opened=True, closed=True)
        )
        play.zones = [*play.zones, zone]
        if part.stretch_started is not None:
            play.started[zone] = part.stretch_started
        self._on[p.key, zone] = p.id
        return True

    def _settle_presses(self, local: list[str], now: Instant) -> None:
        """Messages of buttons that were on when the agent died: what voice knows nothing of ended with the power."""
        for play in [x for x in self.plays.values() if x.id not in local]:
            p = self.programmes[play.key]
            if p.by is not By.BUTTON:
                continue
            del self.plays[play.id]
            for zone in play.zones:
                self._on.pop((p.key, zone), None)
                self._cut_by_power(p, zone, p.parts[zone], now)
            self._end(p, "power", now)

    def _settle_cut(self, ended: list[vo.Ended], now: Instant) -> None:
        """What was on when the agent died: as voice tells it, or else as a power cut."""
        told = {(e.play, e.zone): e for e in ended}
        for (play, zone), key in self._orphans.items():
            p = self.programmes.get(key)
            part = None if p is None else p.parts.get(zone)
            if p is None or part is None or part.stage is not Stage.PLAYING:
                continue
            event = told.get((play, zone))
            if event is None or part.stretch_started is None or part.ending is not None:
                self._cut_by_power(p, zone, part, now)
            else:
                self._cut_by_restart(p, zone, part, event, now)
            self._touch(p)
        self._orphans.clear()

    def _cut_by_restart(self, p: Programme, zone: str, part: Part, event: vo.Ended, now: Instant) -> None:
        """The agent died, voice did not: it knows what was heard."""
        started = part.stretch_started or p.start
        planned = part.stretch_planned or p.start
        cues = self._cues(p, zone)
        self.ledger.log(
            p,
            zone,
            planned=planned,
            started=started,
            ended=now.wall_of(event.at_ns),
            result="interrupted",
            reason="restart",
            start_error_ms=(started - planned) * 1000 - self._zones[zone].delay_ms,
            level_dbfs=event.level_dbfs,
            content=heard(cues, part.position, event.samples),
        )
        part.take(Step.INTERRUPT)
        part.stretch_started = None
        if p.resume is Resume.DROP and not p.overrides:
            self._end_part(p, zone, "restart", now, logged=True)
        elif p.resume is not Resume.CONTINUE:
            part.position = Position()
        elif not any(cue.url for cue in cues[part.position.piece :]):
            part.position = Position(part.position.piece, part.position.samples + event.samples)

    def _settle(self, now: Instant) -> None:
        """Compare what should be with what is, and mend the difference. Every event ends here."""
        self._clock_set(now)
        self._now = now
        for report in self.meter.due(now):
            self._refused(report, now)
        self._occurrences(now)
        self.tests.settle(self, now)
        self.inspections.settle(self, now)
        self._expire(now)
        opening: dict[str, list[tuple[str, bool]]] = {}
        rulings = {zone: self._ruling(zone, now) for zone in self._zones}
        for zone in self._zones:
            self._zone(zone, rulings, now, opening)
        for key, zones in opening.items():
            self._open(self.programmes[key], zones, now)
        self._keep_caps(now)
        self._tend_boards(now)
        self._let_through(now)
        self._prepare_ahead(now, opening.keys())
        self._want(now)

    def _let_through(self, now: Instant) -> None:
        """External sources are heard inside their hours only, by a clock that is known to be right."""
        zones = [
            z.id
            for z in self._zones.values()
            if z.idle.power
            and now.trusted
            and rules.inside(z.idle.hours, now.wall, self.tz)
            and not self.silences.covers(z.id, now.surely, local=False)
        ]
        if zones != self._idle and self.voice_up:
            self._idle = zones
            self._act.append(do.ToVoice(vo.Idle(zones=zones)))

    def mode(self, zone: Zone, owner: Programme | None) -> str:
        """What a sound zone gives out: "microphone", "relay" (tiếp âm), "programme", "external" or "none"."""
        if owner is not None:
            spoken = self._spoken_at(owner) is not None or any(is_talk(item) for item in owner.items)
            live = any(item.relay is not None or item.stream is not None for item in owner.items)
            return "microphone" if spoken else "relay" if live else "programme"
        external = zone.idle.source == "external" and (not zone.idle.power or zone.id in self._idle)
        return "external" if external else "none"

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
        for key, zone in self._on:
            if zone in self._zones and self._zones[zone].kind == "screen" and self._end_of(self.programmes[key]):
                self._present(self.programmes[key], zone, now)

    def _expire(self, now: Instant) -> None:
        if 0 < self.drill_until_ns <= now.mono_ns:
            self.drill(0.0, now)
        self.ledger.write(*self.passing.expire(now))
        self.clusters.due(self, now)
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
        if now.wall < p.start and all(part.stage in (Stage.WAITING, Stage.ENDED) for part in p.parts.values()):
            return  # nothing of what is to come can be over; most programmes wait like this
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
        if p.overrides and now.wall >= self._due(p) + BRIDGE_S and self.catalogue.troubled:
            self._content_changed()
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
            elif not p.overrides and now.trusted and (bar := rules.barred(spec, now.wall, self.tz)):
                self._end_part(p, zone, bar.value, now)
            elif self._content_lost(p, zone):
                self._end_part(p, zone, Reason.CONTENT_UNAVAILABLE.value, now)
            elif now.wall >= self._due(p) + TALK_WAITS_S and self._talker(p) is not None and spec.kind == "sound":
                self._end_part(p, zone, Reason.OUTRANKED.value, now)  # nobody speaks into a microphone that opens later
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
            if now.trusted and (bar := rules.barred(spec, now.wall, self.tz)):
                self._cut(p, zone, bar.value, now)
            elif longest is not None and now.wall - (part.first_sample_at or now.wall) >= longest:
                self._cut(p, zone, "longest-session", now)
        if spec.kind == "screen" and part.stage is Stage.WAITING and not shows(p.items):
            # Sound alone: the board only names what is heard, and has nothing to say when nothing was.
            stages = {p.parts[z].stage for z in sounding}
            if stages <= {Stage.ENDED} and now.wall >= self._due(p):
                reason = next((str(p.parts[z].reason) for z in sounding if p.parts[z].reason is not None), None)
                self._end_part(p, zone, reason or Reason.CONTENT_UNAVAILABLE.value, now)
                return
        if spec.kind == "screen" and part.stage in (Stage.OPENED, Stage.PLAYING) and (p.key, zone) in self._on:
            if shows(p.items):
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
                    # The board never said that it showed anything: a receipt would be made up.
                    self._close_screen(p, zone, now, NOT_SHOWN)
                    self._end_part(p, zone, NOT_SHOWN, now)
                    return
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
        yield from self._turns_ahead(now)
        yield self.reporter.wake(now)
