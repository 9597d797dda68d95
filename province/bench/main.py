"""`scripts/bench [NAME …] --json FILE`: measure, print a table, write the rows (CONTRACT section 9)."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import msgspec

import agent
import drivers
from province.bench import idle, peers, station
from province.bench.rows import Row, row, table
from province.bench.table import BENCHMARKS, IDLE, found
from province.bench.voice_rig import BenchError
from province.broker import BrokerError
from province.demo.sounds import SoundError
from province.demo.stage import StageError
from province.publish import LinkError

TROUBLE = (BenchError, StageError, BrokerError, SoundError, LinkError, OSError)


def tell(what: str) -> None:
    """Progress, for people."""
    print(what, file=sys.stderr, flush=True)


def compile_all() -> None:
    """Bytecode as an installed station has it: compiling at each start would cost time and some 5 MB a process."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (agent, drivers):
        for folder in package.__path__:
            compileall.compile_dir(folder, quiet=2)


def work_folder() -> Path:
    """On a disk if possible: `/tmp` is memory on Debian 13, and then nothing is ever written or synced."""
    for base in ("/var/tmp", None):  # noqa: S108 - mkdtemp makes it ours alone
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="tram-bench-", dir=base))
    raise click.ClickException("there is no folder for temporary files that can be written")


def measure(names: Sequence[str], folder: Path, idle_minutes: float, most: int | None = None) -> list[Row]:
    """The rows of these benchmarks, peers included, in the order of the table. `most` bounds every n (for tests).

    A benchmark that cannot be made has a row with n = 0 that says why.
    """
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        resting: idle.Idle | None = None
        asked = [name for name, b in BENCHMARKS.items() if name in names and b.by == IDLE]
        if asked:
            tell(f"idle station: {idle.SETTLE_S:.0f} s to settle, then left alone for {idle_minutes:g} min")
            try:
                resting = stack.enter_context(idle.Idle(folder / "idle", idle_minutes))
            except TROUBLE as error:
                rows += [row(name, [], f"not measured: {error}") for name in asked]
        rows += _others(names, folder, most)
        if resting is not None:
            tell("idle station: the rest of its time")
            rows += [r for r in resting.rows() if r.name in asked]
    order = list(BENCHMARKS)
    return sorted(rows, key=lambda r: (order.index(r.name), r.peer or ""))


def _others(names: Sequence[str], folder: Path, most: int | None) -> list[Row]:
    rows: list[Row] = []
    sound: Path | None = None
    done = {IDLE}
    for name, benchmark in BENCHMARKS.items():
        if name not in names:
            continue
        if benchmark.by not in done:
            done.add(benchmark.by)
            together = [n for n in names if BENCHMARKS[n].by == benchmark.by]
            rows += _one(together, partial(found(benchmark.by), folder / name, _least(benchmark.n, most)))
        if benchmark.peers is not None:
            place = folder / f"{name}-peers"
            place.mkdir(parents=True)
            sound = sound or station.minute(place)
            for program in peers.missing():
                tell(f"  {program} is not installed: its rows are left out")
            act = partial(found(benchmark.peers), place, sound, _least(benchmark.peers_n, most))
            rows += _one([f"{name} of the peers"], act)
    return [r for r in rows if r.name in names]


def _least(n: int, most: int | None) -> int:
    return n if most is None else min(n, most)


def _one(names: Sequence[str], act: Callable[[], list[Row]]) -> list[Row]:
    begun = time.monotonic()
    tell(", ".join(names))
    try:
        rows = act()
    except TROUBLE as error:
        tell(f"  not measured: {error}")
        return [row(name, [], f"not measured: {error}") for name in names if name in BENCHMARKS]
    tell(f"  {time.monotonic() - begun:.0f} s")
    return rows


@click.command("bench")
@click.argument("names", nargs=-1, metavar="[NAME …]", type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here.")
@click.option("--idle-minutes", type=click.FloatRange(0.05), default=10.0, show_default=True, help="How long to idle.")
@click.option("--most", type=click.IntRange(1), default=None, metavar="N", help="Measure nothing more than N times.")
@click.option("--keep", is_flag=True, help="Leave recordings and logs in their folder.")
def main(names: tuple[str, ...], file: Path | None, idle_minutes: float, most: int | None, keep: bool) -> None:
    """Measure the station's real processes, and mpv and MPD beside them. Without NAME: everything, in 20 minutes."""
    compile_all()
    folder = work_folder()
    try:
        rows = measure(names or list(BENCHMARKS), folder, idle_minutes, most)
    finally:
        if keep:
            tell(f"{folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(table(rows))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    sys.exit(1 if any(r.n == 0 for r in rows) else 0)
