from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from agent.model.playlog import FIELDS, ZEROS, Checkpoint, Head, LogEntry, chain, encode
from agent.store.playlog import PlayLog, PlayLogError, read, to_csv, to_json, verify
from tests.unit.store.helpers import chained, log_entry


def dicts(count: int = 5) -> list[dict[str, Any]]:
    return [e.to_dict() for e in chained(*(log_entry(title=f"tin {i}") for i in range(count)))]


def test_the_first_entry_follows_64_zeros_and_hashes_as_the_contract_says() -> None:
    entry = chain(Head(), log_entry())
    plain = json.loads(encode(entry))
    sealed = plain.pop("hash")
    assert (entry.n, entry.prev) == (1, ZEROS)
    assert sealed == entry.hash == hashlib.sha256(rfc8785.dumps(plain)).hexdigest()


def test_an_entry_has_exactly_the_fields_of_the_contract() -> None:
    assert tuple(log_entry(approved_by="Bà Sáu", drill=True).to_dict()) == FIELDS
    assert set(FIELDS) - set(log_entry().to_dict()) == {"approved_by", "drill"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [(0.12345, 0.123), (-0.00001, 0.0), (5.0, 5.0), (1e-9, 0.0), (float("nan"), None), (float("-inf"), None), (3, 3.0)],
)
def test_figures_are_rounded_so_that_the_hash_is_stable(given: float, kept: float | None) -> None:
    entry = chain(Head(), log_entry(start_error_ms=given))
    assert entry.start_error_ms == kept
    assert str(entry.start_error_ms) != "-0.0"
    assert verify([json.loads(json.dumps(entry.to_dict()))]) == []


def test_a_whole_chain_verifies_with_and_without_the_reported_head() -> None:
    entries = dicts()
    assert verify(entries) == []
    assert verify(entries, head=(5, entries[4]["hash"][:8])) == []
    assert verify(entries, head=(3, entries[2]["hash"])) == []
    assert verify([], head=(0, ZEROS[:8])) == []


def swap(e: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e[0], e[2], e[1], *e[3:]]


