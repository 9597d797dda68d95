"""One voice per station: a lock in run_dir, held for the life of the process and let go by the kernel in any case."""

from __future__ import annotations

import fcntl
import os


def hold(run_dir: str) -> int | None:
    """Take the lock and keep it (the descriptor, never to be closed); None when another process has it."""
    lock = os.open(os.path.join(run_dir, "voice.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_held(run_dir: str) -> bool:
    """Whether a voice runs, or is starting, for this station."""
    lock = hold(run_dir)
    if lock is not None:
        os.close(lock)
    return lock is None
