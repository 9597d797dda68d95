"""The sounds of the demo, made for each run: speech by espeak-ng, encoded by ffmpeg, and what a listener should hear.

References are decoded by ffmpeg, not by the station's own decoder, so that the comparison is with somebody else's ear.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from agent.sound.normalise import spoken

VOICE = "vi-vn-x-south"
CODECS: dict[str, list[str]] = {
    "mp3": ["-c:a", "libmp3lame", "-b:a", "64k"],
    "opus": ["-c:a", "libopus", "-b:a", "48k", "-f", "ogg"],
    "m4a": ["-c:a", "aac", "-b:a", "64k"],
    "flac": ["-c:a", "flac"],
    "wav": ["-c:a", "pcm_s16le"],
}


class SoundError(Exception):
    """A program that makes sounds is missing or failed; the message names it and the remedy."""


def speak(text: str, target: Path, *, speed: int = 165, rate: int = 44_100, channels: int = 1) -> Path:
    """Speak Vietnamese text into a WAV file."""
    raw = target.with_suffix(".raw.wav")
    _run(["espeak-ng", "-v", VOICE, "-s", str(speed), "-a", "90", "-w", str(raw), spoken(text)])
    _run(["ffmpeg", "-y", "-v", "error", "-i", str(raw), "-ar", str(rate), "-ac", str(channels), str(target)])
    raw.unlink()
    return target


def encode(source: Path, target: Path) -> Path:
    """Encode by the target's ending: mp3, opus, m4a, flac or wav."""
    _run(["ffmpeg", "-y", "-v", "error", "-i", str(source), *CODECS[target.suffix[1:]], str(target)])
    return target


def tune(target: Path, notes: list[float], seconds: float) -> Path:
    """A soft melody, one note after another; stands for a radio's music."""
    inputs = "+".join(
        f"between(t,{i * seconds},{(i + 1) * seconds})*0.12*sin(2*PI*{note}*t)" for i, note in enumerate(notes)
    )
    total = str(len(notes) * seconds)
    _run(["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", f"aevalsrc='{inputs}':s=44100:d={total}", str(target)])
    return target


def join(sources: list[Path], target: Path) -> Path:
    """One WAV after another, 44 100 Hz stereo."""
    inputs = [word for source in sources for word in ("-i", str(source))]
    graph = "".join(f"[{i}:a]" for i in range(len(sources))) + f"concat=n={len(sources)}:v=0:a=1"
    _run(["ffmpeg", "-y", "-v", "error", *inputs, "-filter_complex", graph, "-ar", "44100", "-ac", "2", str(target)])
    return target


def reference(source: Path, folder: Path, name: str | None = None) -> Path:
    """Put what a listener should hear of a file into `sent/` as `<sha256 of the file>.wav`, or under another name.

    An M4A is cut to the length its edit list gives, since ffmpeg leaves AAC's padding at the end. Opus
    is decoded by the reference decoder, libopus: ffmpeg's own differs from it by more than a listener's click.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name or hashlib.sha256(source.read_bytes()).hexdigest()}.wav"
    if not target.exists():
        decoder = ["-c:a", "libopus"] if source.suffix == ".opus" else []
        length = ["-t", _duration(source)] if source.suffix == ".m4a" else []
        form = ["-ar", "48000", "-ac", "1", "-c:a", "pcm_s16le"]
        _run(["ffmpeg", "-y", "-v", "error", *decoder, "-i", str(source), *length, *form, str(target)])
    return target


def _duration(path: Path) -> str:
    words = ["ffprobe", "-v", "error", "-show_entries", "stream=duration", "-of", "csv=p=0", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise SoundError(f"{command[0]} is missing: apt install {command[0]}")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise SoundError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
