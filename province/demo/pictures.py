"""The pictures of a run: its timeline and the contact sheet of its board. Needs Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct
from PIL import Image, ImageDraw

from agent.screen.fonts import Fonts
from province.demo.recorded import BOARDS, Frame, Happening, Pcm, Run, RunError, epoch

SCALE = 2
"""Everything is drawn this much larger and shrunk: smooth edges."""
INK, MUTED, FAINT, LINE = "#17212b", "#55626f", "#8b97a3", "#dde3e9"
PAPER, CARD = "#f4f6f8", "#ffffff"
CLASS_COLOURS = {"normal": "#1f6fb5", "priority": "#c77700", "emergency": "#c8202f"}
CLASS_NAMES = {"normal": "Thông thường", "priority": "Ưu tiên", "emergency": "Khẩn cấp"}
STRAY = "#8b97a3"
"""Sound that no entry of the log covers."""
UP, DOWN, ATTACK, RELAY, BOARD = "#2e8b57", "#d9480f", "#7b2d8b", "#4d6478", "#4d6478"
MARKS = {"press": ("nút bấm", "#c8202f"), "order": ("lệnh", "#17212b"), "accept": ("xã nhận", "#1f6fb5")}
MARKS |= {"silence": ("ngắt toàn bộ", "#17212b")}
NOTHING, CUT = "Không có chương trình", "Ngắt toàn bộ"
LEAST_SHARE = 0.3
"""Of a frame's time: what was heard less does not name it."""
LEFT, RIGHT, WIDTH = 176, 36, 2000
THUMB = (168, 95)
Box = tuple[float, float, float, float]


class Geometry(Struct, frozen=True, kw_only=True):
    """Where the recording lies in `timeline.png`: fractions of its width, for a cursor over it."""

    left: float
    right: float
    width: int
    height: int
    seconds: float


class Span(NamedTuple):
    """A stretch of time (epoch seconds) in which something was on, and what to write on it."""

    begin: float
    end: float
    text: str = ""


def local_zone(run: Run) -> tzinfo:
    """The zone of the station's own times, Vietnam's when the log has none."""
    for entry in run.entries:
        zone = datetime.fromisoformat(entry.started).tzinfo if entry.started else None
        if zone is not None:
            return zone
    return ZoneInfo("Asia/Ho_Chi_Minh")


def draw_timeline(run: Run, path: Path, title: str = "Trạm truyền thanh", subtitle: str = "") -> Geometry:
    """Draw `timeline.png`, 2,000 pixels wide and as high as zones and relays need; returns where time lies in it."""
    timeline = _Timeline(run)
    image = timeline.draw(title, subtitle)
    image.save(path, optimize=True)
    return Geometry(
        left=LEFT / WIDTH,
        right=(WIDTH - RIGHT) / WIDTH,
        width=image.width,
        height=image.height,
        seconds=run.seconds,
    )


