"""The few changes that enrolment makes to the disk, each whole and durable or not made at all.

They are methods of one object so that a test can cut the power before, within and after each.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Files:
    """The disk. Every method raises OSError."""

    def put(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Replace a file; after a power cut it holds the old content or the new. It is never wider than `mode`."""
        self.replace(self.write(path, data, mode), path)

    def write(self, path: Path, data: bytes, mode: int) -> Path:
        """Write the new content beside the file."""
        fresh = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return fresh

    def replace(self, fresh: Path, path: Path) -> None:
        """Put the new content into place."""
        fresh.replace(path)
        self._sync(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
