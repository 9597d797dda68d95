"""The seam between a board's process and its hardware. Types only."""

from __future__ import annotations

from typing import Any, Protocol


class BoardDriver(Protocol):
    """What `drivers.<name>_board.Board` offers; made with the members of the zone's `output` as keywords.

    The constructor raises OSError when the board cannot be had now, ValueError or TypeError when it never can.
    """

    width: int
    height: int
    rate_hz: float
    """Moving pictures a second that it takes at most."""

    def prepare(self, rgb: bytes, sha256: str) -> Any:
        """Make a still frame (RGB rows) ready to be shown soon; what comes back is for `show`. OSError."""

    def show(self, ready: Any) -> tuple[int, str | None]:
        """Put it on the board; CLOCK_MONOTONIC ns of that moment, and a file's name if there is one.

        No dark frame in between. OSError when it fails; the board then keeps its old frame.
        """

    def move(self, bgrx: bytes | memoryview, top: int = 0) -> None:
        """The next moment of a moving picture: rows of full width from row `top` on, 4 bytes a pixel. OSError."""

    def read(self) -> bytes:
        """What is on the output, read back from it: RGB rows. OSError."""

    def dim(self, percent: int) -> bool:
        """Set the display's own brightness. False: it has none, the pictures are to be dimmed."""

    def check(self) -> bool:
        """Whether the size is still the same. OSError: the display is away; called now and then."""

    def close(self) -> None:
        """The board goes dark."""