def draw_contact(run: Run, path: Path, title: str = "Bảng tin điện tử", columns: int = 4) -> None:
    """Draw `contact.png`: every frame of the board with its time and how long it stood."""
    zone, width, gap = local_zone(run), 470, 24
    high, caption = round(width * 9 / 16), 62
    frames = [*run.frames, *(f for f in run.requisitioned if _lit(run, f))]
    rows = -(-max(1, len(frames)) // columns)
    size = (columns * (width + gap) + gap, 96 + rows * (high + caption + gap))
    pen = Pen(size)
    pen.text((gap, 30), title, 30, bold=True)
    pen.text((size[0] - gap, 38), f"{len(frames)} khung hình", 20, MUTED, anchor="r")
    for index, frame in enumerate(frames):
        x = gap + index % columns * (width + gap)
        y = 96 + index // columns * (high + caption + gap)
        pen.box((x, y, x + width, y + high + caption), CARD, LINE, 8)
        pen.picture(_frame(run, frame, (width - 2, high)), (x + 1, y + 1))
        begin, end = _shown(run, frame)
        pen.text((x + 14, y + high + 10), _clock(begin, zone), 20, bold=True)
        pen.text((x + width - 14, y + high + 11), f"{end - begin:.1f} s", 18, MUTED, anchor="r")
        about = _heard_with(run, begin, end) if frame.folder == BOARDS[0] else "Bảng quảng cáo được trưng dụng"
        pen.text((x + 14, y + high + 36), about, 16, MUTED, room=width - 28)
    if not frames:
        pen.text((gap, 110), "Bảng tin không chạy trong lượt này.", 20, MUTED)
    pen.done().save(path, optimize=True)


class Pen:
    """A sheet of paper and what is drawn on it, in pixels of the finished picture."""

    def __init__(self, size: tuple[int, int], paper: str = PAPER) -> None:
        self._fonts = Fonts()
        self._size = size
        self._image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), paper)
        self._draw = ImageDraw.Draw(self._image)

    def done(self) -> Image.Image:
        """The finished picture."""
        return self._image.resize(self._size, Image.Resampling.LANCZOS)

    def box(self, box: Box, fill: str | None, outline: str | None = None, radius: float = 0) -> None:
        """A rectangle with round corners."""
        left, top, right, bottom = (v * SCALE for v in box)
        box_ = (left, top, max(left, right), max(top, bottom))
        self._draw.rounded_rectangle(box_, radius * SCALE, fill, outline, SCALE if outline else 0)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        """Lines from point to point."""
        self._draw.line([(x * SCALE, y * SCALE) for x, y in points], colour, round(width * SCALE), joint="curve")

    def dashed(self, x: float, top: float, bottom: float, colour: str) -> None:
        """A vertical dashed line."""
        y = top
        while y < bottom:
            self.line([(x, y), (x, min(y + 6, bottom))], colour, 1.5)
            y += 11

    def shape(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """A filled shape."""
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], colour)

    def picture(self, image: Image.Image, at: tuple[float, float]) -> None:
        """Another picture, given at the finished size."""
        large = image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.LANCZOS)
        self._image.paste(large, (round(at[0] * SCALE), round(at[1] * SCALE)))

    def width(self, text: str, size: int, *, bold: bool = False) -> float:
        """How wide a text will be."""
        return self._fonts.width(text, size * SCALE, bold) / SCALE

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: str = INK,
        *,
        bold: bool = False,
        anchor: str = "l",
        room: float | None = None,
    ) -> None:
        """A line of text with its upper edge at `at`; `anchor` l, m or r; shortened with … to `room`."""
        text = " ".join(text.split())
        if room is not None and self.width(text, size, bold=bold) > room:
            while text and self.width(text + "…", size, bold=bold) > room:
                text = text[:-1]
            text = text.rstrip() + "…" if text else ""
        x = at[0] - self.width(text, size, bold=bold) * {"l": 0, "m": 0.5, "r": 1}[anchor]
        for face, part in self._fonts.runs(text):
            font = self._fonts.load(face, size * SCALE, bold=bold)
            self._draw.text((x * SCALE, (at[1] + size) * SCALE), part, colour, font, anchor="ls")
            x += font.getlength(part) / SCALE


