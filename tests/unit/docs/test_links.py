"""Links lead somewhere, and files that the documents name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.docs.blocks import DECISIONS, DOCUMENTS, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(
    r"`((?:agent|drivers|province|config|scripts|tests|docs|po)/[\w./-]+"
    r"|[\w./-]+\.(?:py|yaml|toml|md|sh))(?:#[\w.]+)?`"
)
MADE = {
    "docs/bench.json",
    "scripts/bench",
    "/etc/tram/station.yaml",
    "training/station.yaml",
    "tap-huan/station.yaml",
    "bulletin.yaml",
}
"""Files that commands make, or that are elsewhere than in the repository."""
EVERY = [pytest.param(d, id=str(d.relative_to(ROOT))) for d in [*DOCUMENTS, *DECISIONS]]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", EVERY)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (document.parent / file).resolve() if file else document
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("document", EVERY)
def test_named_files_are_there(document: Path) -> None:
    beside = [ROOT, document.parent, *(p for p in (ROOT / "agent").iterdir() if p.is_dir())]
    for name in NAMED.findall(document.read_text("utf-8")):
        if name not in MADE:
            assert any((folder / name).exists() for folder in beside), name


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "agent" / "decisions" / "README.md").read_text("utf-8")
    for path in DECISIONS:
        if path.name != "README.md":
            number, title = re.match(r"# (\d{4}) · (.+)", path.read_text("utf-8")).groups()  # type: ignore[union-attr]
            assert path.name.startswith(number)
            assert f"[{number}]({path.name}) | {title} |" in index
