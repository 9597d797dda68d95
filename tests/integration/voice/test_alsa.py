"""The binding, on ALSA's `file` and `null` plugins. They swallow everything at once: no timing here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

if TYPE_CHECKING:
    from drivers.alsa_sink import AlsaSink

pytest.importorskip("alsaaudio")
pytestmark = pytest.mark.alsa

CONFIG = """
pcm.kept {{ type file slave.pcm "null" file "{folder}/kept.raw" format "raw" }}
pcm.lost {{ type null }}
"""

SCRIPT = """
import sys, time
from drivers.alsa_sink import AlsaSink
sink = AlsaSink(sys.argv[1], int(sys.argv[2]), 15)
begun = now = time.monotonic_ns()
sink.start(now)
sent = 0
while sent < 60:
    now = time.monotonic_ns()
    while sink.room(now) and sent < 60:
        assert sink.next_ns(now) - now <= 15_000_000
        sink.write(sent.to_bytes(2, "little") * 240 * int(sys.argv[2]), now)
        sent += 1
    time.sleep(max(0, sink.wake_ns(now) - now) / 1e9)
took = time.monotonic_ns() - begun
sink.stop(now)
sink.close(now)
sink.close(now)
print(round(took / 1e6), sink.xruns, sink.take_faults())
"""


def run(folder: Path, device: str, channels: int = 1) -> tuple[float, int, str]:
    config = folder / "asound.conf"
    config.write_text(CONFIG.format(folder=folder))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device, str(channels)],
        env={**os.environ, "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{config}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    took, xruns, faults = done.stdout.split(maxsplit=2)
    return float(took), int(xruns), faults.strip()


@pytest.mark.parametrize("channels", [1, 2])
def test_the_device_gets_every_sample_once_and_in_order(tmp_path: Path, channels: int) -> None:
    took, xruns, faults = run(tmp_path, "kept", channels)
    kept = (tmp_path / "kept.raw").read_bytes()
    whole = b"".join(i.to_bytes(2, "little") * 240 * channels for i in range(60))
    assert kept == whole[: len(kept)]
    assert len(kept) >= len(whole) - 15 * 48 * 2 * channels  # what was dropped at the end
    assert (xruns, faults) == (0, "[]")
    assert took >= 250  # a device that swallows everything is still given sound in real time


def test_a_null_device_works(tmp_path: Path) -> None:
    _, xruns, faults = run(tmp_path, "lost")
    assert (xruns, faults) == (0, "[]")


def test_a_device_that_is_not_there_is_a_fault_and_swallows_in_real_time(tmp_path: Path) -> None:
    took, _, faults = run(tmp_path, "nowhere")
    assert "nowhere" in faults
    assert took >= 250


def test_a_device_that_disappears_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import alsaaudio

    from drivers import alsa_sink

    class Cable:
        """A null device that can be pulled out."""

        plugged = True

        def __init__(self, **asked: object) -> None:
            if not Cable.plugged:
                raise alsaaudio.ALSAAudioError("No such device [usb]")
            self._pcm = RealPcm(**{**asked, "device": "null"})

        def __getattr__(self, name: str) -> object:
            if not Cable.plugged and name in {"write", "avail"}:
                raise alsaaudio.ALSAAudioError("No such device [usb]")
            return getattr(self._pcm, name)

    RealPcm = alsaaudio.PCM  # noqa: N806 - a class
    monkeypatch.setattr(alsaaudio, "PCM", Cable)
    monkeypatch.setattr(alsa_sink, "FIRST_RETRY_S", 0.02)
    sink = alsa_sink.AlsaSink("usb", 1)
    now = time.monotonic_ns()
    sink.start(now)
    sink.write(bytes(480), now)
    Cable.plugged = False
    sink.write(bytes(480), now)
    assert "No such device" in sink.take_faults()[0]
    assert sink.away
    sink.write(bytes(480), now)
    Cable.plugged = True
    deadline = time.monotonic() + 5
    while sink.away and time.monotonic() < deadline:
        time.sleep(0.01)
        sink.room(time.monotonic_ns())
    sink.write(bytes(480), time.monotonic_ns())
    assert (sink.away, sink.take_faults()) == (False, [])
    sink.close(now)


class Clock:
    """Monotonic nanoseconds that a test advances."""

    now = 0


class Device:
    """A card of 80 ms that plays in `Clock`'s time, by whole periods, until it is stuck."""

    SIZE, PERIOD = 3840, 240
    opened: ClassVar[list[Device]] = []
    stuck = False

    def __init__(self, **_asked: object) -> None:
        self.kept = b""
        self._played, self._begun = 0, 0
        self._state = 2  # prepared
        Device.stuck = False
        Device.opened.append(self)

    def info(self) -> dict[str, object]:
        form = {"rate": 48_000, "format": 2, "format_name": "S16_LE", "channels": 1}
        return {**form, "buffer_size": self.SIZE, "period_size": self.PERIOD}

    def _run(self) -> None:
        if self._state == 3 and not Device.stuck:
            due = (Clock.now - self._begun) * 48_000 // 10**9 // self.PERIOD * self.PERIOD
            self._played = min(max(self._played, due), len(self.kept) // 2)

    def state(self) -> int:
        self._run()
        return self._state

    def avail(self) -> int:
        self._run()
        return self.SIZE - (len(self.kept) // 2 - self._played)

    def write(self, data: bytes) -> int:
        taken = min(len(data) // 2, self.avail())
        self.kept += data[: 2 * taken]
        if self._state == 2:
            self._state, self._begun = 3, Clock.now
        return taken

    def close(self) -> None:
        self._state = 0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    import alsaaudio

    from drivers import alsa_sink

    assert (alsaaudio.PCM_STATE_PREPARED, alsaaudio.PCM_STATE_RUNNING, alsaaudio.PCM_FORMAT_S16_LE) == (2, 3, 2)
    Device.opened, Clock.now = [], 10**9
    monkeypatch.setattr(alsaaudio, "PCM", Device)
    monkeypatch.setattr(alsa_sink, "FIRST_RETRY_S", 0.01)
    return Device


def play(sink: AlsaSink, seconds: float, first: int = 0) -> int:
    """Keep the sink filled for so long, as voice does. Each period's samples have its number; returns the next one."""
    end, number = Clock.now + round(seconds * 1e9), first
    while Clock.now < end:
        while sink.room(Clock.now):
            sink.write(number.to_bytes(2, "little") * 240, Clock.now)
            number += 1
        Clock.now = max(Clock.now + 1_000_000, min(end, sink.wake_ns(Clock.now)))
    return number


def test_a_card_with_a_smaller_buffer_than_wished_gets_every_sample_in_real_time(device: type[Device]) -> None:
    from drivers.alsa_sink import AlsaSink

    sink = AlsaSink("small", 1, buffer_ms=100)
    sink.start(Clock.now)
    number = play(sink, 2)
    (card,) = device.opened
    assert card.kept == b"".join(i.to_bytes(2, "little") * 240 for i in range(number))
    assert number == pytest.approx(2 * 200 + Device.SIZE // 240, abs=2)
    sink.close(Clock.now)


def test_a_card_that_plays_no_more_is_told_and_opened_anew(device: type[Device]) -> None:
    from drivers.alsa_sink import AlsaSink

    sink = AlsaSink("stuck", 1, buffer_ms=50)
    sink.start(Clock.now)
    number = play(sink, 1)
    assert sink.take_faults() == []
    Device.stuck = True
    number = play(sink, 0.9, number)
    assert "plays no more" in sink.take_faults()[0]
    deadline = time.monotonic() + 5
    while sink.away and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sink.away
    last = play(sink, 1, number)
    _, second = device.opened
    assert second.kept.endswith((last - 1).to_bytes(2, "little") * 240)
    assert last - number == pytest.approx(200, abs=12)
    assert sink.take_faults() == []
    sink.close(Clock.now)
