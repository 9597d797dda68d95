"""A public board on the kernel's frame buffer, as the emulator's screen shows it. The tests share a station; the last
ones have it as an advertiser's board behind a change-over relay.

The screen's pixels are read from outside (the emulator's own screen dump) and compared with the hash that the station
reports, and with what the same pages look like as the files of a `png` board. `TRAM_HIL_KEEP=DIR` keeps the dumps.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
import yaml
from board import BoardError, answered, armed, put, wait
from PIL import Image
from surroundings import Surroundings
from virtual import VirtualBoard

from agent.model.screen import Page, Show
from agent.screen.layout import LOOKS, Design
from agent.screen.painting import Painting
from province.store import Signed

pytestmark = [pytest.mark.virtual_board, pytest.mark.display]
ZONE = "bang-tin"
WORDS = "Lịch bơm nước đợt 2 bắt đầu từ 5 giờ ngày 25/11. Bà con dọn cỏ bờ kênh, mang theo cuốc, xẻng."
STORM = "Bão số 9 cấp 12 đổ bộ lúc 19 giờ 30. Bà con ven biển sơ tán ngay theo hướng dẫn."
LONG = " ".join(
    f"Điều {n}. Mỗi hộ dân ven kênh dọn cỏ, khơi dòng, giữ vệ sinh đoạn kênh trước nhà." for n in range(1, 13)
)
GREEN = (20, 120, 60)
FILM_S = 60
CHANGE_OVER = 22
"""The pin of the relay that lets the advertiser's player through while it is off."""
CLOCKS_S = 2
"""How far the clocks of board and tester may be apart."""
AGREED_MIN = 1
"""So long the agreed hours still last, on a fast machine."""
TOLD = (
    "journalctl -b -o cat --no-pager | tail -60",
    "tram log --format json | tail -c 1500",
    "tram status --json",
    "cat /proc/fb /sys/class/graphics/fb0/virtual_size /sys/class/graphics/fb0/bits_per_pixel",
    "grep . /sys/class/drm/card*-*/status /sys/class/vtconsole/*/bind",
    "od -An -tx1 -j 40000 -N 32 /dev/fb0",
    "ps -eo pid,ni,user,etimes,time,args | grep '[a]gent.screen'",
)
"""What is said of a screen that is not as it should be."""
PSS = (
    "for p in $(pgrep -u tram,tram-voice,tram-decoder); do "
    "echo $(awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup) $(tr '\\0' ' ' </proc/$p/cmdline | cut -c-70); done"
)
"""Memory of each process of the station, in KB."""
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

    def configure(self, zone: dict[str, Any], relays: list[dict[str, Any]] | None = None) -> None:
        """Give the station a board on the frame buffer, with more to its zone, and further relays; it begins anew."""
        station = self.around.configuration(self.board.sound_device)
        station["relays"] += relays or []
        (mine,) = (z for z in station["zones"] if z["id"] == ZONE)
        mine |= {"output": {"driver": "hdmi"}} | zone
        mine["board"]["clock"] = False  # a picture that stays as it is
        text = yaml.safe_dump(station, allow_unicode=True, sort_keys=False)
        put(self.board, {"/etc/tram/station.yaml": text.encode()})
        ran = self.board.run("tram check", timeout_s=60)
        assert ran.code == 0, ran.out + ran.err
        answered(self.board, "systemctl restart tram-voice tram-agent", timeout_s=180)
        wait("buttons are armed", lambda: armed(self.board), 120 * self.board.patience)
        self.around.wait_online(self.board, 180)

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(answered(self.board, "tram status --json", timeout_s=60))
        return told

    def show(self, name: str, items: list[dict[str, Any]], class_: str = "priority", **more: Any) -> Signed:
        """Send a bulletin for the board."""
        args = {"id": name, "title": more.pop("title", "Tin của xã Mẫu"), "class": class_, "start": "now"}
        return self.around.order("broadcast", args | {"zones": [ZONE], "items": items, "resume": "drop"} | more)

    def logged(self, name: str) -> dict[str, Any]:
        """The last entry of a bulletin in the station's play log; empty while it has none."""
        entries = json.loads(answered(self.board, "tram log --format json", timeout_s=60))["entries"]
        return next((e for e in reversed(entries) if e["bulletin"] == name), {})

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
    made = Screen(board, around)
    made.configure({})
    wait("the board has shown a frame", lambda: ZONE in made.status().get("frames", {}), 120 * board.patience)
    return made


@pytest.fixture(scope="module")
def agreed(screen: Screen) -> float:
    """The board is an advertiser's from now on; when the hours end that are agreed with him, in epoch seconds."""
    tz = ZoneInfo(screen.around.configuration("")["timezone"])
    now = datetime.now(tz)
    end = now.replace(second=0, microsecond=0) + timedelta(minutes=1 + round(AGREED_MIN * screen.board.patience))
    screen.configure(
        {
            "idle": {"source": "external", "relay": "chuyen-hinh"},
            "rules": {"requisition_hours": [f"{now - timedelta(hours=1):%H:%M}-{end:%H:%M}"]},
        },
        relays=[{"id": "chuyen-hinh", "pin": CHANGE_OVER, "de_energised": "the advertiser's player is on the screen"}],
    )
    screen.until("the owner has it", lambda i: i.getbbox() is None)
    return end.timestamp()


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


