"""The frame buffer's driver on a file in place of the device: what it would put on the display, byte by byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers import hdmi_board
from drivers.hdmi_board import Board

WIDTH, HEIGHT = 4, 2
RED, GREY = (255, 0, 0), (128, 130, 126)


class Display:
    """A file as the frame buffer, and the answers of the kernel."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, bits: int = 32, padding: int = 0) -> None:
        self.folder = folder
        self.size = (WIDTH, HEIGHT, bits, WIDTH * bits // 8 + padding)
        self.device = folder / "fb0"
        self.device.write_bytes(b"\x55" * self.size[3] * HEIGHT)
        monkeypatch.setattr(hdmi_board, "geometry", lambda _fd: self.size)
        self.status = folder / "drm" / "card0-HDMI-A-1" / "status"
        self.status.parent.mkdir(parents=True)
        self.plug(True)

    def plug(self, there: bool) -> None:
        self.status.write_text("connected\n" if there else "disconnected\n")

    def board(self, **more: str) -> Board:
        return Board(device=str(self.device), drm=str(self.folder / "drm"), **more)

    def pixels(self) -> bytes:
        return self.device.read_bytes()


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Display:
    return Display(tmp_path, monkeypatch)


def frame(*colour: int) -> bytes:
    return bytes(colour) * (WIDTH * HEIGHT)


def test_pixels_go_out_as_blue_green_red(display: Display) -> None:
    board = display.board()
    board.show(board.prepare(frame(1, 2, 3), "x"))
    assert display.pixels() == bytes((3, 2, 1, 0)) * WIDTH * HEIGHT
    assert board.read() == frame(1, 2, 3)
    board.close()


@pytest.mark.parametrize("colour", [RED, GREY, (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_sixteen_bits_come_near_and_are_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: tuple[int, int, int]
) -> None:
    board = Display(tmp_path, monkeypatch, bits=16).board()
    board.show(board.prepare(frame(*colour), "x"))
    read = board.read()
    assert all(abs(a - b) <= 8 for a, b in zip(read, frame(*colour), strict=True))
    board.show(board.prepare(read, "x"))
    assert board.read() == read


@pytest.mark.parametrize("bits", [16, 32])
def test_lines_longer_than_the_picture_keep_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    display = Display(tmp_path, monkeypatch, bits, padding=8)
    board = display.board()
    board.show(board.prepare(frame(255, 255, 255), "x"))
    assert board.read() == frame(255, 255, 255)
    line = display.size[3]
    assert [display.pixels()[(y + 1) * line - 8 : (y + 1) * line] for y in range(HEIGHT)] == [b"\x55" * 8] * HEIGHT


def test_a_running_line_changes_its_rows_only(display: Display) -> None:
    board = display.board()
    board.show(board.prepare(frame(9, 9, 9), "x"))
    board.move(bytes((1, 2, 3, 0)) * WIDTH, 1)
    assert board.read() == bytes((9, 9, 9)) * WIDTH + bytes((3, 2, 1)) * WIDTH


def test_a_closed_board_is_black(display: Display) -> None:
    board = display.board()
    board.show(board.prepare(frame(*RED), "x"))
    board.close()
    board.close()
    assert set(display.pixels()) == {0}


def test_an_unplugged_display_is_noticed_and_its_return(display: Display) -> None:
    board = display.board()
    assert board.check()
    display.plug(False)
    with pytest.raises(OSError, match="plugged"):
        board.check()
    display.plug(True)
    assert board.check()


@pytest.mark.parametrize(
    ("others", "there"),
    [({"DSI-1": "connected"}, True), ({"Virtual-1": "disconnected"}, False), ({"Composite-1": "unknown"}, False)],
    ids=["a panel", "a second one that is away", "one that does not know"],
)
def test_a_display_at_any_connector_counts(display: Display, others: dict[str, str], there: bool) -> None:
    display.plug(False)
    for name, status in others.items():
        path = display.status.parents[1] / f"card0-{name}" / "status"
        path.parent.mkdir()
        path.write_text(f"{status}\n")
    board = display.board()
    if there:
        assert board.check()
    else:
        with pytest.raises(OSError, match="plugged"):
            board.check()


def test_connectors_that_do_not_know_are_no_alarm(display: Display) -> None:
    display.status.write_text("unknown\n")
    assert display.board().check()


def test_another_resolution_is_noticed(display: Display) -> None:
    board = display.board()
    display.size = (8, 2, 32, 32)
    assert not board.check()


def test_the_backlight_follows_in_its_own_steps(display: Display) -> None:
    light = display.folder / "light"
    light.mkdir()
    (light / "max_brightness").write_text("31\n")
    (light / "brightness").write_text("31")
    board = display.board(backlight=str(light))
    assert board.dim(40)
    assert (light / "brightness").read_text() == "12"
    assert board.dim(1)
    assert (light / "brightness").read_text() == "1"
    assert not display.board().dim(40)
    assert not display.board(backlight=str(light / "none")).dim(40)


def test_what_is_no_frame_buffer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in ("file", "none"):
        with pytest.raises(OSError):  # noqa: PT011 - whatever the kernel says
            Board(device=str(tmp_path / path))
    assert os.listdir("/proc/self/fd")
