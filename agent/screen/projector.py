"""A film's decoding child as the board's process sees it: pictures in shared memory, told of in a pipe."""

from __future__ import annotations

import json
import mmap
import os
import sys
import time

MEDIA = "drivers.vlc_film"
SLOTS = 4
"""As in `drivers.vlc_film`, which is not imported here: libVLC stays out of this process."""
HANG_S = 8.0
"""A film of which nothing comes for so long is given up."""


class Projector:
    """Starts the child, which waits for `start`; `read` says what has come.

    `since`: when it was started or last said something (monotonic seconds).
    """

    def __init__(self, path: str, width: int, height: int, *, fill: bool, plugins: str | None) -> None:
        self._size = width * height * 4
        memory = os.memfd_create("film", 0)
        os.ftruncate(memory, SLOTS * self._size)
        self._memory = mmap.mmap(memory, SLOTS * self._size)
        self.fd, out = os.pipe()
        wait, self._go = os.pipe()
        job = {"path": path, "width": width, "height": height, "fill": fill, "memory": memory, "out": out, "go": wait}
        words = [sys.executable, "-m", "agent.screen.film", json.dumps({**job, "media": MEDIA, "plugins": plugins})]
        null = os.open(os.devnull, os.O_RDWR)
        # stdin and stdout are the agent's: the child must not hold them.
        moves = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
        os.set_inheritable(memory, True)
        os.set_inheritable(out, True)
        os.set_inheritable(wait, True)
        try:
            self.pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=moves)
        finally:
            for fd in (memory, out, wait, null):
                os.close(fd)
        self.since = time.monotonic()
        self.shown = self.lost = 0
        self.fault: str | None = None
        self.ended = False
        self._text = b""

    def start(self) -> None:
        """Let the film begin."""
        self.since = time.monotonic()
        try:
            os.write(self._go, b"!")
        except BrokenPipeError:
            return  # it has ended: `read` tells why

    def read(self) -> memoryview | None:
        """What has come: the newest picture, whose moment is now, if there is one. Sets `ended`, `fault`, `lost`."""
        data = os.read(self.fd, 1 << 16)
        self.since = time.monotonic()
        self.ended = not data
        *lines, self._text = (self._text + data).split(b"\n")
        slots = []
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"frame":
                slots.append(int(rest) % SLOTS)
            elif word == b"lost":
                self.lost += int(rest)
            elif word == b"fault":
                self.fault = rest.decode("utf-8", "replace")
        self.shown += len(slots[-1:])
        self.lost += len(slots[:-1])
        return memoryview(self._memory)[slots[-1] * self._size :][: self._size] if slots else None

    def close(self) -> None:
        """End the child. What went wrong is in `fault`: what it said, or how it ended; None if all was well."""
        os.close(self.fd)
        os.close(self._go)
        patience = 50 if self.ended else 0
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        while not pid and patience:
            time.sleep(0.01)
            patience -= 1
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        elif os.WIFSIGNALED(status):
            self.fault = self.fault or f"signal {os.WTERMSIG(status)}"
        elif os.WEXITSTATUS(status):
            self.fault = self.fault or f"exit {os.WEXITSTATUS(status)}"
        if self.ended and not self.shown:
            self.fault = self.fault or "no picture came out of it"
