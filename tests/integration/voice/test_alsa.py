"""The binding, on ALSA's `file` and `null` plugins. They swallow everything at once: no timing here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    import time

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
