"""Voice never waits for the ear, and the kernel keeps but a few datagrams."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from agent.ear.tap import HEAD, Tap


def test_everything_that_voice_sends_is_kept_while_the_ear_is_busy(tmp_path: Path) -> None:
    tap = Tap(str(tmp_path / "tap"))
    voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    voice.settimeout(10)  # the kernel's queue would be full for ever
    for number in range(3000):
        voice.sendto(HEAD.pack(number, 1) + bytes(480), str(tmp_path / "tap"))
    voice.close()
    came: list[tuple[int, int, bytes]] = []
    end = time.monotonic() + 10
    while len(came) < 3000 and time.monotonic() < end:
        came += tap.take()
    assert came == [(number, 1, bytes(480)) for number in range(3000)]
    assert tap.take() == []
