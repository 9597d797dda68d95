"""Where everything of a page goes: from words to sheets of placed text and shapes. Draws nothing itself.

A sheet is data, so that a test can compare every text's box with the frame. Lengths are pixels, colours RGB.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from agent.model.letters import ROOM, letter_px
from agent.model.screen import Page, Rest
from agent.screen.text import clean, clusters, words

if TYPE_CHECKING:
    from collections.abc import Callable

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
MAX_SHEETS = 60
"""Most sheets of one page of text; the last one ends with an ellipsis."""


class Look(Struct, frozen=True):
    """Colours of a class, and its name as the law has it."""

    ground: Colour
    ink: Colour
    strip: Colour
    strip_ink: Colour
    label: str = ""


LOOKS: dict[str, Look] = {
    "idle": Look((9, 27, 58), (236, 242, 252), (9, 27, 58), (150, 180, 225)),
    "normal": Look((247, 248, 250), (17, 27, 45), (16, 74, 140), (255, 255, 255), "THÔNG BÁO"),
    "priority": Look((255, 190, 30), (28, 20, 0), (28, 20, 0), (255, 205, 75), "ƯU TIÊN"),
    "emergency": Look((172, 0, 0), (255, 255, 255), (120, 0, 0), (255, 233, 90), "KHẨN CẤP"),
}
MARK_GROUND: Colour = (255, 221, 0)
MARK_INK: Colour = (0, 0, 0)


class Text(Struct, frozen=True):
    """A line of text; `x`, `y` the start of its base line."""

    x: float
    y: float
    text: str
    size: int
    bold: bool
    ink: Colour
    ground: Colour


class Shape(Struct, frozen=True):
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    fill: Colour


class Design(Struct, frozen=True):
    """What a board is like: `agent.model.config.Board`, as far as it concerns the layout."""

    pitch_mm: float | None = None
    viewing_m: float | None = None
    fit: str = "whole"
    qr: str | None = None
    qr_label: str = ""

    @property
    def smallest(self) -> int:
        """The smallest size of letters that can be read from where people stand; 0: that is not known."""
        if self.pitch_mm is None or self.viewing_m is None:
            return 0
        return math.ceil(letter_px(self.pitch_mm, self.viewing_m))


class Running(Struct, frozen=True):
    """A line that is too long for its place and runs through it: `rows` full rows from `top` on. `text.x` is not used.

    `speed`: pixels a second.
    """

    top: int
    rows: int
    text: Text
    speed: float


class Sheet(Struct):
    """One frame to be painted; a `picture` (letterboxed, or filling it) or the first moment of a `film` fills `area`.

    `code`: a QR code's address and the square in which it is drawn: left, top, side.
    """

    width: int
    height: int
    ground: Colour
    shapes: list[Shape] = []
    texts: list[Text] = []
    picture: str | None = None
    area: tuple[int, int, int, int] = (0, 0, 0, 0)
    fit: str = "whole"
    code: tuple[str, int, int, int] | None = None
    running: Running | None = None


class Measure(Protocol):
    """What the layout must know of fonts."""

    def width(self, text: str, size: int, bold: bool) -> float:
        """Advance width."""

    def bounds(self, text: str, size: int, bold: bool) -> Box:
        """The ink's box: left, top, right, bottom, from the start of the base line."""


class _Line(Struct, frozen=True):
    text: str
    size: int
    bold: bool
    head: bool = False

    @property
    def height(self) -> float:
        return self.size * LINE


SIGN = "⚠"
"""Of an emergency, before the title of a board that has no room for a strip with the sign."""
LINE = 1.28
"""Line height over font size: Vietnamese capitals carry two marks above and one below."""
ASCENT = 1.0
"""From the top of a line to its base line, over font size."""
GAP = 0.3
"""Space between title and body, over the title's size."""
_BODY = 0.66
"""Body size over title size."""


