from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.stage import Stage, staged


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "TRAM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with staged(tmp_path, capsys) as made:
        yield made
