"""The seam between a board's process and its hardware. Types only."""

from __future__ import annotations

from typing import Protocol


class BoardDriver(Protocol):
    """What `drivers.<name>_board.Board` offers; made with the members of the zone's `output` as keywords.

    The constructor raises OSError, ValueError or TypeError when the board cannot be had.
    """

    width: int
    height: int

    def show(self, rgb: bytes, sha256: str) -> tuple[int, str | None]:
        """Put RGB rows on the board; CLOCK_MONOTONIC ns of that moment, and a file's name if there is one.

        No dark frame in between. OSError when it fails; the board then keeps its old frame.
        """

    def close(self) -> None:
        """The board goes dark."""
