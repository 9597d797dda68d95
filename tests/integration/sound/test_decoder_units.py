"""Decoders that somebody else starts: a stand-in for systemd's `Accept=yes`, the real decoder, no child of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.ports import Piece
from tests.integration.sound.conftest import Listener
from tests.integration.sound.test_relay import fallback, relay

pytestmark = pytest.mark.vlc
ROOT = Path(__file__).parents[3]
__all__ = ["fallback"]


class Accepting:
    """tram-decoder.socket: each connection becomes the standard input of a decoder in another place, as nobody."""

    def __init__(self, path: Path, cwd: Path) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._cwd = cwd
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "agent.sound.decoder"],
                        stdin=connection,
                        stdout=subprocess.DEVNULL,
                        cwd=self._cwd,
                        env={"PYTHONPATH": str(ROOT)},
                    )
                )

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for child in self.started:
            assert child.wait(10) is not None


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Accepting]:
    made = Accepting(tmp_path / "decoder.sock", tmp_path)
    yield made
    made.close()


@pytest.fixture
def remote(units: Accepting, plugins: Path, tmp_path: Path) -> Iterator[Listener]:
    made = Listener(
        plugins, unit=tmp_path / "decoder.sock", media="tests.integration.sound.hostile_media", hang_s=0.4, start_s=0.0
    )
    yield made
    made.feeds.stop()


def test_media_reaches_the_decoder_as_open_files_not_as_paths(
    units: Accepting, plugins: Path, tmp_path: Path, media: Callable[[str], Path], original: bytes
) -> None:
    listener = Listener(plugins, unit=tmp_path / "decoder.sock")
    links = [tmp_path / f"{n}.flac" for n in range(2)]
    for link in links:
        link.symlink_to(media("44k.flac"))
    fd = listener.feeds.open("play", 0, [Piece(n, path=str(link)) for n, link in enumerate([*links, links[0]])])
    listener.until("started")
    for link in links:
        link.unlink()
    heard = 0
    while data := os.read(fd, 65_536):
        heard += len(data)
    os.close(fd)
    listener.until("done")
    assert heard == 3 * len(original)
    assert listener.left() == set(), "no decoder is a child of the feeds"
    assert len(units.started) == 1
    listener.feeds.stop()


@pytest.mark.parametrize("way", ["crash", "hang", "raise", "late-crash"])
def test_the_next_item_plays_whatever_this_one_does(
    way: str, units: Accepting, remote: Listener, media: Callable[[str], Path], original: bytes, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"fLaC" + f"<{way}>".encode())
    pcm = remote.hear(media("original.wav"), bad, media("original.wav"))
    assert pcm.startswith(original)
    assert pcm.endswith(original)
    assert [m.item for m in remote.seen if m.what == "failed"] == [1]
    assert (2, "ended") in remote.said()


def test_a_file_that_is_not_there_is_said_to_be_missing(remote: Listener, tmp_path: Path) -> None:
    assert remote.hear(tmp_path / "gone.wav") == b""
    assert [(m.item, m.detail) for m in remote.seen if m.what == "failed"] == [(0, "No such file or directory")]


def test_a_stream_and_its_fallback_come_as_descriptors_too(
    remote: Listener,
    media: Callable[[str], Path],
    fallback: Path,
) -> None:
    pcm = remote.hear(relay(media("noxing.mp3"), 1.0, fallback, away=1, silence_s=0.2))
    assert len(pcm) == 96_000
    assert b"\x34\x12" * 100 in pcm
    assert (0, "fallback") in remote.said()


def test_closing_a_play_ends_a_decoder_that_waits_on_a_full_pipe(
    units: Accepting, remote: Listener, media: Callable[[str], Path]
) -> None:
    fd = remote.feeds.open("play", 0, [Piece(n, path=str(media("original.wav"))) for n in range(30)])
    remote.until("started")
    remote.feeds.close("play")
    assert units.started[0].wait(5) is not None
    os.close(fd)


def test_when_nothing_listens_every_item_fails_and_the_segment_ends(
    plugins: Path, tmp_path: Path, media: Callable[[str], Path]
) -> None:
    listener = Listener(plugins, unit=tmp_path / "nobody.sock")
    assert listener.hear(media("original.wav"), media("original.wav")) == b""
    failed = [m for m in listener.seen if m.what == "failed"]
    assert [m.item for m in failed] == [0, 1]
    assert "no decoder could be started" in failed[0].detail
