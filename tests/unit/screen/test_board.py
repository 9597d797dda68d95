"""A board's process decides by itself: ends, hangs of the agent, brightness, an unplugged display, running lines."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import msgspec
import pytest
from PIL import Image

from agent.model.screen import Capture, Dim, Page, Rest, Show, Turn
from agent.screen import main
from tests.unit.screen.test_painter_child import SIZE, Wall

BLACK = bytes(SIZE[0] * SIZE[1] * 3)


class Desk:
    """A board's process whose stdin is a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **look: Any) -> None:
        self.said: list[dict[str, Any]] = []
        monkeypatch.setattr(main._Process, "_say", self.said.append)
        self.wall = Wall()
        self.process = main._Process(self.wall, look)

    def tell(self, *commands: Any) -> None:
        """Commands that arrive together; what is to be painted is painted."""
        self.process._take(b"".join(msgspec.json.encode(c) + b"\n" for c in commands))
        self.paint()

    def paint(self) -> None:
        while self.process.painter is not None:
            self.process._painted(self.process.painter)

    def tend(self, seconds: float = 0.0) -> bool:
        """What is due that many seconds from now."""
        done = self.process._tend(time.monotonic() + seconds)
        self.paint()
        return done

    def faults(self) -> list[tuple[str, bool]]:
        return [(e["what"], e.get("on", True)) for e in self.said if e["ev"] == "fault"]

    def plays(self) -> list[str | None]:
        return [e.get("play") for e in self.said if e["ev"] == "shown"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def show(play: str, *titles: str, ends_in_s: float | None = None, dwell_s: float = 600.0) -> Show:
    until = None if ends_in_s is None else time.monotonic_ns() + round(ends_in_s * 1e9)
    return Show(play, [Page(title=t, dwell_s=dwell_s) for t in titles], until)


def test_what_is_over_is_taken_down_without_the_agent(desk: Desk) -> None:
    desk.tell(Rest(title="Xã"))
    resting = desk.wall.shown[-1]
    desk.tell(show("p", "BÃO", ends_in_s=20))
    assert desk.wall.shown[-1] != resting
    desk.tend(19)
    assert desk.plays() == [None, "p"]
    desk.tend(20)
    assert desk.plays() == [None, "p", None]
    assert desk.wall.shown[-1] == resting


def test_without_a_default_slide_the_board_is_dark_when_it_is_over(desk: Desk) -> None:
    desk.tell(show("p", "BÃO", ends_in_s=20))
    desk.tend(21)
    assert desk.wall.shown[-1] == BLACK


def test_a_board_of_an_agent_that_hangs_goes_dark_and_comes_back_with_it(desk: Desk) -> None:
    desk.tell(show("p", "BÃO"))
    alert = desk.wall.shown[-1]
    desk.tend(main.LEASE_S - 1)
    assert desk.wall.shown[-1] == alert
    desk.tend(main.LEASE_S + 1)
    assert desk.wall.shown[-1] == BLACK
    desk.process._take(b"\n")
    desk.paint()
    assert desk.wall.shown[-1] == alert
    assert desk.faults() == [("agent", True), ("agent", False)]


def test_a_programme_is_dark_at_once_when_the_board_is_to_be_dark(desk: Desk) -> None:
    desk.tell(show("p", "BÃO"))
    desk.tell(Rest(dark=True))
    assert desk.wall.shown[-1] == BLACK


def test_what_could_not_be_painted_is_tried_again_by_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.tell(Rest(title="Xã"))
    resting = desk.wall.shown[-1]
    with monkeypatch.context() as m:
        m.setattr(main.os, "fork", lambda: (_ for _ in ()).throw(OSError("no memory")))
        desk.tell(Rest(title="Xã"))
    assert desk.wall.shown[-1] == BLACK
    assert desk.faults() == [("painter", True)]
    desk.tend(main.AGAIN_S - 5)
    assert desk.wall.shown[-1] == BLACK
    desk.tend(main.AGAIN_S + 1)
    assert desk.wall.shown[-1] == resting
    assert desk.process.again is None


@pytest.mark.parametrize("together", [True, False])
def test_the_board_turns_to_the_page_that_is_heard(desk: Desk, together: bool) -> None:
    pages = show("p", "một", "hai", "ba", dwell_s=5)
    if together:
        desk.tell(pages, Turn("p", 1, 2))
    else:
        desk.tell(pages)
        desk.tell(Turn("p", 1, 2))
        desk.tend()
    frames = desk.process.rota.frames
    assert desk.process.shown is not None
    assert desk.process.shown.page == 1
    desk.tend(6)
    assert desk.process.shown.page == 2
    assert [f.page for f in frames] == [0, 1, 2]


def test_a_turn_of_another_programme_is_passed_over(desk: Desk) -> None:
    desk.tell(show("p", "một", "hai"))
    desk.tell(Turn("q", 1, 1))
    desk.tend()
    assert desk.process.shown is not None
    assert desk.process.shown.page == 0


def test_half_the_light_is_shown_and_its_pixels_are_reported(desk: Desk) -> None:
    import hashlib

    desk.tell(Dim(50), Show("p", [Page(title="", class_="emergency")]))
    pixels = desk.wall.shown[-1]
    red = max(pixels[0::3])
    # Half the light of 255 in the gamma of a display (2.2) is 186; the ground of an emergency has 172.
    assert red <= 186
    assert desk.said[-2]["sha256"] == hashlib.sha256(pixels).hexdigest()
    desk.tell(Dim(100))
    assert max(desk.wall.shown[-1]) > 230


def test_a_dimmed_frame_of_a_slide_show_is_dimmed_at_once(desk: Desk) -> None:
    desk.tell(show("p", "một", "hai"))
    bright = desk.wall.shown[-1]
    desk.tell(Dim(20))
    assert sum(desk.wall.shown[-1]) < sum(bright)
    assert desk.plays() == ["p", "p"]


def test_an_unplugged_display_is_an_alarm_once_and_the_show_goes_on_when_it_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tell(show("p", "một"))

    def away() -> bool:
        raise OSError("no display is plugged in")

    monkeypatch.setattr(desk.wall, "check", away)
    assert desk.tend(main.CHECK_S)
    assert desk.tend(3 * main.CHECK_S)
    assert desk.faults() == [("display", True)]
    monkeypatch.setattr(desk.wall, "check", lambda: True)
    assert desk.tend(5 * main.CHECK_S)
    assert desk.faults() == [("display", True), ("display", False)]
    assert desk.plays() == ["p", "p"]


def test_the_board_is_dark_at_the_end_even_when_nobody_hears_of_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(event: dict[str, Any]) -> None:
        raise BrokenPipeError

    def playing() -> None:
        gone({})

    monkeypatch.setattr(desk.process, "_drop_film", playing)
    monkeypatch.setattr(desk.process, "_step", lambda: 0)
    assert desk.process.run() == 0
    assert desk.wall.shown[-1] == b"closed"


def test_another_resolution_ends_the_process_to_begin_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.wall, "check", lambda: False)
    assert not desk.tend(main.CHECK_S)


