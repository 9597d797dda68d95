"""Virtual microphone or receiver: what is written into the named pipe at `path` is heard.

Signed 16 bit little endian, one channel, 48 000 Hz.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterator

from agent.model.config import Microphone, Monitor
from drivers.capture import PERIOD, Capture

WAIT_MS = 200


class PipeCapture(Capture):
    """The pipe is made if it is not there. While nobody writes nothing is heard, not even silence."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def blocks(self) -> Iterator[bytes]:
        """What is written, as it comes; ends never. OSError when there is something else at the path."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        if not stat.S_ISFIFO(os.stat(self._path).st_mode):
            raise OSError(f"{self._path} is not a named pipe")
        # Open for writing too, so that a writer that leaves is no end of file.
        pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            while True:
                yield os.read(pipe, 8 * PERIOD) if poll.poll(WAIT_MS) else b""
        finally:
            os.close(pipe)


def open_capture(config: Microphone | Monitor) -> PipeCapture:
    """The one that the configuration names by its `path`."""
    return PipeCapture(str(config.path))
