"""What a station costs while nothing is due: one that is left alone for some minutes beside the other benchmarks."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.model.records import PutValue
from agent.store.database import SqliteStore
from province.bench import proc
from province.bench.rows import Row, row
from province.bench.stages import MeteredStage

SETTLE_S = 20.0
"""Messages are spoken, the first status is sent, children have ended."""
BEAT_S = 60.0
CPU_S = 60.0
DAY_S = 86_400.0


class _Look(Struct, frozen=True):
    at: float
    pids: dict[int, str]
    written: int
    stored: int
    traffic: proc.Traffic
    statuses: int
    """Bytes of full status messages so far."""
    connections: int


class Idle:
    """Use as a context manager: begins the idle time; `rows` waits until it is over and measures."""

    def __init__(self, folder: Path, minutes: float, n: int = 10) -> None:
        self._stack = contextlib.ExitStack()
        self._stage = MeteredStage(folder)
        self._minutes = minutes
        self._n = n
        self._memory: list[proc.Memory] = []

    def __enter__(self) -> Idle:
        self._stack.enter_context(self._stage)
        try:
            self._stage.wait_ready()
            time.sleep(SETTLE_S)
            # Now, while no other station runs beside this one and shares its pages.
            for _ in range(self._n):
                self._memory.append(proc.memory(proc.tree(self._stage.agent_pid())))
                time.sleep(0.2)
            self._begun = self._look()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def rows(self) -> list[Row]:
        """Wait for what is left of the idle time, at least a minute in which nothing else is measured."""
        quiet = min(CPU_S, self._minutes * 60)
        before = proc.cpu_ns(self._begun.pids), time.monotonic()
        time.sleep(max(quiet, self._begun.at + self._minutes * 60 - time.monotonic()))
        spent, seconds = (proc.cpu_ns(self._begun.pids) - before[0]) / 1e9, time.monotonic() - before[1]
        self._await_beat()
        ended = self._look()
        return [self._pss(), self._cpu(spent, seconds), self._writes(ended), self._beats(), self._traffic(ended)]

    def _look(self) -> _Look:
        """Just after a beat, so that a whole number of them lies between two looks."""
        if self._minutes * 60 > BEAT_S:
            self._await_beat()
        stage = self._stage
        pids = proc.tree(stage.agent_pid())
        with stage.watcher.changed:
            statuses = [msgspec.json.encode(r["body"]) for r in stage.watcher.export()["statuses"]]
        return _Look(
            at=time.monotonic(),
            pids=pids,
            written=proc.written_bytes(pids),
            stored=proc.size_of(Path(stage.config.data_dir)),
            traffic=stage.meter.read() if stage.meter else proc.Traffic(),
            statuses=sum(map(len, statuses)),
            connections=stage.meter.connections if stage.meter else 0,
        )

    def _await_beat(self) -> None:
        if self._minutes * 60 <= BEAT_S:
            return
        known, end = len(self._stage.beats()), time.monotonic() + BEAT_S + 5
        while len(self._stage.beats()) == known and time.monotonic() < end:
            time.sleep(0.5)
        time.sleep(1.0)

    def _pss(self) -> Row:
        last = self._memory[-1]
        each = ", ".join(f"{role} {size / 1e6:.1f}" for role, size in sorted(last.each.items()))
        note = f"sum of Pss, a station with sound zone and board: {each}; alone on a machine {last.alone / 1e6:.1f} MB"
        return row("pss_idle_mb", [m.pss / 1e6 for m in self._memory], note)

    def _cpu(self, spent: float, seconds: float) -> Row:
        note = f"of one core, all threads of agent, voice and board over {seconds:.0f} s; {proc.load_note()}"
        return row("idle_cpu_percent", [100 * spent / seconds], note)

    def _writes(self, ended: _Look) -> Row:
        seconds = ended.at - self._begun.at
        written = ended.written - self._begun.written
        hourly = hourly_bytes(self._stage.out / "floor")
        note = (
            f"{written} bytes sent to disk by agent, voice and board (its pictures lie in memory, as in /run) in "
            f"{seconds / 60:.1f} min, "
            f"times {DAY_S / seconds:.0f}, and 24 times {hourly:.0f} for what is written once an hour; "
            f"their data grew by {ended.stored - self._begun.stored} bytes; the file system's own journal is not in it"
        )
        kind = proc.file_system(Path(self._stage.config.data_dir))
        if kind in {"tmpfs", "ramfs"}:
            return row("idle_writes_mb_day", [], f"not measured: the station's data lie on {kind}, not on a disk")
        return row("idle_writes_mb_day", [(written * DAY_S / seconds + 24 * hourly) / 1e6], note)

    def _beats(self) -> Row:
        beats = self._stage.beats()
        zones = [z.id for z in self._stage.config.zones]
        note = (
            f"payload of the beats of an idle station; computed after years of work: with both zones owned "
            f"{largest_beat(beats, zones)} B, with three whose ids have six letters "
            f"{largest_beat(beats, ['khu-01', 'khu-02', 'khu-03'])} B"
        )
        return row("beat_bytes", [len(msgspec.json.encode(b)) for b in beats], note)

    def _traffic(self, ended: _Look) -> Row:
        seconds, used = ended.at - self._begun.at, ended.traffic
        first = self._begun.traffic
        if ended.connections != self._begun.connections or not used.segments:
            return row("idle_traffic_mb_day", [], "not measured: the connection broke, or the kernel does not count")
        statuses = ended.statuses - self._begun.statuses
        total = used.on_the_wire - first.on_the_wire - statuses
        segments = used.segments - first.segments
        note = (
            f"both directions over {seconds / 60:.1f} min: {used.payload - first.payload} bytes of TLS records in "
            f"{segments} TCP segments, acknowledgements included, 52 bytes of TCP and IPv4 headers each"
        )
        if statuses:
            note += f"; {statuses} bytes of full status were taken off"
        return row("idle_traffic_mb_day", [total / 1e6 * DAY_S / seconds], note)


def hourly_bytes(folder: Path, n: int = 8) -> float:
    """What the agent's hourly write of its clock floor sends to the disk: ten minutes may pass without one."""
    folder.mkdir()
    committed: queue.SimpleQueue[Struct] = queue.SimpleQueue()
    store = SqliteStore(folder / "tram.db", lambda event, urgent=False: committed.put(event))
    store.load()
    values = [PutValue(key="clock-floor", value=b"%d" % (1_795_392_000 + k)) for k in range(n + 1)]
    store.submit(0, values[:1])
    committed.get(timeout=30)
    before = proc.written_bytes([os.getpid()])
    for value in values[1:]:
        store.submit(0, [value])
        committed.get(timeout=30)
    written = proc.written_bytes([os.getpid()]) - before
    store.close()
    return written / n


def largest_beat(beats: Sequence[Mapping[str, Any]], zones: Sequence[str]) -> int:
    """Bytes of such a beat with these zones owned and six digits in each count."""
    like = dict(beats[-1]) if beats else {"n": 0, "at": 0, "zones": {}, "faults": 0, "rev": 0, "log": []}
    counts = {"n": 999_999, "at": int(time.time()), "faults": 9, "rev": 999_999, "log": [999_999, "0" * 8]}
    return len(msgspec.json.encode({**like, **counts, "zones": dict.fromkeys(zones, "bulletin")}))
