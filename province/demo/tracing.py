"""From the log to the recording: each sound that an entry lists is looked for where it should be."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from agent.model.playlog import LogEntry
from province.demo.listening import Match, Signal, locate, signal
from province.demo.recorded import Run, RunError, read_wav

FOUND = 0.9
"""Similarity from which a sound is the reference; other speech of the same voice stays below 0.4."""
GUARD_S = 0.06
"""Left out of a comparison beside a cut, where the sound is being faded."""
NEAR_S = 0.25
"""How far from its place a sound is looked for first."""
END_S = 0.05
"""Logged end against the recording, and a continuation against the place of the cut."""
JOIN_SAMPLES = 4
"""Samples between two sounds that are still no gap."""


class Piece(Struct, frozen=True, kw_only=True):
    """A listed sound, found. It sounds from sample `at` for `length`, beginning at `position` of its reference."""

    entry: LogEntry
    content: str
    at: int
    length: int
    position: int
    cut: bool
    gain_db: float
    similarity: float
    gap: int = 0
    """Samples between the end of the sound before it (or the logged start) and this."""
    bridged: bool = False
    """The gap is filled by a repeated chime of the same programme, as it may be while the next sound is awaited."""
    slip: int = 0
    """Samples that were added (or lost, negative) within the sound."""


class Live(Struct, frozen=True, kw_only=True):
    """A stretch of live sound, which the log does not list. `source`: name of its reference, "" when not given."""

    entry: LogEntry
    source: str
    at: int
    length: int


class Stretch(Struct, frozen=True, kw_only=True):
    """What was found of one entry. `begin`, `end`: the logged samples; `missing`: listed but not found there."""

    entry: LogEntry
    begin: int
    end: int
    pieces: list[Piece]
    live: list[Live]
    missing: list[str]

    @property
    def first(self) -> int | None:
        """The first sample really found, None when it cannot be told (live, or not found)."""
        head = self.pieces[0] if self.pieces else None
        if head is None or head.content != self.entry.content[0] or (self.live and self.live[0].at < head.at):
            return None
        return self.begin if head.bridged else head.at


class References:
    """The sounds of `sent/`: by hash, the live streams and those which must never be heard."""

    def __init__(self, sent: Path, rate: int) -> None:
        self._sent = sent
        self._rate = rate
        self._known: dict[str, Signal | None] = {}

    def get(self, content: str) -> Signal | None:
        """The reference of that hash, None when there is none."""
        if content not in self._known:
            path = self._sent / f"{content}.wav"
            self._known[content] = self._load(path) if is_hash(content) and path.is_file() else None
        return self._known[content]

    def all(self) -> dict[str, Signal]:
        """Every reference that may be heard, by name."""
        return self._folder(self._sent)

    @cached_property
    def live(self) -> dict[str, Signal]:
        """Live streams, by name."""
        return self._folder(self._sent / "live")

    @cached_property
    def forbidden(self) -> dict[str, Signal]:
        """The attacker's sounds, by name."""
        return self._folder(self._sent / "forbidden")

    def _folder(self, folder: Path) -> dict[str, Signal]:
        return {path.stem: self._load(path) for path in sorted(folder.glob("*.wav"))}

    def _load(self, path: Path) -> Signal:
        rate, samples = read_wav(path)
        if rate != self._rate:
            raise RunError(f"{path.name}: {rate} Hz, expected {self._rate}")
        return signal(samples.mean(axis=1))


class Traced(Struct, frozen=True, kw_only=True):
    """The recording by zone, the references, and what was found of each entry in the order of the log."""

    channels: dict[str, Signal]
    references: References
    stretches: list[Stretch]


def trace(run: Run) -> Traced:
    """Look for every sound of the log."""
    channels = {zone: signal(run.channel(zone)) for zone in run.station.zones}
    references = References(run.out / "sent", run.station.rate)
    return Traced(channels=channels, references=references, stretches=_Tracer(run, channels, references).trace())


class _Wanted(Struct, frozen=True):
    """A sound that an entry lists, and the sample at which the entry ends."""

    entry: LogEntry
    content: str
    reference: Signal
    end: int