def wrap(text: str, size: int, *, bold: bool, width: float, fonts: Measure) -> tuple[list[str], bool]:
    """`text` broken into lines no wider than `width`, and whether a word had to be broken inside."""
    lines: list[str] = []
    broken = False
    for paragraph in text.split("\n"):
        line, length = "", 0.0
        for word in words(paragraph):
            bare = fonts.width(word.rstrip(" "), size, bold)
            if line and length + bare > width:
                lines.append(line.rstrip(" "))
                line, length = "", 0.0
            if bare > width:
                broken = True
                for letter in clusters(word):
                    step = fonts.width(letter, size, bold)
                    if line and length + step > width:
                        lines.append(line)
                        line, length = "", 0.0
                    line, length = line + letter, length + step
            else:
                line, length = line + word, length + fonts.width(word, size, bold)
        lines.append(line.rstrip(" "))
    return lines, broken


def balance(text: str, size: int, *, bold: bool, width: float, fonts: Measure) -> list[str]:
    """Wrap into as few lines as `width` allows, made about equally long."""
    lines, _ = wrap(text, size, bold=bold, width=width, fonts=fonts)
    low, high = width / 3, width
    best = lines
    for _ in range(7):
        middle = (low + high) / 2
        tried, broken = wrap(text, size, bold=bold, width=middle, fonts=fonts)
        if broken or len(tried) > len(lines):
            low = middle
        else:
            high, best = middle, tried
    return best


def compose(page: Page, width: int, height: int, fonts: Measure, design: Design | None = None) -> list[Sheet]:
    """The sheets that show `page` on a board of that size: one if its text fits readably, else several in turn.

    On a board too low for that its body runs through one line. A film is given its title, which stands in its place
    when it cannot be shown.
    """
    design = design or Design()
    look = LOOKS[page.class_]
    title, body = clean(page.title, 400).replace("\n", " "), clean(page.body)
    mark, issuer = clean(page.mark, 60).replace("\n", " "), clean(page.issuer, 120).replace("\n", " ")
    frame = _Frame(width, height, look, page.class_, mark, issuer, fonts, design)
    if page.image is not None:
        sheet = frame.sheet(0, 1, bare=True)
        left, top, right, bottom = frame.area(paged=False, bare=True)
        sheet.picture = page.image
        sheet.area = (round(left), round(top), round(right), round(bottom))
        sheet.fit = design.fit
        return [sheet]
    if frame.small and page.class_ == "emergency":
        title = f"{SIGN} {title}".rstrip()
    centred = page.class_ in {"emergency", "idle"} or not body
    lines = _one_sheet(title, body, frame, centred=centred)
    if lines is not None:
        sheet = frame.sheet(0, 1)
        frame.place(sheet, lines, centred=centred, paged=False)
        return [sheet]
    if body and frame.low:
        return [_in_a_line(title, body, frame)]
    pages = _many_sheets(title, body, frame)
    sheets = []
    for number, part in enumerate(pages):
        sheet = frame.sheet(number, len(pages))
        frame.place(sheet, part, centred=False, paged=True)
        sheets.append(sheet)
    return sheets


