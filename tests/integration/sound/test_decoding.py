"""Every common format comes out as the samples that went in: their number, their place, their level."""

from __future__ import annotations

import audioop
import math
import os
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.ports import Piece
from tests.integration.sound.conftest import RATE, Listener, write_wav

pytestmark = pytest.mark.vlc


def level(pcm: bytes) -> float:
    return 20 * math.log10(max(audioop.rms(pcm, 2), 1) / 32768)


def offset(pcm: bytes, original: bytes) -> int:
    """Where a stretch of the original is found, relative to where it was."""
    at = RATE // 4
    found, _ = audioop.findfit(pcm[: RATE * 2], original[at * 2 : at * 2 + RATE // 2])
    return int(found) - at


# fmt: off
EXACT = [
    "original.wav", "24bit.wav", "8bit.wav", "float.wav", "32k.wav", "96k.wav", "44k.mp3", "48k.mp3", "mono24k.mp3",
    "stereo.opus", "mono.opus", "44k.ogg", "48k.ogg", "44k.m4a", "48k.m4a", "fast.m4a", "44k.flac", "24bit.flac",
]
# fmt: on


@pytest.mark.parametrize("name", EXACT)
def test_a_format_that_tells_its_length_comes_out_sample_by_sample_at_its_level(
    name: str, listener: Listener, media: Callable[[str], Path], original: bytes
) -> None:
    pcm = listener.hear(media(name))
    assert listener.said() == [(0, "ready"), (0, "started"), (0, "ended"), (-1, "done")]
    assert abs(offset(pcm, original)) <= (2 if name.endswith("opus") else 1)  # the codec's own two, with any decoder
    assert abs(len(pcm) - len(original)) // 2 <= 1
    assert listener.seen[2].samples == len(pcm) // 2
    assert _as_elsewhere(pcm, media(name))


@pytest.mark.parametrize(("name", "delay", "more"), [("noxing.mp3", 1105, 2400), ("adts.aac", 1024, 2048)])
def test_a_format_that_does_not_tell_keeps_its_codec_delay_and_no_more(
    name: str, delay: int, more: int, listener: Listener, media: Callable[[str], Path], original: bytes
) -> None:
    pcm = listener.hear(media(name))
    assert abs(offset(pcm, original) - delay) <= 1
    assert 0 <= (len(pcm) - len(original)) // 2 <= more
    assert _as_elsewhere(pcm, media(name))


def _as_elsewhere(pcm: bytes, path: Path) -> bool:
    """Whether the level is that of ffmpeg's decoder, within 0.2 dB."""
    mix = "pan=mono|c0=0.5*c0+0.5*c1" if _stereo(path) else "anull"
    command = ["ffmpeg", "-v", "error", "-i", path, "-af", mix, "-ar", str(RATE), "-f", "s16le", "-"]
    return abs(level(pcm) - level(subprocess.run(command, capture_output=True, check=True).stdout)) < 0.2


def _stereo(path: Path) -> bool:
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=channels", "-of", "csv=p=0", str(path)]
    return subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"2"


def test_telephone_wav_is_played_too(listener: Listener, media: Callable[[str], Path], original: bytes) -> None:
    pcm = listener.hear(media("mulaw.wav"))
    assert abs(offset(pcm, original)) <= 2
    assert abs(len(pcm) - len(original)) <= 2


def test_two_different_channels_are_averaged_and_never_clip(listener: Listener, tmp_path: Path) -> None:
    both = array("h", [32767, 32767, 20000, -10000, -32768, -32768, 0, 101] * 1000).tobytes()
    pcm = array("h", listener.hear(write_wav(tmp_path / "s.wav", both, channels=2)))
    assert list(pcm[:4]) == [32767, 5000, -32768, 50]


def test_a_tone_stays_clean_when_its_rate_is_changed(listener: Listener, tmp_path: Path) -> None:
    tone = array("h", (round(16_000 * math.sin(2 * math.pi * 1000 * n / 44_100)) for n in range(44_100)))
    pcm = listener.hear(write_wav(tmp_path / "t.wav", tone.tobytes(), rate=44_100))
    ideal = array("h", (round(16_000 * math.sin(2 * math.pi * 1000 * n / RATE)) for n in range(RATE))).tobytes()
    difference = audioop.add(pcm, audioop.mul(ideal, 2, -1), 2)[4_000:-4_000]
    assert level(pcm) - level(difference) > 70


def test_items_follow_each_other_without_a_sample_between(
    listener: Listener, media: Callable[[str], Path], original: bytes
) -> None:
    names = ("original.wav", "48k.mp3", "44k.flac", "original.wav")
    one_by_one = [listener.hear(media(n)) for n in names]
    assert listener.hear(*(media(n) for n in names)) == b"".join(one_by_one)
    assert [s for s in listener.said() if s[1] == "ended"] == [(n, "ended") for n in range(4)]
    assert [s for s in listener.said() if s[1] == "ready"] == [(0, "ready")]


@pytest.mark.parametrize("name", ["original.wav", "32k.wav", "44k.mp3", "stereo.opus", "44k.m4a"])
@pytest.mark.parametrize("skip", [1, 130_000])
def test_a_resumed_segment_goes_on_at_exactly_the_saved_sample(
    name: str, skip: int, listener: Listener, media: Callable[[str], Path]
) -> None:
    whole = listener.hear(media(name))
    assert listener.hear(media(name), skip=skip) == whole[skip * 2 :]


def test_a_resume_skips_whole_items(listener: Listener, media: Callable[[str], Path]) -> None:
    items = (media("original.wav"), media("48k.mp3"), media("original.wav"))
    whole = listener.hear(*items)
    assert listener.hear(*items, skip=300_000) == whole[600_000:]
    assert listener.said() == [(0, "ended"), (1, "ended"), (2, "ready"), (2, "started"), (2, "ended"), (-1, "done")]


def test_a_slow_reader_loses_nothing(
    listener: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    long = write_wav(tmp_path / "long.wav", original * 8, channels=1)
    mp3 = tmp_path / "long.mp3"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", long, "-b:a", "64k", mp3], check=True)
    assert listener.hear(mp3, pause_s=0.01) == listener.hear(mp3)
    assert listener.seen[-2].samples == len(original) * 8 // 2


def test_a_child_is_gone_as_soon_as_all_is_in_the_pipe(listener: Listener, media: Callable[[str], Path]) -> None:
    fd = listener.feeds.open("play", 0, [Piece(0, path=str(media("48k.mp3")))])
    assert listener.until("done")[-1].what == "done"
    size = 0
    while data := os.read(fd, 65_536):
        size += len(data)
    os.close(fd)
    assert size == 3 * RATE * 2
