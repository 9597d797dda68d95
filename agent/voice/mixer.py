"""Plays, zones and sound cards: which samples go where in the next period. No I/O beside the sinks; time is given.

A *card* is one sink with one channel per zone that names it. Each card has its own clock: for every period the mixer
asks when its first sample will be at the converter, so that a due time becomes an exact sample, whatever the card.
A zone's `also` outputs are channels of further cards that carry the same plays; only the zone's first output reports.

A play starts in all its zones at the same moment: when the last of their power chains is warm and its first segment is
there. Until then its bridge chime sounds (not before `at_ns`). `Started` is reported at the first sample that sounds,
bridge included, for a play without due time, and at the first sample of its own sound for a scheduled one.
"""

from __future__ import annotations

import audioop
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Protocol

from agent.core.power import Changed, PowerPlan, State, Switch, Told, chains_of, idle_chain
from agent.core.relay import wiring_of
from agent.model.config import Relay, Zone
from agent.model.voice import (
    BYTES_PER_SAMPLE,
    PERIOD,
    RATE,
    Ended,
    Event,
    Fault,
    Level,
    LocalEnded,
    LocalStarted,
    Power,
    SegmentStarted,
    Started,
)
from agent.voice import pcm
from agent.voice.pace import Pace
from agent.voice.stream import FILLER, Stream, looped

MARGIN_NS = 100_000_000
"""Chain and card of a scheduled play are started this much earlier than the warm-up asks for."""
RELAY_FAULT = "relay-fault"
"""Why a play ends whose zone has a relay that failed."""
INTERLOCKED = "interlocked"
"""Why a play ends whose zone needs a relay that excludes one in use elsewhere."""
CALM_NS = 1_000_000_000
"""A card is well again when nothing went wrong with it for so long."""
LIMIT = 32766.0
RECOVERY = 1.0035
"""The limiter lets go by this factor a period: 6 dB a second."""
LOWER, RAISE = 0.5, 1.06
"""Most that a play's own gain changes by in a period: 6 dB down, half a dB up: an alert is clear at once."""
ATTACK = 48 * BYTES_PER_SAMPLE
"""Bytes over which the limiter takes hold: 1 ms, which may clip, rather than a step, which clicks."""
PERIODS_AT_ONCE = 64
"""Most periods written in one go, so that a device that swallows everything cannot hold the loop."""


class Sink(Protocol):
    """A sound card. Between `stop` and `start` it is prepared and costs nothing."""

    xruns: int
    """How often samples came too late, since the start of the process."""

    @property
    def away(self) -> bool:
        """The device is not there: what is written is lost."""

    def start(self, now: int) -> None:
        """Begin to run: the next sample written is played at once."""

    def stop(self, now: int) -> None:
        """Stop running; what was written and not played is dropped."""

    def next_ns(self, now: int) -> int:
        """When the next sample to be written will be at the converter."""

    def room(self, now: int) -> bool:
        """Whether another period should be written now, to keep the configured buffer filled."""

    def wake_ns(self, now: int) -> int:
        """When there will be room again."""

    def write(self, frames: bytes, now: int) -> None:
        """Submit one period of interleaved frames; never blocks, never raises."""

    def take_faults(self) -> list[str]:
        """What went wrong since the last call, for people."""

    def close(self, now: int) -> None:
        """Give the device back."""


class Local:
    """What makes a play one of voice's own."""

    def __init__(self, button: str, message: str, pressed_ns: int, *, drill: bool = False) -> None:
        self.button = button
        self.drill = drill
        self.message = message
        self.pressed_ns = pressed_ns
        self.reported = False


class Play:
    """One stretch of one programme, or a button's message."""

    def __init__(
        self,
        name: str,
        *,
        arrived_ns: int,
        at_ns: int | None,
        gain_db: float,
        stream: Stream,
        local: Local | None = None,
        alert: bool = False,
    ) -> None:
        self.name = name
        self.arrived_ns = arrived_ns
        self.at_ns = at_ns
        self.gain_db = gain_db
        self.stream = stream
        self.local = local
        self.alert = alert or local is not None
        """What is no alert is ducked by it, in a zone that does so."""
        self.start_ns: int | None = None
        """The moment of its first own sample, in all zones, before their delays. None: not decided yet."""
        self.reason = "completed"
        """Of its end when nobody stops it."""
        self.branches: list[Branch] = []
        self.announced: set[int] = set()


