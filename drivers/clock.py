"""The machine's clocks: what the operating system says, and whether it is synchronised.

Whether that may be believed is decided in `agent.trust.time`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

_TIMEX_BYTES = 512
"""More than `struct timex` has on any architecture."""
_TIME_ERROR = 5


class Reading(NamedTuple):
    """`mono_ns` CLOCK_MONOTONIC, `wall` epoch seconds, `synchronised` by NTP as the kernel knows it."""

    mono_ns: int
    wall: float
    synchronised: bool


class KernelClock:
    """CLOCK_MONOTONIC, CLOCK_REALTIME, and the kernel's synchronisation flag (adjtimex(2), set by chrony)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timex = ctypes.create_string_buffer(_TIMEX_BYTES)

    def read(self) -> Reading:
        """Both clocks at one moment."""
        return Reading(time.monotonic_ns(), time.time(), self._synchronised())

    def _synchronised(self) -> bool:
        ctypes.memset(self._timex, 0, _TIMEX_BYTES)  # modes = 0: only read
        state = self._libc.adjtimex(self._timex)
        return 0 <= int(state) < _TIME_ERROR


class VirtualClock:
    """A training station's clock: the host's, moved by an offset that the control socket writes into a file.

    The host keeps its own time, so the clock counts as synchronised while the offset is 0.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def read(self) -> Reading:
        """Both clocks at one moment."""
        offset = self._offset()
        return Reading(time.monotonic_ns(), time.time() + offset, offset == 0.0)

    def _offset(self) -> float:
        if self._fd is None:
            with contextlib.suppress(FileNotFoundError):
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if self._fd is None:
            return 0.0
        raw = os.pread(self._fd, 8, 0)
        return float(struct.unpack("<d", raw)[0]) if len(raw) == 8 else 0.0


def set_virtual_offset(path: str | Path, offset_s: float) -> None:
    """Move a virtual clock by `offset_s` seconds against the host's."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, struct.pack("<d", offset_s), 0)
    finally:
        os.close(fd)
