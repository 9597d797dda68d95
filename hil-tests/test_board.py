"""A public board on the kernel's frame buffer, as the emulator's screen shows it. The tests share a station.

The screen's pixels are read from outside (the emulator's own screen dump) and compared with the hash that the station
reports, and with what the same pages look like as the files of a `png` board. `TRAM_HIL_KEEP=DIR` keeps the dumps.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from board import BoardError, answered, put, wait
from PIL import Image
from surroundings import Surroundings
from virtual import VirtualBoard

from agent.model.screen import Page, Show
from agent.screen.layout import LOOKS, Design
from agent.screen.painting import Painting

pytestmark = [pytest.mark.virtual_board, pytest.mark.display]
ZONE = "bang-tin"
WORDS = "Lịch bơm nước đợt 2 bắt đầu từ 5 giờ ngày 25/11. Bà con dọn cỏ bờ kênh, mang theo cuốc, xẻng."
STORM = "Bão số 9 cấp 12 đổ bộ lúc 19 giờ 30. Bà con ven biển sơ tán ngay theo hướng dẫn."
RED, GREEN = (200, 10, 10), (20, 120, 60)
FILM_S = 60
TOLD = (
    "tram status --json",
    "cat /proc/fb /sys/class/graphics/fb0/virtual_size /sys/class/graphics/fb0/bits_per_pixel",
    "grep . /sys/class/drm/card*-*/status /sys/class/vtconsole/*/bind",
    "od -An -tx1 -j 40000 -N 32 /dev/fb0",
    "ps -eo pid,ni,user,etimes,time,args | grep '[a]gent.screen'",
)
"""What is said of a screen that is not as it should be."""
CONNECTOR = "/sys/class/drm/card0-Virtual-1/status"


class Screen:
    """The emulator's screen and the station behind it."""

    def __init__(self, board: VirtualBoard, around: Surroundings) -> None:
        self.board, self.around = board, around
        self._dumps = 0

    def dump(self, name: str = "") -> Image.Image:
        """What is on the screen; with a name it is kept."""
        self._dumps += 1
        file = self.board.folder / f"{name or 'dump'}.png"
        file.unlink(missing_ok=True)
        self.board.screen(file)
        with Image.open(file) as image:
            return image.convert("RGB")

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(answered(self.board, "tram status --json", timeout_s=60))
        return told

    def show(self, name: str, items: list[dict[str, Any]], class_: str = "priority", **more: Any) -> float:
        """Send a bulletin for the board; when it was sent."""
        args = {"id": name, "title": more.pop("title", "Tin của xã Mẫu"), "class": class_, "start": "now"}
        self.around.order("broadcast", args | {"zones": [ZONE], "items": items, "resume": "drop"} | more)
        return monotonic()

    def cancel(self, name: str) -> None:
        self.around.order("cancel", {"ids": [name]})

    def until(self, what: str, holds: Callable[[Image.Image], object], within_s: float = 120.0) -> Image.Image:
        """Wait until the screen is so."""
        seen: list[Image.Image] = []

        def so() -> object:
            seen[:] = [self.dump()]
            return holds(seen[0])

        try:
            wait(what, so, within_s * self.board.patience, every_s=0.5)
        except AssertionError as error:
            told = [f"$ {command}\n{self.board.run(command, timeout_s=60).out}" for command in TOLD]
            raise AssertionError("\n".join([str(error), *told])) from error
        return seen[0]

    def media(self, path: Path) -> dict[str, Any]:
        return {"media": msgspec.to_builtins(self.around.province.media(path))}


@pytest.fixture(scope="module")
def screen(board: VirtualBoard, around: Surroundings) -> Screen:
    """The station with its board on the frame buffer, its default slide shown."""
    station = around.configuration(board.sound_device)
    zone = next(z for z in station["zones"] if z["id"] == ZONE)
    zone["output"] = {"driver": "hdmi"}
    zone["board"]["clock"] = False  # a picture that stays as it is
    text = yaml.safe_dump(station, allow_unicode=True, sort_keys=False)
    put(board, {"/etc/tram/station.yaml": text.encode()})
    ran = board.run("tram check", timeout_s=60)
    assert ran.code == 0, ran.out + ran.err
    answered(board, "systemctl restart tram-agent", timeout_s=180)
    made = Screen(board, around)
    around.wait_online(board, 180)
    wait("the board has shown a frame", lambda: ZONE in made.status().get("frames", {}), 120 * board.patience)
    return made


def ground(image: Image.Image) -> tuple[int, ...]:
    """The colour that most of it has."""
    colours = image.getcolors(1 << 24) or []
    most: Any = max(colours)[1]
    return tuple(most)


def near(image: Image.Image, colour: tuple[int, int, int], least: float) -> bool:
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    return bool(np.mean((abs(pixels - colour) < 40).all(axis=1)) >= least)


def painted(page: Page, size: tuple[int, int]) -> Image.Image:
    """The first frame of that page as a `png` board paints it, on this machine with its fonts."""
    for kind, payload, _ in Painting(*size, Design()).messages(Show("p", [page]), 0, 0):
        if kind == "frame":
            import zlib

            return Image.frombytes("RGB", size, zlib.decompress(payload))
    raise BoardError("nothing was painted")


