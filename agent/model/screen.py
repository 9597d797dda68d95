"""What the agent and a board's process say to each other: JSON lines on the child's stdin and stdout."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Page(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One text page of a bulletin. `mark` is shown small above the title ("DIỄN TẬP")."""

    title: str
    body: str = ""
    class_: Literal["idle", "normal", "priority", "emergency"] = "idle"
    mark: str = ""
    issuer: str = ""
    image: str | None = None
    """Path of an already verified picture to show instead of text."""
    dwell_s: float | None = None


class Show(Struct, frozen=True, tag_field="do", tag="show", kw_only=True, omit_defaults=True):
    """Show pages in turn, without a black frame between, until the next command. `play` comes back in `Shown`."""

    play: str
    pages: list[Page]


class Rest(Struct, frozen=True, tag_field="do", tag="rest", kw_only=True, omit_defaults=True):
    """Back to the default slide (title and body below a clock-free header), or dark."""

    title: str = ""
    body: str = ""
    dark: bool = False


class Shown(Struct, frozen=True, tag_field="ev", tag="shown", kw_only=True, omit_defaults=True):
    """A frame is on the output. `at_ns` CLOCK_MONOTONIC; `sha256` of the picture's pixels (RGB rows)."""

    at_ns: int
    sha256: str
    play: str | None = None
    file: str | None = None
    zone: str | None = None
    """Filled in by the agent's side; the child knows no zones."""


class ScreenFault(Struct, frozen=True, tag_field="ev", tag="fault", kw_only=True, omit_defaults=True):
    """The board could not show something."""

    what: str
    detail: str
    zone: str | None = None


ScreenCommand = Show | Rest
ScreenEvent = Shown | ScreenFault
