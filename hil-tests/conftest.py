"""Fixtures: a board with its surroundings. `--board virtual` (default), or `--board rig:FILE`, a Raspberry Pi."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from board import Board, answered
from raspberry import RaspberryBoard
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
    parser.addoption("--board", default="virtual", help="virtual, or rig:FILE (see hil-tests/README.md)")


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
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # it takes minutes
        built = subprocess.run(
            [ROOT / "image-build" / "build", "virtual-board"], stdout=subprocess.PIPE, text=True, check=False
        )
    if built.returncode:
        pytest.exit("The virtual board's image could not be built; the messages above say why.", built.returncode)
    lower_priority()
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def rig(pytestconfig: pytest.Config) -> Path | None:
    """The file that describes a Raspberry Pi's rig; None for the virtual board."""
    kind, _colon, file = str(pytestconfig.getoption("board")).partition(":")
    if kind == "rig":
        return Path(file)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what the board has not are skipped, and say so."""
    virtual = str(config.getoption("board")) == "virtual"
    for item in items:
        if item.get_closest_marker("virtual_board") and not virtual:
            item.add_marker(pytest.mark.skip(reason="only on the virtual board"))
        if item.get_closest_marker("raspberry") and virtual:
            item.add_marker(pytest.mark.skip(reason="only on a Raspberry Pi"))


@pytest.fixture(scope="session")
def around(folder: Path, rig: Path | None) -> Iterator[Surroundings]:
    with Surroundings(folder / "around", RaspberryBoard.host if rig else VirtualBoard.host) as surroundings:
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
def board(folder: Path, around: Surroundings, rig: Path | None, request: pytest.FixtureRequest) -> Iterator[Board]:
    """A station that has just been switched on; the tests of one file go on with it."""
    name = request.module.__name__.rpartition("_")[2]
    board: Board
    if rig is None:
        board = VirtualBoard(request.getfixturevalue("image"), folder / name, request.getfixturevalue("commissioned"))
        board.start()
    else:
        board = RaspberryBoard(rig, folder / name, around.ports)
        board.start()
        around.commission(board)
        answered(board, "systemctl restart tram-voice tram-agent", timeout_s=120)
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
