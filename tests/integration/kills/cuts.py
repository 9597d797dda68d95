"""Kills a piece of work before each thing that it does to the disk.

The work runs in a child. An audit hook sees what Python asks of the file system, and `fsync` is wrapped, for it has no
audit event. The child kills itself (SIGKILL) before the step of that number: nothing later happens, no `finally` runs,
and what was buffered is lost.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR
WATCHED = {"os.rename": "rename", "os.link": "link", "os.remove": "remove", "os.truncate": "truncate"}
Work = Callable[[Path], object]


_told: list[Callable[[str], None]] = []


def report(step: str) -> None:
    """For work that does more than Python sees: a step of its own. Nothing outside a cut."""
    for tell in _told:
        tell(step)


def steps(work: Work, folder: Path) -> list[str]:
    """What the work does to the disk under `folder`, in order: open, fsync, rename … and it is done."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _run(work, folder, lambda _, step: os.write(write, f"{step}\n".encode()))
    os.close(write)
    with os.fdopen(read) as told:
        found = told.read().split()
    _ended(child, 0)
    return found


def cut(work: Work, folder: Path, number: int) -> None:
    """Do the work and die before step `number` (from 0)."""
    child = os.fork()
    if child == 0:
        _run(work, folder, lambda n, _: os.kill(os.getpid(), signal.SIGKILL) if n == number else None)
    _ended(child, -signal.SIGKILL)


def _ended(child: int, code: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code


def _run(work: Work, folder: Path, before: Callable[[int, str], Any]) -> None:
    count = 0
    inside = f"{folder}/"

    def step(name: str) -> None:
        nonlocal count
        count += 1
        before(count - 1, name)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].startswith(inside):
            if isinstance(args[2], int) and args[2] & WRITES:
                step("open")
        elif event in WATCHED and str(args[0]).startswith(inside):
            step(WATCHED[event])

    whole = os.fsync

    def fsync(handle: Any) -> None:
        step("fsync")
        whole(handle)

    code = 1
    try:
        _told.append(step)
        os.fsync = fsync
        sys.addaudithook(watch)
        work(folder)
        code = 0
    finally:
        os._exit(code)
