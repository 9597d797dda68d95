"""What a board is measured by: slide changes, an alert's first frame, memory, films without a graphics processor."""

from __future__ import annotations

import json
import queue
import random
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent.model.config import PngOutput, Zone
from agent.model.screen import Dropped, Page, Show, Shown
from agent.screen.client import Screens
from province.bench import proc
from province.bench.rows import Row, row
from province.bench.stages import DirectStage
from province.bench.voice_rig import BenchError

_RANDOM = random.Random(11)  # noqa: S311 - moments that do not fall into step with anything
DWELL_S = 0.5
FILM_S = 10
PATIENCE_S = 10.0
WORDS = "Bà con ven biển sơ tán ngay theo hướng dẫn của Ban chỉ huy Phòng thủ dân sự, mang theo giấy tờ và thuốc men."


class _Wall:
    """A board's real process, alone; its pictures are files."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        folder.mkdir(parents=True)
        self.events: queue.Queue[Struct] = queue.Queue()
        output = PngOutput(dir=str(folder / "board"), width=width, height=height)
        self.screens = Screens([Zone(id="bang", kind="screen", output=output)], self.post, folder)
        self.screens.start()

    def post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    def next(self, kind: type[Struct]) -> Any:
        """The next event of that kind. BenchError: none comes."""
        end = time.monotonic() + PATIENCE_S + FILM_S
        while (left := end - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(event, kind):
                return event
        raise BenchError(f"the board told no {kind.__name__}")

    def memory(self) -> float:
        """Of the board's process, MB."""
        return proc.memory({self.screens.pids["bang"]: "board"}).pss / 1e6


def slides(folder: Path, n: int) -> list[Row]:
    """`slide_error_ms` and `board_pss_mb`: a slide show's changes against its dwell times, from its first frame on."""
    wall = _Wall(folder, 960, 540)
    try:
        pages = [Page(title=f"Tin số {k}", body=WORDS, class_="normal", dwell_s=DWELL_S) for k in range(1, 5)]
        wall.screens.send("bang", Show("bench", pages))
        first = None
        while first is None or first.play != "bench":
            first = wall.next(Shown)
        frames = _frames(wall, pages, first)
        errors, memory = [], []
        due = frames[-1].at_ns
        for k in range(n):
            due += round(DWELL_S * 1e9)
            errors.append(abs(wall.next(Shown).at_ns - due) / 1e6)
            wall.screens.alive()
            if k % 10 == 0:
                memory.append(wall.memory())
    finally:
        wall.screens.stop()
    about = f"a show of {len(pages)} slides of {DWELL_S} s on a board of 960 × 540 files; {proc.load_note()}"
    return [
        row("slide_error_ms", errors, f"greatest distance in either direction; {about}"),
        row("board_pss_mb", memory, "the process that stays; the child that paints lives for some 0.2 s"),
    ]


def _frames(wall: _Wall, pages: list[Page], first: Shown) -> list[Shown]:
    """The first round, in which pages are still being painted."""
    return [first, *(wall.next(Shown) for _ in range(2 * len(pages)))]


def film(folder: Path, n: int) -> list[Row]:
    """`film_lost_percent`: a Full HD film of 25 pictures a second, decoded and scaled by the processor alone."""
    wall = _Wall(folder, 1920, 1080)
    path = folder / "film.mp4"
    source = f"testsrc2=s=1920x1080:r=25:d={FILM_S}"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    lost, memory = [], []
    try:
        subprocess.run([*command, "-b:v", "6M", str(path)], check=True, timeout=120)
        for k in range(n):
            wall.screens.send("bang", Show(f"film-{k}", [Page(title="Phim", film=str(path)), Page(title="x")]))
            wall.screens.alive()
            time.sleep(FILM_S / 2)
            tree = proc.tree(wall.screens.pids["bang"])
            memory.append(proc.memory(tree).pss / 1e6)
            told = wall.next(Dropped)
            lost.append(100.0 * told.lost / max(1, told.lost + told.shown))
    finally:
        wall.screens.stop()
    note = (
        f"share of pictures that came too late, of {FILM_S} s each; no graphics processor, libVLC's avcodec on two"
        f" threads; board and decoding child together at most {max(memory):.0f} MB; {proc.load_note()}"
    )
    return [row("film_lost_percent", lost, note)]


def alert(folder: Path, n: int) -> list[Row]:
    """`alert_to_frame_ms`: an emergency is given to the MQTT client, until its frame is on the board."""
    times, lost = [], 0
    with DirectStage(folder) as stage:
        stage.wait_ready()
        time.sleep(2.0)
        for k in range(n):
            items = [{"text": WORDS, "lang": "vi", "dwell_s": 0.5}]
            args = stage.broadcast("province", f"bao-{k}", items, zones=["kind:screen"])
            begun = time.time()
            stage.order("province", args)
            at = _changed(folder / "board" / "index.json", begun, lambda: time.time() < begun + PATIENCE_S)  # noqa: B023
            if at is None:
                lost += 1
                continue
            times.append((at - begun) * 1000)
            time.sleep(_RANDOM.uniform(1.2, 1.6))
    note = f"from publish(), broker and TLS included, to the file of the picture; {proc.load_note()}"
    return [row("alert_to_frame_ms", times, note + (f"; {lost} were not seen" if lost else ""))]


def _changed(index: Path, after: float, patient: Callable[[], bool]) -> float | None:
    """When the board's first frame after that moment was there (epoch seconds)."""
    while patient():
        for entry in json.loads(index.read_bytes()):
            at = datetime.fromisoformat(entry["from"]).timestamp()
            if at > after:
                return at
        time.sleep(0.01)
    return None
