from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model.events import CommitFailed, Committed
from agent.model.playlog import Checkpoint, Head
from agent.model.records import (
    AppendLog,
    DropOut,
    DropProgramme,
    DropValue,
    PutOut,
    PutState,
    PutValue,
    Snapshot,
)
from agent.store import database
from agent.store.database import CTR_WINDOW, DAY, LOG_KEPT_S, SqliteStore, examine, migrate
from agent.store.fakes import MemoryStore
from agent.store.playlog import read, verify
from tests.unit.store.helpers import Events, append, chained, log_entry, one_of_each, order


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[SqliteStore, Snapshot, Events]]:
    events = Events()
    store = SqliteStore(path, events)
    found = store.load()
    try:
        yield store, found, events
    finally:
        store.close()


def hold(store: SqliteStore) -> threading.Event:
    """Make the writer wait inside batch 0 until the event is set: what is submitted meanwhile is one group."""
    held, gate = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        held.set()
        gate.wait()

    store._queue.put(database._Batch(0, work))
    held.wait()
    return gate


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "tram.db"


def test_a_new_store_is_empty_and_usable(db: Path) -> None:
    with opened(db) as (_, found, _events):
        assert found == Snapshot(empty=True, usable=True, detail=None)


def test_everything_committed_is_there_after_a_restart(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        assert events.outcome(1) == Committed(1)
    with opened(db) as (_, found, _events):
        entry = chained(log_entry())[0]
        assert found.orders == [order()]
        assert found.ctr_highest == {"k1": 7}
        assert found.states == [
            PutState(iss="tinh", scope="all", op="silence", version=3, sha256="bb" * 32, raw=b"e30.x.y")
        ]
        assert found.programmes == {"tinh/tin-1": b'{"state":"accepted"}'}
        assert found.outbox == [PutOut(seq=1, topic="event", weight=3, body=b"{}")]
        assert found.values == {"birth": b"4"}
        assert (found.log_n, found.log_hash) == (1, entry.hash)
        assert not found.empty


def test_dropped_rows_are_gone(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        store.submit(2, [DropOut(seq=1), DropProgramme(key="tinh/tin-1"), DropValue(key="birth")])
        assert events.outcome(2) == Committed(2)
    with opened(db) as (_, found, _events):
        assert (found.outbox, found.programmes, found.values) == ([], {}, {})


def test_a_store_that_died_before_its_first_commit_is_still_empty(db: Path) -> None:
    with opened(db):
        pass
    with opened(db) as (_, found, _events):
        assert found.empty


def test_a_batch_with_a_wrong_write_leaves_nothing_and_its_neighbours_go_on(db: Path) -> None:
    first, second = chained(log_entry(), log_entry())
    with opened(db) as (store, _, events):
        gate = hold(store)
        store.submit(1, [append(first)])
        store.submit(2, [PutValue(key="half", value=b"x"), append(first)])
        store.submit(3, [append(second)])
        gate.set()
        assert events.outcome(1) == Committed(1)
        failed = events.outcome(2)
        assert isinstance(failed, CommitFailed)
        assert "not stored" in failed.detail
        assert events.outcome(3) == Committed(3)
    with opened(db) as (_, found, _events):
        assert found.values == {}
        assert found.log_n == 2


def test_waiting_batches_share_one_commit_and_are_reported_in_order(db: Path) -> None:
    with opened(db) as (store, _, events):
        assert store._connection is not None
        commits: list[str] = []
        store._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        gate = hold(store)
        for batch in range(1, 41):
            store.submit(batch, [PutValue(key="birth", value=b"%d" % batch)])
        gate.set()
        events.outcome(40)
        assert [e.batch for e in events.of(Committed)] == list(range(41))
        assert len(commits) == 2


def test_a_writer_never_makes_the_owner_wait(db: Path) -> None:
    with opened(db) as (store, _, events):
        gate = hold(store)
        store.submit(1, [PutValue(key="a", value=b"1")])  # returns although the writer is stuck
        assert events.all == []
        gate.set()
        assert events.outcome(1) == Committed(1)


def test_a_locked_database_fails_the_batch_with_a_sentence_and_recovers(db: Path) -> None:
    with opened(db) as (store, _, events):
        assert store._connection is not None
        store._connection.execute("PRAGMA busy_timeout=0")
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store.submit(1, [PutValue(key="a", value=b"1")])
        failed = events.outcome(1)
        assert isinstance(failed, CommitFailed)
        assert "locked" in failed.detail
        other.execute("ROLLBACK")
        other.close()
        store.submit(2, [PutValue(key="a", value=b"1")])
        assert events.outcome(2) == Committed(2)


def test_a_full_disk_fails_the_batch_and_a_smaller_one_still_fits(small_disk: Path) -> None:
    with opened(small_disk / "tram.db") as (store, _, events):
        store.submit(1, [PutValue(key="a", value=b"1")])
        assert events.outcome(1) == Committed(1)
        store.submit(2, [PutValue(key=f"big{i}", value=bytes(100_000)) for i in range(20)])
        failed = events.outcome(2)
        assert isinstance(failed, CommitFailed)
        assert "full" in failed.detail
        store.submit(3, [PutValue(key="a", value=b"2")])
        assert events.outcome(3) == Committed(3)
    with opened(small_disk / "tram.db") as (_, found, _events):
        assert found.values == {"a": b"2"}
        assert found.usable


def test_a_disk_that_is_full_at_boot_gives_what_it_holds_but_is_not_usable(small_disk: Path) -> None:
    path = small_disk / "tram.db"
    with opened(path) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as f:
        while True:
            f.write(bytes(512))
            f.flush()
    with opened(path) as (store, found, events):
        assert found.orders == [order()]
        if found.usable:  # the log's few pages may still have fitted
            store.submit(1, [PutValue(key="big", value=bytes(100_000))])
        else:
            assert found.detail
            store.submit(1, [])
        assert isinstance(events.outcome(1), CommitFailed)


def test_a_write_limit_of_the_process_is_told_not_thrown(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            store.submit(2, [PutValue(key="big", value=bytes(300_000))])
            failed = events.outcome(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(failed, CommitFailed)
        assert "disk" in failed.detail
        store.submit(3, [PutValue(key="big", value=b"small")])
        assert events.outcome(3) == Committed(3)


def test_a_database_on_a_read_only_disk_is_still_read(small_disk: Path) -> None:
    path = small_disk / "tram.db"
    with opened(path) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with opened(path) as (store, found, events):
        assert found.orders == [order()]
        assert not found.usable
        assert found.detail is not None
        assert not list(small_disk.glob("*damaged*"))
        store.submit(9, [PutValue(key="a", value=b"1")])
        failed = events.outcome(9)
        assert isinstance(failed, CommitFailed)
        assert failed.detail == found.detail
    assert read(path).entries[0]["bulletin"] == "tin-1"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "tram.db") as (store, found, events):
        assert not found.usable
        assert found.detail is not None
        assert "cannot be used" in found.detail
        store.submit(1, [])
        assert isinstance(events.outcome(1), CommitFailed)


DAMAGE = {
    "not a database": lambda raw: b"this is no database at all, but long enough to be one" * 100,
    "zeroed pages": lambda raw: raw[:4096] + bytes(len(raw) - 4096),
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "first page gone": lambda raw: bytes(4096) + raw[4096:],
    "schema overwritten": lambda raw: raw.replace(b"CREATE TABLE", b"CREATE TABEL"),
    "schema that is no text": lambda raw: raw.replace(b"CREATE TABLE c", b"CREATE TABL\x80 c"),
    "tables renamed": lambda raw: raw.replace(b"playlog", b"plaxlog"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_database_is_set_aside_and_a_fresh_one_begun(db: Path, case: str) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
    raw = DAMAGE[case](db.read_bytes())
    db.write_bytes(raw)
    with opened(db) as (store, found, events):
        assert found.empty
        assert found.usable
        assert found.detail is not None
        (kept,) = db.parent.glob("tram.db.damaged-*Z")
        assert kept.name in found.detail
        assert kept.read_bytes() == raw
        store.submit(1, one_of_each())
        assert events.outcome(1) == Committed(1)
    with opened(db) as (_, found, _events):
        assert found.detail is None
        assert found.values == {"birth": b"4"}


def test_a_row_of_the_wrong_kind_counts_as_damage(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
    raw = sqlite3.connect(db)
    raw.execute("PRAGMA writable_schema=ON")
    raw.execute("DROP TABLE named")
    raw.execute("CREATE TABLE named (key, value)")
    raw.execute("INSERT INTO named VALUES (1, 'text')")
    raw.commit()
    raw.close()
    with opened(db) as (_, found, _events):
        assert found.empty
        assert found.detail is not None


def test_damage_found_at_work_fails_the_batch_and_is_set_aside_at_the_next_start(db: Path) -> None:
    entries = chained(*(log_entry(title="x" * 180, ended="2025-11-19T05:10:00+07:00") for _ in range(199)), log_entry())
    with opened(db) as (store, _, events):
        store.submit(1, [append(e) for e in entries])
        events.outcome(1)
    with opened(db) as (store, found, events):
        assert found.log_n == 200
        raw = bytearray(db.read_bytes())
        page = raw.index(b'"n":3,') // 4096  # an old page, which opening does not read
        raw[page * 4096 : (page + 1) * 4096] = b"\x99" * 4096
        db.write_bytes(raw)
        store.prune(2, LOG_KEPT_S + 1_900_000_000.0)
        failed = events.outcome(2)
        assert isinstance(failed, CommitFailed)
        assert "damaged" in failed.detail
    with opened(db) as (_, found, _events):
        assert found.empty
        assert found.detail is not None


def test_only_the_newest_damaged_copies_are_kept(db: Path) -> None:
    for n in range(5):
        db.write_bytes(b"damage %d " % n * 1000)
        with opened(db) as (_, found, _events):
            assert found.detail is not None
    copies = sorted(db.parent.glob("tram.db.damaged-*Z"))
    assert [p.read_bytes()[:8] for p in copies] == [b"damage 2", b"damage 3", b"damage 4"]


def test_a_migration_step_runs_once_and_a_newer_database_is_used_as_it_is(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
    newer = (*database.MIGRATIONS, "ALTER TABLE outbox ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;")
    connection = sqlite3.connect(db, isolation_level=None)
    migrate(connection, newer)
    migrate(connection, newer)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()
    with opened(db) as (store, found, events):
        assert found.detail is None
        assert found.outbox == [PutOut(seq=1, topic="event", weight=3, body=b"{}")]
        store.submit(1, [PutOut(seq=2, topic="ack", weight=0, body=b"{}")])
        assert events.outcome(1) == Committed(1)


def test_pruning_forgets_orders_a_day_after_exp_but_keeps_the_counter_window(db: Path) -> None:
    now = 1_800_000_000.0
    with opened(db) as (store, _, events):
        store.submit(
            1,
            [
                order("old", ctr=1, exp=now - DAY - 1),
                order("old-in-window", ctr=2000, exp=now - DAY - 1),
                order("other-kid", kid="k2", ctr=1, exp=now - DAY - 1),
                order("fresh", ctr=5, exp=now - DAY + 1),
                order("highest", ctr=1 + CTR_WINDOW, exp=now),
                order("state-in-force", ctr=None, exp=None, sha256="bb" * 32),
                order("state-of-old", ctr=None, exp=None, sha256="cc" * 32),
                order("command-without-ctr", ctr=None, exp=now - 2 * DAY),
                PutState(iss="tinh", scope="all", op="silence", version=1, sha256="bb" * 32, raw=b""),
            ],
        )
        store.prune(2, now)
        assert events.outcome(2) == Committed(2)
    with opened(db) as (_, found, _events):
        kept = {o.jti for o in found.orders}
        assert kept == {"old-in-window", "other-kid", "fresh", "highest", "state-in-force"}
        assert found.ctr_highest == {"k1": 2000, "k2": 1}


def test_pruning_the_play_log_leaves_a_signed_checkpoint_that_carries_the_chain(db: Path) -> None:
    dates = ("2024-01-01", "2024-06-01", "2025-10-01", "2025-11-01")
    entries = chained(
        *(log_entry(planned=None, started=None, ended=f"{d}T05:00:00+07:00") for d in dates),
    )
    signed: list[bytes] = []

    def sign(payload: bytes) -> str:
        signed.append(payload)
        return "sealed"

    now = 1_763_000_000.0  # November 2025
    with opened(db) as (store, _, events):
        store.submit(1, [append(e) for e in entries])
        store.prune(2, now, sign)
        store.prune(3, now, sign)
        assert events.outcome(3) == Committed(3)
        log = read(db)
        assert [e["n"] for e in log.entries] == [3, 4]
        assert log.checkpoint == Checkpoint(n=2, hash=entries[1].hash, at=int(now), signature="sealed")
        assert signed == [log.checkpoint.payload()]
        assert verify(log.entries, log.checkpoint, (4, entries[3].hash[:8])) == []
        assert verify(log.entries) != []
        store.prune(4, now + LOG_KEPT_S, sign)
        assert events.outcome(4) == Committed(4)
    with opened(db) as (_, found, _events):
        assert (found.log_n, found.log_hash) == (4, entries[3].hash)


def test_a_signer_that_fails_costs_the_pruning_only(db: Path) -> None:
    def sign(_: bytes) -> str:
        raise RuntimeError("no key")

    with opened(db) as (store, _, events):
        store.submit(1, [append(chained(log_entry())[0])])
        store.prune(2, 1_763_000_000.0 + 2 * LOG_KEPT_S, sign)
        failed = events.outcome(2)
        assert isinstance(failed, CommitFailed)
        assert "no key" in failed.detail
        assert len(read(db).entries) == 1


def test_pruning_nothing_and_idling_write_nothing(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
        before = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(db.parent.iterdir())]
        store.prune(2, 1_760_000_000.0)
        events.outcome(2)
        after = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(db.parent.iterdir())]
        assert [a for a in after if not a[0].endswith("-shm")] == [b for b in before if not b[0].endswith("-shm")]


def test_the_write_ahead_log_stays_bounded(db: Path) -> None:
    with opened(db) as (store, _, events):
        for batch in range(400):
            store.submit(batch, [PutValue(key="a", value=bytes(60_000)), PutValue(key="b", value=b"%d" % batch)])
        events.outcome(399)
        assert Path(f"{db}-wal").stat().st_size < 3 * database.WAL_LIMIT


def test_closing_twice_is_quiet_and_later_batches_fail(db: Path) -> None:
    events = Events()
    store = SqliteStore(db, events)
    store.load()
    store.submit(1, [PutValue(key="a", value=b"1")])
    store.close()
    store.close()
    assert events.all == [Committed(1)]


def test_examine_counts_rows_beside_a_running_store(db: Path) -> None:
    with opened(db) as (store, _, events):
        store.submit(1, one_of_each())
        events.outcome(1)
        told = examine(db)
        assert told["check"] == "ok"
        assert told["rows"]["orders"] == 1
        assert told["wal_bytes"] > 0


def test_the_fake_store_behaves_like_the_real_one() -> None:
    events = Events()
    store = MemoryStore(events, auto=False)
    store.submit(1, one_of_each())
    store.submit(2, [AppendLog(n=1, entry=b'{"hash":"again"}'), PutValue(key="half", value=b"x")])
    assert store.load().empty
    assert store.restart(events).load().empty
    store.commit(1)
    assert events.all == [Committed(1)]
    store.commit()
    assert isinstance(events.outcome(2), CommitFailed)
    assert store.load().values == {"birth": b"4"}
    assert store.restart(events).load().log_n == 1
    store.fail = "the disk is full"
    store.submit(3, [])
    store.commit()
    assert events.outcome(3) == CommitFailed(3, "the disk is full")
    assert Head(1, store.load().log_hash).n == 1


LOOP = """
import sys
from agent.model.events import Committed
from agent.model.records import PutValue, PutOut
from agent.store.database import SqliteStore
def post(event, *, urgent=False):
    assert isinstance(event, Committed), event
    sys.stdout.write(f"{event.batch}\\n"); sys.stdout.flush()
store = SqliteStore(sys.argv[1], post)
first = int(dict(store.load().values).get("n", b"0")) + 1
for batch in range(first, first + 100000):
    number = PutValue(key="n", value=b"%d" % batch)
    store.submit(batch, [number, PutOut(seq=batch, topic="event", weight=0, body=b"x" * (batch % 900))])
    if batch % 7 == 0:
        import time; time.sleep(0.002)
"""


def test_what_was_reported_survives_a_kill_at_any_moment_and_nothing_is_half(db: Path) -> None:
    import random

    rng = random.Random(4)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", LOOP, str(db)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        reported = int(child.stdout.readline() or 0)
        timer = threading.Timer(rng.uniform(0.0, 0.12), child.kill)
        timer.start()
        for line in child.stdout:
            if line.endswith("\n"):
                reported = int(line)
        timer.join()
        child.wait()
        with opened(db) as (_, found, _events):
            assert found.detail is None
            n = int(found.values["n"])
            assert n >= reported
            assert [row.seq for row in found.outbox] == list(range(1, n + 1))
            assert all(len(row.body) == row.seq % 900 for row in found.outbox)
