"""Each way of measuring on something whose answer is known; no time is asserted."""

from __future__ import annotations

import array
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from agent.core import recurrence
from agent.core.examination import COMMAND_BYTES, STATE_BYTES
from agent.model.orders import Broadcast, Schedule
from agent.trust.keys import generate
from agent.trust.signer import Signer
from province.bench import arithmetic, flood, idle, main, microphone, peers, proc, station, voice
from province.bench.table import BENCHMARKS, found

T0 = 1_795_410_000.25
RATE = 48_000


def recording(folder: Path, starts: list[int], length: int) -> Path:
    """A recording in which a sound of 100 ms begins at each of these samples."""
    samples = array.array("h", bytes(2 * length))
    for start in starts:
        samples[start : start + RATE // 10] = array.array("h", [9000] * (RATE // 10))
    path = folder / "station.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(samples.tobytes())
    path.with_suffix(".json").write_text(json.dumps({"t0": T0, "rate": RATE, "zones": ["loa-xa"]}))
    return path


def test_start_errors_are_read_from_the_recordings_samples(tmp_path: Path) -> None:
    path = recording(tmp_path, [1 * RATE, 2 * RATE + 48, 3 * RATE - 96], 5 * RATE)
    errors = station.recorded_errors(path, [T0 + 1, T0 + 2, T0 + 3])
    assert errors == pytest.approx([0.0, 1.0, -2.0], abs=0.02)


def test_a_start_that_did_not_sound_is_left_out(tmp_path: Path) -> None:
    path = recording(tmp_path, [1 * RATE], 5 * RATE)
    assert len(station.recorded_errors(path, [T0 + 1, T0 + 3])) == 1


def test_a_start_into_a_sound_that_already_plays_is_left_out(tmp_path: Path) -> None:
    path = recording(tmp_path, [0, RATE // 10, 2 * RATE // 10], 2 * RATE)
    assert station.recorded_errors(path, [T0 + 0.7]) == []


def test_memory_of_a_group_counts_shared_pages_once() -> None:
    both = {os.getpid(): "me"}
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"], stdin=-1, stdout=-1
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        both[child.pid] = "child"
        together, mine, its = proc.memory(both), proc.memory({os.getpid(): "me"}), proc.memory({child.pid: "child"})
    finally:
        child.communicate()
    assert set(together.each) == {"me", "child"}
    assert together.alone < mine.alone + its.alone
    assert its.pss <= its.alone


@pytest.mark.parametrize(("limit", "burst"), [(60_000_000, True), (2_000_000_000, False)])
def test_what_needs_more_memory_than_the_machine_would_have_is_ended(limit: int, burst: bool) -> None:
    code = "import sys; input(); held = bytearray(b'x' * 100_000_000); print(1, flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, text=False
    )
    assert child.stdin is not None
    assert child.stdout is not None
    peak = proc.Peak(child.pid, limit)
    peak.start()
    child.stdin.write(b"go\n")
    child.stdout.readline()
    deadline = time.monotonic() + 20
    while peak.pss < 100_000_000 and not peak.burst and time.monotonic() < deadline:
        time.sleep(0.05)
    peak.stop()
    assert peak.burst is burst
    child.stdin.close()
    assert child.wait(20) == (-9 if burst else 0)
    assert peak.pss > 60_000_000


def test_processes_are_found_with_what_they_are() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input(1)"], stdin=-1, stdout=-1)
    try:
        assert child.stdout is not None
        assert child.stdout.read(1)  # just after exec it has no command line yet
        found = proc.tree(os.getpid())
        assert {os.getpid(), child.pid} <= set(found)
    finally:
        child.communicate(b"\n")
    assert proc._role(["python", "-m", "agent", "run", "--config", "x"]) == "agent"
    assert proc._role(["python", "-m", "agent.screen", "x"]) == "board"
    assert proc._role(["/usr/bin/mpd", "--no-daemon"]) == "mpd"


def test_bytes_written_and_time_spent_grow(tmp_path: Path) -> None:
    me = [os.getpid()]
    written, spent = proc.written_bytes(me), proc.cpu_ns(me)
    with (tmp_path / "file").open("wb") as out:
        out.write(b"x" * 2**20)
        out.flush()
        os.fsync(out.fileno())
    if proc.file_system(tmp_path) not in {"tmpfs", "ramfs"}:
        assert proc.written_bytes(me) - written >= 2**20
    busy = 0
    while proc.cpu_ns(me) <= spent:  # a kernel may tell it in ticks only
        busy += 1
        assert busy < 10_000_000, "it never grows"


def test_the_meter_counts_what_went_over_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        meter = proc.Meter(server.getsockname()[:2])
        meter.start()
        with socket.create_connection(("127.0.0.1", meter.port)) as device:
            broker, _ = server.accept()
            with broker:
                device.sendall(b"u" * 700)
                got = b""
                while len(got) < 700:
                    got += broker.recv(1000)
                broker.sendall(b"d" * 300)
                back = b""
                while len(back) < 300:
                    back += device.recv(1000)
                end = time.monotonic() + 5
                while meter.read().payload < 1000 and time.monotonic() < end:
                    time.sleep(0.01)
                traffic = meter.read()
        meter.stop()
    assert traffic.payload == 1000
    assert traffic.on_the_wire == 1000 + traffic.segments * 52
    assert traffic.segments >= 4  # two of data at least, and the handshake's


def test_the_kernels_counters_are_where_they_are_read() -> None:
    info = bytearray(256)
    struct.pack_into("=QQII", info, 120, 50, 100, 2, 4)
    assert proc._traffic(bytes(info)) == proc.Traffic(150, 6)


def test_the_flood_is_of_valid_orders_nearly_as_big_as_allowed() -> None:
    start = "2026-11-24T05:00:00+07:00"
    signer = Signer(generate().to_jwk(), flood.ISSUER)
    msgspec.convert(flood.bulletin(1, start), Broadcast)
    entries = msgspec.convert(flood.schedule(1, start), Schedule).entries
    for entry in entries:
        assert entry.rrule is not None
        recurrence.check(entry.rrule, entry.dtstart)
    sizes = [
        (len(signer.order("broadcast", flood.bulletin(1, start), ["xa-mau"], now=T0, ttl=60, ctr=1)), COMMAND_BYTES),
        (len(signer.order("schedule", flood.schedule(1, start), ["xa-mau"], now=T0)), STATE_BYTES),
    ]
    for size, limit in sizes:
        assert 0.75 * limit < size <= limit


def test_the_largest_beat_has_all_zones_and_long_counts() -> None:
    like = {"n": 1, "at": 1, "zones": {}, "faults": 0, "rev": 1, "log": [0, "00000000"]}
    sizes = [idle.largest_beat([like], ["khu-01", "khu-02", "khu-03"][:k]) for k in range(4)]
    assert sizes[1] - sizes[0] == len('"khu-01":"bulletin"')
    assert sizes[3] - sizes[2] == len(',"khu-03":"bulletin"')


def test_an_hourly_write_is_measured_on_the_real_store(tmp_path: Path) -> None:
    hourly = idle.hourly_bytes(tmp_path / "floor", n=2)
    assert hourly >= 0
    if proc.file_system(tmp_path) not in {"tmpfs", "ramfs"}:
        assert 4096 <= hourly < 2**20


@pytest.mark.parametrize("act", [voice.ready, voice.command_to_sample, voice.button_to_sample])
def test_voice_is_measured_on_its_real_process(act: Callable[[Path, int], list[main.Row]], tmp_path: Path) -> None:
    (row,) = act(tmp_path / "v", 2)
    assert row.n == 2
    assert row.min is not None
    assert row.min > 0


def test_the_calendar_is_measured(tmp_path: Path) -> None:
    (row,) = arithmetic.next_occurrence(tmp_path, 2)
    assert row.n == 2


def test_the_microphone_is_found_in_what_was_played(tmp_path: Path) -> None:
    (row,) = microphone.microphone(tmp_path / "m", 1)
    assert row.n >= 3
    assert row.min is not None
    assert row.min > 0


def test_the_microphones_delay_is_read_off_the_recording(tmp_path: Path) -> None:
    rate, length, delay_ms = 48_000, 2 * 48_000, 37.5
    spoken = np.random.default_rng(1).integers(-3000, 3000, length, dtype=np.int16)
    t0, apart_ns = 1_000_000.0, 5 * 10**9
    first = round((t0 * 1e9 - apart_ns) * rate / 1e9 - delay_ms * rate / 1000)
    heard = np.zeros((4 * rate, 2), np.int16)
    on_air = np.arange(rate // 2, 7 * rate // 2)
    heard[on_air, 0] = spoken[(first + on_air) % length] // 2
    recording = tmp_path / "voice.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(heard.tobytes())
    recording.with_suffix(".json").write_text(json.dumps({"t0": t0, "rate": rate, "zones": ["a", "b"]}))
    found = microphone.delays_in(recording, spoken, t0, t0 + 4, apart_ns)
    assert len(found) > 5
    assert found == pytest.approx([delay_ms] * len(found), abs=0.03)


def test_the_tap_dates_sound_and_passes_over_silence(tmp_path: Path) -> None:
    tap = peers.Tap(tmp_path / "pcm")
    writer = os.open(tap.path, os.O_WRONLY)
    try:
        tap.arm()
        os.write(writer, bytes(100))
        with pytest.raises(queue.Empty):
            tap._first.get(timeout=0.05)
        before = time.monotonic_ns()
        os.write(writer, b"\0\1" * 50)
        assert before <= tap.wait() <= time.monotonic_ns()
    finally:
        os.close(writer)
        tap.close()


@pytest.mark.parametrize("kind", peers.PEERS, ids=lambda kind: kind.program)
def test_a_peer_is_measured_both_ways(kind: type[peers.Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kind.name():
        pytest.skip(f"{kind.program} is not installed")
    monkeypatch.setattr(peers, "PEERS", (kind,))
    sound = station.burst(tmp_path / "burst.wav")
    rows = peers.command_to_sample(tmp_path, sound, 1)
    assert [r.peer for r in rows] == [kind.name(), f"{kind.name()}, paused"]
    assert all(r.n == 1 and r.target is None for r in rows)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_figure_of_the_table_has_somebody_who_measures_it(name: str) -> None:
    assert callable(found(BENCHMARKS[name].by))
    assert BENCHMARKS[name].peers is None or callable(found(BENCHMARKS[name].peers or ""))


def test_rows_are_written_as_a_json_list(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = CliRunner().invoke(main.main, ["next_occurrence_ms", "--most", "3", "--json", str(file)])
    assert done.exit_code == 0
    (row,) = json.loads(file.read_text("utf-8"))
    assert (row["name"], row["n"]) == ("next_occurrence_ms", 3)
    assert "next_occurrence_ms" in done.output


def test_an_unknown_name_is_a_wrong_usage() -> None:
    assert CliRunner().invoke(main.main, ["speed"]).exit_code == 2


def test_a_benchmark_that_cannot_be_made_is_a_row_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path, __: int) -> list[main.Row]:
        raise main.BenchError("no broker here")

    monkeypatch.setattr(station, "order_to_sample", fails)
    file = tmp_path / "rows.json"
    done = CliRunner().invoke(main.main, ["order_to_sample_ms", "--json", str(file)])
    assert done.exit_code == 1
    (row,) = json.loads(file.read_text("utf-8"))
    assert (row["n"], row["median"]) == (0, None)
    assert "no broker here" in row["note"]
