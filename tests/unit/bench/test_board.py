"""What the boards' benchmarks read from changes and from files."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.model.config import Board, PngOutput, Zone
from agent.model.screen import Page
from drivers.png_board import png
from province.bench.board import DWELL_S, Files, lateness, picture

RED, BLACK = b"\xff\0\0" * 12, bytes(36)


@pytest.mark.parametrize(
    ("late_ms", "expected"),
    [
        ([0, 0, 0], [0, 0]),
        ([30, 0, 5], [0, 5]),
        ([0, 120, 0], [120, 0]),
        ([40, 40, 40], [0, 0]),
    ],
    ids=["punctual", "a late beginning", "one late change", "a beginning that nobody knows"],
)
def test_a_change_is_late_against_the_schedule_of_the_most_punctual_one(
    late_ms: list[int], expected: list[float]
) -> None:
    changes = [10**15 + round(k * DWELL_S * 1e9) + ms * 10**6 for k, ms in enumerate(late_ms)]
    assert lateness(changes) == pytest.approx(expected)


def test_only_the_alert_s_own_picture_counts(tmp_path: Path) -> None:
    for name, rgb in (("0000.png", BLACK), ("0001.png", RED)):
        (tmp_path / name).write_bytes(png(rgb, 4, 3))
    index = [{"file": f"000{k % 2}.png", "from": datetime.fromtimestamp(1000 + k, UTC).isoformat()} for k in range(3)]
    (tmp_path / "index.json").write_text(json.dumps(index))
    files = Files(tmp_path, 4)
    assert files.await_picture(hashlib.sha256(RED).hexdigest(), time.time() + 60) == 1001
    assert files.await_picture(hashlib.sha256(RED[3:]).hexdigest(), time.time()) is None


def test_an_alert_s_picture_is_known_before_it_is_shown() -> None:
    output = PngOutput(dir="b", width=320, height=180)
    zone = Zone(id="bang", kind="screen", output=output, board=Board())
    first, second = (picture(zone, output, Page(title=title, class_="emergency")) for title in ("bao-1", "bao-2"))
    assert first != second
