"""The committed chimes are what the script makes, at a sane level, without clicks."""

from __future__ import annotations

import importlib.util
import wave
from array import array
from pathlib import Path
from types import ModuleType

import pytest

from agent.sound import chimes

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "make_chimes.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_chimes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _samples(name: str) -> array[int]:
    with wave.open(str(chimes.path(name))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 1, 2)
        return array("h", file.readframes(file.getnframes()))


def test_the_names_are_those_of_the_contract() -> None:
    assert chimes.names() == ("drill", "gong", "info", "siren", "test")


@pytest.mark.parametrize("name", ["drill", "gong", "info", "siren"])
def test_a_chime_begins_and_ends_softly(name: str) -> None:
    """How loud it is: test_loudness.py."""
    samples = _samples(name)
    assert abs(samples[0]) < 100
    assert abs(samples[-1]) < 100


def test_the_self_tests_chime_is_soft_and_shorter_than_four_seconds() -> None:
    samples = _samples("test")
    assert max(map(abs, samples)) / 32768 <= 10 ** (-23 / 20)
    assert len(samples) < 4 * 48_000
    assert samples[0] == samples[-1] == 0


@pytest.mark.parametrize("name", ["drill", "gong", "info", "siren", "test"])
def test_a_chime_is_what_the_script_makes(name: str) -> None:
    made = array("h", _script().render(name))
    kept = _samples(name)
    assert len(made) == len(kept)
    assert max(abs(a - b) for a, b in zip(made, kept, strict=True)) <= 1  # the C library's sine


def test_the_lengths_are_as_documented() -> None:
    seconds = {name: len(_samples(name)) / 48_000 for name in chimes.names()}
    assert seconds == {"gong": 1.6, "siren": 3.0, "drill": 3.42, "info": 0.9, "test": 1.275}


def test_an_unknown_chime_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        chimes.path("../../model/orders")


def test_each_chime_has_a_hash_of_its_own() -> None:
    assert len({chimes.sha256(n) for n in chimes.names()}) == 5
