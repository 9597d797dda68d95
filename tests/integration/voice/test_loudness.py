"""Siren, spoken words and an officer's recording are heard equally loud: the recording, by another meter (ffmpeg)."""

from __future__ import annotations

import re
import subprocess
import wave
from pathlib import Path

import pytest

from agent.cli.recording import _level
from agent.model import voice as v
from agent.model.loudness import PEAK_DBTP, SIREN_LUFS, TARGET_LUFS
from agent.sound import chimes
from agent.sound.speaking import render
from tests.integration.voice.process import CONFIG, Process

SPOKEN = "Nước đang lên. Bà con ở ấp Ba và ấp Bốn đi ngay đến trường tiểu học."
BUTTONS = """
buttons:
  - {id: spoken, pin: 6, action: {message: spoken}, zones: [hall]}
  - {id: recorded, pin: 7, action: {message: recorded}, zones: [hall]}
messages:
  - {id: spoken, title: Lũ, text: "Lũ.", chime: siren}
  - {id: recorded, title: Lũ, text: "Lũ.", chime: siren}
"""


def measured(sound: Path, first: float, last: float) -> tuple[float, float]:
    """(LUFS, dBTP) of these seconds, by ffmpeg's own EBU R128 meter."""
    cut = f"atrim={first}:{last},pan=mono|c0=c0,ebur128=peak=true"
    command = ["ffmpeg", "-nostats", "-i", str(sound), "-af", cut, "-f", "null", "-"]
    summary = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
    loudness, peak = (re.search(rf"{name}:\s+(\S+) ", summary) for name in ("I", "Peak"))
    assert loudness is not None
    assert peak is not None
    return float(loudness[1]), float(peak[1])


def officer(path: Path) -> None:
    """Somebody far from the microphone, as `tram record` keeps it: it comes 11 dB too quiet."""
    job = {"text": SPOKEN, "lang": "vi", "voice": "vi-vn-x-south", "speed": 130, "path": str(path)}
    render(job | {"engine": "drivers.espeak", "resampler": "drivers.soxr"})
    quiet = path.with_suffix(".quiet.wav")
    subprocess.run(["sox", str(path), str(quiet), "vol", "-11dB"], check=True, capture_output=True)
    quiet.rename(path)
    _level(path)


def test_the_siren_and_the_words_after_it_are_equally_loud_and_nothing_clips(tmp_path: Path) -> None:
    pinned = tmp_path / "data" / "pinned"
    pinned.mkdir(parents=True)
    job = {"text": SPOKEN, "lang": "vi", "voice": "vi-vn-x-south", "speed": 150, "path": str(pinned / "spoken.wav")}
    render(job | {"engine": "drivers.espeak", "resampler": "drivers.soxr"})
    officer(pinned / "recorded.wav")
    with wave.open(str(chimes.path("siren"))) as file:
        siren_s = file.getnframes() / file.getframerate()
    process = Process(tmp_path, CONFIG.partition("buttons:")[0] + BUTTONS)
    process.start()
    process.connect()
    heard = []
    for button in ("spoken", "recorded"):
        assert process.control(do="press", button=button, seconds=0.05)["ok"]
        started = process.wait(v.LocalStarted)
        ended = process.wait(v.LocalEnded)
        heard.append(((started.at_ns - process.origin_ns()) / 1e9, (ended.at_ns - process.origin_ns()) / 1e9))
    process.end()
    sound = tmp_path / "out" / "station.wav"
    for begin, end in heard:
        siren, peak = measured(sound, begin + 0.05, begin + siren_s - 0.05)
        words, words_peak = measured(sound, begin + siren_s, end)
        assert siren == pytest.approx(SIREN_LUFS, abs=0.5)
        assert words == pytest.approx(TARGET_LUFS, abs=1.0)
        assert max(peak, words_peak) <= PEAK_DBTP + 0.2
