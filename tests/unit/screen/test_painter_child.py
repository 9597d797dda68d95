"""The painting child may crash or hang: that costs its page, and nothing of yesterday stays on the board."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agent.model.screen import Page, Show
from agent.screen import layout, main, painting
from agent.screen.fonts import NoFontError

SIZE = (64, 48)


class Wall:
    """A board that remembers what was shown."""

    width, height = SIZE

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    rate_hz = 10.0

    def prepare(self, rgb: bytes, sha256: str) -> bytes:
        return rgb

    def show(self, ready: bytes) -> tuple[int, str | None]:
        self.shown.append(ready)
        return 0, None

    def move(self, bgrx: bytes | memoryview, top: int = 0) -> None:
        self.shown.append(bytes(bgrx))

    def read(self) -> bytes:
        return self.shown[-1]

    def dim(self, percent: int) -> bool:
        return False

    def check(self) -> bool:
        return True

    def close(self) -> None:
        self.shown.append(b"closed")


class Bench:
    """A board's process without its stdin: one command is painted to the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[dict[str, Any]] = []
        monkeypatch.setattr(main._Process, "_say", self.said.append)
        self.wall = Wall()
        self.process = main._Process(self.wall)

    def paint(self, *titles: str) -> None:
        pages = [Page(title=t, dwell_s=1e-6) for t in titles]
        self.process._start(msgspec.json.encode(Show(play="p", pages=pages)))
        while self.process.painter is not None:
            self.process._painted(self.process.painter)

    def faults(self) -> list[str]:
        return [f"{e['what']}: {e['detail']}" for e in self.said if e["ev"] == "fault"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def crash_at(title: str, monkeypatch: pytest.MonkeyPatch, die: Callable[[], object]) -> None:
    """The child dies while it lays out the page of that title."""
    compose = layout.compose

    def deadly(page: Page, *rest: Any) -> Any:
        if page.title == title:
            die()
        return compose(page, *rest)

    monkeypatch.setattr(painting, "compose", deadly)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("pages", "frames", "fault"),
    [
        (["chết", "hai", "ba"], 2, "painter: page 0: signal 9"),
        (["một", "chết", "ba"], 2, "painter: page 1: signal 9"),
        (["một", "hai", "chết"], 2, "painter: page 2: signal 9"),
    ],
)
def test_a_crash_costs_its_page_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, pages: list[str], frames: int, fault: str
) -> None:
    crash_at("chết", monkeypatch, kill)
    bench.paint(*pages)
    assert bench.faults() == [fault]
    assert len(bench.process.rota.frames) == frames
    assert bench.process.rota.complete


def test_when_nothing_can_be_painted_the_board_is_dark(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.paint("một")
    crash_at("chết", monkeypatch, kill)
    bench.paint("chết")
    assert bench.faults() == ["painter: page 0: signal 9", "painter: signal 9"]
    assert bench.wall.shown[-1] == bytes(SIZE[0] * SIZE[1] * 3)


def test_an_error_in_the_painter_is_a_fault_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    crash_at("chết", monkeypatch, fail)
    bench.paint("chết", "hai")
    assert bench.faults() == ["painter: page 0: exit 1"]
    assert len(bench.process.rota.frames) == 1


def test_a_page_that_eats_memory_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_at("chết", monkeypatch, lambda: bytearray(painting.MEMORY))
    bench.paint("chết", "hai")
    assert bench.faults() == ["painter: page 0: exit 1"]
    assert len(bench.process.rota.frames) == 1


def test_a_painter_that_hangs_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_at("chết", monkeypatch, signal.pause)
    line = msgspec.json.encode(Show(play="p", pages=[Page(title="một"), Page(title="chết"), Page(title="ba")]))
    bench.process._start(line)
    painter = bench.process.painter
    assert painter is not None
    while painter.page != 1:
        bench.process._painted(painter)
    bench.process._gave_up("nothing painted for 20 s")
    while bench.process.painter is not None:
        bench.process._painted(bench.process.painter)
    assert bench.faults() == ["painter: page 1: nothing painted for 20 s"]
    assert len(bench.process.rota.frames) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(painter.pid, 0)


@pytest.mark.parametrize("line", [b"{", b'{"do":"dance"}', b'{"do":"show","play":"x","pages":[{}]}', b"\xff", b"[]"])
def test_a_damaged_command_is_a_fault_and_changes_nothing(bench: Bench, line: bytes) -> None:
    bench.paint("một")
    before = list(bench.wall.shown)
    bench.process._take(line + b"\n")
    while bench.process.painter is not None:
        bench.process._painted(bench.process.painter)
    assert [f.split(":")[0] for f in bench.faults()] == ["command"]
    assert bench.wall.shown == before


def test_a_command_without_end_is_skipped_to_its_newline(bench: Bench) -> None:
    for _ in range(6):
        bench.process._take(b"x" * 2**20)
    assert bench.faults() == [f"command: longer than {main.MAX_LINE} bytes"]
    bench.process._take(b"rest\n" + msgspec.json.encode(Show(play="p", pages=[Page(title="một")])) + b"\n")
    while bench.process.painter is not None:
        bench.process._painted(bench.process.painter)
    assert len(bench.wall.shown) == 1


@pytest.mark.parametrize(("kind", "own"), [("emergency", True), ("normal", False)])
def test_who_paints_an_alert_goes_before_other_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: Any, own: bool
) -> None:
    niced: list[int] = []
    monkeypatch.setattr(main, "niceness", niced.append)
    compose = layout.compose

    def telling(*given: Any) -> Any:
        assert niced == ([] if own else [0])
        return compose(*given)

    monkeypatch.setattr(painting, "compose", telling)
    page = Page(title='"class_":"emergency"', class_=kind)
    bench.process._start(msgspec.json.encode(Show(play="p", pages=[page])))
    while bench.process.painter is not None:
        bench.process._painted(bench.process.painter)
    assert not bench.faults()


def test_without_fonts_the_class_is_shown_and_the_alarm_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise NoFontError("no font with Vietnamese letters: install fonts-noto-core or fonts-dejavu-core")

    monkeypatch.setattr(painting, "Fonts", none)
    bench.process._start(msgspec.json.encode(Show(play="p", pages=[Page(title="SƠ TÁN", class_="emergency")])))
    while bench.process.painter is not None:
        bench.process._painted(bench.process.painter)
    assert bench.faults() == ["font: no font with Vietnamese letters: install fonts-noto-core or fonts-dejavu-core"]
    assert bytes(layout.LOOKS["emergency"].ground) in bench.wall.shown[-1]