class _Tracer:
    def __init__(self, run: Run, channels: dict[str, Signal], references: References) -> None:
        self.run = run
        self.rate = run.station.rate
        self.channels = channels
        self.references = references
        self.guard = round(GUARD_S * self.rate)

    def trace(self) -> list[Stretch]:
        newest: dict[tuple[str, str], Stretch] = {}
        stretches = []
        for entry in self.run.sounding():
            key = (entry.bulletin, entry.zone)
            newest[key] = self._find(entry, newest.get(key))
            stretches.append(newest[key])
        return stretches

    def _find(self, entry: LogEntry, before: Stretch | None) -> Stretch:
        begin, end = self.run.sample(entry.started or ""), self.run.sample(entry.ended or "")
        stretch = Stretch(entry=entry, begin=begin, end=end, pieces=[], live=[], missing=[])
        source = self.run.expected.live.get(entry.bulletin, None if entry.content else "")
        cursor = begin
        for index, content in enumerate(entry.content):
            reference = self.references.get(content)
            if reference is None:
                stretch.missing.append(content)
                continue
            if end - cursor < self.guard:
                continue  # it was only begun: too short to be told
            wanted = _Wanted(entry, content, reference, end)
            piece = self._near(wanted, cursor, NEAR_S)
            if piece is None and index == 0:
                piece = self._continued(wanted, cursor, before)
            if piece is None:
                piece = self._later(wanted, cursor)
            if piece is None:
                stretch.missing.append(content)
                continue
            gap = piece.at - cursor
            if source is not None and gap > NEAR_S * self.rate:
                stretch.live.append(Live(entry=entry, source=source, at=cursor, length=gap))
                gap = 0
            bridged = gap > JOIN_SAMPLES and self._is_bridge(self.channels[entry.zone][cursor : piece.at], entry)
            stretch.pieces.append(msgspec.structs.replace(piece, gap=gap, bridged=bridged))
            cursor = piece.at + piece.length
        if source is not None and end - cursor > NEAR_S * self.rate:
            stretch.live.append(Live(entry=entry, source=source, at=cursor, length=end - cursor))
        return stretch

    def _near(self, wanted: _Wanted, around: int, search_s: float, position: int = 0) -> Piece | None:
        """The sound from `position` of its reference on, at `around` ± `search_s`."""
        entry, whole, end = wanted.entry, wanted.reference, wanted.end
        slack = 0 if entry.result == "interrupted" else round(END_S * self.rate)
        left = len(whole) - position
        lead = self.guard if position else 0
        tail = left - (end - around) + self.guard if around + left > end + slack else 0
        part = whole[position + lead : len(whole) - tail]
        if len(part) < self.guard:
            return None
        match, slip = self._best(self.channels[entry.zone], part, around + lead, search_s)
        at = match.offset_samples - lead
        if match.similarity < FOUND or at >= end:
            return None
        cut = at + left + slip > end + slack
        return Piece(
            entry=entry,
            content=wanted.content,
            at=at,
            length=end - at if cut else left + slip,
            position=position,
            cut=cut,
            gain_db=match.gain_db,
            similarity=match.similarity,
            slip=slip,
        )

    def _later(self, wanted: _Wanted, cursor: int) -> Piece | None:
        """The sound somewhere between `cursor` and the entry's end: after live sound, a bridge or a long gap."""
        search_s = (wanted.end - cursor) / self.rate
        for opening in (wanted.reference[: 2 * self.rate], wanted.reference[: self.rate // 2]):
            match = locate(self.channels[wanted.entry.zone], opening, cursor, search_s, self.rate)
            if match.similarity >= FOUND and cursor < match.offset_samples < wanted.end:
                return self._near(wanted, match.offset_samples, 0.01)
        return None

    def _continued(self, wanted: _Wanted, begin: int, before: Stretch | None) -> Piece | None:
        """The sound beginning somewhere within its reference: where, is told by its first two seconds."""
        channel = self.channels[wanted.entry.zone]
        cut = before.pieces[-1] if before is not None and before.pieces else None
        expected = 0 if cut is None else cut.position + cut.length
        whole = wanted.reference
        # Little may be left of a sound, and the next one follows: what is looked for must not reach into it.
        ahead = (
            min(2 * self.rate, max(len(whole) - expected - 2 * self.guard, self.guard)) if expected else 2 * self.rate
        )
        opening = channel[max(0, begin) + self.guard : min(wanted.end - self.guard, begin + self.guard + ahead)]
        if len(opening) < self.guard:
            return None
        match = locate(whole, opening, expected + self.guard, len(whole) / self.rate, self.rate)
        position = match.offset_samples - self.guard
        if match.similarity < FOUND or not 0 < position < len(whole):
            return None
        return self._near(wanted, begin, 0.01, position)

    def _best(self, channel: Signal, part: Signal, around: int, search_s: float) -> tuple[Match, int]:
        """The match, and how far its end lies from where its beginning puts it."""
        match = locate(channel, part, around, search_s, self.rate)
        third = len(part) // 3
        if match.similarity >= 0.98 or third < self.rate // 4:
            return match, 0
        head = locate(channel, part[:third], around, search_s, self.rate)
        tail = locate(channel, part[-third:], head.offset_samples + len(part) - third, 1.0, self.rate)
        if head.similarity < FOUND or tail.similarity < FOUND:
            return match, 0
        return head, tail.offset_samples - (head.offset_samples + len(part) - third)

    def _is_bridge(self, gap: Signal, entry: LogEntry) -> bool:
        """Whether all of the gap is a repetition of sounds of the same programme."""
        step = self.rate // 2
        known = [r for r in (self.references.get(content) for content in entry.content) if r is not None]
        parts = [gap[i : i + step] for i in range(0, len(gap), step)]
        return all(
            len(part) < step // 10
            or any(
                locate(np.tile(r, 2), part, len(r), len(r) / self.rate, self.rate).similarity >= FOUND for r in known
            )
            for part in parts
        ) and bool(gap.any())


def is_hash(content: str) -> bool:
    """Whether a listed content is a SHA-256."""
    return len(content) == 64 and all(c in "0123456789abcdef" for c in content)