Report = Callable[[int], Event]
"""Makes an event out of the time at which the period was submitted."""


class Branch:
    """A play in one channel."""

    def __init__(self, play: Play, channel: Channel) -> None:
        self.play = play
        self.channel = channel
        self.gain = 0.0
        """Of the last period."""
        self.set_gain(play.gain_db)
        self.at: int | None = None
        """Position in the stream; None before the start."""
        self.bridge_at = 0
        self.bridging = False
        self.started = False
        self.stop_reason: str | None = None
        self.over = False
        self.counts: dict[int, int] = {}
        self.late = 0
        self.underrun = 0
        self.meter = pcm.Meter()
        self.last_ns = 0
        self._pace = Pace()

    def set_gain(self, gain_db: float) -> None:
        """Its gain from the next period on, beside that of the zone."""
        self._aim = pcm.factor(self.channel.zone.gain_db + gain_db)

    def step_gain(self, ducked: float) -> tuple[float, float]:
        """The gain at the beginning and at the end of this period."""
        goal = self._aim if self.play.alert else self._aim * ducked
        before = self.gain or goal
        self.gain = min(max(goal, before * LOWER), before * RAISE)
        return before, self.gain

    @property
    def audible(self) -> bool:
        """It has begun to send something, own sound or bridge."""
        return self.at is not None or self.bridging

    def render(self, begin_ns: int, reports: list[Report]) -> tuple[bytes, list[tuple[int, int]]] | None:
        """The next period before gain, and the spans (first, last + 1) whose level is measured; None: nothing."""
        offset = self._offset(begin_ns)
        head = self._before(begin_ns, offset)
        if offset >= PERIOD:
            if head is None:
                return None
            self._report_start(begin_ns, reports)
            return self._fade_out(head), [(0, PERIOD)]
        slip = self._slip(begin_ns)
        if self.at is None:
            self.at = 0
        parts = [head if head is not None else pcm.silence(offset)]
        spans = [] if head is None else [(0, offset)]
        index = offset
        for number, data in self.play.stream.read(self.at, PERIOD - offset + slip):
            samples = len(data) // BYTES_PER_SAMPLE
            parts.append(data)
            if number == FILLER:
                self.late += samples
            else:
                self._own(number, samples, begin_ns + pcm.ns_of(index), reports)
                spans.append((index, index + samples))
                self.last_ns = begin_ns + pcm.ns_of(index + samples)
            index += samples
        self.at += index - offset
        sound = b"".join(parts)
        if slip and index == PERIOD + slip:
            sound, index = pcm.fit(sound, PERIOD), PERIOD
        if self.bridging:
            self.bridging = False
            size = min(pcm.DECLICK, index - offset)
            tail, _ = looped(self.play.stream.bridge or b"\0\0", self.bridge_at, size)
            cut = offset * BYTES_PER_SAMPLE
            sound = sound[:cut] + pcm.mix_head(sound[cut:], pcm.ramp(tail, 1.0, 0.0))
        if self.play.stream.ended and self.at >= self.play.stream.head:
            self.over = True
            sound += pcm.silence(PERIOD - index)
        return self._fade_out(sound), spans

    def _slip(self, begin_ns: int) -> int:
        """Samples that this period takes more or fewer, so that a card's drift does not add up. Never of a button's."""
        start_ns, play = self.play.start_ns, self.play
        if self.at is None or start_ns is None or play.local is not None or self.stop_reason or self.bridging:
            return 0
        if play.stream.ended and self.at + PERIOD >= play.stream.head:
            return 0
        return self._pace.step(self.at - pcm.samples_of(begin_ns - start_ns))

    def _offset(self, begin_ns: int) -> int:
        if self.at is not None:
            return 0
        if self.play.start_ns is None or self.stop_reason is not None:
            return PERIOD
        return max(0, min(PERIOD, pcm.samples_of(self.play.start_ns - begin_ns)))

    def _before(self, begin_ns: int, offset: int) -> bytes | None:
        """Bridge before the play's own start, if it is to sound in this period."""
        bridge, at_ns = self.play.stream.bridge, self.play.at_ns
        if not offset or not bridge or (at_ns is not None and begin_ns < at_ns):
            return None
        if self.stop_reason is not None and not self.bridging:
            return None
        if not self.bridging and offset < PERIOD:
            return None  # the sound itself begins within this period
        self.bridging = True
        data, self.bridge_at = looped(bridge, self.bridge_at, offset)
        self.last_ns = begin_ns + pcm.ns_of(offset)
        return data

    def _own(self, number: int, samples: int, at_ns: int, reports: list[Report]) -> None:
        self.underrun += self.late if self.counts else 0
        self.late = 0
        self.counts[number] = self.counts.get(number, 0) + samples
        self._report_start(at_ns, reports)
        play = self.play
        if self.channel.primary and number not in play.announced:
            play.announced.add(number)
            if play.local is None:
                event = SegmentStarted(
                    play=play.name, segment=number, at_ns=at_ns, pinned=play.stream.names.get(number)
                )
                reports.append(lambda _: event)

    def _fade_out(self, sound: bytes) -> bytes:
        if self.stop_reason is None:
            return sound
        self.over = True
        return pcm.ramp(sound, 1.0, 0.0)

    def _report_start(self, at_ns: int, reports: list[Report]) -> None:
        """Report the first sample, once. A scheduled play's bridge is not its start."""
        play = self.play
        if self.started or not self.channel.primary or (play.at_ns is not None and self.at is None):
            return
        self.started = True
        delay = self.channel.delay_ns
        if play.local is not None:
            if not play.local.reported:
                play.local.reported = True
                reports.append(lambda submitted: self._local_started(at_ns + delay, submitted))
            return
        due = play.arrived_ns if play.at_ns is None else play.at_ns
        reports.append(
            lambda submitted: Started(
                play=play.name,
                zone=self.channel.zone.id,
                at_ns=at_ns + delay,
                submitted_ns=submitted,
                error_ms=round((at_ns - due) / 1e6, 3),
            )
        )

    def _local_started(self, at_ns: int, submitted_ns: int) -> LocalStarted:
        local = self.play.local
        assert local is not None  # noqa: S101 - for the type checker
        return LocalStarted(
            play=self.play.name,
            button=local.button,
            message=local.message,
            zones=[b.channel.zone.id for b in self.play.branches if b.channel.primary],
            pressed_ns=local.pressed_ns,
            at_ns=at_ns,
            submitted_ns=submitted_ns,
            drill=local.drill,
        )

    def ended(self, now: int) -> Ended | LocalEnded:
        """The event of its end."""
        at_ns = self.last_ns + self.channel.delay_ns if self.last_ns else now
        samples, level = sum(self.counts.values()), self.meter.dbfs()
        reason, zone = self.stop_reason or self.play.reason, self.channel.zone.id
        if self.play.local is not None:
            return LocalEnded(
                play=self.play.name, zone=zone, at_ns=at_ns, samples=samples, level_dbfs=level, reason=reason
            )
        names = self.play.stream.names
        return Ended(
            play=self.play.name,
            zone=zone,
            at_ns=at_ns,
            samples=samples,
            level_dbfs=level,
            reason=reason,
            underrun_samples=self.underrun,
            segments=[self.counts.get(i, 0) for i in range(max(names) + 1)] if names else [],
        )


