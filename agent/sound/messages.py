"""Stored messages: the officer's recordings, and the copies that voice keeps in memory.

`{data_dir}/messages/<id>.wav` is what an officer recorded; `{data_dir}/pinned/<id>.wav` is what voice loads at start,
the recording or else the spoken text, so that the buttons work when everything else is dead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import wave
from collections.abc import Iterable
from pathlib import Path

from agent.model.events import Sound
from agent.model.voice import RATE


def recorded(data: Path, messages: Iterable[str]) -> dict[str, Sound]:
    """The officer's recordings that are there and have the right form (48 000 Hz, one channel, 16 bit)."""
    found: dict[str, Sound] = {}
    for message in messages:
        path = data / "messages" / f"{message}.wav"
        if path.exists():
            sound = describe(path, f"message:{message}")
            if sound is not None:
                found[message] = sound
    return found


def describe(path: Path, pinned: str | None = None) -> Sound | None:
    """A WAV file as a Sound; None when it is not of the station's form."""
    try:
        with wave.open(str(path)) as wav:
            form = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
            samples = wav.getnframes()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, EOFError, wave.Error):
        return None
    return Sound(str(path), digest, samples, pinned) if form == (RATE, 1, 2) else None


def pin(data: Path, message: str, source: Path) -> Path:
    """Put a message's sound where voice loads it at start, durably; returns that path. OSError: disk full."""
    target = data / "pinned" / f"{message}.wav"
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.read_bytes() == source.read_bytes():
        return target
    fresh = target.with_suffix(".new")
    with source.open("rb") as read, fresh.open("wb") as write:
        shutil.copyfileobj(read, write)
        write.flush()
        os.fsync(write.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target
