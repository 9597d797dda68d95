"""The real child process, from outside."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from PIL import Image

from agent.model.config import PngOutput, WavOutput, Zone
from agent.model.events import ChildDied
from agent.model.screen import Lasts, Page, Rest, ScreenFault, Show, Shown
from agent.screen.client import Screens
from tests.unit.screen.test_hostile_pictures import HOSTILE

ALERT = Show(play="p1", pages=[Page(class_="emergency", title="BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY")])


class Station:
    """A board's child and what it posts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: queue.Queue[Struct] = queue.Queue()
        zones = [
            Zone(id="bang", kind="screen", output=PngOutput(dir=str(folder), width=320, height=180)),
            Zone(id="loa", kind="sound", output=WavOutput(path="x.wav")),
        ]
        self.screens = Screens(zones, self.post, folder)

    def post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    def next(self, kind: type[Struct]) -> Struct:
        """The next event, which is to be of that kind; how long a show lasts may be told at any time."""
        event = self.events.get(timeout=20)
        while kind is not Lasts and isinstance(event, Lasts):
            event = self.events.get(timeout=20)
        assert isinstance(event, kind), event
        return event

    def index(self) -> list[dict[str, str | None]]:
        entries: list[dict[str, str | None]] = json.loads((self.folder / "index.json").read_text())
        return entries


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    made.screens.start()
    yield made
    made.screens.stop()


def test_a_frame_is_reported_with_the_hash_of_its_pixels(station: Station) -> None:
    station.screens.send("bang", ALERT)
    shown = station.next(Shown)
    assert isinstance(shown, Shown)
    assert (shown.play, shown.zone, shown.file) == ("p1", "bang", "0000.png")
    pixels = Image.open(station.folder / "0000.png").convert("RGB").tobytes()
    assert hashlib.sha256(pixels).hexdigest() == shown.sha256


def test_when_the_agent_is_gone_the_board_ends_dark_and_in_order(station: Station) -> None:
    station.screens.send("bang", ALERT)
    station.next(Shown)
    station.next(Lasts)
    assert station.index()[-1]["to"] is None
    station.screens.stop()
    assert station.index()[-1]["to"] is not None
    assert station.screens.pids == {}
    assert station.events.empty()


def test_a_killed_board_is_started_again_and_told_its_last_command(station: Station) -> None:
    station.screens.send("bang", ALERT)
    first = station.next(Shown)
    os.kill(station.screens.pids["bang"], signal.SIGKILL)
    died = station.next(ChildDied)
    again = station.next(Shown)
    assert isinstance(died, ChildDied)
    assert isinstance(first, Shown)
    assert isinstance(again, Shown)
    assert died.name == "screen:bang"
    assert (again.play, again.sha256, again.file) == ("p1", first.sha256, "0001.png")
    assert [e["to"] is None for e in station.index()] == [False, True]


def test_a_damaged_picture_is_a_fault_and_the_next_page_is_shown(station: Station, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0broken")
    pages = [Page(title="", image=str(tmp_path / "bad.jpg")), Page(title="Trang hai")]
    station.screens.send("bang", Show(play="p2", pages=pages))
    fault = station.next(ScreenFault)
    assert isinstance(fault, ScreenFault)
    assert (fault.what, fault.zone) == ("picture", "bang")
    shown = station.next(Shown)
    assert isinstance(shown, Shown)
    assert shown.play == "p2"


def test_a_bulletin_of_damaged_pictures_alone_shows_its_title(station: Station) -> None:
    station.screens.send("bang", Show(play="p3", pages=[Page(class_="priority", title="Lũ", image="/none.png")]))
    station.next(ScreenFault)
    station.next(Shown)
    station.screens.send("bang", Show(play="p4", pages=[Page(class_="priority", title="Lũ")]))
    station.next(Shown)
    assert len(station.index()) == 1, "the same picture as a page of the title alone"


def test_a_bulletin_of_all_that_is_hostile_costs_alarms_and_the_show_goes_on(
    station: Station, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bad = tmp_path_factory.mktemp("bad")
    for name, make in HOSTILE.items():
        (bad / name).write_bytes(make())
    pages = [Page(title="", image=str(bad / name)) for name in HOSTILE]
    pages += [Page(title="Dài", body="\u202eắ\x00 " * 25_000, dwell_s=1.0), Page(title="Cuối", dwell_s=0.01)]
    station.screens.send("bang", Show(play="p", pages=pages))
    seen: list[Struct] = []
    while not isinstance(seen[-1] if seen else None, Lasts):
        seen.append(station.events.get(timeout=60))
    faults = [e for e in seen if isinstance(e, ScreenFault)]
    assert [f.what for f in faults if f.what == "picture"] == ["picture"] * len(HOSTILE)
    assert {f.what for f in faults} == {"picture", "cut"}
    assert any(isinstance(e, Shown) and e.play == "p" for e in seen)
    status = Path(f"/proc/{station.screens.pids['bang']}/status").read_text()
    most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert most < 80 * 1024, "kB of the process that stays"


def test_the_newest_command_wins(station: Station) -> None:
    body = "mời bà con " * 500
    station.screens.send("bang", Show(play="long", pages=[Page(title="x", body=body)]))
    station.screens.send("bang", ALERT)
    while True:
        shown = station.next(Shown)
        if isinstance(shown, Shown) and shown.play == "p1":
            break
    station.screens.send("bang", Rest(dark=True))
    station.next(Shown)
    last = station.index()[-1]["file"]
    assert Image.open(station.folder / str(last)).convert("L").getextrema() == (0, 0)


def test_pages_take_turns(station: Station) -> None:
    pages = [Page(title="Một", dwell_s=0.05), Page(title="Hai", dwell_s=0.05)]
    station.screens.send("bang", Show(play="p", pages=pages))
    files = [getattr(station.next(Shown), "file", None) for _ in range(4)]
    assert files == ["0000.png", "0001.png", "0000.png", "0001.png"]


def test_a_sound_zone_is_no_board(station: Station) -> None:
    with pytest.raises(KeyError):
        station.screens.send("loa", ALERT)
