"""Where everything of a page goes: from words to sheets of placed text and shapes. Draws nothing itself.

A sheet is data, so that a test can compare every text's box with the frame. Lengths are pixels, colours RGB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from agent.model.screen import Page
from agent.screen.text import clean, clusters, words

if TYPE_CHECKING:
    from collections.abc import Callable

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
MAX_SHEETS = 60
"""Most sheets of one page of text; the last one ends with an ellipsis."""


@dataclass(frozen=True)
class Look:
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


@dataclass(frozen=True)
class Text:
    """A line of text; `x`, `y` the start of its base line."""

    x: float
    y: float
    text: str
    size: int
    bold: bool
    ink: Colour
    ground: Colour


@dataclass(frozen=True)
class Shape:
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    fill: Colour


@dataclass
class Sheet:
    """One frame to be painted; a `picture` fills `area` (letterboxed) instead of text."""

    width: int
    height: int
    ground: Colour
    shapes: list[Shape] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    picture: str | None = None
    area: tuple[int, int, int, int] = (0, 0, 0, 0)


class Measure(Protocol):
    """What the layout must know of fonts."""

    def width(self, text: str, size: int, bold: bool) -> float:
        """Advance width."""


@dataclass(frozen=True)
class _Line:
    text: str
    size: int
    bold: bool
    head: bool = False

    @property
    def height(self) -> float:
        return self.size * LINE


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


def compose(page: Page, width: int, height: int, fonts: Measure) -> list[Sheet]:
    """The sheets that show `page` on a board of that size: one if its text fits readably, else several in turn."""
    look = LOOKS[page.class_]
    title, body = clean(page.title, 400), clean(page.body)
    mark, issuer = clean(page.mark, 60).replace("\n", " "), clean(page.issuer, 120).replace("\n", " ")
    frame = _Frame(width, height, look, page.class_, mark, issuer, fonts)
    if page.image is not None:
        sheet = frame.sheet(0, 1, bare=True)
        left, top, right, bottom = frame.area(paged=False, bare=True)
        sheet.picture = page.image
        sheet.area = (round(left), round(top), round(right), round(bottom))
        return [sheet]
    centred = page.class_ in {"emergency", "idle"} or not body
    lines = _one_sheet(title, body, frame, centred=centred)
    if lines is not None:
        sheet = frame.sheet(0, 1)
        frame.place(sheet, lines, centred=centred, paged=False)
        return [sheet]
    pages = _many_sheets(title, body, frame)
    sheets = []
    for number, part in enumerate(pages):
        sheet = frame.sheet(number, len(pages))
        frame.place(sheet, part, centred=False, paged=True)
        sheets.append(sheet)
    return sheets


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


@dataclass
class _Frame:
    """The fixed parts of a board: mark band on top, class strip, footer; and the area that is left."""

    width: int
    height: int
    look: Look
    name: Literal["idle", "normal", "priority", "emergency"]
    mark: str
    issuer: str
    fonts: Measure

    @property
    def small(self) -> bool:
        return self.height < 120 or self.width < 160

    @property
    def smallest(self) -> int:
        """The smallest size of running text that can be read across a street on this board."""
        return max(7, round(min(self.height / 15, self.width / 12)))

    def largest(self, *, body: bool) -> int:
        """The largest size of a title."""
        share = {"idle": 0.125, "emergency": 0.26 if body else 0.34}.get(self.name, 0.22 if body else 0.27)
        return round(self.height * share)

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
        return self.height * (0.17 if self.name == "emergency" else 0.12)

    def foot(self, *, paged: bool) -> float:
        if self.small or not (self.issuer or paged):
            return 0
        return self.height * 0.11

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
        size = self._fit(self.mark, self.band * 0.66, room)
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
        size = self._fit(label, self.strip * (0.62 if self.name == "emergency" else 0.52), self.width * 0.6)
        x, y = self.margin, self._base(top, bottom, size)
        if self.name != "emergency":
            sheet.texts.append(Text(x, y, label, size, True, ink, self.look.strip))
            return
        sign = self.strip * 0.78
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
        size, base = max(9, round(high * 0.42)), 0.0
        base = self._base(self.height - high, self.height, size)
        place = f"{number + 1}/{count}" if paged else ""
        right = self.width - self.margin - self.fonts.width(place, size, True)
        ink, ground = self.look.ink, self.look.ground
        if self.issuer:
            line = _ellipsis(self.issuer, size, max(1.0, right - 2 * self.margin), self.fonts)
            sheet.texts.append(Text(self.margin, base, line.text, size, True, ink, ground))
        if place:
            sheet.texts.append(Text(right, base, place, size, True, ink, ground))
        rule = self.height - high
        sheet.shapes.append(_rectangle(self.margin, rule, self.width - self.margin, rule + max(1, high * 0.04), ink))

    def _fit(self, text: str, size: float, width: float) -> int:
        px = max(6, int(size))
        while px > 6 and self.fonts.width(text, px, True) > width:
            px -= 1
        return px

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
