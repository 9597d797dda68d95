"""A speaking child: one text into one WAV file. `python -m agent.sound.speaking`, the job as JSON on stdin.

The job: `text`, `lang`, `voice`, `speed` (words a minute), `urgent` (not to give way to others), `path`, `engine` and
`resampler` (modules of `drivers`).
Answers with JSON on stdout: `{}` or `{"error": text}`.

Level: −20 LUFS (EBU R128), but true peaks never above −1 dBTP; a word too short to have a loudness by that measure is
brought to −20 dBFS RMS. The engine's silence is cut to 50 ms in front and 200 ms behind.
"""

from __future__ import annotations

import audioop
import importlib
import io
import json
import math
import os
import sys
import wave
from pathlib import Path
from typing import Any

from agent.model.loudness import PEAK_DBTP, TARGET_LUFS
from agent.sound import wav
from agent.sound.normalise import spoken

_WINDOW = wav.RATE // 100 * 2
_FRONT, _BEHIND = 5, 20


class UnspeakableError(Exception):
    """Nothing came of the text; the text of this is for people."""


def levelled(pcm: bytes, meter: str = "drivers.ebur128") -> bytes:
    """The speech at its level, without the engine's silence. Raises UnspeakableError when nothing sounds."""
    levels = [audioop.rms(pcm[i : i + _WINDOW], 2) for i in range(0, len(pcm), _WINDOW)]
    floor = max(levels, default=0) / 100
    sounding = [n for n, level in enumerate(levels) if level > floor]
    if not sounding:
        raise UnspeakableError("there is nothing to say in it")
    pcm = pcm[max(sounding[0] - _FRONT, 0) * _WINDOW : (sounding[-1] + 1 + _BEHIND) * _WINDOW]
    lufs, peak = importlib.import_module(meter).measure(pcm, wav.RATE)
    if lufs is None:
        lufs = 20 * math.log10((sum(levels[n] ** 2 for n in sounding) / len(sounding)) ** 0.5 / 32768)
    return audioop.mul(pcm, 2, 10 ** (min(TARGET_LUFS - lufs, PEAK_DBTP - peak) / 20))


def render(job: dict[str, Any]) -> None:
    """Speak into `path`: whole and on the disk, or not at all."""
    text = spoken(job["text"]) if job["lang"].lower().startswith("vi") else job["text"]
    if not any(c.isalnum() for c in text):
        raise UnspeakableError("there is nothing to say in it")
    data = importlib.import_module(job["engine"]).speak(text, job["voice"], job["speed"])
    file = io.BytesIO(data)
    form = wav.examine(file)
    file.seek(form.offset)
    raw = file.read(form.frames * form.frame)
    if form.rate != wav.RATE:
        change = importlib.import_module(job["resampler"]).Resampler(form.rate, wav.RATE, 1)
        raw = change.process(raw) + change.flush()
    path = Path(job["path"])
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with open(part, "wb") as out, wave.open(out, "wb") as spoken_file:
            spoken_file.setnchannels(1)
            spoken_file.setsampwidth(2)
            spoken_file.setframerate(wav.RATE)
            spoken_file.writeframes(levelled(raw))
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    """Do the job on stdin and say how it went."""
    answer: dict[str, str] = {}
    try:
        job = json.load(sys.stdin)
        os.nice(0 if job["urgent"] else 5)
        render(job)
    except Exception as error:  # noqa: BLE001 - the agent reports it; this process has nobody to tell
        answer["error"] = str(error) or type(error).__name__
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
