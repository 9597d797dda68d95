from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.store.playlog import verify
from tests.unit.store.helpers import chained, log_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRY = st.builds(
    log_entry,
    title=TEXT,
    approved_by=st.none() | TEXT,
    reason=st.none() | TEXT,
    start_error_ms=st.none() | st.floats(),
    level_dbfs=st.none() | st.floats(-200, 0),
    content=st.lists(TEXT, max_size=3),
)
CHAIN = st.lists(ENTRY, min_size=1, max_size=6).map(lambda entries: [e.to_dict() for e in chained(*entries)])
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda s: st.lists(s, max_size=2))


@given(CHAIN)
def test_every_chain_verifies_after_a_round_trip_through_json(entries: list[dict[str, Any]]) -> None:
    last = entries[-1]
    assert verify(json.loads(json.dumps(entries)), head=(last["n"], last["hash"][:8])) == []


@given(CHAIN, st.data())
def test_any_single_mutation_is_found(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    head = (len(entries), entries[-1]["hash"][:8])
    changed = [dict(e) for e in entries]
    at = data.draw(st.integers(0, len(entries) - 1))
    match data.draw(st.sampled_from(["alter", "remove", "double", "move", "cut"])):
        case "alter":
            field = data.draw(st.sampled_from(sorted(changed[at])))
            changed[at][field] = data.draw(JSON)
        case "remove":
            del changed[at]
        case "double":
            changed.insert(data.draw(st.integers(0, len(entries))), changed[at])
        case "move":
            changed.insert(data.draw(st.integers(0, len(entries) - 1)), changed.pop(at))
        case "cut":
            changed = changed[:at]
    if canonical(changed) == canonical(entries):
        assert verify(changed, head=head) == []
    else:
        assert verify(changed, head=head) != []


@given(st.lists(st.dictionaries(st.sampled_from(["n", "hash", "prev", "x"]), JSON) | JSON, max_size=4))
def test_no_junk_makes_verify_raise(junk: list[Any]) -> None:
    verify(junk, head=(1, "ab"))


def canonical(entries: list[dict[str, Any]]) -> str:
    """JSON in which 1.0 is 1, as canonical JSON has it; True stays true."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, list):
            return [plain(v) for v in value]
        return value

    return json.dumps([{k: plain(v) for k, v in e.items()} for e in entries], sort_keys=True)
