"""Vietnamese is spoken offline by espeak-ng, at one level, once per text."""

from __future__ import annotations

import queue
import shutil
from pathlib import Path

import pytest
from msgspec import Struct

from agent.model.events import SpeechFailed, SpeechReady
from agent.sound import wav
from agent.sound.speech import OfflineSpeech
from tests.integration.sound.test_decoding import level

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")

TEXT = "Mời bà con ấp 3 đến họp lúc 19h30 ngày 03/11/2026."


class Spoken:
    def __init__(self, folder: Path, **options: object) -> None:
        self.events: queue.SimpleQueue[Struct] = queue.SimpleQueue()
        self.speech = OfflineSpeech(self._post, folder, **options)  # type: ignore[arg-type]

    def _post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    def say(self, text: str, lang: str = "vi") -> Struct:
        self.speech.render("key", text, lang)
        return self.events.get(timeout=20)


@pytest.fixture
def spoken(tmp_path: Path) -> Spoken:
    return Spoken(tmp_path / "speech")


def _samples(path: str) -> bytes:
    with open(path, "rb") as file:
        form = wav.examine(file)
        assert form.ours
        file.seek(form.offset)
        return file.read()


def test_a_text_becomes_a_wav_of_ours_at_the_fixed_level_without_long_silence(spoken: Spoken) -> None:
    event = spoken.say(TEXT)
    assert isinstance(event, SpeechReady)
    pcm = _samples(event.path)
    assert event.seconds == len(pcm) / 2 / 48_000
    assert 3 < event.seconds < 12
    assert -24 < level(pcm) < -19  # pauses pull it below the -20 of the sounding part
    assert level(pcm[:9_600]) > -40
    assert level(pcm[-28_800:]) > -60


def test_an_urgent_text_does_not_wait_for_those_before_it(spoken: Spoken) -> None:
    for n in range(8):
        spoken.speech.render(f"plain-{n}", f"Thông báo số {n}. " + TEXT * 20, "vi")
    spoken.speech.render("alert", "Bão vào bờ.", "vi", urgency=2)
    events = [spoken.events.get(timeout=60) for _ in range(9)]
    assert all(isinstance(e, SpeechReady) for e in events)
    assert [e.key for e in events].index("alert") < 6  # type: ignore[attr-defined]


def test_the_same_text_is_spoken_once(spoken: Spoken, tmp_path: Path) -> None:
    first = spoken.say(TEXT)
    assert isinstance(first, SpeechReady)
    before = Path(first.path).stat().st_ino
    assert spoken.say(TEXT) == first
    assert Path(first.path).stat().st_ino == before
    again = Spoken(tmp_path / "speech")
    assert again.say(TEXT) == first


def test_what_is_said_is_written_out_first(spoken: Spoken) -> None:
    short, long = spoken.say("5 mm"), spoken.say("1.234.567 mm")
    assert isinstance(short, SpeechReady)
    assert isinstance(long, SpeechReady)
    assert long.seconds > 2 * short.seconds


def test_a_language_without_a_voice_is_never_read_by_another(spoken: Spoken) -> None:
    assert [spoken.speech.speaks(lang) for lang in ("vi", "vi-VN", "VI", "km", "vi-fonipa", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    event = spoken.say("ជំរាបសួរ", "km")
    assert isinstance(event, SpeechFailed)
    assert "no voice" in event.detail


@pytest.mark.parametrize("text", ["...", "\u200b", "!!!", "🎉"])
def test_a_text_with_nothing_to_say_fails_and_leaves_no_file(text: str, spoken: Spoken, tmp_path: Path) -> None:
    event = spoken.say(text)
    assert isinstance(event, SpeechFailed)
    assert list((tmp_path / "speech").iterdir()) == []


def test_a_file_damaged_by_a_power_cut_is_not_handed_out(spoken: Spoken) -> None:
    first = spoken.say(TEXT)
    assert isinstance(first, SpeechReady)
    Path(first.path).write_bytes(b"")
    assert isinstance(spoken.say(TEXT), SpeechFailed)
    Path(first.path).unlink(missing_ok=True)
    assert spoken.say(TEXT) == first


def test_half_written_files_of_a_killed_child_are_swept_up(tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    (folder / "x.123.part").write_bytes(b"half")
    Spoken(folder)
    assert list(folder.iterdir()) == []


def test_the_folder_stays_within_its_size(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path / "speech", max_bytes=400_000)
    paths = []
    for n in range(5):
        event = spoken.say(f"Thông báo số {n}")
        assert isinstance(event, SpeechReady)
        paths.append(Path(event.path))
    assert paths[-1].exists()
    assert not paths[0].exists()
    assert sum(p.stat().st_size for p in (tmp_path / "speech").iterdir()) <= 400_000


def test_without_the_engine_nothing_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not Spoken(tmp_path / "speech").speech.speaks("vi")


def test_phoneme_marks_in_a_text_are_only_text(spoken: Spoken) -> None:
    assert isinstance(spoken.say("xin [[chào]] <break/> bà con"), SpeechReady)
