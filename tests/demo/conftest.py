"""One training station for the whole session. `TRAM_TRAINING=DIR` uses one that is running already."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.demo.customer import LateError, Training, until
from tests.demo.hostile_server import HostileServer

QUIET = "loa-dem"
"""A second loudspeaker zone of the acceptance station, in quiet hours all day."""
DELAY_MS = 150
"""How much later that zone sounds, so that it makes no echo."""
BUFFER_MS = 200
"""How far the card writes ahead here: a busy machine shall not tear the sound. Start errors are measured elsewhere."""
DEAD = "dai-tat"
"""A relay source that nobody serves."""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A running training station's folder."""
    running = os.environ.get("TRAM_TRAINING")
    if running:
        yield Path(running)
        return
    with tempfile.TemporaryDirectory(prefix="tram-acceptance-") as scratch:
        out = Path(scratch) / "out"
        log = Path(scratch) / "demo.log"
        with log.open("wb") as told:
            demo = subprocess.Popen(
                [sys.executable, "-m", "agent", "demo", "--hold", "--out", str(out)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
        try:
            until(lambda: (out / "connection.json").exists() or demo.poll() is not None, "the training station")
            if demo.poll() is not None:
                raise LateError(f"tram demo --hold ended: {log.read_text('utf-8', 'replace')[-2000:]}")
            yield out
        finally:
            demo.terminate()
            try:
                demo.wait(60)
            except subprocess.TimeoutExpired:
                demo.kill()


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[HostileServer]:
    """An HTTPS server that misbehaves; the station's configuration allows its host."""
    with HostileServer(folder / "pki") as hostile:
        yield hostile


@pytest.fixture(scope="session")
def session(folder: Path, server: HostileServer) -> Iterator[Training]:
    """The station, reconfigured through its own configuration file as a customer would do it."""
    station = Training(folder)
    configuration = yaml.safe_load(station.config.read_text("utf-8"))
    configuration["content"]["allowed_hosts"].append(server.host)
    configuration["mqtt"]["source_silent_alarm_s"] = 5
    if not any(source["id"] == DEAD for source in configuration["sources"]):
        dead = {"id": DEAD, "name": "Đài đã tắt", "url": "http://127.0.0.1:9/x.mp3", "silence_s": 1}
        configuration["sources"].append(dead | {"fallback": [{"chime": "gong"}]})
    for message in configuration["messages"]:
        message["repeat"] = 5  # long enough to be seen while it sounds
    first = next(zone for zone in configuration["zones"] if zone["kind"] == "sound")
    first["output"]["buffer_ms"] = BUFFER_MS
    if not any(zone["id"] == QUIET for zone in configuration["zones"]):
        configuration["zones"].append(
            {
                "id": QUIET,
                "name": "Loa đêm",
                "kind": "sound",
                "output": copy.deepcopy(first["output"]),
                "rules": {"quiet_hours": ["00:00-24:00"]},
                "tags": ["dem"],
                "delay_ms": DELAY_MS,
            }
        )
    station.config.write_text(yaml.safe_dump(configuration, allow_unicode=True, sort_keys=False), "utf-8")
    assert station.tram("check").returncode == 0
    since = len(station.watcher.messages)
    station.control("restart", what="agent", kill=False)
    station.watcher.wait(lambda m: m.kind == "state" and m.body["online"], "the station back online", since=since)
    station.device["zones"].append({"id": QUIET, "kind": "sound", "tags": ["dem"], "channel": 1})
    until(lambda: station.status().get("voice") and len(station.status()["zones"]) == 3, "voice with three zones")
    yield station
    station.close()


@pytest.fixture
def station(session: Training) -> Iterator[Training]:
    """The station of the session; what the test leaves running is cancelled."""
    yield session
    session.tidy()


@pytest.fixture(scope="session")
def refusals(session: Training) -> Counter[str]:
    """How many refusals of each reason this session has provoked before step 4 had passed."""
    return Counter()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sounds are made."""
    return tmp_path_factory.mktemp("sounds")
