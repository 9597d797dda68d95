"""One receiver or microphone: what it hears, against what voice says that it sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from agent.ear import compare
from agent.ear.compare import LATEST_S, WINDOW_S, Heard, Judgement
from agent.ear.tape import Tape, Timeline
from agent.ear.watch import Watch
from agent.model.config import Monitor
from agent.model.ear import TEST_TONES_HZ, Check, Checked, Noticed
from agent.model.health import Verdict

S = 1_000_000_000
WINDOW_NS = round(WINDOW_S * S)
LATEST_NS = round(LATEST_S * S)
SENDING = 0.7
"""So much of the window was sent, or it is not judged."""
DEAF_NS = 3 * S
RISE_DB = 10.0
"""The test tones must stand out by so much."""
BEFORE_NS = 1 * S


class Listening:
    """`sent` is what voice sent in the monitor's zone; `hear` takes what the receiver gives, as it comes."""

    def __init__(self, monitor: Monitor, sent: Tape, now: int, *, external: Callable[[], bool]) -> None:
        self.monitor = monitor
        self._sent = sent
        self._heard = Tape()
        self._timeline = Timeline()
        self._watch = Watch(monitor, external=external)
        self._came_ns = now
        self._begun_ns = now
        self._deaf = False
        self._failure = ""
        self._checks: list[Check] = []

    def hear(self, data: bytes, now: int) -> None:
        """Samples that were read now."""
        sound = compare.samples(data)
        self._heard.write(sound, self._timeline.place(len(sound), now))
        self._came_ns = now
        self._failure = ""

    def fails(self, detail: str) -> None:
        """The device cannot be opened, or has failed: why."""
        self._failure = detail or self._failure
        self._timeline.restart()

    def check(self, check: Check) -> None:
        """A self-test's chime sounded; it is looked at when it must have come through."""
        self._checks.append(check)

    def verdicts(self, now: int) -> Iterator[Checked]:
        """Of the checks whose sound must have come through by now. Called often: somebody waits."""
        for check in [c for c in self._checks if now > c.end_ns + LATEST_NS]:
            self._checks.remove(check)
            yield self._checked(check)

    def turn(self, now: int) -> Iterator[Noticed]:
        """Called once a second."""
        deaf = now - self._came_ns > DEAF_NS
        if deaf != self._deaf:
            self._deaf = deaf
            detail = f"{self.monitor.id}: {self._failure or 'gives no sound'}" if deaf else ""
            yield Noticed("ear", self.monitor.id, detail, self.monitor.zone, deaf)
        if not deaf and now - self._begun_ns > WINDOW_NS:
            yield from self._watch.judge(self._judgement(now), self._howl(now))

    def _judgement(self, now: int) -> Judgement:
        now = self._timeline.end or now  # what has not been read yet is no silence
        sent, _ = self._sent.read(now - WINDOW_NS - LATEST_NS, now)
        _, part = self._sent.read(now - WINDOW_NS, now)
        _, lately = self._sent.read(now - WINDOW_NS - 2 * LATEST_NS, now)
        heard, there = self._heard.read(now - WINDOW_NS, now)
        if there < SENDING or (lately > 0 and part < SENDING):
            return Judgement(Heard.UNCLEAR)
        return compare.judge(sent, heard, sending=part >= SENDING, offset_s=LATEST_S)

    def _howl(self, now: int) -> float | None:
        heard, there = self._heard.read(now - 2 * S, now)
        if there < SENDING or compare.level_dbfs(heard) < compare.QUIET_DBFS:
            return None
        sent, part = self._sent.read(now - 2 * S - LATEST_NS, now)
        return compare.howls(compare.spectra(heard), compare.spectra(sent) if part else None)

    def _checked(self, check: Check) -> Checked:
        before, there = self._heard.read(check.begin_ns - BEFORE_NS, check.begin_ns)
        during, during_there = self._heard.read(check.begin_ns, check.end_ns + LATEST_NS)
        zone = self.monitor.zone
        if min(there, during_there) < SENDING:
            return Checked(zone, Verdict.UNKNOWN)
        if self._watch.howling:
            return Checked(zone, Verdict.HOWL, compare.tone_rise_db(before, during, TEST_TONES_HZ))
        # Silence before must not make a whisper loud: noise at the edge of what 16 bits tell.
        floor = np.random.default_rng(0).normal(0, 1e-4, len(before)).astype(np.float32)
        rise = compare.tone_rise_db(before + floor, during, TEST_TONES_HZ)
        verdict = Verdict.OK if rise is not None and rise >= RISE_DB else Verdict.SILENT
        return Checked(zone, verdict, rise)