def rest(told: Rest, width: int, height: int, fonts: Measure, design: Design | None = None) -> Sheet:
    """The default slide: name and words or a picture, time and date, a QR code, what is played in a running line."""
    design = design or Design()
    look = LOOKS["idle"]
    frame = _Frame(width, height, look, "idle", "", "", fonts, design)
    sheet = Sheet(width, height, look.ground)
    playing = clean(told.playing, 400).replace("\n", " ")
    size = max(frame.smallest, round(height * 0.05)) if playing else 0
    bottom = height - size * 1.8
    if playing:
        frame.line(sheet, playing, size, math.floor(bottom), height, centred=True)
    if told.image is not None:
        sheet.ground, sheet.picture, sheet.fit = (0, 0, 0), told.image, design.fit
        sheet.area = (0, 0, width, math.floor(bottom))
        return sheet
    words, code = _halves(frame, bottom, bool(told.clock))
    if code is not None:
        _code(sheet, frame, code)
    left, top, right, low = words
    title, body = clean(told.title, 400), clean(told.body)
    clock = [(told.clock, 2.6), (told.date, 0.75)] if told.clock else []
    place = _Frame(round(right - left), round(low - top), look, "idle", "", "", fonts, design)
    lines = _clock_lines(title, body, clock, place) if clock else _one_sheet(title, body, place, centred=True)
    part = Sheet(place.width, place.height, look.ground)
    place.place(part, lines or [], centred=True, paged=False)
    sheet.texts += [replace(text, x=text.x + left, y=text.y + top) for text in part.texts]
    return sheet


def _halves(frame: _Frame, bottom: float, clock: bool) -> tuple[Box, Box | None]:
    """Where the words of the default slide go, and where the QR code, if it fits so that a telephone can read it."""
    whole = (0.0, 0.0, float(frame.width), bottom)
    modules = 37 + 2 * QUIET  # of a code for an address of up to 80 letters
    side = min(bottom * 0.62, frame.width * 0.4) if frame.width > bottom else min(frame.width * 0.55, bottom * 0.34)
    if frame.design.qr is None or side < modules * LEAST_MODULE:
        return whole, None
    if frame.width > bottom:
        cut = frame.width - side - 2.2 * frame.margin
        return (0.0, 0.0, cut, bottom), (cut, 0.0, float(frame.width), bottom)
    cut = bottom - side * 1.3
    return (0.0, 0.0, float(frame.width), cut), (0.0, cut, float(frame.width), bottom)


QUIET = 4
"""Modules of white around a QR code (ISO/IEC 18004)."""
LEAST_MODULE = 2
"""Pixels of a module at least: thinner ones are lost between the LEDs."""


def _code(sheet: Sheet, frame: _Frame, area: Box) -> None:
    """The QR code in the middle of its area, with its label beneath."""
    left, top, right, bottom = area
    label = clean(frame.design.qr_label, 60).replace("\n", " ")
    size = frame.fit(label, max(frame.smallest, frame.height * 0.045), right - left - frame.margin) if label else 0
    if size < frame.design.smallest:
        label, size = "", 0
    side = math.floor(min(right - left - frame.margin, bottom - top - frame.margin - size * 1.8))
    x, y = (left + right - side) / 2, (top + bottom - side - size * 1.8) / 2
    sheet.code = frame.design.qr or "", math.floor(x), math.floor(y), side
    if label:
        x = (left + right - frame.fonts.width(label, size, True)) / 2
        sheet.texts.append(Text(x, y + side + size * 1.3, label, size, True, frame.look.ink, frame.look.ground))


def _clock_lines(title: str, body: str, clock: list[tuple[str, float]], frame: _Frame) -> list[_Line]:
    """The time large, the date under it, then name and words; what does not fit readably is left out from the end."""
    left, top, right, bottom = frame.area(paged=False)
    width, height = right - left, bottom - top
    for parts in ([*clock, (title, 1.0), (body, 0.72)], [*clock, (title, 1.0)], clock, clock[:1]):
        best: list[_Line] | None = None
        least = max(1, round(frame.smallest / clock[0][1]))
        for size in range(least, max(least + 1, round(frame.height * 0.22))):
            lines: list[_Line] = []
            for text, share in parts:
                px = max(frame.smallest, round(size * share))
                wrapped, broken = wrap(text, px, bold=True, width=width, fonts=frame.fonts) if text else ([], False)
                if broken or (share == clock[0][1] and len(wrapped) > 1):
                    lines = []
                    break
                if len(wrapped) > 1:
                    wrapped = balance(text, px, bold=True, width=width, fonts=frame.fonts)
                lines += [_Line(line, px, bold=share >= 1, head=text is clock[-1][0]) for line in wrapped]
            if not lines or _height(lines) > height:
                break
            best = lines
        if best is not None:
            return best
    return []


