from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from province.content_server import ContentServer
from tests.integration.store.helpers import Child, certificate
from tests.unit.store.conftest import small_disk

__all__ = ["small_disk"]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(tmp_path: Path, tls: tuple[Path, Path]) -> Iterator[ContentServer]:
    folder = tmp_path / "media"
    folder.mkdir()
    running = ContentServer(folder, *tls, plain=True)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def child(server: ContentServer, tls: tuple[Path, Path]) -> Iterator[Child]:
    running = Child([f"127.0.0.1:{server.port}"], tls[0])
    yield running
    running.stop()
