"""Offline speech as files, spoken once. Implements `agent.ports.Speech`."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import agent
from agent import machine
from agent.model.events import SpeechFailed, SpeechReady
from agent.ports import Inbox
from agent.sound import wav

VERSION = 3
"""Raise it whenever the same text would be spoken differently: normalisation, level, trimming."""
SPEED = 150
"""Words a minute: slower than the engine's own 175, for horns and their echo."""
_ROOT = Path(agent.__file__).parent.parent
_WORKERS = 2
_TIMEOUT_S = 150.0


_Jobs = queue.PriorityQueue[tuple[int, int, str, str, str]]
"""Urgency (the most urgent is the least), number, key, text, language."""


class OfflineSpeech:
    """Renders texts in children, two at a time and two more for alerts, into `folder`.

    Thread-safe; every method returns at once.

    `engine`: a module of `drivers` with VOICES, available and speak. Files are named by what they say (text,
    language, voice, speed, VERSION); when there are more than `max_bytes` of them the longest unused go first.
    """

    def __init__(
        self,
        post: Inbox,
        folder: Path,
        *,
        engine: str = "drivers.espeak",
        resampler: str = "drivers.soxr",
        max_bytes: int = 256 * 2**20,
    ) -> None:
        self._post = post
        self._folder = folder
        self._engine_name, self._resampler = engine, resampler
        self._engine: Any = importlib.import_module(engine)
        self._available: bool = self._engine.available()
        self._max_bytes = max_bytes
        self._jobs: _Jobs = queue.PriorityQueue()
        self._urgent: _Jobs = queue.PriorityQueue()
        self._count = itertools.count()
        """Texts of the same urgency keep their order."""
        self._lock = threading.Lock()
        self._busy: dict[Path, threading.Lock] = {}
        self._workers: list[threading.Thread] = []
        self._urgent_workers: list[threading.Thread] = []
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)

    def speaks(self, lang: str) -> bool:
        """Whether there is a voice for that language: for this very tag, never for a relative of it."""
        return self._available and lang.lower() in self._engine.VOICES

    def render(self, key: str, text: str, lang: str, *, urgency: int = 0) -> None:
        """Speak into a file; posts SpeechReady or SpeechFailed. The same text and language are spoken once.

        A text of a higher `urgency` does not wait for lower ones that were asked for before it.
        """
        jobs, workers = (self._urgent, self._urgent_workers) if urgency else (self._jobs, self._workers)
        jobs.put((-urgency, next(self._count), key, text, lang))
        with self._lock:
            if len(workers) < _WORKERS:
                worker = threading.Thread(target=self._work, args=(jobs,), name="speech", daemon=True)
                workers.append(worker)
                worker.start()

    def path(self, text: str, lang: str) -> Path:
        """Where that text is or will be. KeyError for a language without a voice."""
        said = json.dumps([VERSION, text, lang.lower(), self._engine.VOICES[lang.lower()], SPEED])
        return self._folder / f"{hashlib.sha256(said.encode()).hexdigest()}.wav"

    def _work(self, jobs: _Jobs) -> None:
        machine.stand_back()
        while True:
            urgency, _, key, text, lang = jobs.get()
            self._do(key, text, lang, -urgency)

    def _do(self, key: str, text: str, lang: str, urgency: int) -> None:
        if not self.speaks(lang):
            self._post(SpeechFailed(key, f"there is no voice for {lang}"))
            return
        path = self.path(text, lang)
        with self._lock:
            turn = self._busy.setdefault(path, threading.Lock())
        with turn:
            try:
                problem = None if path.exists() else self._spoken(path, text, lang, urgency)
                event = SpeechFailed(key, problem) if problem else self._ready(key, path)
            except (OSError, wav.WavError) as error:
                event = SpeechFailed(key, str(error))
        with self._lock:
            self._busy.pop(path, None)
        self._post(event, urgent=urgency > 0)

    def _spoken(self, path: Path, text: str, lang: str, urgency: int) -> str | None:
        """Have a child speak; returns what went wrong."""
        job = {
            "text": text,
            "lang": lang,
            "voice": self._engine.VOICES[lang.lower()],
            "speed": SPEED,
            "urgent": urgency > 1,  # what follows an alert's first words must not delay them
            "path": str(path.resolve()),
            "engine": self._engine_name,
            "resampler": self._resampler,
        }
        try:
            child = subprocess.run(
                [sys.executable, "-m", "agent.sound.speaking"],
                input=json.dumps(job).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_ROOT,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"speaking took longer than {_TIMEOUT_S:g} s"
        if child.returncode or not child.stdout:
            return f"the speaking process ended with {child.returncode}"
        error = json.loads(child.stdout).get("error")
        if error is None:
            self._make_room(path)
        return error if error is None else str(error)

    def _ready(self, key: str, path: Path) -> SpeechReady | SpeechFailed:
        with open(path, "rb") as file:
            form = wav.examine(file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.utime(path)
        if not form.ours or not form.frames:
            path.unlink(missing_ok=True)
            return SpeechFailed(key, "the spoken file was damaged and is gone: say it again")
        return SpeechReady(key, str(path), digest, form.frames / form.rate)

    def _make_room(self, newest: Path) -> None:
        files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.glob("*.wav"))
        total = sum(size for _, size, _ in files)
        for _, size, file in files:
            if total <= self._max_bytes:
                return
            if file != newest:
                file.unlink(missing_ok=True)
                total -= size
