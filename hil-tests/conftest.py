"""Fixtures: a board with its surroundings. `--board virtual` (default) or `--board ssh:HOST` with its rig."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from board import Board
from surroundings import Surroundings
from virtual import VirtualBoard, lower_priority

TOLD_AFTER_A_FAILURE = {
    "the station's journal": "journalctl -b -o short-monotonic --no-pager -n 60 -u 'tram-*'",
    "units": "systemctl --no-pager --plain list-units 'tram-*'",
    "load": "cat /proc/loadavg; df /data | tail -1",
}
ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--image", type=Path, help="a folder that image-build/build has made, instead of building one")
    parser.addoption("--board", default="virtual", help="virtual, or ssh:HOST (see hil-tests/README.md)")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, for sockets lie in it. Kept after a failure when TRAM_HIL_KEEP names a folder."""
    keep = os.environ.get("TRAM_HIL_KEEP")
    if keep:
        path = Path(keep)
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tram-hil-") as made:
        yield Path(made)


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Path:
    """The virtual board's image; built if it is not there."""
    given = pytestconfig.getoption("image")
    if isinstance(given, Path):
        return given
    built = subprocess.run(
        [ROOT / "image-build" / "build", "virtual-board"], stdout=subprocess.PIPE, text=True, check=True
    )
    lower_priority()
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def around(folder: Path) -> Iterator[Surroundings]:
    with Surroundings(folder / "around", VirtualBoard.host) as surroundings:
        yield surroundings


@pytest.fixture(scope="session")
def commissioned(image: Path, folder: Path, around: Surroundings) -> Path:
    """The disk of a station that has its configuration and was shut down."""
    board = VirtualBoard(image, folder / "new")
    try:
        board.start()
        around.commission(board)
        board.shut_down()
    finally:
        board.close()
    return board.disk


@pytest.fixture(scope="module")
def board(image: Path, folder: Path, commissioned: Path, request: pytest.FixtureRequest) -> Iterator[Board]:
    """A station that has just been switched on; the tests of one file go on with it."""
    name = request.module.__name__.rpartition("_")[2]
    board = VirtualBoard(image, folder / name, commissioned)
    board.start()
    yield board
    board.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the board says of a test that failed."""
    report = yield
    board = getattr(item, "funcargs", {}).get("board")
    if report.failed and board is not None:
        for title, command in TOLD_AFTER_A_FAILURE.items():
            try:
                ran = board.run(command, timeout_s=30)
                report.sections.append((title, ran.out + ran.err))
            except Exception as error:  # noqa: BLE001 - the failure itself must be told
                report.sections.append((title, f"no answer: {error}"))
    return report
