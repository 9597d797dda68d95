"""What is put at an address of the source: each document by a child process, one after the other, with retries."""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
from pathlib import Path

from msgspec import Struct

from agent.core.commands import Upload
from agent.model.config import Content
from agent.model.events import Uploaded
from agent.ports import Inbox


class Patience(Struct, frozen=True, kw_only=True):
    """All in seconds; tests shorten them."""

    retry_s: float = 5.0
    """First pause after a failure; doubles with each, with ±50 % jitter."""
    tries: int = 6
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    whole_s: float = 120.0
    """A child that takes longer is ended."""


class Uploads:
    """Takes `Upload`s, and posts `Uploaded` for each; what `stop` interrupts is not answered."""

    def __init__(self, database: Path, content: Content, post: Inbox, patience: Patience | None = None) -> None:
        self._database = database
        self._content = content
        self._post = post
        self._patience = patience or Patience()
        self._queue: queue.SimpleQueue[Upload | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Nothing runs before the first document."""

    def send(self, upload: Upload) -> None:
        """Put it there as soon as possible; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
            self._thread.start()
        self._queue.put(upload)

    def stop(self) -> None:
        """End the child and the thread. May be called twice."""
        self._stopping.set()
        self._queue.put(None)
        child = self._child
        if child is not None:
            child.kill()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (upload := self._queue.get()) is not None and not self._stopping.is_set():
            answer = self._upload(upload)
            if not self._stopping.is_set():
                self._post(answer)

    def _upload(self, upload: Upload) -> Uploaded:
        answer, final = self._once(upload)
        for tried in range(self._patience.tries - 1):
            pause = self._patience.retry_s * 2**tried * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            if final or self._stopping.wait(pause):
                break
            answer, final = self._once(upload)
        return answer

    def _once(self, upload: Upload) -> tuple[Uploaded, bool]:
        """One try: what came of it, and whether another one would be of no use."""
        job = {
            "allowed_hosts": self._content.allowed_hosts,
            "ca": self._content.ca,
            "connect_timeout_s": self._patience.connect_timeout_s,
            "read_timeout_s": self._patience.read_timeout_s,
            "url": upload.url,
            "database": str(self._database),
            "period": upload.period,
        }
        command = [sys.executable, "-m", "agent.store.uploader"]
        given = json.dumps(job).encode() + b"\n" + upload.document
        try:
            child = self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            return Uploaded(upload.key, detail=f"the uploader cannot be started: {error}"), False
        try:
            said, _ = child.communicate(given, timeout=self._patience.whole_s)
            told = json.loads(said)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return Uploaded(upload.key, detail=f"not sent within {self._patience.whole_s:.0f} s"), False
        except (OSError, ValueError) as error:
            return Uploaded(upload.key, detail=f"the uploader ended unexpectedly: {error}"), False
        return (
            Uploaded(upload.key, told.get("sha256", ""), told.get("size", 0), told["detail"]),
            bool(told["final"]),
        )
