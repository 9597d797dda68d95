from __future__ import annotations

import json
import time
import wave
from pathlib import Path

import pytest

from drivers.wav_sink import HEADER, WavSink

PERIOD_NS = 5_000_000


def periods(sink: WavSink, first: int, count: int, value: bytes = b"\x07\x00") -> int:
    """Write in step with the clock; the moment after."""
    now = first
    for _ in range(count):
        while not sink.room(now):
            now += PERIOD_NS
        sink.write(value * 240 * 2, now)
    return now


def frames(path: Path) -> tuple[int, bytes]:
    with wave.open(str(path), "rb") as file:
        return file.getnframes(), file.readframes(file.getnframes())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "station.wav"


def test_samples_stand_where_their_time_says_and_gaps_are_silence(path: Path) -> None:
    sink = WavSink(str(path), ["a", "b"])
    begin = sink.next_ns(0)
    now = begin + 1_000_000_000
    sink.start(now)
    assert abs(sink.next_ns(now) - now) < 21_000
    periods(sink, now, 4)
    sink.stop(now)
    sink.close(begin + 2_000_000_000)
    count, data = frames(path)
    assert count == pytest.approx(96_000, abs=1)
    assert set(data[: 47_999 * 4]) == {0}
    assert data[48_001 * 4 : 48_950 * 4] == b"\x07\x00" * 2 * 949
    assert set(data[48_961 * 4 :]) == {0}
    assert sink.xruns == 0


def test_the_buffer_holds_what_was_asked_for_and_an_underrun_is_counted_when_it_happens(path: Path) -> None:
    sink = WavSink(str(path), ["a"], buffer_ms=15)
    now = sink.next_ns(0)
    sink.start(now)
    for _ in range(3):
        assert sink.room(now)
        sink.write(bytes(480), now)
    assert not sink.room(now)
    assert sink.wake_ns(now) == pytest.approx(now + PERIOD_NS, abs=21_000)
    sink.write(bytes(480), now + 14_900_000)
    assert sink.xruns == 0
    sink.write(bytes(480), now + 30_000_000)
    assert sink.xruns == 1
    sink.close(now)


def test_beside_it_lies_the_wall_time_of_sample_zero(path: Path) -> None:
    before = time.time()
    WavSink(str(path), ["a", "b"]).close(0)
    told = json.loads(path.with_suffix(".json").read_text())
    assert before - 0.001 <= told["t0"] <= time.time()
    assert (told["rate"], told["zones"]) == (48_000, ["a", "b"])


def test_a_file_that_was_never_closed_has_a_header_that_every_reader_takes(path: Path) -> None:
    sink = WavSink(str(path), ["a", "b"])
    now = sink.next_ns(0)
    sink.start(now)
    periods(sink, now, 450)
    count, _ = frames(path)
    assert 48_000 <= count <= 450 * 240
    assert path.stat().st_size == HEADER + 450 * 240 * 4


def test_the_same_zones_continue_the_recording(path: Path) -> None:
    sink = WavSink(str(path), ["a"])
    now = sink.next_ns(0)
    sink.start(now)
    sink.write(b"\x05\x00" * 240, now)
    told = path.with_suffix(".json").read_bytes()
    time.sleep(0.02)
    again = WavSink(str(path), ["a"])
    now = time.monotonic_ns()
    again.start(now)
    again.write(b"\x06\x00" * 240, now)
    again.close(now)
    assert path.with_suffix(".json").read_bytes() == told
    _, data = frames(path)
    assert data[:480] == b"\x05\x00" * 240
    assert data.count(b"\x06\x00") == 240
    assert data.index(b"\x06\x00") >= 2 * 48 * 20


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("other zones", {"t0": time.time(), "rate": 48_000, "zones": ["x"]}),
        ("a clock that was set back", {"t0": time.time() + 3600, "rate": 48_000, "zones": ["a"]}),
        ("too long ago for a WAV file", {"t0": 1000.5, "rate": 48_000, "zones": ["a"]}),
    ],
)
def test_what_cannot_be_continued_is_moved_aside(path: Path, name: str, sidecar: dict[str, object]) -> None:
    path.parent.mkdir()
    path.write_bytes(b"RIFF" + bytes(400))
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    WavSink(str(path), ["a"]).close(0)
    assert json.loads(path.with_suffix(".json").read_text())["zones"] == ["a"], name
    assert [p.stat().st_size for p in path.parent.glob("station.*.wav")] == [404], name


@pytest.mark.parametrize("sidecar", ["", "{", "[]", '{"t0":"x"}', '{"t0":null,"rate":1,"zones":1}'])
def test_a_damaged_sidecar_is_no_recording(path: Path, sidecar: str) -> None:
    path.parent.mkdir()
    path.with_suffix(".json").write_text(sidecar)
    WavSink(str(path), ["a"]).close(0)
    assert json.loads(path.with_suffix(".json").read_text())["rate"] == 48_000


def test_a_full_disk_is_a_fault_and_no_exception(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    path.with_suffix(".json").write_text("{}")
    try:
        sink = WavSink(str(path), ["a"])
    except OSError:
        return  # told at the start
    sink.write(bytes(480), 0)
    assert sink.take_faults()


def test_a_card_that_drifts_plays_so_much_faster_and_says_so(path: Path) -> None:
    sink = WavSink(str(path), ["a", "b"], drift_ppm=200)
    begin = sink.next_ns(0)
    sink.start(begin)
    periods(sink, begin, 2000)
    assert sink.next_ns(begin) - begin == pytest.approx(2000 * 5_000_000 / 1.0002, abs=50_000)
    sink.close(begin + 2000 * 5_000_000)
    assert json.loads(path.with_suffix(".json").read_bytes())["drift_ppm"] == 200
    assert WavSink(str(path), ["a", "b"])._end == 0, "another card does not continue its recording"
