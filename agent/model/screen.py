"""What the agent and a board's process say to each other: JSON lines on the child's stdin and stdout."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Page(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a bulletin: text, or a picture or film from the path of an already verified file.

    `mark` is shown small above the title ("DIỄN TẬP"). `dwell_s`: how long it stays; a text that takes several sheets
    shares it out, a film ends there at the latest.
    """

    title: str
    body: str = ""
    class_: Literal["idle", "normal", "priority", "emergency"] = "idle"
    mark: str = ""
    issuer: str = ""
    image: str | None = None
    film: str | None = None
    dwell_s: float | None = None


class Show(Struct, frozen=True, tag_field="do", tag="show", omit_defaults=True):
    """Show pages in turn, without a black frame between, until the next command. `play` comes back in `Shown`.

    At `until_ns` (CLOCK_MONOTONIC) the board takes them down by itself and shows its newest `Rest`.
    """

    play: str
    pages: list[Page]
    until_ns: int | None = None


class Turn(Struct, frozen=True, tag_field="do", tag="turn", omit_defaults=True):
    """From now on only the pages `first` to `last` of that play, counted from 0: what they say is being heard."""

    play: str
    first: int
    last: int


class Rest(Struct, frozen=True, tag_field="do", tag="rest", kw_only=True, omit_defaults=True):
    """Back to the default slide, or dark. `image`: path of a picture in place of the title."""

    title: str = ""
    body: str = ""
    image: str | None = None
    clock: str = ""
    date: str = ""
    playing: str = ""
    dark: bool = False


class Dim(Struct, frozen=True, tag_field="do", tag="dim", omit_defaults=True):
    """Brightness from now on, in percent of the full one."""

    percent: int


class Capture(Struct, frozen=True, tag_field="do", tag="capture", omit_defaults=True):
    """Read back what is on the output; answered by `Captured`."""

    token: int


class Shown(Struct, frozen=True, tag_field="ev", tag="shown", kw_only=True, omit_defaults=True):
    """A frame is on the output. `at_ns` CLOCK_MONOTONIC; `sha256` of the pixels sent to it (RGB rows).

    Of a film it is the first frame.
    """

    at_ns: int
    sha256: str
    play: str | None = None
    file: str | None = None
    zone: str | None = None
    """Filled in by the agent's side; the child knows no zones."""


class Lasts(Struct, frozen=True, tag_field="ev", tag="lasts", kw_only=True, omit_defaults=True):
    """All of a play is painted, and takes that long to be seen once."""

    play: str
    seconds: float
    zone: str | None = None


class Dropped(Struct, frozen=True, tag_field="ev", tag="dropped", kw_only=True, omit_defaults=True):
    """A film is over: how many frames were shown, and how many came too late."""

    play: str | None = None
    shown: int = 0
    lost: int = 0
    zone: str | None = None


class Captured(Struct, frozen=True, tag_field="ev", tag="captured", kw_only=True, omit_defaults=True):
    """The answer to `Capture`: a small PNG, base64; empty when the output could not be read, and `detail` says why."""

    token: int
    png: str = ""
    detail: str = ""
    zone: str | None = None


class ScreenFault(Struct, frozen=True, tag_field="ev", tag="fault", kw_only=True, omit_defaults=True):
    """The board could not show something. `on` False: that is over."""

    what: str
    detail: str
    zone: str | None = None
    on: bool = True


ScreenCommand = Show | Turn | Rest | Dim | Capture
ScreenEvent = Shown | Lasts | Dropped | Captured | ScreenFault
