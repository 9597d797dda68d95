"""Fixtures: a board with its surroundings. `--board virtual` (default) or `--board ssh:HOST` with its rig."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from board import Board
from surroundings import Surroundings
from virtual import VirtualBoard, lower_priority

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
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
def image() -> Path:
    """The virtual board's image; built if it is not there."""
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