class Channel:
    """A zone on one card: its plays mixed, limited and delayed."""

    def __init__(self, zone: Zone, primary: bool) -> None:
        self.zone = zone
        self.primary = primary
        self.branches: list[Branch] = []
        self._delay = pcm.silence(round(zone.delay_ms * RATE / 1000))
        self.delay_ns = pcm.ns_of(len(self._delay) // BYTES_PER_SAMPLE)
        self._line = self._delay
        self._scale = 1.0
        self._duck = pcm.factor(zone.duck_db or 0.0)
        self.busy_until = 0
        """When the last sample that sounds will have left the converter."""
        self.last = b""
        self.tap: Callable[[int, bytes], None] | None = None
        """Takes what sounds, with the moment of its first sample at the converter: for the ear."""

    def rest(self) -> None:
        """The card stops: nothing is left in the delay line."""
        self._line = self._delay
        self._scale = 1.0
        self.last = b""

    def render(self, begin_ns: int, reports: list[Report]) -> bytes:
        """The next period of this channel."""
        sounding = [(b, r) for b in self.branches if (r := b.render(begin_ns, reports)) is not None]
        out = b""
        if sounding:
            self.busy_until = begin_ns + pcm.ns_of(PERIOD) + self.delay_ns
            alert = any(b.play.alert and b.audible and b.stop_reason is None for b in self.branches)
            gains = {b: b.step_gain(self._duck if alert else 1.0) for b, _ in sounding}
            before = self._scale
            self._limit([(r[0], max(gains[b])) for b, r in sounding if b.stop_reason is None])
            for branch, (sound, spans) in sounding:
                first, gain = gains[branch][0] * self._scale, gains[branch][1] * self._scale
                if first != gain:
                    sent = pcm.ramp(sound, first, gain)
                else:
                    sent = sound if gain == 1.0 else audioop.mul(sound, BYTES_PER_SAMPLE, gain)
                if self._scale < before:
                    sent = pcm.ramp(sound[:ATTACK], gains[branch][0] * before, gain) + sent[ATTACK:]
                if self.primary:
                    for low, high in spans:
                        branch.meter.add(sent[low * BYTES_PER_SAMPLE : high * BYTES_PER_SAMPLE])
                out = audioop.add(out, sent, BYTES_PER_SAMPLE) if out else sent
        out = out or pcm.silence(PERIOD)
        if self._delay:
            line = self._line + out
            out, self._line = line[: len(out)], line[len(out) :]
        self.last = out
        return out

    def _limit(self, live: Sequence[tuple[bytes, float]]) -> None:
        """Keep the sum of what sounds inside the range: down at once, up by 6 dB a second.

        A play that is being faded out is left out of it: better a clipped millisecond of what goes than an alarm that
        begins too quiet.
        """
        if self._scale == 1.0 and len(live) == 1 and live[0][1] <= 1.0:
            return
        peak = sum(audioop.max(sound, BYTES_PER_SAMPLE) * gain for sound, gain in live)
        self._scale = min(1.0, self._scale * RECOVERY, LIMIT / peak if peak else 1.0)


def slots_of(zones: Sequence[Zone]) -> list[list[int]]:
    """The channels that a card has for these zones: the places of those that share one, in configuration order."""
    slots: dict[str, list[int]] = {}
    for i, zone in enumerate(zones):
        slots.setdefault(f"zone:{zone.id}" if zone.amplifier is None else zone.amplifier, []).append(i)
    return list(slots.values())


class Card:
    """A sink and its channels, in configuration order. Zones of one amplifier are one channel of the sink: they carry
    the same, or only one of them plays (the owner sees to that), so it is that of the first one that sounds."""

    def __init__(self, name: str, sink: Sink, channels: Sequence[Channel]) -> None:
        self.name = name
        self.sink = sink
        self.channels = list(channels)
        self.slots = slots_of([c.zone for c in self.channels])
        self.running = False
        self.xruns = 0
        self.fault_ns: int | None = None
        """When something last went wrong with it; None: nothing is wrong."""


class Mixer:
    """All cards of a station, its plays, and the power chains of its zones, boards included.

    `tick` does everything that is due and says when it wants to be called again; it must also be called after every
    change. Events go to `emit`, relays to `switch`, faults to `fault(what, detail, zone)`.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        cards: Sequence[Card],
        *,
        clock: Callable[[], int],
        emit: Callable[[Event], None],
        switch: Callable[[str, bool, int], None],
        fault: Callable[[str, str, str | None], None],
        relays: Sequence[Relay] = (),
        told: Callable[[Told, int], None] = lambda told, now: None,
        boards: Sequence[Zone] = (),
    ) -> None:
        self.zones = {z.id: z for z in zones}
        self.boards = {z.id for z in boards}
        self.held: dict[str, bool] = {}
        """Boards whose power the agent wants on, and whether for an alert."""
        self.cards = list(cards)
        self.power = PowerPlan(chains_of([*zones, *boards]), {r.id: wiring_of(r) for r in relays}, clock())
        self.plays: dict[str, Play] = {}
        self.level_every_ns = 0
        self._level_ns = 0
        self._clock = clock
        self._emit = emit
        self._switch = switch
        self._told = told
        self._fault = fault
        self._wanted: set[str] = set()
        self._let_through = {z.id: False for z in [*zones, *boards] if z.idle.power}
        """Zones with an external source behind relays of its own, and whether it may be heard."""
        self._channels: dict[str, list[Channel]] = {z.id: [] for z in zones}
        self._card_of: dict[Channel, Card] = {}
        for card in self.cards:
            for channel in card.channels:
                self._channels[channel.zone.id].append(channel)
                self._card_of[channel] = card

    def open(self, play: Play, zones: Sequence[str]) -> None:
        """Add a play in these (known) zones."""
        self.plays[play.name] = play
        for zone in zones:
            for channel in self._channels[zone]:
                branch = Branch(play, channel)
                play.branches.append(branch)
                channel.branches.append(branch)

    def stop(self, play: Play, zones: Sequence[str] | None, reason: str, now: int) -> None:
        """End a play (in these zones) with a fade in the next period, or at once where it has not begun."""
        for branch in play.branches:
            if (
                branch.over
                or branch.stop_reason is not None
                or (zones is not None and branch.channel.zone.id not in zones)
            ):
                continue
            branch.stop_reason = reason
            if not branch.audible:
                branch.over = True
        self._sweep(now)

    def in_zone(self, zone: str, *, leaving: bool = False) -> Iterator[Play]:
        """The plays that hold this zone; with `leaving` also those that are fading out."""
        for channel in self._channels[zone]:
            if channel.primary:
                branches = (b for b in list(channel.branches) if not b.over)
                yield from (b.play for b in branches if leaving or b.stop_reason is None)

    def set_gain(self, play: Play, zones: Sequence[str] | None, gain_db: float) -> None:
        """Change a play's gain (in these zones)."""
        for branch in play.branches:
            if zones is None or branch.channel.zone.id in zones:
                branch.set_gain(gain_db)

    def ducks(self, zone: str, play: Play) -> bool:
        """Whether the play goes on in that zone, quieter, when an alert begins there: if it can be heard already."""
        heard = any(b.audible for b in play.branches if b.channel.primary and b.channel.zone.id == zone)
        return self.zones[zone].duck_db is not None and not play.alert and heard

    def away(self, zone: str) -> bool:
        """Whether a device of that zone is not there."""
        return any(self._card_of[channel].sink.away for channel in self._channels[zone])

    def running_cards(self) -> list[str]:
        """Names of the cards that run."""
        return [c.name for c in self.cards if c.running]

    def tick(self, now: int) -> int | None:
        """Do what is due; returns when to come again, None: when something happens."""
        self._own_zones(now)
        self._advance_power(now)
        for card in self.cards:
            self._run(card, now)
        for card in self.cards:
            if card.running:
                self._feed(card, now)
            self._watch(card, now)
        self._sweep(now)
        self._levels(now)
        return self._next(now)

    def finish(self, now: int) -> None:
        """Fade everything out in one last period, relays off. The sinks stay to be closed by their owner."""
        for play in list(self.plays.values()):
            self.stop(play, None, "stopped", now)
        for card in self.cards:
            if card.running:
                self._period(card, now)
        self._sweep(now)
        for step in self.power.all_off():
            self._switch(step.relay, step.on, now)
            self._told(Told(step.relay, step.on), now)

    # -- power -------------------------------------------------------------------------------------------------------

    def _due(self, play: Play, zone: str, now: int) -> bool:
        return play.at_ns is None or self.power.due(zone, play.at_ns - MARGIN_NS, now)

    def _own_zones(self, now: int) -> None:
        for zone in [*self._channels, *self.boards]:
            channels = self._channels.get(zone, [])
            busy = zone in self.held or any(c.busy_until > now for c in channels)
            due = [b for c in channels for b in c.branches if self._due(b.play, zone, now)]
            fresh = [b for b in due if b.stop_reason is None]
            wanted = busy or bool(due)
            insist = any(b.play.alert for b in fresh) or self.held.get(zone, False)
            if zone in self._wanted and self.power.state(zone) is State.FAULT and (fresh or not wanted):
                self._wanted.discard(zone)  # what it failed has been told; somebody else may try it again
                self.power.release(zone, now)
            if wanted and zone not in self._wanted:
                self._wanted.add(zone)
                self.power.want(zone, now, insist=insist)
            elif not wanted and zone in self._wanted:
                self._wanted.discard(zone)
                self.power.release(zone, now)
            elif wanted:
                self.power.insist(zone, insist)

    def _advance_power(self, now: int) -> None:
        for step in self.power.advance(now):
            if isinstance(step, Switch):
                self._switch(step.relay, step.on, now)
            elif isinstance(step, Told):
                self._told(step, now)
            elif isinstance(step, Changed):
                if step.zone not in self.zones and step.zone not in self.boards:
                    continue  # the chain of an external source
                self._emit(Power(zone=step.zone, state=step.state.value, at_ns=now))
                if step.state is State.FAULT and step.zone in self.zones:
                    self._end_zone(step.zone, RELAY_FAULT, now)
        for zone in self._wanted:
            if any(True for other in self.power.blockers(zone) for _ in self.in_zone(other)):
                self._end_zone(zone, INTERLOCKED, now)

    def _end_zone(self, zone: str, reason: str, now: int) -> None:
        for play in list(self.in_zone(zone)):
            self.stop(play, [zone], reason, now)

    def hold(self, board: str, now: int, *, on: bool, insist: bool) -> None:
        """Keep a board's power on, or no longer. One whose chain has failed is tried again."""
        if not on:
            self.held.pop(board, None)
            return
        if board in self._wanted and self.power.state(board) is State.FAULT:
            self._wanted.discard(board)
            self.power.release(board, now)
        self.held[board] = insist

    def let_through(self, zones: Container[str], now: int) -> None:
        """The external sources that may be heard from now on: those of these zones and no others."""
        for zone, before in self._let_through.items():
            chain = idle_chain(zone)
            if before and (zone not in zones or self.power.state(chain) is State.FAULT):
                self.power.release(chain, now)
                self._let_through[zone] = False
            if zone in zones and not self._let_through[zone]:
                self.power.want(chain, now)
                self._let_through[zone] = True

    # -- cards -------------------------------------------------------------------------------------------------------

    def _run(self, card: Card, now: int) -> None:
        powered = any(self.power.state(c.zone.id) is not State.OFF for c in card.channels)
        if powered and not card.running:
            card.running = True
            card.sink.start(now)
        elif not powered and card.running:
            card.running = False
            card.sink.stop(now)
            for channel in card.channels:
                channel.rest()
            if self.level_every_ns:
                self._emit(self._level(now))

    def _watch(self, card: Card, now: int) -> None:
        """Tell what went wrong with a card, and once that it is there again."""
        for detail in card.sink.take_faults():
            if card.fault_ns is None or now >= card.fault_ns + CALM_NS:
                self._emit(Fault(what="sink", detail=f"{card.name}: {detail}", at_ns=now, device=card.name))
            card.fault_ns = now
        calm = card.fault_ns is not None and now >= card.fault_ns + CALM_NS
        if calm and card.running and not card.sink.away:
            card.fault_ns = None
            self._emit(Fault(what="sink", detail=f"{card.name} works again", at_ns=now, device=card.name, on=False))

    def _feed(self, card: Card, now: int) -> None:
        for _ in range(PERIODS_AT_ONCE):
            if not card.sink.room(now):
                break
            self._period(card, now)
        if card.sink.xruns > card.xruns:
            self._fault("xrun", f"{card.name}: {card.sink.xruns - card.xruns} underruns", None)
            card.xruns = card.sink.xruns

    def _period(self, card: Card, now: int) -> None:
        begin_ns = card.sink.next_ns(now)
        reports: list[Report] = []
        sounds = []
        for channel in card.channels:
            for branch in channel.branches:
                if branch.at is None and branch.play.start_ns is None:
                    self._decide_start(branch.play, begin_ns, now)
            sounds.append(channel.render(begin_ns, reports))
            if channel.tap is not None and channel.primary and channel.busy_until > begin_ns:
                channel.tap(begin_ns, sounds[-1])
        card.sink.write(pcm.interleave([sounds[self._first(card, slot, begin_ns)] for slot in card.slots]), now)
        if reports:
            submitted = self._clock()
            for report in reports:
                self._emit(report(submitted))
        for channel in card.channels:
            if any(b.over for b in channel.branches):
                self._sweep(now)
                break
        self._forget(card)

    @staticmethod
    def _first(card: Card, slot: Sequence[int], begin_ns: int) -> int:
        return next((i for i in slot if card.channels[i].busy_until > begin_ns), slot[0])

    def _decide_start(self, play: Play, begin_ns: int, now: int) -> None:
        """Fix the moment of the first own sample once it falls into the period that begins at `begin_ns`."""
        zones = {b.channel.zone.id for b in play.branches if not b.over}
        if not all(self._due(play, z, now) and not self.power.waits(z) for z in zones):
            return
        earliest = max([play.at_ns or 0, *(self.power.ready_ns(z, now) for z in zones)])
        if earliest >= begin_ns + pcm.ns_of(PERIOD) or not play.stream.ready():
            return
        cards = {self._card_of[b.channel] for b in play.branches if b.channel.primary and not b.over}
        play.start_ns = max([earliest, *(c.sink.next_ns(now) for c in cards if c.running)])

    def _forget(self, card: Card) -> None:
        for channel in card.channels:
            for branch in channel.branches:
                branch.play.stream.forget(min(b.at or 0 for b in branch.play.branches if not b.over))

    def _sweep(self, now: int) -> None:
        """Report and remove what is over."""
        for play in list(self.plays.values()):
            for branch in [b for b in play.branches if b.over]:
                play.branches.remove(branch)
                branch.channel.branches.remove(branch)
                if branch.channel.primary:
                    self._emit(branch.ended(now))
            if not play.branches:
                play.stream.close()
                del self.plays[play.name]

    # -- time --------------------------------------------------------------------------------------------------------

    def _levels(self, now: int) -> None:
        if not self.level_every_ns or now < self._level_ns or not any(c.running for c in self.cards):
            return
        self._level_ns = now + self.level_every_ns
        self._emit(self._level(now))

    def _level(self, now: int) -> Level:
        levels = {z: pcm.dbfs(c.last) for z, channels in self._channels.items() for c in channels if c.primary}
        return Level(at_ns=now, zones=levels)

    def _next(self, now: int) -> int | None:
        times = [c.sink.wake_ns(now) for c in self.cards if c.running]
        power = self.power.next_ns()
        if power is not None:
            times.append(power)
        for zone, channels in self._channels.items():
            for channel in channels:
                if channel.busy_until > now:
                    times.append(channel.busy_until)
                for branch in channel.branches:
                    at_ns = branch.play.at_ns
                    if at_ns is not None and zone not in self._wanted:
                        times.append(self.power.due_ns(zone, at_ns - MARGIN_NS))
        return min(times, default=None)