def alike(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, 0 … 255, seen from so far that single letters' edges do not count."""
    small = [np.asarray(i.resize((160, 100), Image.Resampling.BOX)).astype(float) for i in (one, other)]
    return float(np.mean(abs(small[0] - small[1])))


def the_hash_is_reported(screen: Screen, image: Image.Image) -> None:
    """The province is told the hash of exactly these pixels."""
    sha256 = hashlib.sha256(image.tobytes()).hexdigest()
    wait("the reported hash is that of the screen", lambda: screen.status()["frames"][ZONE] == sha256, 30)


def test_the_default_slide_fills_the_screen_and_its_hash_is_reported(screen: Screen) -> None:
    image = screen.until("the default slide is there", lambda i: ground(i) == LOOKS["idle"].ground)
    sleep(3)
    assert screen.dump("slide").tobytes() == image.tobytes(), "no cursor blinks in it, and nobody writes over it"
    the_hash_is_reported(screen, image)
    print("screen:", image.size)


def test_a_text_looks_as_a_png_board_paints_it(screen: Screen) -> None:
    screen.show("van-ban", [{"text": WORDS, "lang": "vi", "dwell_s": 600}])
    image = screen.until("the text is there", lambda i: ground(i) == LOOKS["priority"].ground)
    the_hash_is_reported(screen, image)
    image.save(screen.board.folder / "text.png")
    page = Page(title="Tin của xã Mẫu", body=WORDS, class_="priority", issuer="province")
    same = painted(page, image.size)
    same.save(screen.board.folder / "text-as-png-board.png")
    print("difference from what is painted here:", round(alike(image, same), 2), image.tobytes() == same.tobytes())
    assert alike(image, same) < 6
    screen.cancel("van-ban")


def test_a_picture_is_on_the_screen(screen: Screen, tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1000), GREEN).save(tmp_path / "xanh.jpg", quality=90)
    screen.show("anh", [screen.media(tmp_path / "xanh.jpg") | {"dwell_s": 600}])
    image = screen.until("the picture is there", lambda i: near(i, GREEN, 0.9))
    the_hash_is_reported(screen, image)
    image.save(screen.board.folder / "picture.png")
    screen.cancel("anh")


def test_a_film_moves_on_the_screen(screen: Screen, tmp_path: Path) -> None:
    file = tmp_path / "phim.mp4"
    source = f"testsrc2=s=640x360:r=10:d={FILM_S}"
    words = ["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([*words, str(file)], check=True, timeout=120)
    screen.show("phim", [screen.media(file)])
    first = screen.until("the film has begun", lambda i: near(i, (255, 0, 0), 0.05) and near(i, (0, 255, 0), 0.05))
    first.save(screen.board.folder / "film.png")
    screen.until("it moves", lambda i: near(i, (255, 0, 0), 0.05) and i.tobytes() != first.tobytes())
    screen.cancel("phim")
    screen.until("it is gone when it is cancelled", lambda i: ground(i) == LOOKS["idle"].ground)


def test_an_emergency_takes_the_whole_screen(screen: Screen) -> None:
    items = [{"text": STORM, "lang": "vi", "dwell_s": 600}]
    sent = screen.show("bao", items, "emergency", title="BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY")
    image = screen.until("the alert is there", lambda i: ground(i) == LOOKS["emergency"].ground)
    print(f"order → screen at most {monotonic() - sent:.1f} s, in emulation")
    the_hash_is_reported(screen, image)
    image.save(screen.board.folder / "emergency.png")


def test_a_display_that_is_unplugged_is_an_alarm_and_the_show_goes_on_when_it_is_back(screen: Screen) -> None:
    def told(*, on: bool) -> bool:
        events = [e["body"] for e in screen.around.watcher.export()["events"]]
        alarms = [e for e in events if e.get("kind") == "alarm" and e.get("what") == "screen-display"]
        return bool(alarms) and alarms[-1]["on"] == on

    answered(screen.board, f"echo off >{CONNECTOR}")
    wait("the alarm is raised", lambda: told(on=True), 90 * screen.board.patience)
    answered(screen.board, f"echo detect >{CONNECTOR}")
    wait("the alarm is over", lambda: told(on=False), 90 * screen.board.patience)
    image = screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)
    the_hash_is_reported(screen, image)


def test_a_board_that_was_killed_shows_again_what_holds(screen: Screen) -> None:
    # What it had put there stays there without it: wiped, so that only a new one can have shown it again.
    answered(screen.board, "kill -9 $(pgrep -f 'agent.screen --zone' | head -1); head -c 4000000 /dev/zero >/dev/fb0")
    screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)


def test_the_process_of_the_board_is_small(screen: Screen) -> None:
    pid = answered(screen.board, "pgrep -f 'agent.screen --zone' | head -1").strip()
    mb = int(answered(screen.board, f"awk '/^Pss:/ {{print $2}}' /proc/{pid}/smaps_rollup")) / 1024
    print(f"the board's process: {mb:.1f} MB (PSS)")
    assert mb <= 80


def test_without_the_agent_the_screen_is_dark(screen: Screen) -> None:
    answered(screen.board, "systemctl stop tram-agent", timeout_s=120)
    screen.until("the screen is dark", lambda i: i.getbbox() is None)
    answered(screen.board, "systemctl start tram-agent", timeout_s=120)
    screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)
    screen.cancel("bao")
    screen.until("the default slide is there", lambda i: ground(i) == LOOKS["idle"].ground)
