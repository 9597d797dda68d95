from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivers import png_board
from drivers.png_board import Board, png

RED, BLUE, GREEN = b"\xff\0\0" * 8, b"\0\0\xff" * 8, b"\0\xff\0" * 8


def index(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())
    return entries


def board(folder: Path) -> Board:
    return Board(dir=str(folder), width=4, height=2)


def put(shown: Board, rgb: bytes, sha256: str) -> None:
    shown.show(shown.prepare(rgb, sha256))


def test_the_png_is_read_back_by_another_library() -> None:
    rgb = bytes(range(24))
    assert Image.open(io.BytesIO(png(rgb, 4, 2))).convert("RGB").tobytes() == rgb


def test_the_index_tells_what_was_to_be_seen_and_when(tmp_path: Path) -> None:
    shown = board(tmp_path)
    for rgb, sha in ((RED, "r"), (BLUE, "b"), (RED, "r")):
        shown.show(shown.prepare(rgb, sha))
    entries = index(tmp_path)
    assert [e["file"] for e in entries] == ["0000.png", "0001.png", "0000.png"]
    assert [e["to"] for e in entries] == [entries[1]["from"], entries[2]["from"], None]
    for entry in entries:
        assert datetime.fromisoformat(entry["from"]).tzinfo is not None
        assert len(entry["from"].split(".")[1].split("+")[0].split("-")[0]) == 6
    shown.close()
    assert index(tmp_path)[-1]["to"] is not None
    shown.close()


def test_the_same_frame_again_changes_nothing(tmp_path: Path) -> None:
    shown = board(tmp_path)
    shown.show(shown.prepare(RED, "r"))
    before = (tmp_path / "index.json").stat().st_mtime_ns
    shown.show(shown.prepare(RED, "r"))
    assert (tmp_path / "index.json").stat().st_mtime_ns == before


def test_a_new_process_continues_numbering_and_index_and_ends_what_was_left_open(tmp_path: Path) -> None:
    put(board(tmp_path), RED, "r")
    later = board(tmp_path)
    assert index(tmp_path)[0]["to"] is not None
    put(later, BLUE, "b")
    assert [e["file"] for e in index(tmp_path)] == ["0000.png", "0001.png"]


@pytest.mark.parametrize("damage", [b"", b"[{]", b"{}", b"[1]", b'[{"file":1}]', b"\xff\xfe"])
def test_a_damaged_index_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "index.json").write_bytes(damage)
    (tmp_path / "0007.png").write_bytes(b"")
    put(board(tmp_path), RED, "r")
    assert [e["file"] for e in index(tmp_path)] == ["0008.png"]
    assert (tmp_path / "index.json.damaged").read_bytes() == damage


def test_the_folder_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_board, "KEPT", 2)
    shown = board(tmp_path)
    for rgb, sha in ((RED, "r"), (BLUE, "b"), (GREEN, "g")):
        shown.show(shown.prepare(rgb, sha))
    assert [e["file"] for e in index(tmp_path)] == ["0001.png", "0002.png"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["0001.png", "0002.png"]
    shown.show(shown.prepare(RED, "r"))
    assert (tmp_path / "0003.png").exists()


def test_a_frame_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4×2"):
        board(tmp_path).prepare(RED[:-1], "x")