def whole(screen: Screen) -> Image.Image:
    """What is on the screen, whose hash the province is told: a dump taken while a picture is written has another."""
    seen: list[Image.Image] = []

    def reported() -> bool:
        seen[:] = [screen.dump()]
        return bool(screen.status()["frames"][ZONE] == hashlib.sha256(seen[0].tobytes()).hexdigest())

    wait("the reported hash is that of the screen", reported, 30 * screen.board.patience)
    return seen[0]


def test_the_default_slide_fills_the_screen_and_its_hash_is_reported(screen: Screen) -> None:
    screen.until("the default slide is there", lambda i: ground(i) == LOOKS["idle"].ground)
    image = whole(screen)
    for _ in range(10):
        sleep(0.3)
        assert screen.dump("slide").tobytes() == image.tobytes(), "a cursor blinks in it, or somebody writes over it"
    print("screen:", image.size)


def test_a_text_looks_as_a_png_board_paints_it(screen: Screen) -> None:
    screen.show("van-ban", [{"text": WORDS, "lang": "vi", "dwell_s": 600}])
    screen.until("the text is there", lambda i: ground(i) == LOOKS["priority"].ground)
    image = whole(screen)
    image.save(screen.board.folder / "text.png")
    page = Page(title="Tin của xã Mẫu", body=WORDS, class_="priority", issuer="Ủy ban nhân dân tỉnh Mẫu")
    same = painted(page, image.size)
    same.save(screen.board.folder / "text-as-png-board.png")
    print("difference from what is painted here:", round(alike(image, same), 2), image.tobytes() == same.tobytes())
    assert alike(image, same) < 6
    screen.cancel("van-ban")


def test_a_picture_is_on_the_screen(screen: Screen, tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1000), GREEN).save(tmp_path / "xanh.jpg", quality=90)
    screen.show("anh", [screen.media(tmp_path / "xanh.jpg") | {"dwell_s": 600}])
    screen.until("the picture is there", lambda i: near(i, GREEN, 0.9))
    image = whole(screen)
    image.save(screen.board.folder / "picture.png")
    screen.cancel("anh")


def test_a_slide_show_turns_from_a_picture_to_the_sheets_of_a_long_text_and_is_never_black(
    screen: Screen, tmp_path: Path
) -> None:
    screen.until("nothing else is shown", lambda i: ground(i) == LOOKS["idle"].ground)
    Image.new("RGB", (800, 500), GREEN).save(tmp_path / "xanh.png")
    picture = screen.media(tmp_path / "xanh.png") | {"dwell_s": 8}
    sheets: dict[bytes, Image.Image] = {}
    seen: list[Image.Image] = []

    def complete(image: Image.Image) -> bool:
        assert image.getbbox() is not None, "black"
        if not seen and near(image, GREEN, 0.9):
            seen.append(image)
        if ground(image) == LOOKS["priority"].ground:
            sheets[image.tobytes()] = image
        return bool(seen) and len(sheets) >= 3

    text = {"text": LONG, "lang": "vi", "dwell_s": 60}
    screen.show("trinh-chieu", [picture, text], title="Quy ước ấp Mẫu")
    screen.until("the picture and three sheets were seen", complete)
    for number, sheet in enumerate(sheets.values()):
        sheet.save(screen.board.folder / f"sheet-{number}.png")
    screen.cancel("trinh-chieu")


def test_what_the_station_reads_back_is_what_is_on_the_screen(screen: Screen) -> None:
    image = screen.until("the default slide is there", lambda i: ground(i) == LOOKS["idle"].ground)
    coded = answered(screen.board, f"cd /run && tram screen {ZONE} --out seen.png >&2 && base64 seen.png", timeout_s=60)
    with Image.open(io.BytesIO(base64.b64decode(coded))) as small:
        print("read back:", small.size)
        difference = alike(image, small.convert("RGB"))
    assert difference < 6


@pytest.mark.parametrize("size", ["640x360", "1280x720", "1920x1080"])
def test_a_film_moves_on_the_screen(screen: Screen, tmp_path: Path, size: str) -> None:
    file = tmp_path / "phim.mp4"
    source = f"testsrc2=s={size}:r=10:d={FILM_S}"
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    words = ["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", source, *coded, str(file)]
    subprocess.run(words, check=True, timeout=300)
    screen.show(f"phim-{size}", [screen.media(file)])
    first = screen.until("the film has begun", lambda i: near(i, (255, 0, 0), 0.05) and near(i, (0, 255, 0), 0.05))
    first.save(screen.board.folder / f"film-{size}.png")
    screen.until("it moves", lambda i: near(i, (255, 0, 0), 0.05) and i.tobytes() != first.tobytes())
    memory = answered(screen.board, PSS, timeout_s=60)
    print(f"memory (PSS, KB) while a film of {size} is shown:\n{memory}")
    assert "agent.screen --zone" in memory
    assert all(int(line.split()[0]) <= 80 * 1024 for line in memory.splitlines() if "agent.screen --zone" in line)
    screen.cancel(f"phim-{size}")
    screen.until("it is gone when it is cancelled", lambda i: ground(i) == LOOKS["idle"].ground)


