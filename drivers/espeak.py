"""Offline speech by espeak-ng, as a process of its own (GPL-3.0: it is run, never linked)."""

from __future__ import annotations

import shutil
import subprocess

PROGRAM = "espeak-ng"
VOICES = {"vi": "vi-vn-x-south", "vi-vn": "vi-vn-x-south", "en": "en", "en-gb": "en", "en-us": "en-us"}
"""Language tags (lower case) with a voice that speaks them; no other tag is ever given to a voice."""


class SpeechError(Exception):
    """espeak-ng did not speak; the text is for people."""


def available() -> bool:
    """Whether espeak-ng is installed."""
    return shutil.which(PROGRAM) is not None


def speak(text: str, voice: str, words_per_minute: int, timeout_s: float = 120.0) -> bytes:
    """Speak plain text; returns a WAV file (22 050 Hz, mono, 16 bit, sizes in its header meaningless).

    The text goes in on stdin and is never markup or phonemes: "[[" is taken apart. Raises SpeechError.
    """
    command = [PROGRAM, "-v", voice, "-s", str(words_per_minute), "-b", "1", "--stdin", "--stdout"]
    plain = text.replace("[[", "[ [").encode("utf-8", "replace")
    try:
        done = subprocess.run(command, input=plain, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        raise SpeechError("espeak-ng is not installed") from None
    except subprocess.TimeoutExpired:
        raise SpeechError(f"espeak-ng did not finish within {timeout_s:g} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise SpeechError(f"espeak-ng ended with {done.returncode}: {said}")
    return done.stdout
