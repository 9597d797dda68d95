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
from agent.screen.layout import MAX_SHEETS, Sheet, compose
from agent.screen.painter import PictureError, paint
from agent.screen.text import MAX_CHARACTERS

DWELL_S = 6.0
SHORTEST_DWELL_S = 3.0
MEMORY = 768 * 2**20
"""Address space of the child; a picture that wants more fails as damaged."""
CPU_S = 30


class _NoFonts:
    """Measures for a machine without fonts: colours and signs still show the class."""

    def width(self, text: str, size: int, bold: bool) -> float:
        return 0.0


def work(line: bytes, width: int, height: int, out: int, *, skip: int = 0, shown: int = 0) -> None:
    """Paint the command in `line` and write its messages to `out`.

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
        except msgspec.DecodeError as error:
            say("fault", what="command", detail=str(error))
            say("end")
            return
        say("begin")
        for message in _messages(command, width, height, skip, shown):
            say(*message[:2], **message[2])
        say("end")


_Message = tuple[str, bytes, dict[str, Any]]


def _messages(command: Show | Rest, width: int, height: int, skip: int, shown: int) -> Iterator[_Message]:
    fonts: Fonts | None = None
    try:
        fonts = Fonts()
    except (NoFontError, OSError) as error:
        yield "fault", b"", {"what": "font", "detail": str(error)}
    if isinstance(command, Rest):
        sheet = Sheet(width, height, (0, 0, 0))
        if not command.dark:
            sheet = compose(Page(title=command.title, body=command.body), width, height, fonts or _NoFonts())[0]
        yield _frame(paint(sheet, fonts), None, None)
        return
    for number, page in enumerate(command.pages):
        if number < skip:
            continue
        yield "page", b"", {"n": number}
        if len(page.body) > MAX_CHARACTERS:
            yield "fault", b"", {"what": "cut", "detail": f"page {number}: longer than {MAX_CHARACTERS} characters"}
        sheets = compose(page, width, height, fonts or _NoFonts())
        if len(sheets) == MAX_SHEETS:
            yield "fault", b"", {"what": "cut", "detail": f"page {number}: more than {MAX_SHEETS} sheets"}
        dwell = max(SHORTEST_DWELL_S, page.dwell_s / len(sheets)) if page.dwell_s and len(sheets) > 1 else page.dwell_s
        for sheet in sheets:
            try:
                image = paint(sheet, fonts)
            except PictureError as error:
                yield "fault", b"", {"what": "picture", "detail": f"page {number}: {error}"}
                continue
            shown += 1
            yield _frame(image, dwell, command.play)
    if not shown:
        # Nothing of it could be painted: its title at least takes the old frame's place.
        page = command.pages[0] if command.pages else Page(title="")
        plain = msgspec.structs.replace(page, image=None)
        for sheet in compose(plain, width, height, fonts or _NoFonts()):
            yield _frame(paint(sheet, fonts), None, command.play)


def _frame(image: Image.Image, dwell: float | None, play: str | None) -> _Message:
    rgb = image.tobytes()
    packed = zlib.compress(rgb, 1)
    sha256 = hashlib.sha256(rgb).hexdigest()
    return "frame", packed, {"bytes": len(packed), "sha256": sha256, "dwell_s": dwell or DWELL_S, "play": play}
