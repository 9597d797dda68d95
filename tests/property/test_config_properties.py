"""Whatever stands in the file: a Station, or a ConfigError that says what is wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import yaml_tree
from agent.model.config import Station
from agent.model.orders import Item
from tests.unit.config.files import EXAMPLES, problems_of

KEYS = sorted(
    {f for t in (Station, Item) for f in t.__struct_fields__} | {"id", "pin", "driver", "output", "class", "hours"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["*", "sound", "wav", "loa", "05:00-06:00", "tag:x", "Asia", "../x", "0x1f", "1_000", "\ud800", "٣"]
    )
)
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)


def _try(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.yaml"
        path.write_bytes(data)
        for problem in problems_of(path):
            assert str(problem).encode()
            assert str(problem.reason)
            assert str(problem.remedy)


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def _both_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(yaml_tree, "LOADER", yaml.SafeLoader)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused_with_words(data: bytes) -> None:
    _try(data)


@settings(max_examples=50, deadline=None)
@given(DATA)
def test_any_data_is_refused_with_words(data: Any) -> None:
    _try(yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, member in inner for place in _places(member, (*here, key)))]


GOOD = yaml.safe_load(next(p for p in EXAMPLES if p.name == "commune-station.yaml").read_text())
PLACES = [p for p in _places(GOOD) if p]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), DATA), min_size=1, max_size=3))
def test_a_good_file_with_any_values_put_in_is_refused_with_words_or_loads(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    for place, value in changes:
        target = document
        for step in place[:-1]:
            try:
                target = target[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(target, dict | list):
                try:
                    target[place[-1]] = value
                except (IndexError, TypeError):
                    continue
    _try(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))
