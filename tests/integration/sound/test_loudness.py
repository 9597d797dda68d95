"""Media of different loudness comes out equally loud: the whole way by decoder, meter and decoder again."""

from __future__ import annotations

import os
import queue
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.model.events import Measured
from agent.model.loudness import gain
from agent.ports import Piece
from agent.sound.feeds import DecoderFeeds
from agent.sound.loudness import Loudness
from drivers.ebur128 import measure
from tests.integration.sound.conftest import Listener

pytestmark = pytest.mark.vlc


def encoded(path: Path, volume_db: float, form: str) -> Path:
    """Pink noise that swells and fades, coded."""
    source = "anoisesrc=color=pink:duration=6:sample_rate=44100:seed=7,tremolo=f=0.5:d=0.7"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-af", f"volume={volume_db}dB"]
    subprocess.run([*command, *(["-c:a", "libopus"] if form == "opus" else []), str(path)], check=True)
    return path


@pytest.fixture
def meter() -> Any:
    inbox: queue.Queue[Any] = queue.Queue()
    feeds = DecoderFeeds(lambda event, urgent=False: inbox.put(event))
    loudness = Loudness(lambda event, urgent=False: inbox.put(event), feeds)

    def ask(path: Path) -> Measured:
        loudness.ask(path.name, str(path))
        while not isinstance(event := inbox.get(timeout=60), Measured):
            pass
        return event

    ask.feeds = feeds  # type: ignore[attr-defined]
    yield ask
    feeds.stop()


def decoded(feeds: DecoderFeeds, path: Path, gain_db: float) -> bytes:
    with os.fdopen(feeds.open("play", 0, [Piece(item=0, path=str(path), gain_db=gain_db)]), "rb") as pipe:
        return pipe.read()


@pytest.mark.parametrize(("form", "volume_db"), [("mp3", -6.0), ("opus", 0.0), ("flac", 6.0), ("wav", -10.0)])
def test_every_format_comes_out_at_the_target_and_below_the_peak(
    form: str, volume_db: float, meter: Any, tmp_path: Path
) -> None:
    path = encoded(tmp_path / f"a.{form}", volume_db, form)
    told = meter(path)
    assert told.detail == ""
    lufs, peak = measure(decoded(meter.feeds, path, gain(told.lufs, told.peak, -20.0)), 48_000)
    assert lufs == pytest.approx(-20.0, abs=0.1)
    assert peak <= -0.9


def test_a_live_relay_is_raised_little_by_little_by_what_is_measured_of_it(listener: Listener, tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mp3", -8.0, "mp3")
    quiet, _ = measure(decoded(listener.feeds, path, 0.0), 48_000)
    looped = tmp_path / "relay.mp3"
    looped.write_bytes(path.read_bytes() * 3)
    sound = listener.hear(Piece(item=0, url=f"file://{looped}", seconds=14.0, level_lufs=-20.0))
    begins, _ = measure(sound[: 3 * 96_000], 48_000)
    ends, peak = measure(sound[-3 * 96_000 :], 48_000)
    assert quiet is not None
    assert begins == pytest.approx(quiet, abs=1.0)
    assert begins is not None
    assert ends is not None
    assert 3.0 < ends - begins <= 6.0
    assert peak <= -0.9


def test_what_is_no_sound_is_answered_all_the_same(meter: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"\xff\xfb" + os.urandom(3000))
    assert meter(path).lufs is None
    assert meter(tmp_path / "gone.mp3").lufs is None
