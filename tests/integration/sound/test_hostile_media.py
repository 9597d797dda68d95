"""Media that crashes, hangs, lies or leads elsewhere costs its own item only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.ports import Piece
from tests.integration.sound.conftest import RATE, Listener

pytestmark = pytest.mark.vlc

FLAC = b"fLaC"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n"
XSPF = b'<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>{0}'
ASX = b'<asx version="3.0"><entry><ref href="{0}"/></entry></asx>'


@pytest.fixture
def fragile(plugins: Path) -> Iterator[Listener]:
    """With a decoder that does what the file says."""
    made = Listener(plugins, media="tests.integration.sound.hostile_media", hang_s=0.4)
    yield made
    made.feeds.stop()


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("crash", "SIGSEGV"),
        ("forge", "SIGSEGV"),
        ("hang", "no sound came out of it"),
        ("nothing", "no sound"),
        ("raise", "a bug in the driver"),
        ("late-crash", "SIGSEGV"),
        ("late-hang", "no sound came out of it"),
    ],
)
def test_the_next_item_plays_whatever_this_one_does(
    way: str, why: str, fragile: Listener, media: Callable[[str], Path], original: bytes, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(FLAC + f"<{way}>".encode())
    pcm = fragile.hear(media("original.wav"), bad, media("original.wav"))
    assert pcm.startswith(original)
    assert pcm.endswith(original)
    failed = [m for m in fragile.seen if m.what == "failed"]
    assert [m.item for m in failed] == [1]
    assert why in failed[0].detail
    assert failed[0].samples == (4800 if way.startswith("late") else 0)
    assert (2, "ended") in fragile.said()


def test_an_endless_item_ends_at_what_was_announced(fragile: Listener, tmp_path: Path) -> None:
    endless = tmp_path / "endless.mp3"
    endless.write_bytes(FLAC + b"<endless>")
    pcm = fragile.hear(Piece(0, path=str(endless), seconds=2.0))
    assert len(pcm) // 2 == round((2 * 1.05 + 2) * RATE)
    assert fragile.seen[-2].detail == "cut: longer than announced"


def test_a_crash_while_skipping_does_not_move_the_resumed_place(
    fragile: Listener, media: Callable[[str], Path], original: bytes, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(FLAC + b"<late-crash>")
    whole = fragile.hear(bad, media("original.wav"))
    assert fragile.hear(bad, media("original.wav"), skip=10_000) == whole[20_000:]


@pytest.mark.parametrize("form", [HLS, XSPF, ASX, b"[playlist]\nFile1={0}\n", b"ffconcat version 1.0\nfile {0}\n"])
@pytest.mark.parametrize("suffix", ["mp3", "m3u8"])
def test_a_playlist_leads_nowhere(
    form: bytes, suffix: str, listener: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    lure = tmp_path / f"lure.{suffix}"
    lure.write_bytes(form.replace(b"{0}", str(media("48k.mp3")).encode()))
    assert listener.hear(lure, media("original.wav")) == original
    assert listener.said()[0] == (0, "failed")


def _damaged(path: Path, kind: str) -> bytes:
    data = path.read_bytes()
    if kind == "cut":
        return data[: len(data) // 2]
    if kind == "head":
        return data[:60]
    middle = len(data) // 2
    return data[:middle] + bytes(range(256)) * 8 + data[middle + 2048 :]


@pytest.mark.parametrize("kind", ["cut", "head", "noise"])
@pytest.mark.parametrize("name", ["48k.mp3", "stereo.opus", "44k.ogg", "fast.m4a", "44k.flac", "24bit.wav", "adts.aac"])
def test_a_damaged_file_gives_what_it_can_and_the_next_item_plays(
    name: str, kind: str, listener: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    bad = tmp_path / name
    bad.write_bytes(_damaged(media(name), kind))
    pcm = listener.hear(bad, media("original.wav"))
    assert pcm.endswith(original)
    assert len(pcm) < len(original) * 2 + RATE
    assert (1, "ended") in listener.said()
    if kind == "cut" and name != "fast.m4a":
        assert len(pcm) > len(original) * 1.3


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"RIFF", b"OggS", b"fLaC", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"\xff" * 9000]
)
def test_a_file_without_sound_says_so(
    content: bytes, listener: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    empty = tmp_path / "empty.mp3"
    empty.write_bytes(content)
    assert listener.hear(empty, tmp_path, tmp_path / "missing", media("original.wav")) == original
    assert [(m.item, m.what, bool(m.detail)) for m in listener.seen[:3]] == [(n, "failed", True) for n in range(3)]


def test_fifty_opens_and_closes_leave_nothing_behind(listener: Listener, media: Callable[[str], Path]) -> None:
    listener.hear(media("original.wav"))
    before = sorted(os.listdir("/proc/self/fd"))
    for n in range(50):
        fd = listener.feeds.open(f"p{n}", 0, [Piece(0, path=str(media("48k.mp3")))] * 20)
        if n % 3:
            os.read(fd, 4096)
        os.close(fd)
        listener.feeds.close(f"p{n}")
    listener.feeds.stop(timeout_s=10)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert listener.left() == set()


def test_closing_a_play_ends_a_child_that_waits_on_a_full_pipe(
    listener: Listener, media: Callable[[str], Path]
) -> None:
    pieces = [Piece(n, path=str(media("original.wav"))) for n in range(20)]
    fd = listener.feeds.open("play", 0, pieces)
    listener.until("started")
    listener.feeds.close("play")
    listener.feeds.stop(timeout_s=5)
    assert listener.left() == set()
    while os.read(fd, 65_536):
        pass
    os.close(fd)


def test_without_a_process_to_start_every_item_fails_and_the_segment_ends(
    listener: Listener, media: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert listener.hear(media("original.wav"), media("48k.mp3")) == b""
    assert listener.said() == [(0, "failed"), (1, "failed"), (-1, "done")]
