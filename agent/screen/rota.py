"""Which frame is on the board, and until when. Pure: time is an argument.

Lives in the resident process: plain classes, since `dataclasses` and `typing` cost it 2 MB.
"""

from __future__ import annotations


class Frame:
    """A painted frame: `packed` is zlib over RGB rows, `sha256` of those rows."""

    __slots__ = ("dwell_s", "packed", "play", "sha256")

    def __init__(self, packed: bytes, sha256: str, dwell_s: float, play: str | None) -> None:
        self.packed, self.sha256, self.dwell_s, self.play = packed, sha256, dwell_s, play


class Rota:
    """The frames of one command, shown in turn for ever. Frames may still arrive while the first ones are shown."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.complete = False
        self._at = -1
        self._until = 0.0

    def turn(self, now: float) -> Frame | None:
        """The frame to put on the board now, or None while the one on it stays."""
        if self._at < 0:
            following = 0
        elif now < self._until:
            return None
        else:
            following = self._at + 1
            if following >= len(self.frames) and self.complete:
                following = 0
        if following >= len(self.frames) or following == self._at:
            return None
        self._at, self._until = following, now + self.frames[following].dwell_s
        return self.frames[following]

    def due(self) -> float | None:
        """When to ask again; None: nothing changes unless a frame arrives."""
        if not self.frames or (len(self.frames) == 1 and self._at == 0):
            return None
        if self._at + 1 >= len(self.frames) and not self.complete:
            return None
        return self._until

    def trim(self) -> None:
        """A single frame that is on the board needs no keeping."""
        if self.complete and len(self.frames) == 1 and self._at == 0:
            self.frames[0].packed = b""
