"""The README's table of measured figures, made from docs/bench.json. `scripts/readme-numbers` runs it.

docs/bench.json is what `scripts/bench --json docs/bench.json` leaves (docs/contract.md, "What a check can read").
Figures that are not in it say "not measured yet"; one that misses its bound stays, with the bench's own note.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BENCH = ROOT / "docs" / "bench.json"
BEGIN = "<!-- numbers: made by scripts/readme-numbers from docs/bench.json; do not type here -->"
END = "<!-- /numbers -->"
PEERS = ("mpv", "mpd")
"""Columns of the table; other programs in the file follow. A row's `peer` is "program version" or "…, in which way"."""
NOT_YET = "not measured yet"
CITED = "cited"
"""The way of a peer that was not measured in the same run; its note says where the figure is from."""

Rows = Sequence[Mapping[str, Any]]


class Line(NamedTuple):
    """A row of the table: the figure's name in the file, what it is, and which statistic counts."""

    name: str
    what: str
    statistic: str


LINES = (
    Line("start_error_ms", "Scheduled programme: start error at the sink", "p99"),
    Line("command_to_sample_ms", "Prepared programme: command → first sample", "median"),
    Line("order_to_sample_ms", "Province's emergency: MQTT packet → first sample, everything busy", "p99"),
    Line("ready_s", "Process start → ready (ours: buttons armed)", "median"),
    Line("pss_playing_mb", "Memory while a programme plays (PSS, all processes)", "median"),
    Line("pss_idle_mb", "Memory when idle (PSS, all processes)", "median"),
)


class BenchError(ValueError):
    """docs/bench.json is not what scripts/bench writes; the message says where."""


def read(path: Path = BENCH) -> Rows:
    """The rows of the file; none when it is not there yet."""
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise BenchError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise BenchError(f"{path}: a list of objects with a name is expected")
    return rows


def figure(value: float) -> str:
    """A number with about three digits, never in powers of ten."""
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:.{places}f}"


def table(rows: Rows) -> str:
    """The table in Markdown; beneath it the reasons of what misses its bound, could not be measured or is cited."""
    peers = {program: program for program in PEERS}
    for row in rows:
        if row.get("peer") and row["name"] in {line.name for line in LINES}:
            version = str(row["peer"]).partition(",")[0]
            peers[version.partition(" ")[0]] = version
    head = ["", "**Trạm**", "bound", *peers.values()]
    out = [_row(head), _row(["---"] * len(head))]
    notes = []
    for line in LINES:
        found = [row for row in rows if row["name"] == line.name]
        ours = next((row for row in found if not row.get("peer")), None)
        cells = [f"**{_cell(ours, line)}**" if ours else NOT_YET, _bound(ours)]
        cells += [_peer(found, program, line) for program in peers]
        out.append(_row([line.what, *cells]))
        notes += [f"- {row['peer']}: {row['note']}" for row in found if str(row.get("peer")).endswith(f", {CITED}")]
        if ours and not _kept(ours, line):
            notes.append(f"- {line.what}: bound not reached. {ours.get('note') or ''}".rstrip())
    return "\n".join([*out, *(["", *notes] if notes else [])])


def _peer(found: Rows, program: str, line: Line) -> str:
    """What a program reached, in each way in which it was measured."""
    cells = []
    for row in found:
        version, _, way = str(row.get("peer") or "").partition(", ")
        if version.partition(" ")[0] == program:
            cells.append(f"{way}: {_cell(row, line)}" if way else _cell(row, line))
    return "; ".join(cells) or "–"


def _cell(row: Mapping[str, Any], line: Line) -> str:
    value = row.get(line.statistic)
    if value is None:
        return "could not be measured"
    return f"{figure(float(value))} {_unit(row)} ({line.statistic} of {row['n']})"


def _bound(row: Mapping[str, Any] | None) -> str:
    if row is None or row.get("target") is None:
        return "–"
    return f"≤ {row['target']:g} {_unit(row)}"


def _kept(row: Mapping[str, Any], line: Line) -> bool:
    value, target = row.get(line.statistic), row.get("target")
    return value is not None and (target is None or float(value) <= float(target))


def _unit(row: Mapping[str, Any]) -> str:
    return str(row.get("unit", ""))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def filled(readme: str, rows: Rows) -> str:
    """The README's text with the table between its markers. BenchError when the markers are gone."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{README.name} has lost its markers {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def main() -> int:
    """Write the table into the README."""
    try:
        README.write_text(filled(README.read_text("utf-8"), read()), "utf-8")
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
