"""Tables for people: drawn by rich on a terminal, plain aligned text when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

Row = Sequence[object]


def table(head: Sequence[str], rows: Sequence[Row], title: str = "", styles: Sequence[str | None] = ()) -> None:
    """Print a table. `styles`, one a row, colour it on a terminal. Empty cells for None.

    Widths are those of the characters on the screen: Vietnamese letters written with combining marks count once.
    """
    from rich.cells import cell_len

    cells = [[_cell(c) for c in row] for row in rows]
    if sys.stdout.isatty():
        _rich(head, cells, title, styles)
        return
    if title:
        print(title)
    widths = [max(cell_len(r[i]) for r in [list(head), *cells]) for i in range(len(head))]
    for row in [list(head), *cells]:
        print("  ".join(c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=True)).rstrip())


def _rich(head: Sequence[str], cells: list[list[str]], title: str, styles: Sequence[str | None]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Cell

    drawn = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in head:
        drawn.add_column(name, overflow="fold")
    for i, row in enumerate(cells):
        drawn.add_row(*(Cell(c) for c in row), style=styles[i] if i < len(styles) else None)
    Console(highlight=False).print(drawn)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        value = ", ".join(str(v) for v in value)
    return safe(str(value))


def safe(text: str) -> str:
    """One line without control characters: titles come from outside and must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def json(document: Any) -> None:
    """Print a document for a machine."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
