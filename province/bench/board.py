"""What a board is measured by: slide changes, an alert's first frame, memory, films without a graphics processor."""

from __future__ import annotations

import hashlib
import json
import queue
import random
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.model.config import HdmiOutput, Output, PngOutput, Zone
from agent.model.screen import Dropped, Page, Show, Shown
from agent.screen.client import PROGRAM, Screens
from agent.screen.layout import Design
from agent.screen.painting import Painting
from drivers.png_board import pixels
from province.bench import proc
from province.bench.frame_buffer import Display
from province.bench.rows import Row, row
from province.bench.stages import DirectStage
from province.bench.voice_rig import BenchError

_RANDOM = random.Random(11)  # noqa: S311 - moments that do not fall into step with anything
DWELL_S = 0.5
FILM_S = 10
PATIENCE_S = 10.0
WORDS = "Bà con ven biển sơ tán ngay theo hướng dẫn của Ban chỉ huy Phòng thủ dân sự, mang theo giấy tờ và thuốc men."


class _Wall:
    """A board's real process, alone; its pictures are files, or the one of a frame buffer (`driver: hdmi`)."""

    def __init__(self, folder: Path, width: int, height: int, *, driver: str = "png") -> None:
        folder.mkdir(parents=True)
        self.events: queue.Queue[Struct] = queue.Queue()
        output: Output = PngOutput(dir=str(folder / "board"), width=width, height=height)
        program: Sequence[str] = PROGRAM
        if driver == "hdmi":
            display = Display(folder)
            display.resize(width, height)
            output, program = HdmiOutput(device=str(display.device)), display.program()
        self.screens = Screens([Zone(id="bang", kind="screen", output=output)], self.post, folder, program)
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
        changes, memory = [frames[-1].at_ns], []
        for k in range(n):
            changes.append(wall.next(Shown).at_ns)
            wall.screens.alive()
            if k % 10 == 0:
                memory.append(wall.memory())
    finally:
        wall.screens.stop()
    errors = lateness(changes)
    about = f"a show of {len(pages)} slides of {DWELL_S} s on a board of 960 × 540 files; {proc.load_note()}"
    return [
        row("slide_error_ms", errors, f"behind the times that the most punctual change keeps; {about}"),
        row("board_pss_mb", memory, "the process that stays; the child that paints lives for some 0.2 s"),
    ]


def lateness(changes: list[int]) -> list[float]:
    """How many ms each change but the first (CLOCK_MONOTONIC ns) comes after its time.

    A board keeps to a schedule whose beginning is not told, and changes are never early: it is that of the earliest.
    """
    offsets = [(at - round(k * DWELL_S * 1e9)) / 1e6 for k, at in enumerate(changes)]
    return [offset - min(offsets) for offset in offsets[1:]]


def _frames(wall: _Wall, pages: list[Page], first: Shown) -> list[Shown]:
    """The first round, in which pages are still being painted."""
    return [first, *(wall.next(Shown) for _ in range(2 * len(pages)))]


def film(folder: Path, n: int) -> list[Row]:
    """`film_lost_percent`: a Full HD film of 25 pictures a second, decoded and scaled by the processor alone.

    Onto files, of which one a second is written, and with `film_fb_` onto a file in place of a frame buffer.
    """
    folder.mkdir(parents=True)
    path = folder / "film.mp4"
    source = f"testsrc2=s=1920x1080:r=25:d={FILM_S}"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-b:v", "6M", str(path)], check=True, timeout=120)
    return [
        *_film(folder / "png", path, n, "png", "film_lost_percent"),
        *_film(folder / "hdmi", path, n, "hdmi", "film_fb_lost_percent"),
    ]


def _film(folder: Path, path: Path, n: int, driver: str, name: str) -> list[Row]:
    wall = _Wall(folder, 1920, 1080, driver=driver)
    lost, stays, decodes = [], [], []
    try:
        for k in range(n):
            wall.screens.send("bang", Show(f"film-{k}", [Page(title="Phim", film=str(path)), Page(title="x")]))
            wall.screens.alive()
            time.sleep(FILM_S / 2)
            stays.append(wall.memory())
            whole = proc.memory(proc.tree(wall.screens.pids["bang"])).pss / 1e6
            decodes.append(whole - stays[-1])
            told = wall.next(Dropped)
            lost.append(100.0 * told.lost / max(1, told.lost + told.shown))
    finally:
        wall.screens.stop()
    note = (
        f"share of pictures that came too late, of {FILM_S} s each; no graphics processor, libVLC's avcodec on two"
        f" threads; at most {max(stays):.0f} MB in the board's process and {max(decodes):.0f} in its children,"
        f" four pictures in shared memory halved between them; {proc.load_note()}"
    )
    return [row(name, lost, note)]


def alert(folder: Path, n: int) -> list[Row]:
    """`alert_to_frame_ms`: an emergency is given to the MQTT client, until its own frame is on the board."""
    times, lost = [], 0
    with DirectStage(folder) as stage:
        stage.wait_ready()
        issuer = stage.config.trust.called("province")
        zone = next(z for z in stage.config.zones if z.kind == "screen")
        if not isinstance(zone.output, PngOutput):
            raise BenchError("the station's board does not write files")
        files = Files(folder / "board", zone.output.width)
        time.sleep(2.0)
        for k in range(n):
            items = [{"text": WORDS, "lang": "vi", "dwell_s": 0.5}]
            args = stage.broadcast("province", f"bao-{k}", items, zones=["kind:screen"])
            page = Page(title=args["title"], body=WORDS, class_="emergency", issuer=issuer, dwell_s=0.5)
            sha256 = picture(zone, zone.output, page)
            begun = time.time()
            stage.order("province", args)
            at = files.await_picture(sha256, begun + PATIENCE_S)
            lost += at is None
            times.append((PATIENCE_S if at is None else at - begun) * 1000)
            time.sleep(_RANDOM.uniform(1.2, 1.6))
    note = f"from publish(), broker and TLS included, to the file of the alert's own picture; {proc.load_note()}"
    missing = f"; {lost} were not seen and count as {PATIENCE_S:.0f} s" if lost else ""
    return [row("alert_to_frame_ms", times, note + missing)]


def picture(zone: Zone, output: PngOutput, page: Page) -> str:
    """SHA-256 of the pixels of that page's first frame on that board."""
    painting = Painting(output.width, output.height, msgspec.convert(msgspec.to_builtins(zone.board), Design))
    for kind, _, told in painting.messages(Show("bench", [page]), 0, 0):
        if kind == "frame":
            sha256: str = told["sha256"]
            return sha256
    raise BenchError("the alert cannot be painted")


class Files:
    """The pictures in a board's folder, known by their pixels."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        self._known: dict[str, str] = {}

    def await_picture(self, sha256: str, until: float) -> float | None:
        """When the picture with these pixels came on the board; None: it did not, until then (epoch seconds)."""
        while time.time() < until:
            for entry in reversed(json.loads((self._folder / "index.json").read_bytes())):
                if self._pixels(entry["file"]) == sha256:
                    return datetime.fromisoformat(entry["from"]).timestamp()
            time.sleep(0.01)
        return None

    def _pixels(self, name: str) -> str:
        if name not in self._known:
            data = (self._folder / name).read_bytes()
            self._known[name] = hashlib.sha256(pixels(data, self._width)).hexdigest()
        return self._known[name]