def _in_a_line(title: str, body: str, frame: _Frame) -> Sheet:
    """A board as low as a strip: the title stands, the body runs beneath it; if there is no room for both, all runs."""
    sheet = frame.sheet(0, 1)
    left, top, right, bottom = frame.area(paged=False)
    half = (bottom - top) / 2
    size = frame.fit(title, half / LINE, right - left)
    if title and size >= frame.smallest and frame.fonts.width(title, size, True) <= right - left:
        x = left + (right - left - frame.fonts.width(title, size, True)) / 2
        sheet.texts.append(Text(x, top + size * ASCENT, title, size, True, frame.look.ink, frame.look.ground))
        top, text = top + half, body
    else:
        text = f"{title} – {body}" if title else body
    size = max(frame.smallest, min(math.floor((bottom - top) / LINE), math.floor(frame.width / AT_ONCE)))
    frame.line(sheet, text.replace("\n", " "), size, math.floor(top), math.floor(bottom), centred=True)
    return sheet


AT_ONCE = 4.8
"""Width of a board over the size of a line that runs on it: some eight letters are seen at once."""
LETTERS_A_SECOND = 8.0
"""Speed of a running line: what people read with ease."""


def _one_sheet(title: str, body: str, frame: _Frame, *, centred: bool) -> list[_Line] | None:
    """The lines at the largest size at which all of it fits, or None when that would be too small to read."""
    lines = _largest(title, body, frame, centred=centred)
    if lines is None or frame.name != "emergency" or sum(line.head for line in lines) < 2:
        return lines
    # A heading broken where its sense breaks is read faster; a little size is given for it.
    parted = _largest(_SENSE.sub("\n", title), body, frame, centred=centred)
    return parted if parted and parted[0].size >= 0.75 * lines[0].size else lines


_SENSE = re.compile(r"(?<=[:–—.!;]) +")


def _largest(title: str, body: str, frame: _Frame, *, centred: bool) -> list[_Line] | None:
    left, top, right, bottom = frame.area(paged=False)
    width, height = right - left, bottom - top
    strong = frame.name == "emergency"

    def attempt(size: int, small: int) -> list[_Line] | None:
        head, broken_head = wrap(title, size, bold=True, width=width, fonts=frame.fonts) if title else ([], False)
        rest, broken_rest = wrap(body, small, bold=strong, width=width, fonts=frame.fonts) if body else ([], False)
        lines = [_Line(t, size, bold=True, head=True) for t in head] + [_Line(t, small, bold=strong) for t in rest]
        return None if broken_head or broken_rest or _height(lines) > height else lines

    def body_of(size: int) -> int:
        return min(size, max(frame.smallest, round(size * _BODY)))

    def search(low: int, high: int, fits: Callable[[int], bool]) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    low = frame.smallest
    if attempt(low, low) is None:
        return None
    size = search(low, max(low + 1, frame.largest(body=bool(body))), lambda s: attempt(s, body_of(s)) is not None)
    small = search(body_of(size), max(body_of(size) + 1, round(size * 0.85)), lambda s: attempt(size, s) is not None)
    lines = attempt(size, small) or []
    head = balance(title, size, bold=True, width=width, fonts=frame.fonts) if title else []
    if not (centred and body):
        return [_Line(t, size, bold=True, head=True) for t in head] + [line for line in lines if not line.head]
    rest = balance(body, small, bold=strong, width=width, fonts=frame.fonts)
    return [_Line(t, size, bold=True, head=True) for t in head] + [_Line(t, small, bold=strong) for t in rest]


