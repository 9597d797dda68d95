"""Real decoder children, media made by ffmpeg, and a listener that plays voice's part."""

from __future__ import annotations

import math
import os
import queue
import random
import subprocess
import sys
import time
import wave
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import Struct

from agent.model.events import FeedMark
from agent.ports import Piece
from agent.sound.feeds import DecoderFeeds

RATE = 48_000
FETCHER = (sys.executable, str(Path(__file__).with_name("stream_source.py")))


def write_wav(path: Path, samples: bytes, rate: int = RATE, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


def ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def original() -> bytes:
    """Three seconds of noise below 6 kHz that swells: no two places of it are alike."""
    rng, low, out = random.Random(1), [0.0, 0.0, 0.0], array("h")
    for n in range(3 * RATE):
        value = rng.uniform(-1, 1)
        for k in range(3):
            low[k] += 0.4 * (value - low[k])
            value = low[k]
        out.append(round(value * 24_000 * (0.4 + 0.6 * math.sin(n / 9_000) ** 2)))
    return out.tobytes()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, original: bytes) -> Callable[[str], Path]:
    """Makes the original into a file by name ("44k.mp3", "mono22k.ogg" …), once."""
    folder = tmp_path_factory.mktemp("media")
    source = write_wav(folder / "original.wav", original)
    recipes: dict[str, tuple[object, ...]] = {
        "44k.mp3": ("-ac", 2, "-ar", 44100, "-b:a", "128k"),
        "48k.mp3": ("-ac", 2, "-b:a", "128k"),
        "mono24k.mp3": ("-ar", 24000, "-b:a", "64k"),
        "noxing.mp3": ("-b:a", "64k", "-write_xing", 0),
        "stereo.opus": ("-ac", 2, "-c:a", "libopus", "-b:a", "96k"),
        "mono.opus": ("-c:a", "libopus", "-b:a", "48k"),
        "44k.ogg": ("-ac", 2, "-ar", 44100, "-c:a", "libvorbis", "-q:a", 6),
        "48k.ogg": ("-c:a", "libvorbis", "-q:a", 6),
        "44k.m4a": ("-ac", 2, "-ar", 44100, "-c:a", "aac", "-b:a", "160k"),
        "48k.m4a": ("-ac", 1, "-c:a", "aac", "-b:a", "96k"),
        "fast.m4a": ("-ac", 2, "-c:a", "aac", "-b:a", "160k", "-movflags", "+faststart"),
        "adts.aac": ("-ac", 2, "-c:a", "aac", "-b:a", "160k"),
        "44k.flac": ("-ac", 2, "-ar", 44100),
        "24bit.flac": ("-sample_fmt", "s32"),
        "24bit.wav": ("-ac", 2, "-c:a", "pcm_s24le"),
        "8bit.wav": ("-c:a", "pcm_u8"),
        "float.wav": ("-ac", 2, "-ar", 44100, "-c:a", "pcm_f32le"),
        "32k.wav": ("-ac", 2, "-ar", 32000),
        "96k.wav": ("-ar", 96000),
        "mulaw.wav": ("-ar", 16000, "-c:a", "pcm_mulaw"),
    }

    def make(name: str) -> Path:
        path = folder / name
        if name == "original.wav":
            return source
        if not path.exists():
            upmix = ("-af", "pan=stereo|c0=c0|c1=c0") if recipes[name][:2] == ("-ac", 2) else ()
            ffmpeg("-i", source, *upmix, *recipes[name], path)
        return path

    return make


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlc") / "plugins"
    DecoderFeeds(lambda event, urgent=False: None, plugins=folder).prepare()
    return folder


def children() -> set[int]:
    """The processes this one has started and not yet waited for, but those of a thread that lives."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


class Listener:
    """Feeds with their marks, and the pipes read as voice would."""

    def __init__(self, plugins: Path, **options: object) -> None:
        self.marks: queue.SimpleQueue[FeedMark] = queue.SimpleQueue()
        self.feeds = DecoderFeeds(self._post, plugins=plugins, fetcher=FETCHER, **options)  # type: ignore[arg-type]
        self.feeds._prepared = str(plugins)
        self.seen: list[FeedMark] = []
        self.others = children()

    def _post(self, event: Struct, *, urgent: bool = False) -> None:
        assert isinstance(event, FeedMark)
        self.marks.put(event)

    def left(self) -> set[int]:
        """Children there are now and were not before; another test's station may be one of those."""
        return children() - self.others

    def hear(self, *pieces: Piece | Path, skip: int = 0, pause_s: float = 0.0) -> bytes:
        """Everything a segment gives; the marks are in `seen` afterwards."""
        fd = self.feeds.open("play", 0, _pieces(pieces), skip)
        out = []
        while data := os.read(fd, 65_536):
            out.append(data)
            time.sleep(pause_s)
        os.close(fd)
        self.seen = self.until("done")
        return b"".join(out)

    def until(self, what: str) -> list[FeedMark]:
        """The marks up to the first of that kind."""
        marks = []
        while not marks or marks[-1].what != what:
            marks.append(self.marks.get(timeout=20))
        return marks

    def said(self) -> list[tuple[int, str]]:
        return [(m.item, m.what) for m in self.seen]


def _pieces(pieces: Sequence[Piece | Path]) -> list[Piece]:
    return [p if isinstance(p, Piece) else Piece(n, path=str(p)) for n, p in enumerate(pieces)]


@pytest.fixture
def listener(plugins: Path) -> Iterator[Listener]:
    made = Listener(plugins)
    yield made
    made.feeds.stop()
