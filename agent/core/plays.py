"""A play: one stretch of a programme's sound on its way from decoders to voice.

The programme's items are a list of cues. A play takes them from a `Position` on and turns them into segments: a run of
files is one decoder and one pipe; a live stream is a segment of its own, so that it joins at its live edge; leading
pinned sounds of an emergency come from voice's memory. Interruption ends a play; the programme goes on in a new play
from the position which the old one reached. So a power cut, an emergency and a lost voice are one case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct, field, structs

from agent.core.catalogue import Cue
from agent.core.commands import Command, HandFeed, StartFeed, ToVoice
from agent.core.programme import Position
from agent.model.events import FeedMark
from agent.model.voice import RATE, Close, Listen, Open
from agent.ports import Piece


class Segment(Struct, kw_only=True):
    """A part of a play: the cues (indices) whose sound follows each other in one pipe, or pinned in voice."""

    cues: list[int]
    skip: int = 0
    live: bool = False
    pinned: bool = False
    done: bool = False
    handed: bool = False


class Play(Struct, kw_only=True):
    """One stretch. `due`: epoch seconds at which its first sample was to be heard."""

    id: str
    key: str
    origin: Position
    cues: list[Cue]
    due: float
    gain_db: float = 0.0
    gains: dict[str, float] = field(default_factory=dict)
    """Zones in which the gain has changed since."""
    urgent: bool = False
    zones: list[str] = []
    segments: list[Segment] = []
    next_cue: int = 0
    opened: bool = False
    ready: bool = False
    closed: bool = False
    lengths: dict[int, int] = {}
    broken: dict[int, str] = {}
    fell_back: bool = False
    started: dict[str, float] = field(default_factory=dict)
    heard_from: tuple[int, float] | None = None
    """The segment that is heard, and since when (epoch seconds)."""

    def begin(self, out: Callable[[Command], None], wall: float) -> None:
        """Start decoding; nothing reaches voice before `open`."""
        self.next_cue = self.origin.piece
        if self._begins_from_memory:
            run = self._run(lambda cue: cue.pinned is not None)
            if run:
                self.segments.append(Segment(cues=run, pinned=True, done=True, handed=True))
                self.ready = True
        self.grow(out, wall)

    @property
    def _begins_from_memory(self) -> bool:
        """Whether its first sounds are voice's own: of an emergency, and before somebody speaks."""
        return (self.urgent or any(cue.microphone for cue in self.cues)) and self.origin.samples == 0

    def open(
        self,
        zones: Sequence[str],
        at_ns: int | None,
        out: Callable[[Command], None],
        bridge: str | None,
        *,
        alert: bool = False,
    ) -> None:
        """Hand the play to voice: it sounds from `at_ns`, or at once."""
        self.zones = list(zones)
        self.opened = True
        pinned: list[str] = []
        if self.segments and self.segments[0].pinned:
            pinned = [name for i in self.segments[0].cues if (name := self.cues[i].pinned)]
        out(
            ToVoice(
                Open(
                    play=self.id,
                    zones=self.zones,
                    at_ns=at_ns,
                    gain_db=self.gain_db,
                    pinned=pinned,
                    bridge=bridge,
                    alert=alert,
                )
            )
        )
        self._hand(out)

    def grow(self, out: Callable[[Command], None], wall: float) -> None:
        """Start whatever segments can start now: as far as the content is there."""
        while self.next_cue < len(self.cues):
            cue = self.cues[self.next_cue]
            if cue.failed is not None:
                self.next_cue += 1
                continue
            if cue.pending or (cue.url is not None and self.segments and not self.segments[-1].done):
                break
            first = self.next_cue
            if cue.microphone is not None:
                self.next_cue += 1
                self.segments.append(Segment(cues=[first], live=True, done=True))
                self.ready = True
                continue
            if cue.url is not None:
                run = [first]
                self.next_cue += 1
            else:
                run = self._run(lambda cue: cue.path is not None or cue.failed is not None)
                run = [i for i in run if self.cues[i].failed is None]
            skip = self.origin.samples if first == self.origin.piece and cue.url is None else 0
            segment = Segment(cues=run, skip=skip, live=cue.url is not None)
            self.segments.append(segment)
            pieces = tuple(self._piece(i, wall) for i in run)
            out(StartFeed(self.id, len(self.segments) - 1, pieces, skip))
        if self.opened:
            self._hand(out)

    def mark(self, mark: FeedMark, out: Callable[[Command], None], wall: float) -> None:
        """A decoder's progress. `mark.item` is the item's index in the programme."""
        if mark.what == "ready":
            self.ready = True
        elif mark.what == "ended":
            self.lengths[mark.item] = mark.samples
        elif mark.what == "failed":
            self.broken[mark.item] = mark.detail
            self.lengths[mark.item] = mark.samples
        elif mark.what == "fallback":
            self.fell_back = True
        elif mark.what == "done":
            self.segments[mark.segment].done = True
            self.ready = True
            self.grow(out, wall)

    def position(self, sent: Sequence[int]) -> Position:
        """Where to go on, from the samples that were sent of each segment."""
        index = max((i for i, samples in enumerate(sent) if samples > 0), default=None)
        if index is None or index >= len(self.segments):
            return self.origin
        segment = self.segments[index]
        if segment.live:
            return Position(segment.cues[0], 0)
        return Position(segment.cues[0], segment.skip + sent[index])

    def turns(self) -> Iterator[tuple[float, int]]:
        """When (epoch seconds) which cue of the segment that is heard begins, as far as lengths are known."""
        if self.heard_from is None:
            return
        number, at = self.heard_from
        segment = self.segments[number]
        at -= segment.skip / RATE
        for i in segment.cues:
            yield at, i
            length = self.cues[i].samples if segment.pinned else self.lengths.get(i, self.cues[i].samples)
            if length is None:
                return
            at += length / RATE

    def content(self, sent: Sequence[int]) -> list[str]:
        """Hashes of what was heard, in order; live sound and its fallback have none.

        `lengths` counts what a decoder wrote, so what a resumed play passed over has no length and was not heard.
        """
        heard: list[str] = []
        for segment, samples in zip(self.segments, sent, strict=False):
            begin = 0
            for i in segment.cues:
                length = self.cues[i].samples if segment.pinned else self.lengths.get(i)
                finish = samples if length is None else begin + length
                content = self.cues[i].content
                if begin < min(finish, samples) and content is not None:
                    heard.append(content)
                begin = finish
        return heard

    def _piece(self, index: int, wall: float) -> Piece:
        """A live stream is counted from when it is opened; what comes before its turn is thrown away by voice."""
        cue = self.cues[index]
        piece = cue.piece()
        if cue.url is None or piece.seconds is None:
            return piece
        before = sum(self.lengths.get(i, self.cues[i].samples or 0) for i in range(self.origin.piece, index)) / RATE
        early = max(0.0, self.due + before - wall)
        return structs.replace(piece, seconds=piece.seconds + early)

    def _run(self, fits: Callable[[Cue], bool]) -> list[int]:
        run: list[int] = []
        while self.next_cue < len(self.cues) and fits(self.cues[self.next_cue]):
            run.append(self.next_cue)
            self.next_cue += 1
        return run

    def _hand(self, out: Callable[[Command], None]) -> None:
        for index, segment in enumerate(self.segments):
            if not segment.handed:
                segment.handed = True
                talker = self.cues[segment.cues[0]].microphone
                if talker is not None:
                    out(ToVoice(Listen(play=self.id, segment=index, button=talker)))
                else:
                    out(HandFeed(self.id, index, segment.live, self.cues[segment.cues[0]].talk))
        if self.next_cue >= len(self.cues) and not self.closed:
            self.closed = True
            out(ToVoice(Close(play=self.id)))


def heard(cues: Sequence[Cue], origin: Position, samples: int) -> list[str]:
    """Hashes of what was surely heard in `samples` from `origin` on; it ends where a length is not known."""
    found: list[str] = []
    begin = -origin.samples
    for cue in cues[origin.piece :]:
        if begin >= samples:
            break
        if cue.failed is not None:
            continue
        end = None if cue.samples is None else begin + cue.samples
        if cue.content is not None and (end is None or end > 0):
            found.append(cue.content)
        if end is None:
            break
        begin = end
    return found