class _Timeline:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.zone = local_zone(run)
        self.begin, self.end = run.station.t0, run.station.t0 + run.seconds
        self.boards = [frame for frame in run.frames if _shown(run, frame)[1] > self.begin]
        self.relays = _relay_spans(run)
        wave = 200 if len(run.station.zones) == 1 else 124
        y = 196.0
        self.tracks: list[tuple[str, float, float]] = []
        for zone in run.station.zones:
            self.tracks.append((zone, y, y + 40 + wave))
            y += 40 + wave + 14
        self.rows = y
        y += 34 * (len(self.relays) + 2) + 10
        self.board = y
        if self.boards:
            y += 34 + 30 + THUMB[1] + 34
        self.height = round(y + 16)

    def x(self, at: float) -> float:
        share = (min(max(at, self.begin), self.end) - self.begin) / max(self.run.seconds, 1e-9)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def draw(self, title: str, subtitle: str) -> Image.Image:
        pen = Pen((WIDTH, self.height))
        self._header(pen, title, subtitle)
        bottom = self.board + (64 if self.boards else 0)
        for zone, top, low in self.tracks:
            pen.box((LEFT, top, WIDTH - RIGHT, low), CARD, LINE, 6)
            pen.text((24, top + 46), zone, 21, bold=True, room=LEFT - 40)
            pen.text((24, top + 74), "âm thanh phát ra", 15, MUTED, room=LEFT - 40)
        marks = self._marks(pen)
        self._axis(pen, bottom)
        for zone, top, low in self.tracks:
            self._track(pen, zone, top, low)
        for x, colour in marks:
            pen.line([(x, 186), (x, self.rows - 14)], colour)
        self._states(pen)
        if self.boards:
            self._thumbnails(pen)
        return pen.done()

    def _header(self, pen: Pen, title: str, subtitle: str) -> None:
        pen.text((24, 22), title, 34, bold=True, room=WIDTH - 760)
        day = datetime.fromtimestamp(self.begin, self.zone)
        about = f"{day:%d/%m/%Y}, {self.run.seconds:.0f} giây, giờ địa phương"
        pen.text((24, 72), f"{about} · {subtitle}" if subtitle else about, 19, MUTED, room=WIDTH - 760)
        x = float(WIDTH - RIGHT)
        legend = [(CLASS_NAMES[name], colour) for name, colour in CLASS_COLOURS.items()]
        for name, colour in reversed([*legend, ("Ngoài nhật ký", STRAY)]):
            x -= pen.width(name, 18)
            pen.text((x, 26), name, 18, MUTED)
            pen.box((x - 26, 29, x - 8, 43), colour, radius=3)
            x -= 48
        name = "giờ hẹn"
        pen.text((WIDTH - RIGHT, 60), name, 18, MUTED, anchor="r")
        self._triangle(pen, WIDTH - RIGHT - pen.width(name, 18) - 16, 64)

    def _axis(self, pen: Pen, bottom: float) -> None:
        seconds = self.run.seconds
        step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 300, 900, 3600) if seconds / s <= 18), 7200)
        first = datetime.fromtimestamp(self.begin, self.zone)
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        at = midnight + timedelta(seconds=-(-(first - midnight).total_seconds() // step) * step)
        while (moment := at.timestamp()) <= self.end:
            x = self.x(moment)
            pen.line([(x, 186), (x, bottom)], LINE)
            label = f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
            half = pen.width(label, 17) / 2 + 4
            if x + half < WIDTH:
                pen.box((x - half, 160, x + half, 182), PAPER)
                pen.text((x, 160), label, 17, MUTED, anchor="m")
            at += timedelta(seconds=step)

    def _track(self, pen: Pen, zone: str, top: float, low: float) -> None:
        channel = self.run.channel(zone)
        middle, half = (top + 40 + low) / 2, (low - top - 40) / 2 - 8
        entries = [e for e in self.run.sounding() if e.zone == zone]
        spans = [(epoch(e.started or ""), epoch(e.ended or ""), e) for e in entries]
        peak = max(1, int(np.abs(self.run.sound.astype(np.int32)).max(initial=0)))
        pen.line([(LEFT + 1, middle), (WIDTH - RIGHT - 1, middle)], LINE)
        columns = (WIDTH - LEFT - RIGHT) * SCALE
        for column, (lowest, highest) in enumerate(_envelope(channel, columns)):
            if lowest == highest == 0:
                continue
            at = self.begin + (column + 0.5) / columns * self.run.seconds
            colour = next(
                (CLASS_COLOURS.get(e.class_, STRAY) for b, t, e in spans if b - 0.03 <= at <= t + 0.03), STRAY
            )
            x = LEFT + column / SCALE
            pen.line([(x, middle - highest / peak * half), (x, middle - lowest / peak * half + 0.5)], colour, 1 / SCALE)
        for begin, end, entry in spans:
            left, right = self.x(begin), self.x(end)
            colour = CLASS_COLOURS.get(entry.class_, STRAY)
            pen.box((left, top + 7, max(right, left + 3), top + 36), colour, radius=5)
            if right - left > 34:
                continued = " (tiếp)" if any(e.bulletin == entry.bulletin and b < begin for b, _, e in spans) else ""
                pen.text((left + 9, top + 9), entry.title + continued, 17, "#ffffff", bold=True, room=right - left - 16)
        for due in {e.planned for _, _, e in spans if e.planned is not None}:
            self._triangle(pen, self.x(epoch(due)), top - 4)
            pen.dashed(self.x(epoch(due)), top + 8, low - 2, INK)

    @staticmethod
    def _triangle(pen: Pen, x: float, y: float) -> None:
        pen.shape([(x - 7, y), (x + 7, y), (x, y + 11)], INK)

    def _marks(self, pen: Pen) -> list[tuple[float, str]]:
        """Flags above the axis; returns where their lines go on below it."""
        ends, lines = [0.0, 0.0], []
        for mark in sorted((h for h in self.run.happenings if h.what in MARKS), key=lambda h: h.at):
            name, colour = MARKS[mark.what]
            x, wide = self.x(mark.at), pen.width(name, 15, bold=True) + 16
            row = 0 if ends[0] <= x - 2 else 1
            if ends[row] > x - 2:
                continue
            ends[row] = x + wide + 4
            y = 106 + 26 * row
            pen.box((x, y, x + wide, y + 22), colour, radius=4)
            pen.text((x + 8, y + 1), name, 15, "#ffffff", bold=True)
            pen.line([(x + 0.5, y + 20), (x + 0.5, 186)], colour)
            lines.append((x + 0.5, colour))
        return lines

    def _states(self, pen: Pen) -> None:
        y = self.rows
        for name, spans in self.relays.items():
            self._row(pen, y, f"Rơ-le {name}", spans, RELAY)
            y += 34
        up, down = _link_spans(self.run)
        self._row(pen, y, "Kết nối tỉnh", up, UP)
        self._row(pen, y, "", down, DOWN)
        y += 34
        refused = [h for h in self.run.happenings if h.what == "refused"]
        attack = _switched(
            [(h.at, bool(h.on)) for h in self.run.happenings if h.what == "attack"], self.begin, self.end
        ) or ([Span(refused[0].at, refused[-1].at + 0.3)] if refused else [])
        spans = [Span(s.begin, s.end, _count(refused, s)) for s in attack]
        self._row(pen, y, "Kẻ tấn công", spans, ATTACK)

    def _row(self, pen: Pen, y: float, name: str, spans: Iterable[Span], colour: str) -> None:
        if name:
            pen.text((24, y), name, 18, room=LEFT - 40)
            pen.box((LEFT, y + 2, WIDTH - RIGHT, y + 24), CARD, LINE, 4)
        for span in spans:
            left, right = self.x(span.begin), self.x(span.end)
            pen.box((left, y + 2, max(right, left + 3), y + 24), colour, radius=4)
            wide = pen.width(span.text, 15, bold=True)
            if wide + 16 < right - left:
                pen.text((left + 9, y + 3), span.text, 15, "#ffffff", bold=True)
            elif span.text and right + wide + 12 < WIDTH - RIGHT:
                pen.text((right + 8, y + 3), span.text, 15, colour, bold=True)
            elif span.text:
                pen.text((left - 8, y + 3), span.text, 15, colour, bold=True, anchor="r")

    def _thumbnails(self, pen: Pen) -> None:
        y = self.board
        self._row(pen, y, "Bảng tin", [], BOARD)
        fits = (WIDTH - LEFT - RIGHT) // (THUMB[0] + 10)
        by_time = sorted(self.boards, key=lambda f: _shown(self.run, f)[0] - _shown(self.run, f)[1])[:fits]
        chosen = [frame for frame in self.boards if frame in by_time]
        centres = [(self.x(_shown(self.run, f)[0]) + self.x(_shown(self.run, f)[1])) / 2 for f in chosen]
        lefts = _spread([c - THUMB[0] / 2 for c in centres], THUMB[0] + 10, LEFT, WIDTH - RIGHT - THUMB[0])
        for frame in self.boards:
            begin, end = _shown(self.run, frame)
            pen.box((self.x(begin) + 1, y + 2, self.x(end) - 1, y + 24), BOARD, radius=4)
        top = y + 58
        for frame, centre, left in zip(chosen, centres, lefts, strict=True):
            middle = left + THUMB[0] / 2
            pen.line([(centre, y + 24), (centre, y + 34), (middle, top - 10), (middle, top)], FAINT, 1.5)
            pen.box((left - 2, top - 2, left + THUMB[0] + 2, top + THUMB[1] + 2), FAINT, radius=3)
            pen.picture(_frame(self.run, frame, THUMB), (left, top))
            begin, _ = _shown(self.run, frame)
            pen.text((middle, top + THUMB[1] + 5), _clock(begin, self.zone), 15, MUTED, anchor="m")


def _envelope(channel: Pcm, columns: int) -> list[tuple[int, int]]:
    """Lowest and highest sample of each column."""
    if not len(channel):
        return []
    edges = np.linspace(0, len(channel), columns + 1).astype(np.int64)[:-1]
    edges = np.minimum(edges, len(channel) - 1)
    low, high = np.minimum.reduceat(channel, edges), np.maximum.reduceat(channel, edges)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _switched(changes: list[tuple[float, bool]], begin: float, end: float) -> list[Span]:
    """When something was on, from its changes in time; before the first change it was the other way round."""
    spans, since = [], (begin if changes and not changes[0][1] else None)
    for at, on in changes:
        if on and since is None:
            since = at
        elif not on and since is not None:
            if at > since:
                spans.append(Span(since, at))
            since = None
    return spans if since is None else [*spans, Span(since, end)]


def _relay_spans(run: Run) -> dict[str, list[Span]]:
    end = run.station.t0 + run.seconds
    changes: dict[str, list[tuple[float, bool]]] = {}
    for happening in run.happenings:
        if happening.what == "relay" and happening.relay is not None and happening.on is not None:
            changes.setdefault(happening.relay, []).append((happening.at, happening.on))
    return {
        relay: [Span(s.begin, s.end, "bật") for s in _switched(c, run.station.t0, end)] for relay, c in changes.items()
    }


def _link_spans(run: Run) -> tuple[list[Span], list[Span]]:
    """When the link was up, and when down, with how long."""
    changes = [(h.at, h.up) for h in run.happenings if h.what == "link" and h.up is not None]
    end = run.station.t0 + run.seconds
    if not changes:
        return [], []
    down = _switched([(at, not up) for at, up in changes], changes[0][0], end)
    lost = [Span(s.begin, s.end, f"mất máy chủ {s.end - s.begin:.0f} s") for s in down]
    return _switched(changes, run.station.t0, end), lost


def _count(refused: Sequence[Happening], span: Span) -> str:
    return f"{sum(span.begin <= h.at <= span.end + 1 for h in refused)} lệnh giả bị từ chối"


def _spread(lefts: Sequence[float], step: float, least: float, most: float) -> list[float]:
    """Places in order, at least `step` apart, between `least` and `most`, near where they would like to be."""
    placed: list[float] = []
    for left in lefts:
        placed.append(max(left, placed[-1] + step if placed else least))
    limit = most
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = max(least, min(placed[index], limit))
        limit = placed[index] - step
    return placed


def _frame(run: Run, frame: Frame, size: tuple[int, int]) -> Image.Image:
    """The frame's picture within `size`, on black."""
    canvas = Image.new("RGB", size, "#000000")
    try:
        with Image.open(run.out / frame.folder / Path(frame.file).name) as file:
            picture = file.convert("RGB")
    except OSError as error:
        raise RunError(f"{frame.folder}/{frame.file}: {error}") from error
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    canvas.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return canvas


def _lit(run: Run, frame: Frame) -> bool:
    """Whether anything is on the frame: a board that is given back shows nothing of ours."""
    return _frame(run, frame, (64, 36)).getbbox() is not None


def _shown(run: Run, frame: Frame) -> tuple[float, float]:
    """Since when and until when (epoch seconds) a frame stood."""
    return epoch(frame.from_), run.station.t0 + run.seconds if frame.to is None else epoch(frame.to)


def _heard_with(run: Run, begin: float, end: float) -> str:
    """The title of what sounded longest while a frame stood, or that all was cut; a short share of it says nothing."""
    ordered = [(h.at, h.on is not False) for h in run.happenings if h.what == "silence"]
    spans = [Span(epoch(e.started or ""), epoch(e.ended or ""), e.title) for e in run.sounding()]
    spans += [Span(s.begin, s.end, CUT) for s in _switched(ordered, run.station.t0, run.station.t0 + run.seconds)]
    overlaps = [(min(end, s.end) - max(begin, s.begin), s.text) for s in spans]
    longest = max(overlaps, default=(0.0, ""))
    return longest[1] if longest[0] > 0 and longest[0] >= LEAST_SHARE * (end - begin) else NOTHING


def _clock(at: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(at, zone):%H:%M:%S}"
