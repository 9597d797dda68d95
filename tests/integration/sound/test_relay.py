"""A relayed stream (tiếp âm) plays in real time from its live edge, and its fallback when it is silent or away."""

from __future__ import annotations

import audioop
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.model.talk import OVER
from agent.ports import Piece
from tests.integration.sound.conftest import RATE, Listener, ffmpeg, write_wav
from tests.integration.sound.test_decoding import offset

pytestmark = pytest.mark.vlc


@pytest.fixture
def hasty(plugins: Path) -> Iterator[Listener]:
    """Gives a stream no more than its `silence_s` to begin."""
    made = Listener(plugins, start_s=0.0)
    yield made
    made.feeds.stop()


@pytest.fixture
def fallback(tmp_path: Path) -> Path:
    """A quarter of a second that nothing else contains."""
    return write_wav(tmp_path / "fallback.wav", b"\x34\x12" * (RATE // 4))


def relay(path: Path, seconds: float, *fallback: Path, **how: object) -> Piece:
    query = "&".join(f"{k}={v}" for k, v in how.items() if k != "silence_s")
    return Piece(
        0,
        url=f"file://{path}?{query}",
        seconds=seconds,
        silence_s=float(str(how.get("silence_s", 1.0))),
        fallback=tuple(map(str, fallback)),
    )


def test_a_stream_plays_for_its_seconds_in_real_time(
    listener: Listener, media: Callable[[str], Path], fallback: Path, original: bytes
) -> None:
    start = time.monotonic()
    pcm = listener.hear(relay(media("noxing.mp3"), 1.5, fallback, rate=8000))
    assert len(pcm) == round(1.5 * RATE) * 2
    assert time.monotonic() - start > 1.0
    assert abs(offset(pcm, original) - 1105) <= 1
    assert listener.said() == [(0, "ready"), (0, "started"), (0, "ended"), (-1, "done")]


def test_a_stream_whose_lease_is_renewed_goes_on_without_a_gap(
    listener: Listener, media: Callable[[str], Path], original: bytes
) -> None:
    fd = listener.feeds.open("play", 0, [relay(media("noxing.mp3"), 1.0, rate=8000)])
    pcm = b""
    while len(pcm) < RATE // 4 * 2:
        pcm += os.read(fd, 9600)
    listener.feeds.extend("play", 0, 1.5)
    while data := os.read(fd, 65_536):
        pcm += data
    os.close(fd)
    assert 1.5 * RATE <= len(pcm) // 2 < 2.5 * RATE
    body = pcm[: RATE * 2 + RATE]  # beyond where it was to end; the last 20 ms fade
    assert abs(offset(body, original) - 1105) <= 1
    assert [m.what for m in listener.until("done")] == ["ready", "started", "ended", "done"]
    listener.feeds.extend("play", 0, 1.0)  # too late: nothing happens


def test_a_stream_is_joined_at_its_live_edge_not_at_the_servers_backlog(
    listener: Listener, media: Callable[[str], Path], fallback: Path, original: bytes
) -> None:
    pcm = listener.hear(relay(media("noxing.mp3"), 0.5, fallback, rate=8000, burst=16_000))
    found, _ = audioop.findfit(original, pcm[: RATE // 2])
    assert found > RATE // 2


def test_a_file_behind_a_url_is_played_from_its_beginning(
    listener: Listener, media: Callable[[str], Path], fallback: Path, original: bytes
) -> None:
    pcm = listener.hear(relay(media("48k.mp3"), 2.0, fallback))
    assert abs(offset(pcm, original)) <= 1
    assert len(pcm) == 2 * RATE * 2


def test_a_stream_that_is_away_gives_place_to_the_fallback_and_the_time_is_filled(
    hasty: Listener, media: Callable[[str], Path], fallback: Path, tmp_path: Path, original: bytes
) -> None:
    pcm = hasty.hear(relay(tmp_path / "nothing", 1.0, fallback, silence_s=0.5), media("original.wav"))
    assert pcm == b"\x34\x12" * RATE + original
    assert hasty.said()[:1] == [(0, "fallback")]
    assert "away for 0.5 s" in hasty.seen[0].detail


def test_a_stream_that_falls_silent_gives_place_to_the_fallback(
    listener: Listener, fallback: Path, tmp_path: Path, original: bytes
) -> None:
    source = write_wav(tmp_path / "quiet.wav", original[: RATE * 2] + bytes(RATE * 2 * 6))
    ffmpeg("-i", source, "-b:a", "64k", tmp_path / "quiet.mp3")
    pcm = listener.hear(relay(tmp_path / "quiet.mp3", 4.0, fallback, rate=8000, silence_s=1.0))
    assert len(pcm) == 4 * RATE * 2
    assert pcm.endswith(b"\x34\x12" * (RATE // 4))
    mark = next(m for m in listener.seen if m.what == "fallback")
    assert "silent for 1 s" in mark.detail
    assert 1.8 * RATE < mark.samples < 3 * RATE
    assert pcm[mark.samples * 2 : mark.samples * 2 + 4] == b"\x34\x12\x34\x12"


def test_a_stream_that_stalls_gives_place_to_the_fallback_after_what_it_gave(
    listener: Listener, media: Callable[[str], Path], fallback: Path
) -> None:
    piece = relay(media("noxing.mp3"), 2.5, fallback, rate=8000, stop=9_000, hold=1, silence_s=0.7)
    pcm = listener.hear(piece)
    assert len(pcm) == round(2.5 * RATE) * 2
    assert [m.what for m in listener.seen] == ["ready", "started", "fallback", "ended", "done"]


def test_a_broken_connection_is_taken_up_again(
    listener: Listener, media: Callable[[str], Path], fallback: Path
) -> None:
    pcm = listener.hear(relay(media("noxing.mp3"), 2.5, fallback, rate=8000, stop=9_000, silence_s=3.0))
    assert len(pcm) == round(2.5 * RATE) * 2
    assert "fallback" not in [m.what for m in listener.seen]


def test_a_stream_that_is_no_sound_counts_as_away(
    hasty: Listener, media: Callable[[str], Path], fallback: Path
) -> None:
    text = media("original.wav").with_name("page.html")
    text.write_text("<html>#EXTM3U</html>" * 1000)
    hasty.hear(relay(text, 1.0, fallback, silence_s=0.5))
    assert hasty.seen[0].what == "fallback"


def test_without_a_fallback_the_item_fails_and_the_next_plays(
    hasty: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    assert hasty.hear(relay(tmp_path / "no", 9.0, silence_s=0.3), media("original.wav")) == original
    assert hasty.seen[0].what == "failed"
    assert "no fallback" in hasty.seen[0].detail


def test_a_fallback_that_has_no_sound_either_fails_and_does_not_turn_in_circles(
    hasty: Listener, media: Callable[[str], Path], tmp_path: Path, original: bytes
) -> None:
    piece = relay(tmp_path / "no", 9.0, tmp_path / "nor this", silence_s=0.3)
    assert hasty.hear(piece, media("original.wav")) == original
    assert [m.what for m in hasty.seen[:2]] == ["fallback", "failed"]


def test_a_decoder_that_dies_of_a_stream_leaves_the_time_to_the_fallback(
    plugins: Path, fallback: Path, tmp_path: Path
) -> None:
    (tmp_path / "evil").write_bytes(b"fLaC" + b"<crash>")
    listener = Listener(plugins, media="tests.integration.sound.hostile_media")
    pcm = listener.hear(relay(tmp_path / "evil", 1.0, fallback))
    listener.feeds.stop()
    assert pcm == b"\x34\x12" * RATE
    assert [m.what for m in listener.seen] == ["fallback", "ready", "started", "ended", "done"]
    assert "died" in listener.seen[0].detail


def test_a_reader_who_waits_is_no_reason_for_the_fallback(
    listener: Listener, media: Callable[[str], Path], fallback: Path
) -> None:
    fd = listener.feeds.open("play", 0, [relay(media("noxing.mp3"), 2.0, fallback, rate=8000, silence_s=0.5)])
    listener.until("started")
    time.sleep(1.2)  # the pipe holds 0.7 s
    marks, size = [], 0
    while data := os.read(fd, 65_536):
        size += len(data)
    os.close(fd)
    marks = listener.until("done")
    assert size == 2 * RATE * 2
    assert "fallback" not in [m.what for m in marks]


def test_closing_a_relay_ends_its_fetcher(listener: Listener, media: Callable[[str], Path]) -> None:
    fd = listener.feeds.open("play", 0, [relay(media("noxing.mp3"), 60.0, rate=2000, hold=1)])
    time.sleep(0.4)
    listener.feeds.close("play")
    listener.feeds.stop(timeout_s=5)
    os.close(fd)
    assert listener.left() == set()


# an officer who speaks live at the station


def talk(path: Path, seconds: float, *fallback: Path, **how: object) -> Piece:
    return msgspec.structs.replace(relay(path, seconds, *fallback, **how), talk=True)


@pytest.fixture
def speech(tmp_path: Path, original: bytes) -> Path:
    """As the library gives it: 16 000 samples a second, nothing before and after them; with a pause of two seconds."""
    ffmpeg("-i", write_wav(tmp_path / "o.wav", original), "-ar", 16_000, "-f", "s16le", tmp_path / "o.raw")
    spoken = (tmp_path / "o.raw").read_bytes()[:32_000]
    (tmp_path / "talk.raw").write_bytes(spoken + bytes(64_000) + spoken)
    return tmp_path / "talk.raw"


def test_a_talk_is_heard_to_its_end_and_a_pause_is_no_silence(
    listener: Listener, speech: Path, fallback: Path, original: bytes
) -> None:
    began = time.monotonic()
    pcm = listener.hear(talk(speech, 60.0, fallback, rate=32_000, code=OVER, silence_s=1.0))
    assert time.monotonic() - began < 20
    assert listener.said() == [(0, "ready"), (0, "started"), (0, "ended"), (-1, "done")]
    assert len(pcm) // 2 == pytest.approx(4 * RATE, abs=RATE // 50)
    second = pcm[3 * RATE * 2 : 3 * RATE * 2 + RATE]
    found, _ = audioop.findfit(original[: 2 * RATE], second)
    assert found < RATE // 50


def test_a_talk_that_nobody_gives_is_replaced_by_its_words_once(hasty: Listener, speech: Path, fallback: Path) -> None:
    pcm = hasty.hear(talk(speech.with_name("none"), 60.0, fallback, silence_s=0.5))
    assert pcm == fallback.read_bytes()[44:]
    assert [m.what for m in hasty.seen] == ["ready", "started", "fallback", "ended", "done"] or [
        m.what for m in hasty.seen
    ] == ["fallback", "ready", "started", "ended", "done"]


def test_a_talk_that_is_torn_off_is_replaced_by_its_words_and_one_that_comes_back_goes_on(
    listener: Listener, speech: Path, fallback: Path, tmp_path: Path
) -> None:
    once = tmp_path / "was-there"
    torn = listener.hear(talk(speech, 60.0, fallback, rate=32_000, stop=32_000, once=once, silence_s=1.0))
    assert torn.endswith(fallback.read_bytes()[44:])
    assert len(torn) == (RATE + RATE // 4) * 2
    back = listener.hear(talk(speech, 60.0, fallback, rate=32_000, stop=32_000, code=OVER, broken=tmp_path / "b"))
    assert len(back) // 2 == pytest.approx(2 * RATE, abs=RATE // 50)
    assert "fallback" not in [m.what for m in listener.seen]


def test_who_comes_late_to_a_talk_that_is_over_hears_nothing(listener: Listener, speech: Path, fallback: Path) -> None:
    assert listener.hear(talk(speech, 60.0, fallback, stop=0, code=OVER)) == b""
    assert listener.said() == [(0, "ended"), (-1, "done")]


def test_after_a_hesitation_of_the_network_a_talk_is_not_late_for_ever(
    listener: Listener, speech: Path, fallback: Path
) -> None:
    """What came all at once is passed over but for its end."""
    pcm = listener.hear(talk(speech, 60.0, fallback, rate=32_000, burst=32_000 * 3, code=OVER))
    assert len(pcm) // 2 <= 2 * RATE
