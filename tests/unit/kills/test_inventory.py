"""Every state that is kept over a power cut has a kill test of its name: a new one without fails here.

The tests themselves: `tests/demo/test_3_kills.py` (the real agent and voice), `tests/integration/kills` (files, each
step), `tests/property/test_station_machine.py` (the owner, any moment).
"""

from __future__ import annotations

import ast
import importlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.programme import Stage, State
from agent.model.orders import STATE_OPS
from agent.store import database
from tests.demo.test_3_kills import CASES as POWER
from tests.integration.kills.test_files import CASES as FILES

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("agent", "drivers", "province", "firmware_update")
SYNCS = {"fsync", "fdatasync", "sync_folder", "replace_file"}

WRITERS: dict[str, set[str]] = {
    "agent/cli/recording.py": {"recording"},
    "agent/enrolment/files.py": {"tests/unit/enrolment/test_machine.py"},
    "agent/link/birth.py": {"birth"},
    "agent/sound/messages.py": {"pinned"},
    "agent/sound/speaking.py": {"speech"},
    "agent/store/database.py": {"store", "store-pruned"},
    "agent/store/fetcher.py": {"download", "download-resumed"},
    "agent/store/files.py": {"adopted", "download"},
    "agent/store/library.py": {"adopted"},
    "province/device.py": {"province-file"},
    "province/inspection.py": {"province-file"},
    "province/store.py": {"province-counter", "province-version", "province-media", "province-file"},
}
"""Each module that makes something durable in a file, and the cases, or the file of tests, that cut it."""
ELSEWHERE: dict[str, str] = {
    "table-checkpoint": "store-pruned",
    "value-authorities": "order-authorities",
    "value-passing.key": (
        "test_an_order_reaches_the_clusters_after_the_agent_was_killed_in_the_middle_of_passing_it_on"
    ),
    "value-loudness/": "test_it_is_measured_once_for_good",
    "value-report/": "test_a_report_begins_anew_after_a_power_cut",
    "value-self-test/": "test_who_ordered_a_test_that_a_power_cut_ended_is_told",
    "value-accepted/": "test_an_accepted_entry_stays_accepted_over_a_power_cut",
}
"""States whose case has another name, with that name."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def called(node: ast.AST) -> str:
    """The last name of what is called there."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def values() -> Iterator[str]:
    """The keys of all named values that the agent writes; of a made-up one its constant beginning."""
    for name, tree in modules():
        if not name.startswith("agent/"):
            continue
        for node in ast.walk(tree):
            if called(node) == "PutValue":
                key = next(k.value for k in node.keywords if k.arg == "key")  # type: ignore[attr-defined]
                match key:
                    case ast.Constant(value=str(text)) | ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                        yield text
                    case ast.Name(id=constant) | ast.BinOp(left=ast.Name(id=constant)):
                        yield str(getattr(importlib.import_module(name[:-3].replace("/", ".")), constant))
                    case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
                        yield from _attribute(tree, attribute)
                    case ast.Attribute(attr=attribute):  # computed: named by its module
                        yield f"{Path(name).stem}.{attribute}"
                    case _:
                        raise AssertionError(f"{name}: a key that this test cannot read: {ast.dump(key)}")


def _attribute(tree: ast.Module, name: str) -> Iterator[str]:
    """A constant of a class of that module."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=str(text))) if target == name:
                yield text


def tables() -> Iterator[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        database.migrate(connection)
        yield from (row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"))


def states() -> set[str]:
    return {
        *(f"programme-{state}" for state in State),
        *(f"part-{stage}" for stage in Stage),
        *(f"order-{op}" for op in STATE_OPS),
        *(f"table-{table}" for table in tables()),
        *(f"value-{key}" for key in values()),
        "birth",
    }


@pytest.mark.parametrize("state", sorted(states()))
def test_every_persisted_state_has_a_kill_test(state: str) -> None:
    name = ELSEWHERE.get(state, state)
    assert name in POWER or name in FILES or any(name in path.read_text("utf-8") for path in _unit_tests()), (
        f"{state} is kept over a power cut and has no kill test: add one to tests/demo/test_3_kills.py"
    )


def test_no_kill_test_is_left_of_a_state_that_is_gone() -> None:
    assert set(POWER) <= states()


@pytest.mark.parametrize(
    "module", sorted(n for n, tree in modules() if any(called(x) in SYNCS for x in ast.walk(tree)))
)
def test_every_module_that_makes_a_file_durable_is_cut_at_each_of_its_steps(module: str) -> None:
    assert module in WRITERS, f"{module} keeps a file over a power cut: add a case to tests/integration/kills"
    assert all((ROOT / case).is_file() if "/" in case else case in FILES for case in WRITERS[module])


def _unit_tests() -> Iterator[Path]:
    return (ROOT / "tests" / "unit" / "core").glob("test_*.py")
