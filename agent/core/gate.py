"""What was decided is written before it is acted on.

The lowest layer of the owner: all of its state, and the gate through which every command leaves. What an event changes
is one transaction; the commands that act on it wait until its commit is reported, but an emergency does not wait for
the disk (CONTRACT section 4). A disk that takes nothing loses nothing: what could not be written is tried again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from zoneinfo import ZoneInfo

from msgspec import Struct

from agent.core import commands as do
from agent.core import commune, power
from agent.core.calendar import Calendar
from agent.core.catalogue import Catalogue
from agent.core.clusters import Clusters
from agent.core.commands import Command
from agent.core.inspection import Inspections
from agent.core.intake import Intake, RefusalMeter
from agent.core.ledger import Ledger
from agent.core.passing import Passing
from agent.core.plays import Play
from agent.core.programme import Position, Programme, encode
from agent.core.report import Reporter
from agent.core.selftest import SelfTests
from agent.core.silences import Silences
from agent.model import config as conf
from agent.model import events as ev
from agent.model.orders import Class, Item, Media
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
from agent.model.screen import Rest, Turn
from agent.model.time import Instant
from agent.model.voice import Hold
from agent.ports import Need

RETRY_NS = 5 * 10**9
"""What the disk did not take is tried again this often."""
LEAD_S = 0.5
"""A play is handed to voice this long before its power chain must start."""


class Leaving(Struct):
    """A part whose play was told to stop; voice's `Ended` is still to come. `final`: it does not come back."""

    play: str
    reason: str
    final: bool


class Gate:
    """All state of the owner, in one place. The layers above only add decisions."""

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
        self.sign: commune.Sign | None = None
        """Signs what the commune's own officers start; None: this station has no key."""
        self.passing = Passing(config.fleet(), snapshot)
        self.clusters = Clusters(config.fleet())
        self.shared: dict[str, Media] = {}
        """Stored messages as files of the content library, which clusters can fetch."""
        self._own_counter = commune.OwnCounter(snapshot, now)
        self.pressed: dict[str, str] = {}
        """Bulletin → everyday button, while its order goes through the door: only a button may open the microphone."""
        self._arrived_ns = 0
        """When the order that is being taken in arrived (monotonic); 0: it was made here."""
        self._measuring: dict[str, int] = {}
        """Media whose loudness is being measured: SHA-256 → since when (monotonic ns)."""
        self.drill_until_ns = 0
        """Until then what the commune's buttons start is an exercise (monotonic)."""
        self.storage_bad: str | None = None
        self.voice_up = False
        self._prepared: dict[tuple[str, Position, float], Play] = {}
        self._on: dict[tuple[str, str], str] = {}
        """(programme, zone) → the play or screen showing that is opened or playing there."""
        self._leaving: dict[tuple[str, str], Leaving] = {}
        self._orphans: dict[tuple[str, str], str] = {}
        """(play, zone) → programme: on when the agent ended; voice's `Hello` decides how far it came."""
        self._taken: dict[str, int] = {}
        """Zones which voice keeps for a button's message, until (monotonic ns) we try again."""
        self._screen_takes: dict[tuple[str, str], float] = {}
        """(programme, board) → how long all of it takes, in seconds."""
        self._screen_until: dict[tuple[str, str], float] = {}
        """(programme, board) → when it was seen long enough, or when a board that shows nothing of it is given up."""
        self._resting: dict[str, Rest] = {}
        """What boards without a programme were told to show."""
        self._framed: dict[str, str | None] = {}
        """The play of the frame that is on each board; None: its default slide."""
        self._held: dict[str, Hold] = {}
        """Boards with a power chain, and what voice was told of it."""
        self._powered: dict[str, str] = {}
        """States of the power chains, as voice tells them."""
        self._dimmed: dict[str, int] = {}
        self._paged: dict[str, Turn] = {}
        """The pages to which each board was turned, in step with the sound."""
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
        self._wants_old_ns = 0
        """When the list of wanted media is to be made anew though nothing changed; 0: now."""
        self._media: dict[str, tuple[list[Item], tuple[Media, ...]]] = {}
        """By programme: its items, and the media files in them."""
        self._tombstones: dict[str, float] = {}
        self._rejections: dict[str, int] = {}
        self._zones = {z.id: z for z in config.zones}
        self._lead = {z.id: power.lead_s(z, config.relays) + LEAD_S for z in config.zones}
        self._rivals = power.rivals(config.zones, config.relays)
        self._sharers = power.sharers(config.zones)
        self._relay_faults: dict[str, str] = {}
        self.tests = SelfTests(config)
        self.inspections = Inspections()
        self._idle: list[str] = []
        """Zones whose external source voice lets through."""
        self._now = now
        self._ending = False

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
        return ready

    def _with_unwritten(self, writes: list[Write], now: Instant) -> list[Write]:
        """What to write now. While the disk takes nothing, all of it waits and is tried together now and then; what is
        left when it takes again goes with the next batch that nothing goes before: what is on its way may be newer."""
        if self.storage_bad is not None:
            for write in writes:
                self._unwritten[_about(write)] = (self._batch + 1, write)
            writes = []
        if not self._unwritten or self._writing or now.mono_ns < self._retry_ns:
            return writes
        self._retry_ns = now.mono_ns + RETRY_NS
        newest = {about: write for about, (_, write) in self._unwritten.items()} | {_about(w): w for w in writes}
        return list(newest.values())

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
        self._wants_old_ns = 0
        if p.class_ is Class.EMERGENCY:
            self._urgent = True

    def take_ctr(self) -> int:
        """A `ctr` of the station's own key that was never used."""
        own = self.config.trust.station_authority
        kids = [kid for kid, holder in self.intake.trusted.holders.items() if holder.authority.id == own]
        ctr, writes = self._own_counter.next(max((self.intake.replay.highest(kid) for kid in kids), default=0))
        self.ledger.write(*writes)
        return ctr

    def send_down(self, commands: Iterable[do.PassOn], *, urgent: bool) -> None:
        """To the clusters, once what this event decided is on the disk; at once when urgent."""
        self._act.extend(commands)
        self._urgent = self._urgent or urgent

    def _alarm(self, alarm: ev.Alarm, now: Instant) -> None:
        """Something a person must know, or its end: to the province and into the status."""
        self.ledger.alarm(
            alarm.what, alarm.detail, now.wall, alarm.zone, on=alarm.on, cluster=alarm.cluster, device=alarm.device
        )
        self.reporter.alarm(alarm)

    def reply(self, reply: do.Reply) -> None:
        """Answer a person, after what was asked is durable."""
        self._after.append(reply)


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
