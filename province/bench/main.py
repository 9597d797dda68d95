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
from province.bench import arithmetic, idle, peers, station, voice
from province.bench.rows import TARGETS, Row, row, table
from province.bench.voice_rig import BenchError
from province.broker import BrokerError
from province.demo.sounds import SoundError
from province.demo.stage import StageError
from province.publish import LinkError

Measure = Callable[[Path, int], list[Row]]

FEW, MANY = 20, 120
"""How often what is steady, and what has a p99, is measured."""
MEASURES: dict[str, tuple[Measure, int]] = {
    "ready_s": (voice.ready, FEW),
    "command_to_sample_ms": (voice.command_to_sample, MANY),
    "button_to_sample_ms": (voice.button_to_sample, MANY),
    "next_occurrence_ms": (arithmetic.next_occurrence, 1000),
    "text_to_speech_ms": (arithmetic.text_to_speech, FEW),
    "pss_playing_mb": (station.playing, 10),
    "start_error_ms": (station.start_error, MANY),
    "order_to_sample_ms": (station.order_to_sample, MANY),
}
PEERS: dict[str, tuple[Callable[[Path, Path, int], list[Row]], int]] = {
    "ready_s": (peers.ready, FEW),
    "command_to_sample_ms": (peers.command_to_sample, FEW),
    "pss_playing_mb": (peers.playing, 10),
}
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
    found: list[Row] = []
    with contextlib.ExitStack() as stack:
        resting: idle.Idle | None = None
        asked = [name for name in idle.NAMES if name in names]
        if asked:
            tell(f"idle station: {idle.SETTLE_S:.0f} s to settle, then left alone for {idle_minutes:g} min")
            try:
                resting = stack.enter_context(idle.Idle(folder / "idle", idle_minutes))
            except TROUBLE as error:
                found += [row(name, [], f"not measured: {error}") for name in asked]
        found += _others(names, folder, most)
        if resting is not None:
            tell("idle station: the rest of its time")
            found += [r for r in resting.rows() if r.name in asked]
    order = list(TARGETS)
    return sorted(found, key=lambda r: (order.index(r.name), r.peer or ""))


def _others(names: Sequence[str], folder: Path, most: int | None) -> list[Row]:
    found: list[Row] = []
    sound: Path | None = None
    for name, (act, n) in MEASURES.items():
        if name in names:
            found += _one(name, partial(act, folder / name, _least(n, most)))
        if name in names and name in PEERS:
            theirs, their_n = PEERS[name]
            place = folder / f"{name}-peers"
            place.mkdir(parents=True)
            sound = sound or station.minute(place)
            for program in peers.missing():
                tell(f"  {program} is not installed: its rows are left out")
            found += _one(f"{name} of the peers", partial(theirs, place, sound, _least(their_n, most)))
    return found


def _least(n: int, most: int | None) -> int:
    return n if most is None else min(n, most)


def _one(name: str, act: Callable[[], list[Row]]) -> list[Row]:
    begun = time.monotonic()
    tell(name)
    try:
        rows = act()
    except TROUBLE as error:
        tell(f"  not measured: {error}")
        return [row(name, [], f"not measured: {error}")] if name in TARGETS else []
    tell(f"  {time.monotonic() - begun:.0f} s")
    return rows


@click.command("bench")
@click.argument("names", nargs=-1, metavar="[NAME …]", type=click.Choice(list(TARGETS)))
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here.")
@click.option("--idle-minutes", type=click.FloatRange(0.05), default=10.0, show_default=True, help="How long to idle.")
@click.option("--most", type=click.IntRange(1), default=None, metavar="N", help="Measure nothing more than N times.")
@click.option("--keep", is_flag=True, help="Leave recordings and logs in their folder.")
def main(names: tuple[str, ...], file: Path | None, idle_minutes: float, most: int | None, keep: bool) -> None:
    """Measure the station's real processes, and mpv and MPD beside them. Without NAME: everything, in 15 minutes."""
    compile_all()
    folder = work_folder()
    try:
        rows = measure(names or list(TARGETS), folder, idle_minutes, most)
    finally:
        if keep:
            tell(f"{folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(table(rows))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    sys.exit(1 if any(r.n == 0 for r in rows) else 0)
