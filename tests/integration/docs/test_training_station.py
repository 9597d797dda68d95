"""The training station's page, block by block, against a real training station."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.docs.blocks import Block, commands, surroundings

pytestmark = [pytest.mark.broker, pytest.mark.vlc]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A folder with a running training station in `training`, and `tram` on the path."""
    with tempfile.TemporaryDirectory(prefix="tram-") as name:
        folder = Path(name)
        there = surroundings(folder, "en") | {"PWD": name}
        with (folder / "said").open("w+") as said:
            demo = subprocess.Popen(
                ["tram", "demo", "--hold", "--out", "training"],
                cwd=folder,
                env=there,
                stdout=said,
                stderr=said,
            )
            try:
                _wait(demo, folder)
                yield there
            finally:
                demo.send_signal(signal.SIGTERM)
                demo.wait(30)


def _wait(demo: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 60
    while not (folder / "training" / "connection.json").exists():
        assert demo.poll() is None, (folder / "said").read_text()
        assert time.monotonic() < end, (folder / "said").read_text()
        time.sleep(0.1)


def run(block: Block, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=environment["PWD"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block.place}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_block_of_the_page_works_in_order(environment: dict[str, str]) -> None:
    said = [run(block, environment) for block in commands("hold")]
    everything = "\n".join(said)
    assert "bt-tiem-chung is accepted" in everything
    assert '{"ok": false' not in everything
    assert everything.count('{"ok": true') == 6
