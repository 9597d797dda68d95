"""The frame buffer's driver in a real board's process, with a file as the frame buffer: away, back, another size.

Only what the kernel answers is replaced; a real frame buffer is in `hil-tests/test_board.py`.
"""

from __future__ import annotations

import queue
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from msgspec import Struct
from PIL import Image

from agent.model.config import HdmiOutput, Zone
from agent.model.events import ChildDied
from agent.model.screen import Capture, Captured, Page, ScreenFault, Show, Shown
from agent.screen.client import Screens
from province.bench.frame_buffer import Display

ALERT = Show("p", [Page(title="SƠ TÁN NGAY", class_="emergency", dwell_s=600)])


class Monitor(Display):
    """A display that can be plugged, and the board's process that drives it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.events: queue.Queue[Struct] = queue.Queue()
        output = HdmiOutput(device=str(self.device))
        zone = Zone(id="bang", kind="screen", output=output)
        self.screens = Screens([zone], self.post, folder, self.program(check_s=0.1))

    def post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    def until(self, fits: Callable[[Struct], bool]) -> Struct:
        end = time.monotonic() + 30
        while True:
            event = self.events.get(timeout=max(0.1, end - time.monotonic()))
            if fits(event):
                return event

    def shown(self, play: str | None = "p") -> Struct:
        return self.until(lambda e: isinstance(e, Shown) and e.play == play)

    def fault(self, *, on: bool) -> Struct:
        return self.until(lambda e: isinstance(e, ScreenFault) and e.what == "display" and e.on == on)

    def lit(self) -> int:
        """Pixels that are not black."""
        data = self.device.read_bytes()
        return sum(any(data[n : n + 3]) for n in range(0, len(data), 4))


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    made = Monitor(tmp_path)
    yield made
    made.screens.stop()


def test_a_display_that_is_missing_at_the_start_is_an_alarm_and_shows_what_holds_when_it_comes(
    monitor: Monitor,
) -> None:
    monitor.screens.start()
    monitor.screens.send("bang", ALERT)
    monitor.fault(on=True)
    monitor.resize(160, 90)
    monitor.fault(on=False)
    monitor.shown()
    assert monitor.lit() > 160 * 90 / 2


def test_a_board_whose_display_never_came_ends_with_the_agent(monitor: Monitor) -> None:
    monitor.screens.start()
    monitor.fault(on=True)
    pid = monitor.screens.pids["bang"]
    monitor.screens.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not any(isinstance(e, ChildDied) for e in monitor.events.queue)


def test_an_unplugged_display_is_an_alarm_and_the_show_goes_on_when_it_is_back(monitor: Monitor) -> None:
    monitor.resize(160, 90)
    monitor.screens.start()
    monitor.screens.send("bang", ALERT)
    monitor.shown()
    pid = monitor.screens.pids["bang"]
    monitor.plug(there=False)
    fault = monitor.fault(on=True)
    assert isinstance(fault, ScreenFault)
    assert "plugged" in fault.detail
    monitor.device.write_bytes(bytes(160 * 90 * 4))  # the display forgot its picture
    monitor.plug(there=True)
    monitor.fault(on=False)
    monitor.shown()
    assert monitor.lit() > 160 * 90 / 2
    assert monitor.screens.pids["bang"] == pid


def test_after_another_resolution_the_same_is_shown_in_the_new_size(monitor: Monitor) -> None:
    monitor.resize(160, 90)
    monitor.screens.start()
    monitor.screens.send("bang", ALERT)
    monitor.shown()
    monitor.resize(320, 200)
    died = monitor.until(lambda e: isinstance(e, ChildDied))
    assert isinstance(died, ChildDied)
    assert "resolution" in died.detail
    monitor.shown()
    assert monitor.lit() > 320 * 200 / 2


def test_what_is_on_the_display_is_read_back(monitor: Monitor) -> None:
    monitor.resize(160, 90)
    monitor.screens.start()
    monitor.screens.send("bang", ALERT)
    monitor.shown()
    monitor.screens.send("bang", Capture(7))
    answer = monitor.until(lambda e: isinstance(e, Captured))
    assert isinstance(answer, Captured)
    with Image.open(BytesIO(b64decode(answer.png))) as image:
        assert image.size == (160, 90)
        ground = image.convert("RGB").getpixel((2, 88))
    data = monitor.device.read_bytes()
    at = (88 * 160 + 2) * 4
    assert ground == (data[at + 2], data[at + 1], data[at])
