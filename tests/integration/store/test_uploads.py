"""Documents that the source asked for, put at its address by the uploading child."""

from __future__ import annotations

import hashlib
import json
import queue
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from agent.core.commands import Upload
from agent.model.config import Content
from agent.model.events import Uploaded
from agent.model.records import AppendLog
from agent.store.database import SqliteStore
from agent.store.uploads import Patience, Uploads
from province.content_server import ContentServer, Fault
from province.store import WANTED
from tests.unit.store.helpers import Events, chained, log_entry

PATIENCE_S = 20
DOCUMENT = {"device": "xa-mau", "what": "health", "status": {"zones": {}}}
NAME = "5f3a.json"


class Station:
    """The agent's side, with a listed content server."""

    def __init__(self, server: ContentServer, ca: Path, folder: Path) -> None:
        self.server = server
        self.answers: queue.SimpleQueue[Struct] = queue.SimpleQueue()
        host = f"127.0.0.1:{server.port}"
        self.uploads = Uploads(
            folder / "tram.db",
            Content(allowed_hosts=["127.0.0.1", host], ca=str(ca)),
            lambda event, urgent=False: self.answers.put(event),
            Patience(retry_s=0.01, tries=3),
        )
        self.uploads.start()

    @property
    def url(self) -> str:
        return f"{self.server.url}/{NAME}"

    def wanted(self, limit: int = 10_000) -> None:
        (self.server.media / f"{NAME}{WANTED}").write_text(str(limit))

    def send(self, document: Any = DOCUMENT, url: str | None = None, period: Any = None) -> Uploaded:
        self.uploads.send(Upload("report/tinh/1", url or self.url, json.dumps(document).encode(), period))
        answer = self.answers.get(timeout=PATIENCE_S)
        assert isinstance(answer, Uploaded)
        assert answer.key == "report/tinh/1"
        return answer

    def arrived(self) -> bytes | None:
        path = self.server.media / NAME
        return path.read_bytes() if path.exists() else None


@pytest.fixture
def station(server: ContentServer, tls: tuple[Path, Path], tmp_path: Path) -> Iterator[Station]:
    made = Station(server, tls[0], tmp_path)
    yield made
    made.uploads.stop()


def test_a_document_is_put_there_and_its_hash_is_that_of_what_arrived(station: Station) -> None:
    station.wanted()
    answer = station.send()
    arrived = station.arrived()
    assert arrived is not None
    assert json.loads(arrived) == DOCUMENT
    assert (answer.sha256, answer.size) == (hashlib.sha256(arrived).hexdigest(), len(arrived))


def test_the_play_log_of_the_period_goes_with_it(station: Station, tmp_path: Path) -> None:
    events = Events()
    store = SqliteStore(tmp_path / "tram.db", events)
    store.load()
    log = [e.to_dict() for e in chained(*(log_entry(started=f"2026-11-2{day}T05:00:00+07:00") for day in (1, 2, 3)))]
    store.submit(1, [AppendLog(n=e["n"], entry=json.dumps(e).encode()) for e in log])
    events.outcome(1)
    store.close()
    station.wanted(100_000)
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    station.send(period=(noon, noon + 86400))
    arrived = station.arrived()
    assert arrived is not None
    assert json.loads(arrived) == DOCUMENT | {"entries": [log[1]]}


@pytest.mark.parametrize("case", ["not wanted", "too large", "no https", "not listed", "redirect", "no log"])
def test_what_cannot_be_put_there_is_told_and_leaves_nothing(station: Station, case: str) -> None:
    url, period = station.url, None
    match case:
        case "too large":
            station.wanted(10)
        case "no https":
            url = f"http://127.0.0.1:{station.server.plain_port}/media/{NAME}"
        case "not listed":
            url = f"https://localhost:{station.server.port}/media/{NAME}"
        case "redirect":
            station.wanted()
            station.server.faults[NAME] = Fault(status=302)
        case "no log":
            station.wanted()
            period = (0.0, 1.0)
    answer = station.send(url=url, period=period)
    assert answer.sha256 == ""
    assert answer.detail
    assert station.arrived() is None


def test_a_server_that_is_busy_is_asked_again(station: Station) -> None:
    station.wanted()
    station.server.faults[NAME] = Fault(status=503, times=2)
    assert station.send().sha256
    assert [r.status for r in station.server.requests] == [503, 503, 201]


def test_a_server_that_stays_away_is_given_up_with_a_reason(station: Station) -> None:
    station.wanted()
    station.server.faults[NAME] = Fault(status=503)
    assert "503" in station.send().detail
    assert len(station.server.requests) == 3


def test_what_is_wanted_is_taken_once(station: Station) -> None:
    station.wanted()
    assert station.send().sha256
    assert "403" in station.send({"other": True}).detail
    assert json.loads(station.arrived() or b"") == DOCUMENT
