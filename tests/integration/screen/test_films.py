"""Films on a real board's process with the real libVLC: shown, dropped, hostile, killed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import Struct
from PIL import Image

from agent.model.config import Board, PngOutput, Zone
from agent.model.events import ChildDied
from agent.model.screen import Capture, Captured, Dropped, Page, Rest, ScreenFault, Show, Shown
from agent.ports import Inbox
from agent.screen.client import PROGRAM, Screens

pytestmark = pytest.mark.vlc
WIDTH, HEIGHT = 320, 180
STRICT = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
from agent.screen.main import main
sys.exit(main())
"""
"""A board that may have no memory that is both written and run (PR_SET_MDWE), as in its unit, with all its children."""
SLIDE = Page(title="Trang sau", class_="normal", dwell_s=60)


def encode(path: Path, *words: str, source: str = "color=c=red:s=320x180:r=25:d=2") -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *words, str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good film and with bad ones."""
    folder = tmp_path_factory.mktemp("films")
    good = encode(folder / "good.mp4", "-c:v", "libx264").read_bytes()
    encode(folder / "wide.mp4", "-c:v", "libx264", source="color=c=red:s=400x100:r=25:d=2")
    encode(folder / "mpeg4.mp4", "-c:v", "mpeg4")
    encode(folder / "large.mp4", "-c:v", "libx264", "-frames:v", "2", source="color=s=2560x1440:r=25:d=1")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "sine=d=1", str(folder / "sound.mp4")], check=True
    )
    at = good.index(b"mdat")
    (folder / "truncated.mp4").write_bytes(good[: at + 40])
    noise = bytes(b ^ 0x5A for b in good[at + 4 :])
    (folder / "noise.mp4").write_bytes(good[: at + 4] + noise if good.index(b"moov") < at else good)
    (folder / "text.mp4").write_bytes(b"#EXTM3U\nhttp://192.0.2.1/evil.ts\n")
    (folder / "empty.mp4").write_bytes(b"")
    boxes = b"\0\0\0\x08free" * 20_000
    (folder / "boxes.mp4").write_bytes(good[:32] + boxes + good[32:])
    return folder


class Wall:
    """A board's real process, and what it posts."""

    def __init__(self, folder: Path, program: Sequence[str] = PROGRAM, **board: object) -> None:
        self.folder = folder / "board"
        self.events: queue.Queue[Struct] = queue.Queue()
        output = PngOutput(dir=str(self.folder), width=WIDTH, height=HEIGHT, rate_hz=10)
        zone = Zone(id="bang", kind="screen", output=output, board=Board(**board))  # type: ignore[arg-type]
        self.screens = Screens([zone], self.post, folder, program)
        self.screens.start()

    def post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    @staticmethod
    def post_to(events: list[Struct]) -> Inbox:
        def post(event: Struct, *, urgent: bool = False) -> None:
            events.append(event)

        return post

    def show(self, *pages: Page, play: str = "p") -> None:
        self.screens.send("bang", Show(play, list(pages)))

    def until(self, fits: Callable[[Struct], bool]) -> list[Struct]:
        """Events up to the first that fits."""
        found: list[Struct] = []
        end = time.monotonic() + 40
        while not found or not fits(found[-1]):
            found.append(self.events.get(timeout=max(0.1, end - time.monotonic())))
        return found

    def newest(self) -> Image.Image:
        name = max(p.name for p in self.folder.glob("*.png"))
        return Image.open(self.folder / name).convert("RGB")

    def children(self) -> list[int]:
        """Whoever paints and decodes for the board."""
        board = self.screens.pids["bang"]
        tasks = Path(f"/proc/{board}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    def film_pid(self) -> int:
        """The decoding child of the board."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for child in self.children():
                if b"agent.screen.film" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
            time.sleep(0.02)
        raise AssertionError("no film is being decoded")


@pytest.fixture
def wall(tmp_path: Path) -> Iterator[Wall]:
    made = Wall(tmp_path)
    yield made
    made.screens.stop()


def film(path: Path, name: str, dwell_s: float | None = None) -> Page:
    return Page(title="Phim", class_="normal", film=str(path / name), dwell_s=dwell_s)


def is_slide(event: Struct) -> bool:
    return isinstance(event, Shown) and event.file is not None


def test_a_film_is_shown_to_its_end_and_the_next_slide_follows(wall: Wall, films: Path) -> None:
    wall.show(film(films, "good.mp4"), SLIDE)
    told = wall.until(is_slide)
    [dropped] = [e for e in told if isinstance(e, Dropped)]
    assert dropped.shown + dropped.lost >= 45
    assert dropped.shown > 10
    assert not [e for e in told if isinstance(e, ScreenFault)]
    first = Image.open(wall.folder / "0000.png").convert("RGB").getpixel((160, 90))
    assert isinstance(first, tuple)
    assert first[0] > 200
    assert first[1] < 80


def test_a_film_is_shown_where_no_memory_may_be_written_and_run(tmp_path: Path, films: Path) -> None:
    wall = Wall(tmp_path, ("-c", STRICT))
    try:
        wall.show(film(films, "good.mp4", 0.5), SLIDE)
        told = wall.until(lambda e: isinstance(e, Shown | ChildDied | ScreenFault))
        if isinstance(told[-1], ChildDied) and "77" in told[-1].detail:
            pytest.skip("this kernel does not know PR_SET_MDWE (6.3)")
        assert isinstance(told[-1], Shown), told[-1]
        wall.until(lambda e: isinstance(e, Dropped))
    finally:
        wall.screens.stop()


def test_a_bounded_film_ends_at_its_time(wall: Wall, films: Path) -> None:
    wall.show(film(films, "good.mp4", 0.5), SLIDE)
    told = wall.until(is_slide)
    [dropped] = [e for e in told if isinstance(e, Dropped)]
    assert dropped.shown < 45


@pytest.mark.parametrize(("fit", "corner_is_red"), [("whole", False), ("fill", True)])
def test_a_wide_film_is_shown_whole_or_fills_the_board(
    tmp_path: Path, films: Path, fit: str, corner_is_red: bool
) -> None:
    wall = Wall(tmp_path, fit=fit)
    try:
        wall.show(film(films, "wide.mp4"))
        wall.until(lambda e: isinstance(e, Shown))
        picture = wall.newest()
    finally:
        wall.screens.stop()
    corner, middle = picture.getpixel((2, 2)), picture.getpixel((160, 90))
    assert isinstance(corner, tuple)
    assert isinstance(middle, tuple)
    assert middle[0] > 200
    assert (corner[0] > 200) == corner_is_red


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mpeg4.mp4", "not H.264"),
        ("large.mp4", "too many"),
        ("sound.mp4", "no film"),
        ("truncated.mp4", ""),
        ("text.mp4", "no MP4"),
        ("empty.mp4", "no MP4"),
        ("boxes.mp4", "no MP4"),
        ("none.mp4", "No such file"),
    ],
)
def test_a_hostile_film_costs_its_page_and_the_show_goes_on(wall: Wall, films: Path, name: str, why: str) -> None:
    wall.show(film(films, name, 0.2), SLIDE)
    told = wall.until(lambda e: isinstance(e, Shown))
    [fault] = [e for e in told if isinstance(e, ScreenFault)]
    assert fault.what == "film"
    assert why in fault.detail
    wall.until(is_slide)


def test_a_killed_decoder_costs_its_film_only(wall: Wall, films: Path) -> None:
    wall.show(film(films, "good.mp4"), SLIDE)
    wall.until(lambda e: isinstance(e, Shown))
    os.kill(wall.film_pid(), signal.SIGKILL)
    told = wall.until(is_slide)
    assert [e.what for e in told if isinstance(e, ScreenFault)] == ["film"]


def test_a_new_command_ends_the_film_at_once(wall: Wall, films: Path) -> None:
    wall.show(film(films, "good.mp4"))
    wall.until(lambda e: isinstance(e, Shown))
    pid = wall.film_pid()
    wall.show(Page(title="BÃO", class_="emergency"), play="alert")
    wall.until(lambda e: isinstance(e, Shown) and e.play == "alert")
    assert not Path(f"/proc/{pid}").exists()


def test_no_process_of_a_board_has_a_socket(wall: Wall, films: Path) -> None:
    def files(pid: int) -> list[str]:
        return [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]

    wall.show(film(films, "good.mp4"), play="film")
    wall.until(lambda e: isinstance(e, Shown))
    decoder = wall.film_pid()
    assert any("film" in name for name in files(decoder)), "its pictures in shared memory"
    held = [name for pid in (wall.screens.pids["bang"], decoder) for name in files(pid)]
    assert not [name for name in held if name.startswith("socket:")]


@pytest.mark.parametrize("state", ["painting", "still", "film", "dark", "capturing"])
def test_a_board_killed_in_any_state_shows_again_what_holds(wall: Wall, films: Path, state: str) -> None:
    wall.screens.send("bang", Rest(title="Xã Mẫu"))
    wall.until(lambda e: isinstance(e, Shown))
    holds = Page(title="BÃO SỐ 9", class_="emergency")
    match state:
        case "painting":
            wall.show(Page(title="x", body="mời bà con " * 800), play="held")
        case "still" | "capturing":
            wall.show(holds, play="held")
            wall.until(lambda e: isinstance(e, Shown))
        case "film":
            wall.show(film(films, "good.mp4"), play="held")
            wall.until(lambda e: isinstance(e, Shown))
        case "dark":
            wall.screens.send("bang", Rest(dark=True))
            wall.until(lambda e: isinstance(e, Shown))
    if state == "capturing":
        wall.screens.send("bang", Capture(3))
    os.kill(wall.screens.pids["bang"], signal.SIGKILL)
    wall.until(lambda e: isinstance(e, ChildDied))
    shown = wall.until(lambda e: isinstance(e, Shown))[-1]
    assert isinstance(shown, Shown)
    assert shown.play == (None if state == "dark" else "held")


def test_a_board_that_is_asked_while_it_does_not_run_answers_all_the_same(tmp_path: Path) -> None:
    events: list[Struct] = []
    zone = Zone(id="bang", kind="screen", output=PngOutput(dir=str(tmp_path)))
    screens = Screens([zone], Wall.post_to(events), tmp_path)
    screens.send("bang", Capture(5))
    assert events == [Captured(token=5, detail="the board's process does not run")]