def _many_sheets(title: str, body: str, frame: _Frame) -> list[list[_Line]]:
    """Sheets at a readable size: as few as the smallest size gives, then as large as that number allows."""
    left, top, right, bottom = frame.area(paged=True)
    width, height = right - left, bottom - top

    def attempt(size: int) -> list[list[_Line]]:
        head = wrap(title, size, bold=True, width=width, fonts=frame.fonts)[0] if title else []
        rest = wrap(body, size, bold=False, width=width, fonts=frame.fonts)[0] if body else []
        flow = [_Line(t, size, bold=True, head=True) for t in head] + [_Line(t, size, bold=False) for t in rest]
        # Later sheets repeat the title in one line where at least four lines of text fit beneath it.
        again = [_ellipsis(title, size, width, frame.fonts)] if head and height >= size * (5 * LINE + GAP) else []
        pages: list[list[_Line]] = [[]]
        for line in flow:
            if pages[-1] and _height([*pages[-1], line]) > height:
                pages.append([*again])
            if line.text or len(pages[-1]) > len(again):
                pages[-1].append(line)
        return pages

    low = frame.smallest
    count = len(attempt(low))
    high = low * 2 if len(title) + len(body) < 4000 else low + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(attempt(middle)) > count else (middle, high)
    pages = attempt(low)
    if len(pages) > MAX_SHEETS:
        del pages[MAX_SHEETS:]
        last = pages[-1][-1]
        pages[-1][-1] = replace(last, text=clusters_cut(last.text, 2) + "…")
    return pages


def clusters_cut(text: str, letters: int) -> str:
    """`text` without its last `letters` letters and what dangles then."""
    return "".join(clusters(text)[: -letters or None]).rstrip(" .,;:")


def _ellipsis(text: str, size: int, width: float, fonts: Measure) -> _Line:
    line = text.replace("\n", " ")
    if fonts.width(line, size, True) > width:
        letters = clusters(line)
        while letters and fonts.width("".join(letters).rstrip() + "…", size, True) > width:
            letters.pop()
        line = "".join(letters).rstrip() + "…"
    return _Line(line, size, bold=True, head=True)


def _height(lines: list[_Line]) -> float:
    return sum(line.height for line in lines) + sum(_gap(a, b) for a, b in pairwise(lines))


def _gap(above: _Line, below: _Line) -> float:
    """Extra space between the title and the body."""
    return above.size * GAP if above.head and not below.head else 0.0


