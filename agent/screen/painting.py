"""The short-lived child of a board's process: one command in, its frames out through a pipe, then gone.

It alone loads Pillow, the fonts and foreign pictures. It may crash, hang or eat its memory limit: that costs one page.
Each message is a line of JSON with `m`, a `frame` followed by its bytes:
`begin` · `page {n}` · `frame {bytes, sha256, dwell_s, play}` · `fault {what, detail}` · `end`.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from PIL import Image

from agent.model.screen import Page, Rest, Show
from agent.screen.fonts import Fonts, NoFontError
from agent.screen.layout import MAX_SHEETS, Design, Measure, Sheet, compose, rest
from agent.screen.painter import PictureError, paint, strip
from agent.screen.text import MAX_CHARACTERS
from drivers import mp4

DWELL_S = 6.0
SHORTEST_DWELL_S = 3.0
MEMORY = 768 * 2**20
"""Address space of the child; a picture that wants more fails as damaged."""
CPU_S = 30


class _NoFonts:
    """Measures for a machine without fonts: colours and signs still show the class."""

    def width(self, text: str, size: int, bold: bool) -> float:
        return 0.0

    def bounds(self, text: str, size: int, bold: bool) -> tuple[float, float, float, float]:
        return 0.0, 0.0, 0.0, 0.0


def work(
    line: bytes, width: int, height: int, out: int, look: dict[str, Any], *, skip: int = 0, shown: int = 0
) -> None:
    """Paint the command in `line` and write its messages to `out`. `look`: the zone's `board` of the configuration.

    After a crash the next child leaves out the first `skip` pages; `shown` frames are already on their way.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    with os.fdopen(out, "wb") as pipe:

        def say(m: str, payload: bytes = b"", **fields: Any) -> None:
            pipe.write(json.dumps({"m": m, **fields}).encode() + b"\n" + payload)
            pipe.flush()

        try:
            command = msgspec.json.decode(line, type=Show | Rest)
            design = msgspec.convert(look, Design)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            say("fault", what="command", detail=str(error))
            say("end")
            return
        say("begin")
        for message in Painting(width, height, design).messages(command, skip, shown):
            say(*message[:2], **message[2])
        say("end")


_Message = tuple[str, bytes, dict[str, Any]]


class Painting:
    """One command on its way to frames."""

    def __init__(self, width: int, height: int, design: Design) -> None:
        self._size = width, height
        self._design = design
        self._fonts: Fonts | None = None

    @property
    def _measure(self) -> Measure:
        return self._fonts or _NoFonts()

    def messages(self, command: Show | Rest, skip: int, shown: int) -> Iterator[_Message]:
        """What the parent is told, in order."""
        try:
            self._fonts = Fonts()
        except (NoFontError, OSError) as error:
            yield _fault("font", str(error))
        if isinstance(command, Rest):
            yield from self._rest(command)
            return
        for number, page in enumerate(command.pages):
            if number >= skip:
                yield "page", b"", {"n": number}
                for message in self._page(number, page, command.play):
                    shown += message[0] == "frame"
                    yield message
        if not shown:
            # Nothing of it could be painted: its title at least takes the old frame's place.
            page = command.pages[0] if command.pages else Page(title="")
            yield from self._page(0, msgspec.structs.replace(page, image=None, film=None), command.play)

    def _rest(self, command: Rest) -> Iterator[_Message]:
        sheet = rest(command, *self._size, self._measure, self._design)
        try:
            yield self._frame(sheet, None, None, 0)
        except PictureError as error:
            yield _fault("picture", f"default slide: {error}")
            plain = msgspec.structs.replace(command, image=None)
            yield self._frame(rest(plain, *self._size, self._measure, self._design), None, None, 0)

    def _page(self, number: int, page: Page, play: str) -> Iterator[_Message]:
        if len(page.body) > MAX_CHARACTERS:
            yield _fault("cut", f"page {number}: longer than {MAX_CHARACTERS} characters")
        sheets = compose(page, *self._size, self._measure, self._design)
        if len(sheets) == MAX_SHEETS:
            yield _fault("cut", f"page {number}: more than {MAX_SHEETS} sheets")
        dwell = page.dwell_s
        if dwell and len(sheets) > 1:
            dwell = max(SHORTEST_DWELL_S, dwell / len(sheets))
        for sheet in sheets:
            try:
                yield self._frame(sheet, dwell, play, number, page.film)
            except PictureError as error:
                yield _fault("picture", f"page {number}: {error}")

    def _frame(
        self, sheet: Sheet, dwell: float | None, play: str | None, number: int, film: str | None = None
    ) -> _Message:
        rgb = paint(sheet, self._fonts).tobytes()
        packed = zlib.compress(rgb, 1)
        told: dict[str, Any] = {"sha256": hashlib.sha256(rgb).hexdigest(), "play": play, "page": number}
        least = 0.0
        if film is not None:
            told["film"] = film
            least = _film_s(film)
        if sheet.running is not None and self._fonts is not None:
            image = strip(sheet, sheet.running, self._fonts)
            line = zlib.compress(image.tobytes(), 1)
            told["band"] = {
                "top": sheet.running.top,
                "rows": sheet.running.rows,
                "width": image.width,
                "speed": sheet.running.speed,
                "bytes": len(line),
            }
            packed += line
            least = image.width / sheet.running.speed
        return "frame", packed, {**told, "bytes": len(packed), "dwell_s": dwell or least or DWELL_S}


FILM_S = 3600.0
"""No film plays longer than this, whatever it says."""


def _film_s(path: str) -> float:
    """How long a film without a time of its own takes: it plays to its end, which may come a little late."""
    try:
        with open(path, "rb") as file:
            found = mp4.picture(file)
    except OSError:
        found = None
    return min(FILM_S, found.seconds + 2.0) if found else DWELL_S


def _fault(what: str, detail: str) -> _Message:
    return "fault", b"", {"what": what, "detail": detail}


THUMBNAIL = (320, 320)


def thumbnail(rgb: bytes, width: int, height: int) -> bytes:
    """A small PNG of these pixels."""
    import io

    image = Image.frombytes("RGB", (width, height), rgb)
    image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    image = image.quantize(64)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
