"""The birth counter: a number on the disk that grows before every CONNECT (CONTRACT section 3)."""

from __future__ import annotations

import os
from pathlib import Path


class BirthFile:
    """Counts births in a small file, fsynced before a number is given out, so that no number is used twice.

    A damaged file counts as 0 births plus what this process has given out: the device must connect all the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0

    def __call__(self) -> int:
        """The next number. OSError when it cannot be made durable; the number is then used up in this process only."""
        try:
            stored = int(self.path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            stored = 0
        self._last = max(stored, self._last) + 1
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(str(self._last))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._last