def test_an_output_that_fails_is_told_and_the_next_frame_is_tried(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(rgb: bytes, sha256: str) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(desk.wall, "prepare", full)
        desk.tell(show("p", "một"))
    assert desk.faults() == [("output", True)]
    desk.tell(show("q", "hai"))
    assert desk.plays() == ["q"]


def test_a_line_that_is_too_long_runs_and_comes_round_again(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch)
    monkeypatch.setattr(Wall, "width", 200)
    monkeypatch.setattr(Wall, "height", 100)
    desk.tell(Rest(title="Xã", playing="Đang phát: " + "tin tức " * 30))
    strip = desk.process._strip
    assert strip is not None
    band, _, since = strip
    moments = []
    for seconds in (0.0, 1.0, band.width / band.speed):
        desk.process._next_move = 0.0
        desk.process._move(since + seconds + 1e-6)
        moments.append(desk.wall.shown[-1])
    assert len(moments[0]) == 200 * 4 * band.rows
    assert moments[0] != moments[1]
    assert moments[0] == moments[2]


def test_what_is_shown_is_read_back_as_a_small_picture(desk: Desk) -> None:
    desk.tell(show("p", "BÃO"))
    desk.process._take(json.dumps({"do": "capture", "token": 7}).encode() + b"\n")
    capture = desk.process.capture
    assert capture is not None
    desk.process._take(msgspec.json.encode(Capture(8)) + b"\n")
    assert desk.said[-1] == {"ev": "captured", "token": 8, "detail": "another picture is being taken"}
    while (answer := capture.read()) is None:
        pass
    image = Image.open(io.BytesIO(base64.b64decode(answer["png"])))
    assert (answer["token"], image.size) == (7, SIZE)


@pytest.mark.parametrize(
    "line",
    [
        b'{"do":"turn"}',
        b'{"do":"dim","percent":"x"}',
        b'{"do":"capture"}',
        b'{"do":"show","until_ns":"x"}',
        b"7",
        b"{}",
    ],
)
def test_a_damaged_order_of_the_agent_changes_nothing(desk: Desk, line: bytes) -> None:
    desk.tell(show("p", "một"))
    before = list(desk.wall.shown)
    desk.process._take(line + b"\n")
    desk.paint()
    assert desk.faults()[0][0] == "command"
    assert desk.wall.shown == before
