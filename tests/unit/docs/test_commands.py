"""Every command in the documents does what the documents say it does: it is run, or at least understood.

`./scripts/run` and `./scripts/test` install packages and take minutes: here they are only found and read by bash. What
needs a station is run against a fake agent; what needs a whole training station is in tests/integration/docs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import yaml

from agent.cli.main import tram
from agent.core import people
from agent.model.events import Committed
from agent.model.playlog import Head, LogEntry, chain, encode
from agent.model.records import AppendLog
from agent.store.database import SqliteStore
from tests.unit.cli.stage import FakeAgent
from tests.unit.docs.blocks import DOCUMENTS, PLAIN, ROOT, WAYS, Block, blocks, commands, surroundings

ASKED = {*people._HANDLERS, "recorded"}
"""What the real agent answers (`agent.app.App._asked` takes "recorded")."""
ANSWERS = {
    "status": {"device": "xa-mau", "zones": {"loa-xa": {"kind": "sound"}}, "faults": [], "clock": {"trusted": True}},
    "today": [{"at": "2026-11-24T05:00:00+07:00", "title": "Tiếp âm", "class": "normal", "zones": ["loa-xa"]}],
    "inbox": [{"id": "bt-sot-xuat-huyet", "title": "Sốt xuất huyết", "class": "normal", "zones": ["*"]}],
    "accept": {"id": "bt-sot-xuat-huyet", "at": "2026-11-24T05:00:00+07:00"},
    "add": {"id": "xa-1"},
    "silence": {"on": True},
    "recorded": {"message": "so-tan"},
}


def early_morning() -> str:
    """A time zone in which it is between midnight and one: no "17:30" of the documents has gone by there."""
    hour = datetime.now(UTC).hour
    return f"Etc/GMT{hour:+d}" if hour <= 12 else f"Etc/GMT-{24 - hour}"


class Place:
    """A folder in which bash runs blocks, with `tram` on its path."""

    def __init__(self, folder: Path, run_dir: Path) -> None:
        self.folder = folder
        self.run_dir = run_dir
        (folder / "config").symlink_to(ROOT / "config")
        self.environment = surroundings(folder, "vi") | {"TRAM_CONFIG": str(self._configuration())}

    def _configuration(self) -> Path:
        """The example that the documents speak of, on virtual hardware."""
        station = yaml.safe_load((ROOT / "config" / "commune-station.yaml").read_text("utf-8"))
        station |= {"data_dir": str(self.folder / "data"), "run_dir": str(self.run_dir), "timezone": early_morning()}
        for zone in station["zones"]:
            if zone["kind"] == "sound":
                zone["output"] = {"driver": "wav", "path": str(self.folder / "station.wav")}
        path = self.folder / "station.yaml"
        path.write_text(yaml.safe_dump(station, allow_unicode=True), "utf-8")
        return path

    def log_something(self) -> None:
        """A play log with an entry."""
        (self.folder / "data").mkdir()
        done: list[object] = []
        store = SqliteStore(self.folder / "data" / "tram.db", lambda event, urgent=False: done.append(event))
        store.load()
        entry = chain(
            Head(),
            LogEntry(bulletin="b", title="Tiếp âm", class_="normal", iss="xa-mau", zone="loa-xa", result="completed",
                     by="schedule", planned="2026-11-23T05:00:00+07:00", started="2026-11-23T05:00:00+07:00"),
        )  # fmt: skip
        store.submit(1, [AppendLog(n=entry.n, entry=encode(entry))])
        store.close()
        assert Committed(1) in done

    def bring(self, text: str) -> None:
        """The sounds and pictures that a block names."""
        for name in re.findall(r"[\w-]+\.(?:mp3|wav|jpg)", text):
            made = ["color=d=1", "-frames:v", "1"] if name.endswith("jpg") else ["sine=d=1:r=48000", "-ac", "1"]
            subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", *made, name],
                cwd=self.folder,
                check=True,
            )

    def run(self, block: Block) -> None:
        """Run it as a reader would; the first command that fails ends it."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in block.exits, f"{block.place}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, f"{block.place}\n{done.stderr}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tram-") as run_dir:  # short: socket paths end at 108 bytes
        yield Place(tmp_path, Path(run_dir))


def named(blocks_: list[Block]) -> list[object]:
    return [pytest.param(block, id=block.place) for block in blocks_]


def test_every_block_says_how_it_is_tested() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            assert block.language in {"sh", *PLAIN}, block.place
            if block.language == "sh":
                assert block.way in WAYS, block.place


def test_each_way_of_testing_has_something_to_test() -> None:
    assert {way for way in WAYS if commands(way)} == WAYS


@pytest.mark.parametrize("block", named(commands("station")))
def test_commands_for_a_station_are_understood_by_it(block: Block, place: Place) -> None:
    place.bring(block.text)
    place.log_something()
    agent = FakeAgent(place.run_dir / "agent.sock")
    agent.answers = dict(ANSWERS)
    try:
        place.run(block)
    finally:
        agent.close()
        (place.run_dir / "agent.sock").unlink()
    assert {what for what, _ in agent.asked} <= ASKED


@pytest.mark.parametrize("block", named(commands("plain")))
def test_commands_without_a_station_run(block: Block, place: Place) -> None:
    place.run(block)


def parsed(words: list[str]) -> click.Context:
    """The command's own parser takes the words; click's UsageError when it does not."""
    context = tram.make_context("tram", words, resilient_parsing=False)
    command: click.Command = tram
    rest = [*context._protected_args, *context.args]
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, name
        command = found
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
    return context


@pytest.mark.parametrize("block", named(commands("parse")))
def test_commands_that_are_not_run_are_understood(block: Block) -> None:
    for line in block.text.splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "tram", block.place
        with parsed(words):
            pass


def test_a_command_with_a_wrong_option_is_not_understood() -> None:
    with pytest.raises(click.UsageError):
        parsed(["record", "so-tan", "--secnods", "5"])


@pytest.mark.parametrize("block", named(commands("syntax")))
def test_scripts_exist_and_can_be_read_by_bash(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True)
    for line in block.text.splitlines():
        script = ROOT / shlex.split(line, comments=True)[0]
        assert os.access(script, os.X_OK), f"{block.place}: {script.name} is not there, or not executable"
        subprocess.run(["bash", "-n", script], check=True)
