"""The boards: what each shows, whether it has power, how bright it is, and which page goes with what is heard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from agent.core import commands as do
from agent.core import rules
from agent.core.outcomes import DWELL_S
from agent.core.plays import Play
from agent.core.programme import Programme, Stage, Step
from agent.core.readiness import Readiness, is_shown, shown_items
from agent.model import events as ev
from agent.model import screen
from agent.model import voice as vo
from agent.model.config import Zone
from agent.model.orders import Item
from agent.model.time import Instant

DRILL = "DIỄN TẬP"
WEEKDAYS = {
    "vi": ("Thứ hai", "Thứ ba", "Thứ tư", "Thứ năm", "Thứ sáu", "Thứ bảy", "Chủ nhật"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
PLAYING = {"vi": "Đang phát: {what}", "en": "On air: {what}"}
UNSEEN_S = 60.0
"""A board that has shown nothing of a programme for so long is given up: longer than painting or a restart takes."""
LASTING = frozenset({"output", "display", "font"})
"""Faults of the board itself: they end when it says so. The others are of what it shows, and end with that."""


def date_of(at: datetime, language: str) -> str:
    """The date as people write it: "Thứ ba, 24/11/2026"."""
    return f"{WEEKDAYS[language][at.weekday()]}, {at.day}/{at.month}/{at.year}"


class Boards(Readiness):
    """Compares what the boards should be with what they were told, and tells them the difference."""

    def _show(self, p: Programme, zone: str, now: Instant) -> None:
        part = p.parts[zone]
        self._stretches += 1
        play = f"{p.key}#{now.mono_ns // 1_000_000}.{self._stretches}"
        self._resting.pop(zone, None)
        self._urgent = self._urgent or p.overrides
        self._on[p.key, zone] = play
        self._present(p, zone, now)
        part.take(Step.OPEN)
        part.stretch_planned = self._due(p) if part.stretch_planned is None else now.wall
        dwell = sum(i.dwell_s or DWELL_S for i in shown_items(p.items))
        self._screen_takes[p.key, zone] = dwell or DWELL_S
        self._screen_until[p.key, zone] = now.wall + UNSEEN_S
        self._touch(p)

    def _present(self, p: Programme, zone: str, now: Instant) -> None:
        """Send the programme to the board, with the moment at which the board itself must take it down."""
        end = self._end_of(p)
        until_ns = now.mono_of(end) if end is not None and now.trusted else None
        self._act.append(do.ToScreen(zone, screen.Show(self._on[p.key, zone], self._pages(p), until_ns)))
        self._paged.pop(zone, None)
        self.reporter.board_well(zone, LASTING)

    @staticmethod
    def _end_of(p: Programme) -> float | None:
        """When it is over whatever happens, if that is known."""
        if p.until is None and p.repeat is not None and p.repeat.count is None:
            return p.order_exp
        return p.until

    def _picture_came(self, sha256: str, now: Instant) -> None:
        """A board that shows a programme without one of its pictures gets it now."""
        for key, zone in list(self._on):
            p = self.programmes[key]
            if self._zones[zone].kind == "screen" and any(i.media and i.media.sha256 == sha256 for i in p.items):
                self._present(p, zone, now)

    def _page_items(self, p: Programme) -> Iterator[tuple[int, Item, str | None]]:
        """What becomes a page each: the item's place in the programme, the item, and the file if it is one."""
        for place, item in enumerate(p.items):
            if item.media is None and item.text is not None:
                yield place, item, None
            elif item.media is not None and is_shown(item) and (path := self._picture(item.media).path) is not None:
                yield place, item, path

    def _pages(self, p: Programme) -> list[screen.Page]:
        plain = screen.Page(
            title=p.title,
            class_=p.class_.value,
            mark=DRILL if p.drill else "",
            issuer=self.config.trust.called(p.iss),
        )
        pages: list[screen.Page] = []
        for _, item, path in self._page_items(p):
            if item.media is None:
                page = msgspec.structs.replace(
                    plain, body=item.text or "", dwell_s=item.dwell_s or self._spoken_s(item)
                )
            elif item.media.type.startswith("video/"):
                dwell = item.dwell_s or item.media.duration_s
                page = msgspec.structs.replace(plain, film=path, dwell_s=dwell)
            else:
                page = msgspec.structs.replace(plain, image=path, dwell_s=item.dwell_s)
            pages.append(page)
        return pages or [plain]

    def _spoken_s(self, item: Item) -> float | None:
        samples = [self.catalogue.cue(0, part).samples for part in self.catalogue.spread([item])]
        return None if None in samples else sum(s for s in samples if s is not None) / vo.RATE

    def _shown(self, event: screen.Shown, now: Instant) -> None:
        self.reporter.shown(event)
        if event.zone is not None:
            self._framed[event.zone] = event.play
            self._seen(event.zone, now.wall_of(event.at_ns), now)

    def _lasts(self, event: screen.Lasts) -> None:
        """The board knows how long all its pages take; a notice on boards alone stays until they have been seen."""
        for (key, zone), play in self._on.items():
            if play == event.play and self._zones[zone].kind == "screen":
                self._screen_takes[key, zone] = event.seconds
                started = self.programmes[key].parts[zone].stretch_started
                if started is not None:
                    self._screen_until[key, zone] = started + event.seconds

    def _seen(self, zone: str, at: float, now: Instant) -> None:
        """A programme is on when its frame is on a board that has power; only from then on does its time run."""
        for (key, z), play in self._on.items():
            part = self.programmes[key].parts[z]
            if z == zone and part.stage is Stage.OPENED and self._framed.get(zone) == play and self._has_power(zone):
                self._screen_until[key, zone] = at + self._screen_takes[key, zone]
                self._on_air(self.programmes[key], zone, at, now)

    def _has_power(self, zone: str) -> bool:
        spec = self._zones[zone]
        return (not spec.power and spec.idle.relay is None) or self._powered.get(zone) == "on"

    def _board_power(self, event: vo.Power, now: Instant) -> None:
        self._powered[event.zone] = event.state
        if self._zones[event.zone].kind == "screen":
            self._seen(event.zone, now.wall_of(event.at_ns), now)

    def _board_fault(self, event: screen.ScreenFault, now: Instant) -> None:
        alarm = ev.Alarm(f"screen-{event.what}", event.detail, event.zone, on=event.on)
        if event.on and self.reporter.knows(alarm):
            return  # an output that is tried again and again is one alarm
        self.ledger.alarm(alarm.what, alarm.detail, now.wall, alarm.zone, on=alarm.on)
        self.reporter.alarm(alarm)

    def _capture(self, asked: ev.Asked) -> None:
        """A person wants to see what is on a board now; the board answers."""
        zone = str(asked.args.get("zone", ""))
        if zone in self._zones and self._zones[zone].kind == "screen":
            self._urgent = True
            self._act.append(do.ToScreen(zone, screen.Capture(asked.token)))
        else:
            detail = f"there is no board {zone!r}"
            self.reply(do.Reply(asked.token, {"ok": False, "reason": "no-such-zone", "detail": detail}))

    def _captured(self, event: screen.Captured, now: Instant) -> None:
        if event.token < 0:
            self.inspections.captured(self, event, now)
            return
        body: dict[str, Any] = {"ok": True, "result": {"zone": event.zone, "png": event.png}}
        if not event.png:
            body = {"ok": False, "reason": "content-unavailable", "detail": event.detail}
        self.reply(do.Reply(event.token, body))

    def _tend_boards(self, now: Instant) -> None:
        """Bring every board to what it should be."""
        for zone, spec in self._zones.items():
            if spec.kind != "screen":
                continue
            owners = [key for key, z in self._on if z == zone]
            rest = self._rest_of(spec, now)
            if not owners and self._resting.get(zone) != rest:
                self._resting[zone] = rest
                self._act.append(do.ToScreen(zone, rest))
            insist = any(self.programmes[key].overrides for key in owners)
            hold = vo.Hold(zone=zone, on=bool(owners) or not rest.dark, insist=insist)
            former = self._held.get(zone, vo.Hold(zone=zone, on=False))
            if (spec.power or spec.idle.relay) and former != hold:
                self._held[zone] = hold
                self._act.append(do.ToVoice(hold))
            percent = rules.brightness(spec, now.wall, self.tz) if now.trusted else 100
            if self._dimmed.get(zone, 100) != percent:
                self._dimmed[zone] = percent
                self._act.append(do.ToScreen(zone, screen.Dim(percent)))
            for key in owners:
                self._follow(self.programmes[key], zone, now)

    def _hold_again(self) -> None:
        """Voice is new: it holds nothing."""
        self._held.clear()
        self._powered.clear()

    def _rest_of(self, zone: Zone, now: Instant) -> screen.Rest:
        """What the board shows while nobody has it: nothing where that is right, else its default slide."""
        quiet = now.trusted and rules.quiet_at(zone, now.wall, self.tz)
        if quiet or zone.idle.source == "external" or self.silences.covers(zone.id, now.surely, local=False):
            return screen.Rest(dark=True)
        board, local = zone.board, datetime.fromtimestamp(now.wall, self.tz)
        clock = board.clock and now.trusted
        return screen.Rest(
            title=self.config.device.name,
            body=board.welcome,
            image=board.slide,
            clock=f"{local:%H:%M}" if clock else "",
            date=date_of(local, self.config.language) if clock else "",
            playing=self._playing() if board.now_playing else "",
        )

    def _playing(self) -> str:
        """What the loudspeakers play, in a line."""
        titles: dict[str, None] = {}
        for key, zone in self._on:
            p = self.programmes[key]
            if self._zones[zone].kind == "sound" and p.parts[zone].stage is Stage.PLAYING:
                titles[p.title] = None
        return PLAYING[self.config.language].format(what=" · ".join(titles)) if titles else ""

    # in step with the sound

    def _segment(self, event: vo.SegmentStarted, now: Instant) -> None:
        play = self.plays.get(event.play)
        if play is not None and 0 <= event.segment < len(play.segments):
            play.heard_from = (event.segment, now.wall_of(event.at_ns))

    def _follow(self, p: Programme, zone: str, now: Instant) -> None:
        """Turn the board to the pages of the item that is heard."""
        play = next(
            (self.plays[name] for (key, _), name in self._on.items() if key == p.key and name in self.plays), None
        )
        heard = None if play is None else self._heard(p, play, now)
        if play is None or heard is None:
            return
        spoken = self._heard_places(p, play)
        pages = [place for place, _, _ in self._page_items(p)]
        if heard not in pages:
            return
        first = last = pages.index(heard)
        while last + 1 < len(pages) and pages[last + 1] not in spoken:
            last += 1
        turn = screen.Turn(self._on[p.key, zone], first, last)
        if self._paged.get(zone) != turn:
            self._paged[zone] = turn
            self._urgent = self._urgent or p.overrides
            self._act.append(do.ToScreen(zone, turn))

    def _heard_places(self, p: Programme, play: Play) -> dict[int, int]:
        """The programme's items that are heard: place in the programme → cue."""
        places = [place for place, item in enumerate(p.items) if self._sounds(item)]
        before = 1 if p.drill else 0
        if len(play.cues) != len(places) + 2 * before:
            return {}  # a fallback
        cues = enumerate(play.cues[before : len(play.cues) - before], before)
        return {place: cue for place, (cue, c) in zip(places, cues, strict=True) if c.failed is None}

    def _heard(self, p: Programme, play: Play, now: Instant) -> int | None:
        """The place in the programme of the item that is heard now."""
        cue = next((c for at, c in reversed(list(play.turns())) if at <= now.wall), None)
        return next((place for place, c in self._heard_places(p, play).items() if c == cue), None)

    def _turns_ahead(self, now: Instant) -> Iterator[float]:
        """When the next item will be heard."""
        if any(zone.kind == "screen" for zone in self._zones.values()):
            for play in self.plays.values():
                yield from (at for at, _ in play.turns() if at > now.wall)
