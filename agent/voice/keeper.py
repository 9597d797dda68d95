"""The agent's hold on voice: a connection, and a process if nobody else keeps one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from agent.model.config import Station
from agent.model.events import ChildDied
from agent.model.voice import VoiceCommand
from agent.ports import Inbox
from agent.voice import lock
from agent.voice.client import VoiceClient

LOOK_S = 0.5
"""How often it is looked whether somebody else's voice still runs."""
RETRY_S = (0.1, 0.5, 2.0, 5.0)
STEADY_S = 10.0
"""A voice that ran for so long starts the series of pauses anew."""
END_S = 3.0


class VoiceKeeper:
    """Implements `agent.ports.Voice`: events go to `inbox`, `send` never blocks.

    Uses the voice that runs already (systemd's, or one that outlived its agent). When none does it starts one as a
    child in a session of its own, and starts it again (posting `ChildDied("voice")`) when it ends unasked. A child
    outlives an agent that is killed, because its buttons must; an orderly `stop` ends it.
    `elsewhere`: somebody else starts voice, in a sandbox of its own; here it is only connected to.
    """

    def __init__(self, config_path: str, config: Station, inbox: Inbox, *, elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere
        self._config_path = os.path.abspath(config_path)
        self._inbox = inbox
        self._run_dir = config.run_dir
        self._client = VoiceClient(os.path.join(config.run_dir, "voice.sock"), inbox)
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="voice-keeper", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when voice is somebody else's or not running."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        os.makedirs(self._run_dir, exist_ok=True)
        self._client.start()
        if not self._elsewhere:
            self._thread.start()

    def send(self, command: VoiceCommand, fd: int | None = None) -> None:
        """See `VoiceClient.send`."""
        self._client.send(command, fd)

    def stop(self) -> None:
        """Disconnect and end the child, if it is ours: with its relays off. May be called twice."""
        self._stopping.set()
        self._client.close()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "agent", "voice", "--config", self._config_path]

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            if lock.is_held(self._run_dir):
                failures = 0
                self._stopping.wait(LOOK_S)
                continue
            begun = time.monotonic()
            child = self._child = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, start_new_session=True)
            if self._stopping.is_set():
                child.terminate()
            code = child.wait()
            if self._stopping.is_set():
                return
            self._inbox(ChildDied(name="voice", detail=f"exit code {code}"))
            failures = 0 if time.monotonic() - begun > STEADY_S else failures + 1
            self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
