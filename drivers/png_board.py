"""A board that exists as files: each new frame is a PNG, and `index.json` says when each was to be seen.

For demonstrations, tests and boards whose player reads pictures from a folder. Small on purpose: the board's
process stays resident, so PNG is written with zlib alone, and `typing` and `pathlib` are not loaded.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from contextlib import suppress
from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEPT = 2000
"""Entries kept in the index; older ones go, and files that no entry names any more."""


class Board:
    """Shows frames by writing `NNNN.png` into `dir`.

    `index.json` is a list of `{file, from, to}`: RFC 3339 wall times with microseconds and offset; `to` is null for
    the frame to be seen now. A frame seen before is named again, not written again. Of moving pictures `rate_hz` a
    second become files. A process that follows another one in the same folder continues its numbering; a frame left
    open by a killed process ends when the new one starts.
    """

    def __init__(self, *, dir: str, width: int = 960, height: int = 540, rate_hz: float = 1.0) -> None:
        self.width, self.height, self.rate_hz = width, height, rate_hz
        self._dir = dir
        os.makedirs(dir, exist_ok=True)
        self._index = self._load()
        self._files: dict[str, str] = {}
        numbers = [int(name[:-4]) for name in os.listdir(dir) if name.endswith(".png") and name[:-4].isdigit()]
        self._next = max(numbers, default=-1) + 1
        self.close()

    def prepare(self, rgb: bytes, sha256: str) -> str:
        """Write a frame's file, if it was not written before. OSError: disk."""
        name = self._files.get(sha256)
        if name is None:
            name = self._write(rgb)
            self._files[sha256] = name
        return name

    def show(self, ready: str) -> tuple[int, str]:
        """Put a prepared frame on the board; CLOCK_MONOTONIC ns and the file's name. OSError: disk."""
        name = ready
        at_ns, now = time.monotonic_ns(), _now()
        if self._index and self._index[-1]["to"] is None:
            if self._index[-1]["file"] == name:
                return at_ns, name
            self._index[-1]["to"] = now
        self._index.append({"file": name, "from": now, "to": None})
        self._prune()
        self._save()
        return at_ns, name

    def move(self, bgrx: bytes | memoryview, top: int = 0) -> None:
        """A moment of a moving picture becomes a file of its own. OSError: disk."""
        frame, bgrx = bytearray(self.read()), bytes(bgrx)
        start, end = top * self.width * 3, top * self.width * 3 + len(bgrx) // 4 * 3
        for offset in range(3):
            frame[start + offset : end : 3] = bgrx[2 - offset :: 4]
        self.show(self._write(bytes(frame)))

    def read(self) -> bytes:
        """The pixels of the file that is to be seen now. OSError: it cannot be read."""
        if not self._index or self._index[-1]["to"] is not None:
            return bytes(self.width * self.height * 3)
        with open(os.path.join(self._dir, self._index[-1]["file"]), "rb") as file:
            return pixels(file.read(), self.width)

    def dim(self, percent: int) -> bool:
        """Files have no light of their own."""
        return False

    def check(self) -> bool:
        """The folder must be there. OSError: it is not."""
        os.stat(self._dir)
        return True

    def close(self) -> None:
        """The board goes dark: the frame to be seen now ends. May be called twice."""
        if self._index and self._index[-1]["to"] is None:
            self._index[-1]["to"] = _now()
            self._save()

    def _write(self, rgb: bytes) -> str:
        name = f"{self._next:04d}.png"
        self._replace(name, png(rgb, self.width, self.height))
        self._next += 1
        return name

    def _prune(self) -> None:
        gone = {entry["file"] for entry in self._index[:-KEPT]}
        if not gone:
            return
        del self._index[:-KEPT]
        gone -= {entry["file"] for entry in self._index}
        self._files = {sha: name for sha, name in self._files.items() if name not in gone}
        for name in gone:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._dir, name))

    def _load(self) -> list[dict[str, Any]]:
        """The index of an earlier process; a damaged one is set aside."""
        path = os.path.join(self._dir, "index.json")
        try:
            with open(path, "rb") as file:
                index = json.load(file)
        except FileNotFoundError:
            return []
        except ValueError:
            index = None
        if isinstance(index, list) and all(isinstance(e, dict) and e.keys() == {"file", "from", "to"} for e in index):
            return index
        os.replace(path, path + ".damaged")
        return []

    def _save(self) -> None:
        lines = ",\n ".join(json.dumps(entry) for entry in self._index)
        self._replace("index.json", f"[{lines}]\n".encode())

    def _replace(self, name: str, data: bytes) -> None:
        temp = os.path.join(self._dir, f".{name}.part")
        with open(temp, "wb") as file:
            file.write(data)
        os.replace(temp, os.path.join(self._dir, name))


def png(rgb: bytes, width: int, height: int) -> bytes:
    """An 8-bit RGB PNG (W3C PNG 3, sections 5.3, 9.2: filter 0, 11.2: IHDR, IDAT, IEND)."""
    row = width * 3
    if len(rgb) != row * height:
        raise ValueError(f"{len(rgb)} bytes are not a picture of {width}×{height}")
    packer, view = zlib.compressobj(1), memoryview(rgb)
    packed = [part for y in range(height) for line in (b"\0", view[y * row :][:row]) if (part := packer.compress(line))]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join([*packed, packer.flush()])), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def pixels(data: bytes, width: int) -> bytes:
    """The RGB rows of a PNG that `png` has made. ValueError or zlib.error for any other."""
    at, packed = 8, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            packed.append(data[at + 8 : at + 8 + size])
        at += size + 12
    rows = zlib.decompress(b"".join(packed))
    return b"".join(rows[y + 1 : y + 1 + width * 3] for y in range(0, len(rows), width * 3 + 1))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="microseconds")
