"""A benchmark's result (CONTRACT section 9): the row, its statistics, the table for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct

from province.bench.table import BENCHMARKS

COLUMNS = ("name", "unit", "n", "median", "p99", "min", "max", "target")


class Row(Struct, frozen=True):
    """One measured figure. All values have the row's unit; they are None where nothing could be measured (n = 0).

    `target` is the greatest value allowed, of the statistic that `note` names; None for peers, and where there is none.
    """

    name: str
    unit: str
    n: int
    median: float | None
    p99: float | None
    min: float | None
    max: float | None
    target: float | None
    peer: str | None
    note: str

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none, False where nothing was measured."""
        target = BENCHMARKS[self.name]
        if self.target is None:
            return None
        judged = {"median": self.median, "p99": self.p99, "max": self.max}[target.judged]
        if judged is None or self.median is None:
            return False
        return judged <= self.target and (target.median is None or self.median <= target.median)


def row(name: str, values: Iterable[float], note: str = "", *, peer: str | None = None) -> Row:
    """Sum up measurements. p99 is by nearest rank: of fewer than 100 values it is the greatest."""
    target = BENCHMARKS[name]
    found = sorted(values)
    median = least = p99 = greatest = None
    if found:
        median, least, greatest = round(statistics.median(found), 4), round(found[0], 4), round(found[-1], 4)
        p99 = round(found[min(len(found) - 1, -(-99 * len(found) // 100) - 1)], 4)
    bound = None if peer else target.bound
    said = [note] if note else []
    if bound is not None:
        also = "" if target.median is None else f", median at most {target.median:g}"
        said.insert(0, f"target: {target.judged} at most {bound:g}{also}")
    return Row(name, target.unit, len(found), median, p99, least, greatest, bound, peer, "; ".join(said))


def table(rows: Sequence[Row]) -> str:
    """The rows for people: figures first, then each row's note."""
    cells = [[*COLUMNS, "", "peer"]]
    for r in rows:
        verdict = {None: "", True: "reached", False: "MISSED"}[r.met]
        figures = [
            "–" if v is None else f"{v:.4g}" if v < 1000 else f"{v:.0f}" for v in (r.median, r.p99, r.min, r.max)
        ]
        bound = "" if r.target is None else f"≤ {r.target:g} {BENCHMARKS[r.name].judged}"
        cells.append([r.name, r.unit, str(r.n), *figures, bound, verdict, r.peer or ""])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = []
    for line in cells:
        padded = [c.rjust(w) if 2 <= i <= 6 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "─" * max(map(len, lines)))
    lines.append("")
    lines += [f"{r.name}{f' ({r.peer})' if r.peer else ''}: {r.note}" for r in rows if r.note]
    return "\n".join(lines)
