"""Keeps the library's server for clusters alive (`agent.store.media_server`)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from agent.model.config import ClusterLink
from agent.model.events import Alarm
from agent.ports import Inbox

RETRY_S = (0.5, 2.0, 5.0, 15.0, 60.0)
STEADY_S = 60.0
WHAT = "cluster-media"


class Serving:
    """A child while the station runs: `folder` is the library's, `talks` the socket for what voice passes on, which
    `clusters` (device ids) may hear. Posts the alarm `cluster-media` while it does not serve."""

    def __init__(self, folder: Path, talks: Path, link: ClusterLink, clusters: Iterable[str], inbox: Inbox) -> None:
        self._command = [sys.executable, "-m", "agent.store.media_server", "--folder", str(folder)]
        self._command += ["--talks", str(talks), *(f"--cluster={name}" for name in clusters)]
        self._command += ["--host", link.host, "--port", str(link.media_port)]
        self._command += ["--ca", link.ca, "--cert", link.cert, "--key", link.key]
        self._inbox = inbox
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="serving", daemon=True)
        self._told: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when it does not run."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Begin to serve; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the child. May be called twice."""
        self._stopping.set()
        child = self._child
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(2.0)
            child.kill()

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            detail = self._one_life()
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - begun > STEADY_S else failures + 1
            if detail != self._told:
                self._told = detail
                self._inbox(Alarm(WHAT, f"clusters cannot fetch from this station: {detail}"))
            self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _one_life(self) -> str:
        pipe = subprocess.PIPE
        with subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
            self._child = child
            if self._stopping.is_set() and child.stdin is not None:
                child.stdin.close()
            assert child.stdout is not None  # noqa: S101 - it was asked for
            assert child.stderr is not None  # noqa: S101 - it was asked for
            if child.stdout.readline() and self._told is not None:
                self._told = None
                self._inbox(Alarm(WHAT, "", on=False))
            said = child.stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            return said or f"its server ended (exit code {child.wait()})"
