"""Commands that need no running station: check, log, doctor, schema; help and languages."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agent.cli.main import COMMANDS
from agent.cli.schemas import documents
from agent.model.events import Committed
from agent.model.playlog import Head, LogEntry, chain, encode
from agent.model.records import AppendLog
from agent.store.database import SqliteStore
from tests.unit.cli.stage import Stage
from tests.unit.config.files import EXAMPLES
from tests.unit.config.test_loader import TEN_MISTAKES, TEN_PLACES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_check_shows_all_ten_mistakes_in_both_languages(lang: str, stage: Stage) -> None:
    stage.config.write_text(TEN_MISTAKES)
    done = stage.tram("check", "--lang", lang)
    assert done.code == 1
    for line, path, _, _ in TEN_PLACES:
        assert f"station.yaml:{line}: {path}: " in done.out
    assert done.out.count("    → ") == 10
    assert ("10 mistakes" if lang == "en" else "10 lỗi") in done.out
    assert ("Did you mean" in done.out) == (lang == "en")
    assert ("Ý anh/chị là" in done.out) == (lang == "vi")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_check_accepts_every_example(path: Path, stage: Stage) -> None:
    done = stage.tram("check", str(path), config=False)
    assert done.code == 0
    assert "can be used" in done.out


def test_check_knows_the_chimes(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace("text: Đi ngay", "text: Đi ngay, chime: sirne"))
    done = stage.tram("check")
    assert done.code == 1
    assert "messages[0].chime" in done.out


def test_check_of_a_file_that_is_not_there_names_it(stage: Stage) -> None:
    done = stage.tram("check", "--config", "/nowhere/station.yaml")
    assert done.code == 1
    assert "There is no file /nowhere/station.yaml." in done.out


def test_the_configuration_may_come_from_the_environment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAM_CONFIG", str(stage.config))
    assert stage.tram("check", config=False).code == 0


@pytest.mark.parametrize("daemon", ["run", "voice"])
def test_a_daemon_with_a_bad_configuration_ends_with_1_and_the_mistakes(daemon: str, tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text("device: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "agent", daemon, "--config", path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "device.id" in done.stderr or "“id” is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_daemons_are_dispatched_without_click() -> None:
    script = "import sys; from agent.__main__ import _daemon; print(_daemon(sys.argv[1:]), 'click' in sys.modules)"
    args = ["--config", "x.yaml", "voice", "--lang=vi"]
    done = subprocess.run([sys.executable, "-c", script, *args], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('voice', 'x.yaml') False"


@pytest.mark.parametrize(
    "args", [["voice", "--help"], ["run", "x"], ["--lang", "fr", "run"], ["run", "--config"], ["status"], []]
)
def test_everything_else_is_for_click(args: list[str]) -> None:
    from agent.__main__ import _daemon

    assert _daemon(args) is None


def _tram(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in {"LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "agent", *args], cwd=ROOT, capture_output=True, text=True, check=False, env=clean | env
    )


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in {"demo", "province"}])
def test_every_command_has_help(name: str, stage: Stage) -> None:
    done = stage.tram(name, "--help")
    assert done.code == 0
    assert "Usage: tram" in done.out


def test_help_is_in_vietnamese_when_the_environment_or_an_option_says_so() -> None:
    for done in (
        _tram("--help", LANG="vi_VN.UTF-8"),
        _tram("--help", "--lang", "vi"),
        _tram("check", "--lang=vi", "--help"),
    ):
        assert done.returncode == 0
        assert "Cách dùng:" in done.stdout
        assert "Usage" not in done.stdout
    assert "Usage:" in _tram("--lang", "en", "--help", LANG="vi_VN.UTF-8").stdout


def test_an_unknown_language_is_refused() -> None:
    done = _tram("--lang", "fr", "status")
    assert done.returncode == 2
    assert "fr" in done.stderr


def _log(stage: Stage, titles: list[str]) -> list[LogEntry]:
    """A store with a play log, as the agent leaves it."""
    folder = stage.folder / "data"
    folder.mkdir()
    posted: list[object] = []
    store = SqliteStore(folder / "tram.db", lambda event, urgent=False: posted.append(event))
    head, entries, writes = Head(), [], []
    for number, title in enumerate(titles, 10):
        entry = chain(
            head,
            LogEntry(
                bulletin=f"b-{number}",
                title=title,
                class_="normal",
                iss="tinh-mau",
                zone="loa-xa",
                result="completed",
                by="schedule",
                planned=f"2025-{number}-23T17:00:00+07:00",
                started=f"2025-{number}-23T17:00:00.001+07:00",
                level_dbfs=-16.0,
            ),
        )
        head = Head(entry.n, entry.hash)
        entries.append(entry)
        writes.append(AppendLog(n=entry.n, entry=encode(entry)))
    store.load()
    store.submit(1, writes)
    store.close()
    assert Committed(1) in posted
    return entries


def test_the_log_is_read_without_the_agent_as_table_csv_and_json(stage: Stage) -> None:
    entries = _log(stage, ["Tin tức", "Tiêm chủng"])
    table = stage.tram("log").out
    assert "Tin tức" in table
    assert "-16.0 dBFS" in table
    assert "23/11 17:00" in table
    rows = list(csv.DictReader(io.StringIO(stage.tram("log", "--format", "csv").out)))
    assert [r["title"] for r in rows] == ["Tin tức", "Tiêm chủng"]
    document = json.loads(stage.tram("log", "--format", "json").out)
    assert [e["hash"] for e in document["entries"]] == [e.hash for e in entries]
    month = json.loads(stage.tram("log", "--month", "2025-11", "--format", "json").out)
    assert [e["title"] for e in month["entries"]] == ["Tiêm chủng"]


def test_a_whole_log_verifies_and_an_altered_one_does_not(stage: Stage) -> None:
    entries = _log(stage, ["Một", "Hai", "Ba"])
    done = stage.tram("log", "--verify", "--head", f"3:{entries[-1].hash[:8]}")
    assert (done.code, "3 entries" in done.out) == (0, True)
    truncated = stage.tram("log", "--verify", "--head", f"4:{entries[-1].hash[:8]}", "--lang", "vi")
    assert (truncated.code, "bị cắt" in truncated.out) == (1, True)
    with sqlite3.connect(stage.folder / "data" / "tram.db") as database:
        database.execute(
            "UPDATE playlog SET entry = CAST(replace(CAST(entry AS TEXT), 'Hai', 'Hay') AS BLOB) WHERE n = 2"
        )
    altered = stage.tram("log", "--verify")
    assert altered.code == 1
    assert "altered" in altered.out


def test_a_log_that_is_not_there_is_explained(stage: Stage) -> None:
    done = stage.tram("log")
    assert done.code == 1
    assert "tram.db" in done.err


def test_doctor_looks_at_everything_and_ends_with_1_when_something_is_bad(stage: Stage) -> None:
    done = stage.tram("doctor")
    assert done.code == 1
    for words in (
        "Configuration",
        "Data folder",
        "Disk",
        "Certificate",
        "Authorities",
        "Broker",
        "Clock",
        "Sound card",
        "Pins",
        "Speech",
        "Decoder",
        "Fonts",
        "Emergency core",
        "Agent",
        "Play log",
    ):
        assert words in done.out


def test_doctor_looks_at_the_link_to_the_clusters_and_at_the_way_to_the_parent(stage: Stage) -> None:
    good = stage.config.read_text()
    link = "cluster_link: {host: 10.20.0.5, ca: no.crt, cert: no.crt, key: no.key, group: xa-cum}\n"
    stage.config.write_text(good + link)
    assert "no.crt cannot be read" in stage.tram("doctor").out
    parent = "parent: {host: 127.0.0.1, port: 1, ca: no.crt, cert: no.crt, key: no.key}\n"
    stage.config.write_text(good.replace("unit: 84/86/xa-mau", "unit: 84/86/xa-mau, role: cluster", 1) + parent)
    told = stage.tram("doctor").out
    assert "Parent station" in told
    assert "parent.ca: cannot read" in told


def test_doctor_of_a_configuration_with_mistakes_sends_to_check(stage: Stage) -> None:
    stage.config.write_text("device: 1\n")
    done = stage.tram("doctor")
    assert done.code == 1
    assert "tram check" in done.out


def test_the_committed_schemas_are_those_of_the_types() -> None:
    folder = ROOT / "config" / "schema"
    assert {p.name: p.read_text() for p in folder.glob("*.json")} == documents(), "run: tram schema"


def test_schemas_are_json_with_portable_patterns() -> None:
    for text in documents().values():
        assert msgspec.json.decode(text)["$schema"]
        assert "\\\\A" not in text
