"""Who goes first when the machine is busy."""

from __future__ import annotations

import os
import threading

import pytest

from agent import machine
from agent.app import URGENT


def niceness_in(name: str, *acts: str) -> list[int]:
    """In a thread of that name, and then in one that it starts: their niceness after `acts` of `machine`."""
    found: list[int] = []
    ready, go = threading.Event(), threading.Event()

    def inner() -> None:
        if "stand_back" in acts:
            machine.stand_back()
        found.append(os.getpriority(os.PRIO_PROCESS, 0))

    def outer() -> None:
        ready.set()
        go.wait(10)
        found.append(os.getpriority(os.PRIO_PROCESS, 0))
        child = threading.Thread(target=inner, name="another")
        child.start()
        child.join()

    thread = threading.Thread(target=outer, name=name)
    thread.start()
    ready.wait(10)
    if "go_first" in acts:
        machine.go_first([n for n in URGENT if n != "MainThread"])
    go.set()
    thread.join()
    return found


@pytest.fixture(autouse=True)
def _may_go_first() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, machine.FIRST)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        pytest.skip("this user may not ask for precedence")


def test_threads_of_an_emergency_go_first_and_others_do_not() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness_in("link", "go_first")[0] == machine.FIRST
    assert niceness_in("feed", "go_first")[0] == usual


def test_what_an_urgent_thread_starts_stands_back() -> None:
    assert niceness_in("worker", "go_first", "stand_back") == [
        machine.FIRST,
        max(0, os.getpriority(os.PRIO_PROCESS, 0)),
    ]