CASES: dict[str, tuple[Any, str]] = {
    "a changed title": (lambda e: [*e[:2], e[2] | {"title": "khác"}, *e[3:]], "altered"),
    "an added field": (lambda e: [*e[:2], e[2] | {"note": 1}, *e[3:]], "altered"),
    "a removed field": (lambda e: [*e[:2], {k: v for k, v in e[2].items() if k != "by"}, *e[3:]], "altered"),
    "a changed hash": (lambda e: [*e[:2], e[2] | {"hash": "0" * 64}, *e[3:]], "altered"),
    "a removed entry": (lambda e: [*e[:2], *e[3:]], "missing"),
    "the first removed": (lambda e: e[1:], "missing"),
    "a doubled entry": (lambda e: [*e[:3], *e[2:]], "duplicate"),
    "two swapped": (swap, "order"),
    "cut at the end": (lambda e: e[:-1], "truncated"),
    "all gone": (lambda e: [], "truncated"),
    "junk": (lambda e: [*e, {"n": True, "hash": "x"}], "malformed"),
    "no hash": (lambda e: [*e[:4], {"n": 5}], "malformed"),
    "a huge number": (lambda e: [*e[:4], e[4] | {"n": 5, "start_error_ms": 2**60}], "malformed"),
    "a list": (lambda e: [*e, []], "malformed"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_tampering_is_named(case: str) -> None:
    change, what = CASES[case]
    entries = dicts()
    found = verify(change(entries), head=(5, entries[4]["hash"][:8]))
    assert what in {p.what for p in found}


def test_a_chain_rewritten_from_some_entry_on_shows_against_the_head() -> None:
    entries = dicts()
    last = Head(3, entries[2]["hash"])
    forged = []
    for i in (3, 4):
        linked = chain(last, log_entry(title=f"giả {i}"))
        forged.append(linked.to_dict())
        last = Head(linked.n, linked.hash)
    assert verify(entries[:3] + forged) == []
    assert [p.what for p in verify(entries[:3] + forged, head=(5, entries[4]["hash"][:8]))] == ["head"]


def test_an_entry_of_another_chain_is_broken_although_its_own_hash_fits() -> None:
    entries = dicts()
    stranger = chain(Head(2, "f" * 64), log_entry()).to_dict()
    assert [p.what for p in verify([*entries[:2], stranger])] == ["broken"]


def test_a_checkpoint_begins_the_chain_and_its_signature_is_checked() -> None:
    entries = dicts()
    checkpoint = Checkpoint(n=2, hash=entries[1]["hash"], at=1, signature="good")
    assert (
        verify(entries[2:], checkpoint, check=lambda payload, s: payload == checkpoint.payload() and s == "good") == []
    )
    assert verify(entries[2:], checkpoint, head=(1, "0" * 8)) == []
    assert [p.what for p in verify(entries[2:], checkpoint, head=(2, "0" * 8))] == ["head"]
    assert [p.what for p in verify(entries[2:], checkpoint, check=lambda *_: False)] == ["checkpoint"]
    assert [p.what for p in verify(entries[3:], checkpoint)] == ["missing"]


def test_an_empty_head_hash_proves_nothing() -> None:
    entries = dicts()
    assert [p.what for p in verify(entries, head=(5, ""))] == ["head"]


WRITER = """
import sys
from agent.store.database import SqliteStore
from tests.unit.store.helpers import Events, append, chained, log_entry
events = Events()
store = SqliteStore(sys.argv[1], events)
store.load()
store.submit(1, [append(e) for e in chained(log_entry(), log_entry(started="2025-12-01T05:00:00+07:00"))])
events.outcome(1)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_log_is_read_while_the_agent_runs_and_after_it_was_killed(tmp_path: Path) -> None:
    db = tmp_path / "tram.db"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert len(read(db).entries) == 2
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert Path(f"{db}-wal").exists()
    log = read(db)
    assert verify(log.entries) == []
    assert len(log.entries) == 2
    assert [e["n"] for e in read(db, "2025-12").entries] == [2]
    assert read(db, "2024-01").entries == []


def test_an_entry_that_is_no_json_is_kept_for_verify_to_name(tmp_path: Path) -> None:
    from agent.store.database import connect, migrate

    db = tmp_path / "tram.db"
    connection = connect(db)
    migrate(connection)
    connection.execute("INSERT INTO playlog VALUES (1, x'ff')")
    connection.close()
    assert [p.what for p in verify(read(db).entries)] == ["malformed"]


@pytest.mark.parametrize("content", [None, b"no database" * 1000, b""])
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    db = tmp_path / "tram.db"
    if content is not None:
        db.write_bytes(content)
    with pytest.raises(PlayLogError, match=r"tram\.db"):
        read(db)


def test_csv_has_a_header_and_defuses_formulas() -> None:
    entry: LogEntry = chained(log_entry(title="=HYPERLINK(1)", content=["aa", "bb"], level_dbfs=-3.0))[0]
    header, row = csv.reader(io.StringIO(to_csv([entry.to_dict()])))
    cells = dict(zip(header, row, strict=True))
    assert cells["title"] == "'=HYPERLINK(1)"
    assert cells["content"] == "aa bb"
    assert cells["level_dbfs"] == "-3.0"
    assert cells["approved_by"] == ""


def test_json_export_carries_the_checkpoint() -> None:
    log = PlayLog(dicts(1), Checkpoint(n=0, hash=ZEROS, at=1, signature="s"))
    plain = json.loads(to_json(log))
    assert plain["entries"] == log.entries
    assert plain["checkpoint"] == {"n": 0, "hash": ZEROS, "at": 1, "signature": "s"}
    assert sqlite3.sqlite_version_info >= (3, 37)  # STRICT tables
