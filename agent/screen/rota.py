"""Which frame is on the board, and until when. Pure: time is an argument.

Lives in the resident process: plain classes, since `dataclasses` and `typing` cost it 2 MB.
"""

from __future__ import annotations

LATE_S = 0.5
"""A change that comes later than this moves those after it; an earlier one does not, so that errors do not add up."""


class Band:
    """A running line: `strip` (zlib over RGB rows, `width` pixels wide) moves through `rows` full rows from `top` on.

    `speed`: pixels a second.
    """

    __slots__ = ("rows", "speed", "strip", "top", "width")

    def __init__(self, top: int, rows: int, width: int, speed: float, strip: bytes) -> None:
        self.top, self.rows, self.width, self.speed, self.strip = top, rows, width, speed, strip


class Frame:
    """A painted frame: `packed` is zlib over RGB rows, `sha256` of those rows. `page` counts the command's pages.

    `film`: path of a film that plays in its place; the frame itself is shown when that cannot be decoded.
    """

    __slots__ = ("band", "dwell_s", "film", "packed", "page", "play", "sha256")

    def __init__(
        self,
        packed: bytes,
        sha256: str,
        dwell_s: float,
        play: str | None,
        page: int = 0,
        film: str | None = None,
        band: Band | None = None,
    ) -> None:
        self.packed, self.sha256, self.dwell_s, self.play = packed, sha256, dwell_s, play
        self.page, self.film, self.band = page, film, band


class Rota:
    """The frames of one command, shown in turn for ever. Frames may still arrive while the first ones are shown."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.complete = False
        self._at = -1
        self._until = 0.0
        self._first, self._last = 0, 1 << 30

    def focus(self, first: int, last: int) -> None:
        """From now on only the pages from `first` to `last`."""
        self._first, self._last = first, last

    def turn(self, now: float) -> Frame | None:
        """The frame to put on the board now, or None while the one on it stays."""
        if self._wanted(self._at) and now < self._until:
            return None
        following = self._following()
        if following is None:
            return None
        steady = self._wanted(self._at) and now - self._until < LATE_S
        self._until = (self._until if steady else now) + self.frames[following].dwell_s
        if following == self._at and self.frames[following].film is None:
            return None
        self._at = following
        return self.frames[following]

    def ends(self, at: float) -> None:
        """What is on ends then, and not at its time: a film, which may begin late and end early."""
        self._until = at

    def ahead(self, now: float, seconds: float) -> Frame | None:
        """The frame whose turn comes within so many seconds, to be made ready."""
        if not self._wanted(self._at) or self._until - now > seconds:
            return None
        following = self._following()
        return None if following is None or following == self._at else self.frames[following]

    def due(self) -> float | None:
        """When to ask again; None: nothing changes unless a frame arrives."""
        following = self._following()
        if following is None or (following == self._at and self.frames[following].film is None):
            return None
        return self._until if self._wanted(self._at) else 0.0

    def trim(self) -> None:
        """A single frame that is on the board needs no keeping."""
        if self.complete and len(self.frames) == 1 and self._at == 0 and self.frames[0].film is None:
            self.frames[0].packed = b""

    @property
    def seconds(self) -> float:
        """How long all frames take."""
        return sum(frame.dwell_s for frame in self.frames)

    def _wanted(self, at: int) -> bool:
        return at >= 0 and self._first <= self.frames[at].page <= self._last

    def _following(self) -> int | None:
        """The frame after the one that is on; the first of the wanted ones when that is not wanted."""
        start = self._at + 1 if self._wanted(self._at) else 0
        later = [i for i in range(start, len(self.frames)) if self._wanted(i)]
        if later:
            return later[0]
        if not self.complete:
            return None
        return next((i for i in range(start) if self._wanted(i)), None)
