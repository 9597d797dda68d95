"""How loud media is (EBU R128): measured once, when it has come.

A decoder child makes samples of it, like for a play, and a child of the meter's own reads them: nothing else opens it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import agent
from agent.model.events import Measured
from agent.ports import Feeds, Inbox, Piece

_ROOT = Path(agent.__file__).parent.parent
_TIMEOUT_S = 600.0


class Loudness:
    """Measures media in the background, one file at a time; thread-safe, `ask` returns at once."""

    def __init__(self, post: Inbox, feeds: Feeds, *, meter: str = "drivers.ebur128") -> None:
        self._post = post
        self._feeds = feeds
        self._meter = meter
        self._asked: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def ask(self, sha256: str, path: str) -> None:
        """Measure that file; answered by Measured, always."""
        self._asked.put((sha256, path))
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="loudness", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            sha256, path = asked
            try:
                self._post(self._measured(sha256, path))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self._post(Measured(sha256, None, 0.0, str(error) or type(error).__name__))

    def _measured(self, sha256: str, path: str) -> Measured:
        play = f"loudness:{sha256}"
        sound = self._feeds.open(play, 0, [Piece(item=0, path=path)])
        try:
            child = subprocess.run(
                [sys.executable, "-m", self._meter],
                stdin=sound,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_ROOT,
                timeout=_TIMEOUT_S,
                check=False,
            )
        finally:
            os.close(sound)
            self._feeds.close(play)
        if child.returncode or not child.stdout:
            return Measured(sha256, None, 0.0, f"the measuring process ended with {child.returncode}")
        told: dict[str, Any] = json.loads(child.stdout)
        return Measured(sha256, told["lufs"], told["peak"])
