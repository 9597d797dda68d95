from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.voice.process import Process, write_wav

MESSAGE = [200 + i % 100 for i in range(9600)]


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Process]:
    write_wav(tmp_path / "data" / "pinned" / "fire.wav", MESSAGE)
    process = Process(tmp_path)
    yield process
    if process.child is not None:
        process.end("kill")


@pytest.fixture
def voice(prepared: Process) -> Process:
    prepared.start()
    prepared.connect()
    return prepared
