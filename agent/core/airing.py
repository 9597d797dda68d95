"""Who is on in each zone: arbitration carried out, plays opened and stopped, buttons, what voice reports."""

from __future__ import annotations

from collections.abc import Iterable, Set

from agent.core import commands as do
from agent.core import commune, rules
from agent.core.arbiter import Claim, Ruling, arbitrate
from agent.core.boards import Boards
from agent.core.catalogue import is_talk
from agent.core.plays import Play
from agent.core.programme import By, Part, Position, Programme, Stage, State, Step, rank
from agent.core.readiness import DRILL_CHIME, LATE_S
from agent.model import config as conf
from agent.model import events as ev
from agent.model import voice as vo
from agent.model.orders import Class, Item, OnLate, Reason, Resume
from agent.model.time import Instant

PREPARE_S = 3.0
"""Decoders start this long before a programme is due."""
TAKEN_NS = 10**9
"""A zone in which voice refused a play for a button's message is tried again after this."""
RELAY_FAULT = "relay-fault"
INTERLOCKED = "interlocked"
RELAY_AGAIN_NS = 10 * 10**9
"""An emergency is tried again after so long in a zone whose power chain failed."""
RELAY_PATIENCE_S = 600.0
"""So long, where it has no end of its own."""
BRIDGE = "siren"
JOIN_S = 1.0
"""A programme that is joined begins no sooner than this, so that a decoder can be there."""
SKIPS = 50.0
"""So many times faster than it plays a file is passed over up to where it is joined; at least."""