class _Frame(Struct):
    """The fixed parts of a board: mark band on top, class strip, footer; and the area that is left."""

    width: int
    height: int
    look: Look
    name: Literal["idle", "normal", "priority", "emergency"]
    mark: str
    issuer: str
    fonts: Measure
    design: Design

    @property
    def small(self) -> bool:
        return self.height < 120 or self.width < 160 or self.smallest > self.height / 9

    @property
    def low(self) -> bool:
        """Whether three readable lines do not fit: too little to turn pages."""
        _, top, _, bottom = self.area(paged=True)
        return bottom - top < 3 * self.smallest * LINE

    @property
    def smallest(self) -> int:
        """The smallest size of running text: readable from where people stand, or across a street if that is unknown.

        Never so large that less than two lines or some eight letters of a line fit; the configuration's check says so.
        """
        known = self.design.smallest
        if not known:
            return max(7, round(min(self.height / 15, self.width / 12)))
        return max(7, min(known, math.floor(self.height / ROOM), math.floor(self.width / 5)))

    def largest(self, *, body: bool) -> int:
        """The largest size of a title."""
        share = {"idle": 0.125, "emergency": 0.26 if body else 0.34}.get(self.name, 0.22 if body else 0.27)
        return max(self.smallest, round(self.height * share))

    @property
    def margin(self) -> float:
        return 1 if self.small else min(self.width, self.height) * 0.05

    @property
    def band(self) -> float:
        """Height of the mark's band."""
        if not self.mark:
            return 0
        return self.height * (0.3 if self.small else 0.13)

    @property
    def strip(self) -> float:
        """Height of the class strip."""
        if self.small or not self.look.label:
            return 0
        return max(self.height * (0.17 if self.name == "emergency" else 0.12), 1.7 * self.design.smallest)

    def foot(self, *, paged: bool) -> float:
        if self.small or not (self.issuer or paged):
            return 0
        return max(self.height * 0.11, 1.6 * self.design.smallest)

    def area(self, *, paged: bool, bare: bool = False) -> Box:
        """Left, top, right, bottom of what is left for the text; `bare`: for a picture, under the mark's band."""
        if bare:
            return (0, self.band, self.width, self.height)
        gap = 2 if self.small else self.margin * 0.6
        return (
            self.margin,
            self.band + self.strip + gap,
            self.width - self.margin,
            self.height - self.foot(paged=paged) - gap,
        )

    def sheet(self, number: int, count: int, *, bare: bool = False) -> Sheet:
        sheet = Sheet(self.width, self.height, (0, 0, 0) if bare else self.look.ground)
        if self.mark:
            self._mark(sheet)
        if bare:
            return sheet
        if self.strip:
            self._strip(sheet)
        if not self.small:
            self._foot(sheet, number, count)
        return sheet

    def line(self, sheet: Sheet, text: str, size: int, top: int, bottom: int, *, centred: bool) -> None:
        """A line of text between two heights, which stands if there is room and runs if there is not."""
        y = self._base(top, bottom, size)
        length = self.fonts.width(text, size, True)
        room = self.width - 2 * self.margin
        x = self.margin + ((room - length) / 2 if centred else 0.0)
        ink = self.look.ink
        if length <= room:
            sheet.texts.append(Text(x, y, text, size, True, ink, self.look.ground))
            return
        placed = Text(0, y - top, text, size, True, ink, self.look.ground)
        sheet.running = Running(top, bottom - top, placed, max(1.0, LETTERS_A_SECOND * length / max(1, len(text))))

    def place(self, sheet: Sheet, lines: list[_Line], *, centred: bool, paged: bool) -> None:
        """Put the lines into the area: a block in the middle, or from the top when the text goes on."""
        left, top, right, bottom = self.area(paged=paged)
        slack = max(0.0, (bottom - top) - _height(lines))
        y = top + (0 if paged else slack / 2 if centred else slack * 0.4)
        before: _Line | None = None
        for line in lines:
            y += _gap(before, line) if before else 0.0
            x = left
            if centred:
                x += max(0.0, (right - left) - self.fonts.width(line.text, line.size, line.bold)) / 2
            if line.text:
                ink, ground = self.look.ink, self.look.ground
                sheet.texts.append(Text(x, y + line.size * ASCENT, line.text, line.size, line.bold, ink, ground))
            y += line.height
            before = line

    def _mark(self, sheet: Sheet) -> None:
        """A hazard band over the whole width with the mark in its middle."""
        sheet.shapes.append(_rectangle(0, 0, self.width, self.band, MARK_GROUND))
        room = self.width * (0.94 if self.small else 0.6)
        size = self.fit(self.mark, self.band * 0.66, room)
        mark = _ellipsis(self.mark, size, room, self.fonts).text
        length = self.fonts.width(mark, size, True)
        half = length / 2 + self.band * 0.4
        middle, step = self.width / 2, self.band * 0.8
        x = self.width if self.small else -self.band
        while x < self.width:
            if x + step / 2 + self.band < middle - half or x > middle + half:
                upper, lower = x + self.band, x
                corners = ((lower, self.band), (upper, 0), (upper + step / 2, 0), (lower + step / 2, self.band))
                sheet.shapes.append(Shape(corners, MARK_INK))
            x += step
        y = self.band - size * 0.22 if self.small else self._base(0, self.band, size)
        sheet.texts.append(Text(middle - length / 2, y, mark, size, True, MARK_INK, MARK_GROUND))

    def _strip(self, sheet: Sheet) -> None:
        top, bottom, ink = self.band, self.band + self.strip, self.look.strip_ink
        sheet.shapes.append(_rectangle(0, top, self.width, bottom, self.look.strip))
        label = self.look.label
        size = self.fit(label, self.strip * (0.62 if self.name == "emergency" else 0.52), self.width * 0.56)
        x, y = self.margin, self._base(top, bottom, size)
        if self.name != "emergency":
            sheet.texts.append(Text(x, y, label, size, True, ink, self.look.strip))
            return
        sign = min(self.strip * 0.78, self.width * 0.13)
        gap = sign * 0.35
        length = self.fonts.width(label, size, True)
        start = (self.width - length - 2 * (sign * 1.14 + gap)) / 2
        for left in (start, start + sign * 1.14 + gap + length + gap):
            sheet.shapes += warning(left, top + (self.strip - sign) / 2, sign, ink, self.look.strip)
        sheet.texts.append(Text(start + sign * 1.14 + gap, y, label, size, True, ink, self.look.strip))

    def _foot(self, sheet: Sheet, number: int, count: int) -> None:
        paged = count > 1
        high = self.foot(paged=paged)
        if not high:
            return
        size, base = max(9, round(high * 0.42), min(self.design.smallest, round(high * 0.62))), 0.0
        base = self._base(self.height - high, self.height, size)
        place = f"{number + 1}/{count}" if paged else ""
        right = self.width - self.margin - self.fonts.width(place, size, True)
        ink, ground = self.look.ink, self.look.ground
        if self.issuer:
            room = max(1.0, right - 2 * self.margin)
            least = max(round(size * 0.6), min(size, self.design.smallest))
            own = max(least, self.fit(self.issuer, size, room))  # a name in full before one in large letters
            line = _ellipsis(self.issuer, own, room, self.fonts)
            sheet.texts.append(Text(self.margin, base, line.text, own, True, ink, ground))
        if place:
            sheet.texts.append(Text(right, base, place, size, True, ink, ground))
        rule = self.height - high
        sheet.shapes.append(_rectangle(self.margin, rule, self.width - self.margin, rule + max(1, high * 0.04), ink))

    def fit(self, text: str, size: float, width: float) -> int:
        """The size, or the largest smaller one at which the text fits, with all that its letters overhang."""
        px = max(6, int(size))
        while px > 6 and self._room(text, px) > width:
            px -= 1
        return px

    def _room(self, text: str, px: int) -> float:
        """The width that a text in bold letters needs wherever it is centred: an "f" is wider than its advance."""
        advance = self.fonts.width(text, px, True)
        left, _, right, _ = self.fonts.bounds(text, px, True)
        return advance + 2 * max(0.0, -left, right - advance)

    @staticmethod
    def _base(top: float, bottom: float, size: int) -> float:
        """The base line that centres capitals without marks between `top` and `bottom`."""
        return (top + bottom) / 2 + size * 0.36


def warning(x: float, y: float, size: float, fill: Colour, hole: Colour) -> list[Shape]:
    """The sign ⚠ as shapes: a triangle `size` high with an exclamation mark cut out."""
    wide = size * 1.14
    middle = x + wide / 2
    bar, top, waist = size * 0.065, y + size * 0.34, y + size * 0.70
    return [
        Shape(((middle, y), (x + wide, y + size), (x, y + size)), fill),
        Shape(
            ((middle - bar, top), (middle + bar, top), (middle + bar * 0.55, waist), (middle - bar * 0.55, waist)), hole
        ),
        _rectangle(middle - bar * 0.85, y + size * 0.765, middle + bar * 0.85, y + size * 0.765 + bar * 1.7, hole),
    ]


def _rectangle(left: float, top: float, right: float, bottom: float, fill: Colour) -> Shape:
    return Shape(((left, top), (right, top), (right, bottom), (left, bottom)), fill)
