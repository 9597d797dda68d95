"""Self-tests of sound zones, by order or at set hours: a soft chime in one zone after the other, and what came of it.

A test is a programme of the class normal like any other: it waits for a zone that is in use, keeps quiet hours and
silences, is interrupted by what goes before it, and is in the play log. When it was heard the ear is asked what the
zone's receivers, microphones and sensors made of it; where there are none the verdict is `unknown`, never `ok`. Tests
under way do not survive a restart: who ordered them is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core.programme import By, Part, Programme
from agent.model.config import Station as Config
from agent.model.ear import TEST_CHIME, Check, Checked
from agent.model.events import Alarm
from agent.model.health import SelfTest, Verdict
from agent.model.orders import Class, Item, Resume
from agent.model.records import DropValue, PutValue
from agent.model.time import Instant

if TYPE_CHECKING:
    from agent.core.outcomes import Outcomes

PATIENCE_S = 900.0
"""A test whose zone does not come free within so long is not played."""
VERDICT_NS = 5 * 10**9
"""The ear answers within so long, or it is not there."""
PENDING = "self-test/"
TITLE = {"vi": "Tự kiểm tra loa", "en": "Loudspeaker self-test"}
BAD = (Verdict.SILENT, Verdict.HOWL, Verdict.OPEN, Verdict.SHORT)


class Request(Struct):
    """What somebody asked for. `jti` None: the clock did."""

    iss: str
    jti: str | None
    left: set[str]
    found: dict[str, SelfTest]


class _Turn(Struct):
    """The zone whose turn it is. `asked_ns`: when the ear was asked what it heard."""

    zone: str
    request: Request
    key: str
    asked_ns: int | None = None


class SelfTests:
    """All tests of a station: `ask`, then `settle` at every event; `ended` and `checked` bring the outcomes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._heard = {m.zone for m in config.monitors} | {s.zone for s in config.sensors}
        self._waiting: deque[tuple[str, Request]] = deque()
        self._turn: _Turn | None = None
        self._next: float | None = None
        self._count = 0

    def ask(self, station: Outcomes, zones: Sequence[str], iss: str, jti: str | None) -> None:
        """Test these zones; those that are no sound zones are passed over."""
        sounding = [z for z in zones if z in station.reporter.health.zones]
        request = Request(iss, jti, set(sounding), {})
        if jti is not None:
            station.ledger.write(PutValue(key=PENDING + jti, value=iss.encode()))
        self._waiting.extend((zone, request) for zone in sounding)
        if not sounding:
            self._answer(station, request, station._now)

    def restore(self, station: Outcomes, values: dict[str, bytes], now: Instant) -> None:
        """Who ordered a test that a restart ended is told."""
        for key, iss in values.items():
            if key.startswith(PENDING):
                request = Request(iss.decode(), key.removeprefix(PENDING), set(), {})
                self._answer(station, request, now, "restart")

    def settle(self, station: Outcomes, now: Instant) -> None:
        """Start what is due, and give up what the ear does not answer."""
        self._by_the_clock(station, now)
        turn = self._turn
        if turn is not None and turn.asked_ns is not None and now.mono_ns - turn.asked_ns > VERDICT_NS:
            self._found(station, SelfTest(at=now.wall, verdict=Verdict.UNKNOWN), now)
        if self._turn is None and self._waiting:
            self._begin(station, now)

    def ended(self, station: Outcomes, p: Programme, now: Instant) -> None:
        """A test's programme has its outcome."""
        turn = self._turn
        if turn is None or turn.key != p.key:
            return
        part = p.parts[turn.zone]
        if not part.completed or part.first_sample_at is None:
            reason = None if part.reason is None else str(part.reason)
            self._found(station, SelfTest(at=now.wall, verdict=Verdict.NOT_PLAYED, reason=reason), now)
        elif turn.zone not in self._heard:
            self._found(station, SelfTest(at=now.wall, verdict=Verdict.UNKNOWN), now)
        else:
            turn.asked_ns = now.mono_ns
            begin_ns = now.mono_of(part.first_sample_at)
            station._act.append(do.ToEar(Check(turn.zone, begin_ns, now.mono_ns)))

    def checked(self, station: Outcomes, checked: Checked, now: Instant) -> None:
        """What the ear made of it."""
        turn = self._turn
        if turn is not None and turn.zone == checked.zone and turn.asked_ns is not None:
            test = SelfTest(
                at=now.wall, verdict=checked.verdict, level_db=checked.level_db, current_ma=checked.current_ma
            )
            self._found(station, test, now)

    def _by_the_clock(self, station: Outcomes, now: Instant) -> None:
        if not self._config.self_test.at or not now.trusted:
            return
        if self._next is None:
            self._next = self._occurrence(station, now.wall)
        elif now.wall >= self._next:
            late = now.wall - self._next
            self._next = self._occurrence(station, now.wall)
            if late < PATIENCE_S:
                iss = self._config.trust.station_authority or self._config.device.id
                self.ask(station, self._config.match(self._config.self_test.zones), iss, None)

    def _occurrence(self, station: Outcomes, after: float) -> float:
        """The next of the configured hours."""
        today = datetime.fromtimestamp(after, station.tz).replace(second=0, microsecond=0)
        times = []
        for text in self._config.self_test.at:
            hour, minute = (int(part) for part in text.split(":"))
            for days in (0, 1):
                at = (today + timedelta(days=days)).replace(hour=hour, minute=minute).timestamp()
                if at > after:
                    times.append(at)
        return min(times)

    def _begin(self, station: Outcomes, now: Instant) -> None:
        zone, request = self._waiting.popleft()
        self._count += 1
        p = Programme(
            key=f"{request.iss}/test-{now.mono_ns // 1_000_000}.{self._count}",
            iss=request.iss,
            id=f"test-{zone}",
            title=TITLE[self._config.language],
            class_=Class.NORMAL,
            rank=0,
            by=By.TEST,
            items=[Item(chime=TEST_CHIME)],
            start=now.wall,
            until=now.wall + PATIENCE_S,
            resume=Resume.DROP,
            received_at=now.wall,
            received_mono_ns=now.mono_ns,
            parts={zone: Part()},
        )
        self._turn = _Turn(zone, request, p.key)
        station.programmes[p.key] = p
        station._touch(p)

    def _found(self, station: Outcomes, test: SelfTest, now: Instant) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        zone, request = turn.zone, turn.request
        before = station.reporter.health.zones[zone].test
        station.reporter.health.tested(zone, test)
        station.reporter.changed()
        station.ledger.event("progress", now.wall, 1, {"what": "self-test", "zone": zone, **_row(test, station)})
        was_bad = before is not None and before.verdict in BAD
        if test.verdict in BAD:
            station._alarm(Alarm("self-test", f"the self-test found: {test.verdict.value}", zone), now)
        elif was_bad and test.verdict is Verdict.OK:
            station._alarm(Alarm("self-test", "", zone, on=False), now)
        request.found[zone] = test
        request.left.discard(zone)
        if not request.left:
            self._answer(station, request, now)

    def _answer(self, station: Outcomes, request: Request, now: Instant, reason: str | None = None) -> None:
        """The order's last ack: done when at least one zone was heard or measured, or at least played."""
        if request.jti is None:
            return
        played = [t for t in request.found.values() if t.verdict is not Verdict.NOT_PLAYED]
        reason = reason or next((t.reason for t in request.found.values() if t.reason is not None), None)
        body: dict[str, Any] = {"jti": request.jti, "iss": request.iss, "seq": 2}
        body |= {"state": "done" if played else "failed", "at": station.ledger.time(now.wall)}
        if not played:
            body["reason"] = reason or "no-such-zone"
        body["zones"] = {
            zone: {"state": "failed" if t.verdict is Verdict.NOT_PLAYED else "done", "test": _row(t, station)}
            for zone, t in request.found.items()
        }
        station._remember_ack(request.iss, request.jti, station.ledger.ack(body, 1))
        station.ledger.write(DropValue(key=PENDING + request.jti))


def _row(test: SelfTest, station: Outcomes) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(test)
    return row | {"at": station.ledger.time(test.at)}
