"""How parts and programmes end: stretches and their log entries, interruption and resume, the one outcome, its acks."""

from __future__ import annotations

from agent.core import commands as do
from agent.core import commune, rules
from agent.core.calendar import BACK_S
from agent.core.gate import Gate, Leaving
from agent.core.programme import By, Part, Position, Programme, Stage, State, Step
from agent.model import config as conf
from agent.model import voice as vo
from agent.model.orders import Reason, Resume
from agent.model.playlog import Result
from agent.model.records import PutValue
from agent.model.time import Instant

AHEAD_S = 900.0
"""A scheduled occurrence becomes a programme this long before its start."""
NOT_SHOWN = "not-shown"
"""Why a part failed whose board never confirmed a frame."""
DWELL_S = 10.0
"""How long a board shows an item without `dwell_s`."""


class Outcomes(Gate):
    """Moves parts along the tables of `agent.core.programme` and tells what came of them."""

    @staticmethod
    def _due(p: Programme) -> float:
        return p.again_at if p.again_at is not None else p.start

    def _bulletins(self, iss: str, bulletin: str) -> list[Programme]:
        """What is alive of a bulletin that came as an order; two while the former version is being stopped."""
        return [p for p in self.programmes.values() if p.by is By.ORDER and (p.iss, p.id) == (iss, bulletin)]

    def _spoken_at(self, p: Programme) -> conf.Button | None:
        """The button at whose microphone somebody speaks in this programme, in an emergency or every day."""
        return next((b for b in self.config.buttons if b.id == p.by_whom and b.action.microphone), None)

    def _silenced(self, p: Programme, zone: str, now: Instant) -> bool:
        local = p.by is By.BUTTON or (p.iss == self.config.trust.station_authority and p.by is not By.TEST)
        return self.silences.covers(zone, now.surely, local=local)

    def _bury(self, key: str, until: float) -> None:
        """Nothing of that key may begin until then."""
        self._tombstones[key] = max(until, self._tombstones.get(key, 0.0))
        self.ledger.write(PutValue(key=f"tombstone/{key}", value=str(self._tombstones[key]).encode()))

    def _ack(self, p: Programme, now: Instant, reason: str | None = None) -> None:
        ack = self.ledger.programme_ack(p, now.wall, reason)
        if ack is not None and p.jti is not None:
            self._remember_ack(p.iss, p.jti, ack)

    def _remember_ack(self, iss: str, jti: str, ack: bytes) -> None:
        self.ledger.write(*self.intake.record_ack(iss, jti, ack))

    def _on_air(self, p: Programme, zone: str, at: float, now: Instant) -> None:
        part = p.parts[zone]
        part.take(Step.START)
        part.stretch_started = at
        part.ducked = False
        first = part.first_sample_at is None
        if first:
            part.first_sample_at = at
        if p.state is State.ACCEPTED:
            p.advance(State.RUNNING)
        if first:
            self._ack(p, now)
        self._touch(p)

    def _come_back(
        self, p: Programme, zone: str, position: Position, reason: str, now: Instant, *, logged: bool
    ) -> None:
        part = p.parts[zone]
        part.take(Step.INTERRUPT)
        self._touch(p)
        if not logged:
            return  # it was only opened: it begins anew
        if p.resume is Resume.DROP and not (reason == "restart" and p.overrides):
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
                Reason.REQUISITION_HOURS,
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
        button = self._spoken_at(p)
        if button is not None:
            commune.hung_up(self, p, button, now)
        if p.by is By.SCHEDULE:
            # Its occurrence is computed again after a boot and with each version of the schedule.
            self._bury(p.key, max(now.wall, p.start) + BACK_S + AHEAD_S)
        self._forget(p)
        if p.by is By.TEST:
            self.tests.ended(self, p, now)

    def _forget(self, p: Programme) -> None:
        self.programmes.pop(p.key, None)
        for key in [k for k in self._prepared if k[0] == p.key]:
            self._unprepare(key)
        self._touch(p)

    def _unprepare(self, key: tuple[str, Position, float]) -> None:
        play = self._prepared.pop(key, None)
        if play is not None:
            self._act.append(do.DropFeeds(play.id))

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
        if part.play is not None and self._orphans.pop((part.play, zone), None) is not None:
            self._cut_by_power(p, zone, part, now)  # voice has not told yet how far it came
        if part.stage in (Stage.OPENED, Stage.PLAYING):
            leaving = self._leaving.get((p.key, zone))
            part.ending = reason
            self._touch(p)
            if leaving is not None:
                leaving.final, leaving.reason = True, reason
            elif self._zones[zone].kind == "screen":
                self._urgent = True
                self._end_part(p, zone, reason, now, logged=self._close_screen(p, zone, now, reason))
            else:
                self._stop(p, zone, reason, final=True)
        elif part.stage is not Stage.ENDED:
            self._end_part(p, zone, reason, now)

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
        elif p.by is By.BUTTON and p.id in self.plays:
            pass  # its words come back on the board, while voice goes on
        elif started is not None and (p.by is By.BUTTON or (p.resume is Resume.DROP and not p.overrides)):
            self._end_part(p, zone, "power", now, logged=True)
        elif p.resume is Resume.RESTART:
            part.position = Position()

    def _stop(self, p: Programme, zone: str, reason: str, *, final: bool) -> None:
        now = self._now
        self._urgent = True
        if self._zones[zone].kind == "screen":
            logged = self._close_screen(p, zone, now, reason)
            self._come_back(p, zone, Position(), reason, now, logged=logged)
            return
        play = self._on[p.key, zone]
        self._leaving[p.key, zone] = Leaving(play, reason, final)
        self._act.append(do.ToVoice(vo.Stop(play=play, zones=[zone], reason=reason)))

    def _close_screen(self, p: Programme, zone: str, now: Instant, reason: str | None) -> bool:
        """The board is another's. False: nothing was seen, so nothing is in the log."""
        part = p.parts[zone]
        seen = part.stretch_started is not None
        self._on.pop((p.key, zone), None)
        self._screen_takes.pop((p.key, zone), None)
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
        self._touch(p)
        return seen

    def _overridden(self, p: Programme, zone: str, at: float) -> str | None:
        """The zone's rule that an emergency did not keep, for the log (CONTRACT section 1)."""
        if not p.overrides:
            return None
        if bar := rules.barred(self._zones[zone], at, self.tz):
            return f"overrides {bar.value}"
        return None if rules.cap_at(self._zones[zone], at, self.tz) is None else "overrides cap"