def test_an_emergency_takes_the_whole_screen(screen: Screen) -> None:
    items = [{"text": STORM, "lang": "vi", "dwell_s": 600}]
    sent = monotonic()
    screen.show("bao", items, "emergency", title="BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY")
    screen.until("the alert is there", lambda i: ground(i) == LOOKS["emergency"].ground)
    print(f"order → screen at most {monotonic() - sent:.1f} s, in emulation")
    image = whole(screen)
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
    screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)
    whole(screen)


def test_a_board_that_was_killed_shows_again_what_holds(screen: Screen) -> None:
    # What it had put there stays there without it: wiped, so that only a new one can have shown it again.
    answered(screen.board, "kill -9 $(pgrep -f 'agent.screen --zone' | head -1); head -c 4000000 /dev/zero >/dev/fb0")
    screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)


def test_without_the_agent_the_screen_is_dark(screen: Screen) -> None:
    answered(screen.board, "systemctl stop tram-agent", timeout_s=120)
    screen.until("the screen is dark", lambda i: i.getbbox() is None)
    answered(screen.board, "systemctl start tram-agent", timeout_s=120)
    screen.until("the alert is there again", lambda i: ground(i) == LOOKS["emergency"].ground)
    screen.cancel("bao")
    screen.until("the default slide is there", lambda i: ground(i) == LOOKS["idle"].ground)


def test_within_the_agreed_hours_the_advertisers_board_shows_the_authority(screen: Screen, agreed: float) -> None:
    assert not screen.board.level(CHANGE_OVER), "without a programme the relay lets the owner through"
    screen.show("trung-dung", [{"text": WORDS, "lang": "vi", "dwell_s": 3600}], title="Thông báo của xã Mẫu")
    screen.until("the notice is there", lambda i: ground(i) == LOOKS["priority"].ground)
    wait("the relay lets the station through", lambda: screen.board.level(CHANGE_OVER), 30 * screen.board.patience)
    whole(screen).save(screen.board.folder / "requisition.png")
    assert time() < agreed, "this machine is too slow for these hours"


def test_when_the_agreed_hours_end_the_board_is_the_owners_and_log_and_report_have_the_minutes(
    screen: Screen, agreed: float
) -> None:
    while screen.board.level(CHANGE_OVER):
        assert time() < agreed + 60 * screen.board.patience, "the board was not given back"
        sleep(1)
    assert time() > agreed - CLOCKS_S, "given back before its time"
    screen.until("the owner has it", lambda i: i.getbbox() is None)
    wait("it is in the log", lambda: screen.logged("trung-dung"), 60 * screen.board.patience)
    entry = screen.logged("trung-dung")
    assert (entry["result"], entry["reason"]) == ("interrupted", "requisition-hours")
    started, ended = (datetime.fromisoformat(entry[name]).timestamp() for name in ("started", "ended"))
    assert started < agreed <= ended
    minutes = round((ended - started) / 60, 1)
    assert minutes > 0

    def reported() -> float:
        with screen.around.watcher.changed:
            (row,) = screen.around.record.report(agreed, time() + 3600)
        return float(row["requisition_minutes"])

    wait("the report has the minutes", lambda: reported() == minutes, 60 * screen.board.patience)
    print(f"requisitioned for {minutes} min, given back {ended - agreed:.1f} s after the agreed end")


def test_outside_the_agreed_hours_only_an_emergency_has_the_advertisers_board(screen: Screen, agreed: float) -> None:
    refused = screen.show("ngoai-gio", [{"text": WORDS, "lang": "vi"}])
    screen.around.until(refused, "failed", within_s=60 * screen.board.patience)
    assert screen.logged("ngoai-gio")["reason"] == "requisition-hours"
    assert not screen.board.level(CHANGE_OVER)
    title = "BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY"
    screen.show("bao-gap", [{"text": STORM, "lang": "vi", "dwell_s": 20}], "emergency", title=title)
    screen.until("the alert is there", lambda i: ground(i) == LOOKS["emergency"].ground)
    wait("the relay lets the station through", lambda: screen.board.level(CHANGE_OVER), 30 * screen.board.patience)
    wait("the owner has it again", lambda: not screen.board.level(CHANGE_OVER), 60 * screen.board.patience)
    wait("it is in the log", lambda: screen.logged("bao-gap"), 60 * screen.board.patience)
    assert screen.logged("bao-gap")["reason"] == "overrides requisition-hours"