class Airing(Boards):
    """Compares who should own a zone with who does, and mends the difference."""

    def _ruling(self, zone: str, now: Instant) -> Ruling:
        """Who should have a zone, its rivals left out of account."""
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
        return arbitrate(claims)

    def _zone(
        self, zone: str, rulings: dict[str, Ruling], now: Instant, opening: dict[str, list[tuple[str, bool]]]
    ) -> None:
        ruling = rulings[zone]
        rival = self._before(zone, rulings)
        if rival is not None:
            self._put_off(zone, ruling)
            ruling = Ruling(None, None)
        keep = {c.key for c in (ruling.owner, ruling.following) if c is not None}
        for key in self._owners(zone):
            if key not in keep and (key, zone) not in self._leaving:
                claim = ruling.owner if rival is None else rival
                winner = self.programmes[claim.key] if claim else None
                if rival is None and winner is not None and self._ducks(self.programmes[key], zone, winner):
                    continue
                local = winner is not None and winner.by is By.BUTTON
                self._stop(self.programmes[key], zone, "local" if local else Reason.OUTRANKED.value, final=False)
        if now.mono_ns < self._taken.get(zone, 0):
            return
        for claim in (ruling.owner, ruling.following):
            if claim is not None and self.programmes[claim.key].parts[zone].stage is Stage.WAITING:
                opening.setdefault(claim.key, []).append((zone, claim.due))

    def _before(self, zone: str, rulings: dict[str, Ruling]) -> Claim | None:
        """The claim that goes first in a zone which cannot be on together with this one: interlocked relays, or one
        amplifier for two programmes."""
        mine = self._precedence(zone, rulings[zone])
        for rival in self._rivals[zone] | self._sharers[zone]:
            theirs = self._precedence(rival, rulings[rival])
            if theirs is None or (mine is not None and theirs < mine):
                continue
            claim, own = (r.owner or r.following for r in (rulings[rival], rulings[zone]))
            if rival in self._rivals[zone] or own is None or claim is None or claim.key != own.key:
                return claim
        return None

    def _precedence(self, zone: str, ruling: Ruling) -> tuple[float, ...] | None:
        """Due before not due, then rank; one programme in both goes on where it is on, or begins in the first zone."""
        claim = ruling.owner or ruling.following
        if claim is None:
            return None
        on = self.programmes[claim.key].parts[zone].stage is not Stage.WAITING
        when = (1.0, 0.0) if claim.due else (0.0, -claim.start)
        return (*when, *claim.rank, float(on), -float(list(self._zones).index(zone)))

    def _put_off(self, zone: str, ruling: Ruling) -> None:
        """What is due but waits for a rival zone begins when that comes free: it is not late then."""
        if ruling.owner is None:
            return
        p = self.programmes[ruling.owner.key]
        part = p.parts[zone]
        if part.stage is Stage.WAITING and part.stretch_planned is None:
            part.stretch_planned = self._due(p)
            self._touch(p)

    def _ducks(self, p: Programme, zone: str, winner: Programme) -> bool:
        """Whether what is heard goes on under an alert, quieter, as the zone says. Voice lowers it."""
        part = p.parts[zone]
        if self._zones[zone].duck_db is None or p.overrides or not winner.overrides or part.stage is not Stage.PLAYING:
            return False
        if self._talker(p) is not None:
            return False  # a live microphone under a siren helps nobody
        if not part.ducked:
            part.ducked = True
            self._touch(p)
        return True

    def _owners(self, zone: str) -> list[str]:
        return [key for key, z in self._on if z == zone]

    def owner(self, zone: str) -> Programme | None:
        """The programme that is on in a zone; one that goes on under an alert does not own it."""
        on = [self.programmes[key] for key in self._owners(zone) if key in self.programmes]
        return max(on, key=lambda p: (p.parts[zone].stage is Stage.PLAYING, p.overrides), default=None)

    def owned(self) -> dict[str, str]:
        """Zones that somebody owns, with the bulletin's id."""
        return {zone: p.id for zone in self._zones if (p := self.owner(zone)) is not None}

    def _join(self, p: Programme, zones: Iterable[str], now: Instant) -> None:
        """A programme that has begun without us is joined where it will be when chains and decoder are ready for it.

        One that only waited for a rival zone is not late, and begins at its beginning.
        """
        if p.on_late is not OnLate.JOIN or p.by is not By.SCHEDULE or now.wall <= p.start + LATE_S:
            return
        late_at = p.start + LATE_S
        parts = [p.parts[z] for z in zones if self._zones[z].kind == "sound"]
        fresh = [
            part
            for part in parts
            if part.stage is Stage.WAITING
            and part.first_sample_at is None
            and (part.stretch_planned is None or late_at < part.stretch_planned < now.wall)
        ]
        if not fresh:
            return
        lead = max(self._lead[z] for z in p.parts)
        at = now.wall + max(lead, JOIN_S) + (now.wall - p.start) / SKIPS
        for part in fresh:
            part.stretch_planned = at
            part.position = Position(0, round((at - p.start) * vo.RATE))
        wanted = {part.position for part in p.parts.values()}
        for key in [k for k in self._prepared if k[0] == p.key and k[1] not in wanted]:
            self._unprepare(key)
        self._touch(p)

    def _open(self, p: Programme, zones: list[tuple[str, bool]], now: Instant) -> None:
        self._join(p, [z for z, _ in zones], now)
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
            planned = [at for z in names if (at := p.parts[z].stretch_planned) is not None]
            if planned:
                # Opened ahead and put off, or to be joined, it still does not begin before its time.
                play.due = max(play.due, now.wall, *planned)
            at_ns = None if due and play.due <= now.wall else now.mono_of(play.due)
            self._urgent = self._urgent or p.overrides
            play.open(names, at_ns, self._act.append, _bridge(p), alert=p.overrides)
            for zone in names:
                part = p.parts[zone]
                part.take(Step.OPEN)
                part.stretch_planned = play.due
                part.play = play.id
                self._on[p.key, zone] = play.id
            self._touch(p)

    def _keep_caps(self, now: Instant) -> None:
        """A volume cap that begins or ends while a programme is on takes effect at once."""
        for play in self.plays.values():
            p = self.programmes[play.key]
            for zone in play.zones if not p.overrides else ():
                gain = rules.gain(self._zones[zone], p.volume_db, now.wall, self.tz, overrides=False)
                if gain != play.gains.get(zone, play.gain_db):
                    play.gains[zone] = gain
                    self._act.append(do.ToVoice(vo.Gain(play=play.id, gain_db=gain, zones=[zone])))

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

    def _prepare_ahead(self, now: Instant, winning: Set[str]) -> None:
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
                replacing = bool(p.replaces) and not p.replaced
                if _live(p.items) and now.wall > self._due(p) and p.key not in winning and not replacing:
                    # Its zones are others' for who knows how long, and a stream that waits is no longer live.
                    self._unprepare((p.key, part.position, gain))
                else:
                    self._prepare(p, part.position, gain, zone, now)

    def _started(self, event: vo.Started, now: Instant) -> None:
        play = self.plays.get(event.play)
        if play is None:
            return
        p = self.programmes[play.key]
        if p.parts[event.zone].stage is Stage.OPENED:
            at = now.wall_of(event.at_ns)
            first = p.parts[event.zone].first_sample_at is None
            talker = self._talker(p)
            if talker is not None and not play.started:
                commune.speaking(self, p, talker, play.id, now)
            play.started[event.zone] = at
            self._on_air(p, event.zone, at, now)
            if p.drill and first and p.start <= p.received_at:
                opened_ns = event.at_ns - round(event.error_ms * 1e6)
                moments = {"verified": opened_ns, "first_sample": event.submitted_ns, "converter": event.at_ns}
                took = {what: at_ns - p.received_mono_ns for what, at_ns in moments.items()}
                self._report_drill(p, [event.zone], took, now)

    def _report_drill(self, p: Programme, zones: list[str], took_ns: dict[str, int], now: Instant) -> None:
        """What a drill is for: how long it took from the order, or the button's edge, to the loudspeakers."""
        took = {what: round(ns / 1e6, 1) for what, ns in took_ns.items()}
        body = {"what": "drill", "id": p.id, "iss": p.iss, "by": p.by.value, "zones": zones, "latency_ms": took}
        self.ledger.event("progress", now.wall, 2, body)

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
        if started is not None:
            zone = self._zones[event.zone]
            error = (started - play.due) * 1000 - zone.delay_ms
            self.ledger.log(
                p,
                event.zone,
                planned=play.due,
                started=started,
                ended=now.wall_of(event.at_ns),
                result="failed" if nothing else "completed" if completed else "interrupted",
                reason=reason or self._overridden(p, event.zone, started) or ("ducked" if part.ducked else None),
                start_error_ms=error,
                level_dbfs=event.level_dbfs,
                content=play.content(sent),
            )
        part.stretch_started = None
        if not play.zones:
            self._act.append(do.DropFeeds(play.id))
            del self.plays[play.id]
        if event.reason in ("local", INTERLOCKED) and leaving is None:
            # A button's message is there which we have not been told of, or no longer know after a restart; or what
            # excludes a relay of the zone has not let go yet.
            self._taken[event.zone] = now.mono_ns + TAKEN_NS
        if event.reason == RELAY_FAULT and final is None:
            if p.overrides and now.wall < (p.until or p.order_exp or p.start + RELAY_PATIENCE_S):
                self._taken[event.zone] = now.mono_ns + RELAY_AGAIN_NS
            else:
                final = RELAY_FAULT
        if nothing and play.origin != Position():
            # It was to go on, or to be joined, where nothing was left of it.
            if part.first_sample_at is not None:
                self._finish(p, event.zone, now)
            else:
                self._end_part(p, event.zone, "late", now)
        elif nothing:
            self._end_part(p, event.zone, final or reason or "", now, logged=started is not None)
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

    def _voice_lost(self, now: Instant) -> None:
        """Voice is gone: what it played has ended, as far as we know; it is opened again when voice is back."""
        self.voice_up = False
        self._powered.clear()
        self._taken.clear()
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

    def _local_opened(self, event: vo.LocalOpened, now: Instant) -> None:
        """Voice has taken zones for a pressed emergency button; here it becomes a programme like any other."""
        button = next((b for b in self.config.buttons if b.id == event.button), None)
        message = next((m for m in self.config.stored if m.id == event.message), None)
        pressed = now.wall_of(event.pressed_ns)
        title = message.title if message else event.button
        live = event.message == vo.MICROPHONE and button is not None
        if live:
            title = self.config.talk_title
        chime = message.chime if message else button.action.chime if live and button else BRIDGE
        sounds = [Item(chime=chime)] if chime else []
        text: list[Item] = []
        if message is not None:
            sounds = [*sounds, Item(local=message.id)] * message.repeat
        if event.drill:
            sounds = [Item(chime=DRILL_CHIME), *sounds, Item(chime=DRILL_CHIME)]
        if message is not None:
            text = [Item(text=message.text, lang=message.lang)]
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
            items=[*sounds, *text],
            start=pressed,
            resume=Resume.DROP,
            drill=event.drill,
            received_at=now.wall,
            received_mono_ns=event.pressed_ns,
            parts={z: Part() for z in [*event.zones, *boards]},
        )
        self.programmes[p.key] = p
        play = Play(id=event.play, key=p.key, origin=Position(), cues=[], due=pressed, opened=True, closed=True)
        play.zones = list(event.zones)
        self.plays[play.id] = play
        for zone in event.zones:
            self._taken.pop(zone, None)
            for key in self._owners(zone):
                if (key, zone) not in self._leaving and not self._ducks(self.programmes[key], zone, p):
                    self._stop(self.programmes[key], zone, "local", final=False)  # voice has, if it saw the same
            part = p.parts[zone]
            part.take(Step.OPEN)
            part.stretch_planned = pressed
            self._on[p.key, zone] = event.play
        self._urgent = True
        self._touch(p)
        commune.pressed(self, p, button, message, now)

    def _local_started(self, event: vo.LocalStarted, now: Instant) -> None:
        play = self.plays.get(event.play)
        if play is None:
            return
        p = self.programmes[play.key]
        for zone in event.zones:
            play.started[zone] = now.wall_of(event.at_ns)
            self._on_air(p, zone, play.started[zone], now)
        if event.drill:
            took = {"first_sample": event.submitted_ns - event.pressed_ns, "converter": event.at_ns - event.pressed_ns}
            self._report_drill(p, event.zones, took, now)

    def _local_ended(self, event: vo.LocalEnded, now: Instant) -> None:
        self._taken.pop(event.zone, None)
        play = self.plays.get(event.play)
        if play is None or event.zone not in play.zones:
            return
        p = self.programmes[play.key]
        known = [
            self.catalogue.chimes.get(i.chime or "") or self.catalogue.messages.get(i.local or "") for i in p.items
        ]
        content: list[str] = []
        begin = 0
        for sound in known:
            if sound is not None and begin < event.samples:
                content.append(sound.sha256)
                begin += sound.samples
        part = p.parts[event.zone]
        play.zones.remove(event.zone)
        self._on.pop((p.key, event.zone), None)
        self._leaving.pop((p.key, event.zone), None)
        started = play.started.get(event.zone)
        completed = event.reason == "completed" and started is not None
        if started is not None:
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
            self._end_part(p, event.zone, event.reason, now, logged=started is not None)
        self._urgent = True

    def hang_up(self, button: conf.Button, now: Instant) -> bool:
        """End what is said at this everyday button's microphone, if anything is. Voice ends what is on the air."""
        talks = [p for p in self.programmes.values() if self._talker(p) == button]
        for p in talks:
            self._end(p, "stopped", now)
        return bool(talks)

    def stop_local(self, now: Instant, *, remote_emergencies: bool, selectors: list[str]) -> None:
        """The stop button: local programmes at once, a remote emergency when it is held; at clusters too."""
        self._urgent = True
        zones = self.config.match(selectors)
        commune.stop(self, selectors, now, remote=remote_emergencies)
        self._act.append(do.ToVoice(vo.EndLocal(zones=zones)))
        for p in list(self.programmes.values()):
            local = p.iss == self.config.trust.station_authority and p.by is not By.BUTTON
            if local or (remote_emergencies and p.class_ is Class.EMERGENCY):
                for zone in zones:
                    if zone in p.parts:
                        self._cut(p, zone, "stopped", now)


def _bridge(p: Programme) -> str | None:
    """What sounds while relays warm up or an emergency's words are still to come: of an exercise its mark."""
    if not p.overrides:
        return None
    talk = any(is_talk(i) for i in p.items)
    own = next((i.chime for i in p.items if i.chime is not None and talk), BRIDGE)
    return f"chime:{DRILL_CHIME if p.drill else own}"


def _live(items: Iterable[Item]) -> bool:
    return any(i.relay is not None or i.stream is not None for i in items)
