"""What one sees while the demonstration runs: a line for each event, and below them a live picture of the station."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from zoneinfo import ZoneInfo

from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from province.demo.proof import TITLES, Check

ICONS: dict[str, tuple[str, str]] = {
    "start": ("▶", "green"),
    "end": ("■", "green"),
    "order": ("✉", "cyan"),
    "accept": ("✓", "cyan"),
    "receipt": ("✓", "green"),
    "relay": ("◉", "yellow"),
    "link": ("⇅", "magenta"),
    "press": ("●", "red"),
    "emergency": ("▲", "bold red"),
    "attack": ("✗", "magenta"),
    "refused": ("✗", "magenta"),
    "board": ("▤", "blue"),
    "silence": ("∅", "bold"),
    "alarm": ("!", "bold red"),
}
"""Icon and colour of the words in `what`; any other word gets a dot."""
CLASS_STYLES = {"normal": "blue", "priority": "yellow", "emergency": "bold red"}
METER = 24
FLOOR_DBFS = -60.0


class ZoneView(Struct, frozen=True, kw_only=True):
    """One zone in the live picture. `owner`: title of what plays, "" for none; `level_dbfs` None: silence, or a screen.

    `power`: "off", "warming", "on", "cooling", already in the reader's language.
    """

    zone: str
    owner: str = ""
    class_: str = "normal"
    level_dbfs: float | None = None
    power: str = ""


class Terminal:
    """Lines that stay and a status that is redrawn below them; only the lines when the output is no terminal.

    Takes text that is already translated, and shows it as text: no markup, no control characters. Not thread-safe.
    """

    def __init__(
        self, language: str = "vi", timezone: str = "Asia/Ho_Chi_Minh", console: Console | None = None
    ) -> None:
        self._console = console or Console(highlight=False)
        self._zone = ZoneInfo(timezone)
        self._vietnamese = language == "vi"
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Terminal:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def line(self, at: float, what: str, text: str, figure: str = "") -> None:
        """One event: when (epoch seconds), what kind (`ICONS`), what happened, and what was measured of it."""
        icon, style = ICONS.get(what, ("·", "dim"))
        line = Text(f"{datetime.fromtimestamp(at, self._zone):%H:%M:%S.%f}"[:12], style="dim")
        line.append(f"  {icon} ", style=style).append(_plain(text))
        if figure:
            line.append("  ").append(_plain(figure), style="bold cyan")
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def status(self, zones: Sequence[ZoneView], relays: dict[str, bool], link: bool) -> None:
        """Redraw the picture below the lines. Does nothing when the output is no terminal."""
        if self._live.is_started:
            self._live.update(self._picture(zones, relays, link=link), refresh=True)

    def table(self, checks: Sequence[Check]) -> None:
        """The checks and how many held."""
        table = Table(show_edge=False, pad_edge=False, header_style="dim", expand=False)
        table.add_column("")
        table.add_column("Phép kiểm" if self._vietnamese else "Check", no_wrap=True)
        table.add_column("Đo được" if self._vietnamese else "Measured", overflow="fold")
        for check in checks:
            title = TITLES.get(check.name, (check.name, check.name))[0 if self._vietnamese else 1]
            detail = check.vi if self._vietnamese and check.vi else check.detail
            mark = Text("✓", style="bold green") if check.ok else Text("✗", style="bold red")
            table.add_row(mark, Text(title), Text(_plain(detail)))
        self._console.print(table)
        held = sum(check.ok for check in checks)
        words = "phép kiểm đạt" if self._vietnamese else "checks held"
        style = "bold green" if held == len(checks) else "bold red"
        self._console.print(Text(f"{held}/{len(checks)} {words}", style=style))

    def _picture(self, zones: Sequence[ZoneView], relays: dict[str, bool], *, link: bool) -> Group:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, justify="right", min_width=6)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_column(no_wrap=True, style="dim")
        for view in zones:
            level = "" if view.level_dbfs is None else f"{view.level_dbfs:.0f} dB"
            owner = Text(_plain(view.owner) or "·", style=CLASS_STYLES.get(view.class_, "") if view.owner else "dim")
            grid.add_row(Text(view.zone), _meter(view.level_dbfs), level, owner, Text(view.power))
        foot = Text()
        for relay, on in relays.items():
            foot.append("◉ " if on else "○ ", style="yellow" if on else "dim").append(f"{_plain(relay)}   ")
        up, down = ("tỉnh: có kết nối", "tỉnh: MẤT KẾT NỐI") if self._vietnamese else ("link up", "LINK DOWN")
        foot.append("⇅ " + (up if link else down), style="green" if link else "bold red")
        return Group(Text(""), grid, foot)


def _meter(level_dbfs: float | None) -> Text:
    """A bar from -60 to 0 dBFS; green, yellow from -18, red from -6."""
    share = 0.0 if level_dbfs is None or math.isnan(level_dbfs) else 1 - level_dbfs / FLOOR_DBFS
    filled = round(min(max(share, 0.0), 1.0) * METER)
    bar = Text()
    for cell in range(METER):
        at = FLOOR_DBFS * (1 - cell / METER)
        colour = "green" if at < -18 else "yellow" if at < -6 else "red"
        bar.append("█" if cell < filled else "─", style=colour if cell < filled else "dim")
    return bar


def _plain(text: str) -> str:
    """Text without what would move a terminal's cursor or change its colours."""
    return "".join(char if char.isprintable() else " " for char in text)
