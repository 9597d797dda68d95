"""A certificate authority for all tests of the link, and a fresh broker for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from province.broker import Broker
from province.pki import Pki, make
from tests.integration.link.peers import Peer

DEVICES = {"tram-a": ["nhom-1"], "tram-b": [], "tram-new": []}


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make(tmp_path_factory.mktemp("pki"), DEVICES)


@pytest.fixture
def broker(tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker", pki, {"tram-a": ["nhom-1"], "tram-b": []})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def record(pki: Pki, broker: Broker) -> Iterator[Peer]:
    """The province's record of events: rows are only taken while somebody listens."""
    with Peer(pki, broker.port, "watcher", "tram/1/dev/+/event", client_id="record", session_s=3600) as peer:
        yield peer
