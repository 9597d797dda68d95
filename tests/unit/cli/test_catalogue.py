"""The Vietnamese catalogue: whole, current, and with the same places to fill in."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "po" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_sentence_for_people_is_translated(catalogue: ModuleType) -> None:
    known = catalogue.current()
    missing = [s for s in catalogue.said() if (s if isinstance(s, str) else s[0]) not in known]
    assert not missing, "run: scripts/translate"
    assert not catalogue.untranslated(catalogue.merged(known))


def test_no_translation_is_left_over(catalogue: ModuleType) -> None:
    said = {s if isinstance(s, str) else s[0] for s in catalogue.said()}
    kept = {m.id if isinstance(m.id, str) else m.id[0] for m in catalogue.current() if m.id}
    assert kept - said == set()


def test_the_compiled_catalogue_is_current(catalogue: ModuleType) -> None:
    assert catalogue.COMPILED.read_bytes() == catalogue.compiled(catalogue.current()), "run: scripts/translate"


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_translations_have_the_same_places_to_fill_in(catalogue: ModuleType) -> None:
    for message in catalogue.current():
        if message.id and "python-brace-format" in message.flags:
            sentences = message.id if isinstance(message.id, tuple) else (message.id,)
            strings = message.string if isinstance(message.string, tuple) else (message.string,)
            for translated in strings:
                assert _places(translated) == _places(sentences[0]), sentences[0]
