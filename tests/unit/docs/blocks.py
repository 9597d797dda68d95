"""The shell blocks of the documents, and how each is to be tested (docs/development.md, "The documents are tested")."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "HUONG-DAN.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
DECISIONS = sorted((ROOT / "agent" / "decisions").glob("*.md"))
WAYS = {"station", "plain", "hold", "parse", "syntax"}
PLAIN = {"text", "json", "yaml"}
"""Languages of blocks that are no commands."""

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block; `line` is that of its fence."""

    document: Path
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        """The first word behind the fence."""
        return self.info.split()[0] if self.info.split() else ""

    @property
    def way(self) -> str:
        """How it is tested: the word behind the language."""
        words = self.info.split()
        return words[1] if len(words) > 1 else ""

    @property
    def exits(self) -> set[int]:
        """Exit codes that are allowed."""
        found = re.search(r"\bexit=([\d,]+)", self.info)
        return {int(code) for code in found[1].split(",")} if found else {0}

    @property
    def place(self) -> str:
        """Where to look."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document."""
    text = document.read_text("utf-8")
    return [Block(document, text.count("\n", 0, m.start()) + 1, m[1].strip(), m[2]) for m in _FENCE.finditer(text)]


def commands(way: str) -> list[Block]:
    """The shell blocks of all documents that are tested in this way."""
    return [b for d in DOCUMENTS for b in blocks(d) if b.language == "sh" and b.way == way]


def surroundings(folder: Path, language: str) -> dict[str, str]:
    """The environment in which bash runs blocks in `folder`: `tram` is on the path."""
    (folder / "bin").mkdir()
    shim = folder / "bin" / "tram"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent "$@"\n')
    shim.chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LANGUAGE": language,
    }
