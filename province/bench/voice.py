"""What voice alone is measured by: ready, command to sound, button to sound."""

from __future__ import annotations

import array
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent.model import voice as v
from province.bench.rows import Row, row
from province.bench.voice_rig import VoiceRig

_TONE = array.array("h", [8000 if k // 24 % 2 else -8000 for k in range(v.RATE * 3 // 10)]).tobytes()
"""0.3 s of sound: fits a pipe, so a play made of it is prepared in full."""
_JITTER = random.Random(4)  # noqa: S311 - where in the 5 ms period a command falls must vary, nothing else


WAYS = ("with the amplifier off", "while a programme plays", "while one plays and every processor is saturated")


def ready(folder: Path, n: int) -> list[Row]:
    """`ready_s`: from just before the process is started to `Hello.armed_ns`, files in the page cache."""
    rig = VoiceRig(folder)
    rig.pin_messages()
    times = []
    for _ in range(n + 1):
        begun, hello = rig.spawn()
        times.append((hello.armed_ns - begun) / 1e9)
        rig.close()
    note = f"tram voice with {len(hello.pinned)} pinned sounds and virtual GPIO; the first start is not counted"
    return [row("ready_s", times[1:], note)]


def command_to_sample(folder: Path, n: int) -> list[Row]:
    """`command_to_sample_ms`: before `Open` is sent to the moment at which the first own sample has been submitted."""
    times: list[float] = []
    ahead: list[float] = []
    with VoiceRig(folder, power_s=1.0) as rig:
        for k in range(n + 1):
            play = f"bench-{k}"
            read_end, write_end = os.pipe()
            os.write(write_end, _TONE)
            os.close(write_end)
            time.sleep(_JITTER.uniform(0.02, 0.04))
            begun = time.monotonic_ns()
            rig.send(v.Open(play=play, zones=[rig.ZONE]))
            rig.send(v.Feed(play=play, segment=0), read_end)
            rig.send(v.Close(play=play))
            started = rig.wait(v.Started, lambda e, play=play: e.play == play, timeout_s=10)  # type: ignore[misc]
            times.append((started.submitted_ns - begun) / 1e6)
            ahead.append((started.at_ns - started.submitted_ns) / 1e6)
            rig.wait(v.Ended, lambda e, play=play: e.play == play)  # type: ignore[misc]
    note = (
        "programme decoded and in its pipe, amplifier on; it begins in the next period of 5 ms, "
        f"and the paced sink plays what is submitted {sum(ahead[1:]) / max(1, len(ahead) - 1):.0f} ms later"
    )
    return [row("command_to_sample_ms", times[1:], note)]


def button_to_sample(folder: Path, n: int) -> list[Row]:
    """`button_to_sample_ms`: the virtual contact's edge to the first sample submitted: at rest, during a play, and with
    every processor saturated by others."""
    rig = VoiceRig(folder)
    rig.pin_messages()
    times: dict[str, list[float]] = {}
    at_converter: list[float] = []
    with rig, contextlib.ExitStack() as stack:
        for k in range(n):
            way = WAYS[k * len(WAYS) // n]
            if way == WAYS[-1] and way not in times:
                stack.enter_context(saturated())
            if way != WAYS[0]:
                read_end, write_end = os.pipe()
                os.write(write_end, _TONE)
                rig.send(v.Open(play=f"under-{k}", zones=[rig.ZONE]))
                rig.send(v.Feed(play=f"under-{k}", segment=0), read_end)
                rig.wait(v.Started)
                time.sleep(_JITTER.uniform(0.02, 0.06))
            else:
                write_end = None
            edge = rig.press()
            local = rig.wait(v.LocalStarted)
            times.setdefault(way, []).append((local.submitted_ns - edge) / 1e6)
            at_converter.append((local.at_ns - edge) / 1e6)
            if write_end is not None:
                os.close(write_end)
            rig.wait(v.ButtonEvent, lambda e: e.state == "released")
            rig.send(v.EndLocal())
            rig.wait(v.LocalEnded)
            rig.wait(v.Power, lambda e: e.state == "off")
    parts = [f"{way}: median {statistics.median(t):.1f}, max {max(t):.1f} (n {len(t)})" for way, t in times.items()]
    note = (
        f"{rig.debounce_ms:g} ms of debounce included; {'; '.join(parts)}; at the converter of the paced sink "
        f"median {statistics.median(at_converter):.1f}, max {max(at_converter):.1f}. An amplifier that is off sounds "
        "after its warm-up"
    )
    return [row("button_to_sample_ms", [ms for t in times.values() for ms in t], note)]


@contextlib.contextmanager
def saturated() -> Iterator[None]:
    """Two processes for each processor, which never rest."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
