"""The durable memory: SQLite in WAL mode with synchronous=FULL, written by one thread, a transaction a batch.

WAL with synchronous=FULL syncs the log at every commit, so what was reported survives a power cut. Batches that wait
together share one commit (and one sync of the card). Nothing is written while nothing is submitted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agent.model.events import CommitFailed, Committed
from agent.model.playlog import Checkpoint, Head, Sounded, newest_day
from agent.model.records import (
    AppendLog,
    DropOut,
    DropProgramme,
    DropValue,
    PutOrder,
    PutOut,
    PutProgramme,
    PutState,
    PutValue,
    Snapshot,
    Write,
)
from agent.ports import Inbox
from agent.store.files import sync_folder

DAY = 86_400
ORDER_GRACE_S = DAY
"""A consumed `jti` is remembered this long after its order's `exp` (CONTRACT section 4)."""
CTR_WINDOW = 1024
LOG_KEPT_S = 396 * DAY
"""13 months."""
GROUP = 64
"""At most so many batches in one commit."""
CHECKPOINT_PAGES = 512
WAL_LIMIT = 4 * 2**20
APPLICATION_ID = 0x5472616D  # "Tram"
COPIES_KEPT = 3

Sign = Callable[[bytes], str]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE orders (
        iss TEXT NOT NULL, jti TEXT NOT NULL, sha256 TEXT NOT NULL, kid TEXT NOT NULL, ctr INTEGER, exp REAL,
        ack BLOB NOT NULL, PRIMARY KEY (iss, jti)
    ) STRICT;
    CREATE TABLE counters (kid TEXT PRIMARY KEY, highest INTEGER NOT NULL) STRICT;
    CREATE TABLE states (
        iss TEXT NOT NULL, scope TEXT NOT NULL, op TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
        raw BLOB NOT NULL, PRIMARY KEY (iss, scope, op)
    ) STRICT;
    CREATE TABLE programmes (key TEXT PRIMARY KEY, doc BLOB NOT NULL) STRICT;
    CREATE TABLE outbox (seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, weight INTEGER NOT NULL, body BLOB NOT NULL)
        STRICT;
    CREATE TABLE named (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE playlog (n INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
    CREATE TABLE checkpoint (
        one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL, hash TEXT NOT NULL, at INTEGER NOT NULL,
        signature TEXT NOT NULL
    ) STRICT;
    """,
)
"""Script i brings a database from `user_version` i to i + 1. A migration only adds (tables, columns with defaults):
a database from a newer version is used as it is, so that an update can be rolled back."""

_PRIMARY = 0xFF
_NOT_DAMAGE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


class _DamagedError(Exception):
    """The database does not hold what it should."""


def explain(error: BaseException, path: Path) -> str:
    """One sentence for people on why the database cannot be read or written."""
    if isinstance(error, OSError):
        return f"{path} cannot be used: {error.strerror or error}"
    if not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", None) is None:
        return f"{path}: {error}"
    match error.sqlite_errorcode & _PRIMARY:
        case sqlite3.SQLITE_FULL:
            return f"the disk that holds {path} is full: free some room"
        case sqlite3.SQLITE_READONLY:
            return f"{path} is read-only: the card may have failed, or its permissions are wrong"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another program holds {path} locked"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return f"{path} is damaged ({error}): restart to set it aside and begin a fresh one"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return f"{path} cannot be opened: check that its folder exists, is writable and has room"
        case sqlite3.SQLITE_IOERR:
            return f"the disk that holds {path} failed or is full ({error}; {error.sqlite_errorname})"
    return f"{path}: {error}"


def _is_damage(error: BaseException, path: Path) -> bool:
    if isinstance(error, sqlite3.DatabaseError):
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or code in _UNREADABLE:
            return True
        if code & _PRIMARY == sqlite3.SQLITE_READONLY:
            return _writable(path)  # the file system lets us write: the header says what is not so
        return code & _PRIMARY not in _NOT_DAMAGE
    # a damaged schema shows up in SQLite's own messages, which then are no UTF-8
    return isinstance(error, (_DamagedError, MemoryError, UnicodeDecodeError))


def _writable(path: Path) -> bool:
    read_only = bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    return not read_only and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def connect(path: Path) -> sqlite3.Connection:
    """Open for writing, as durable as SQLite can be, creating the file if there is none. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("PRAGMA cache_size=-512")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open for reading, beside a running agent, after its death, or on a read-only file system. Raises sqlite3.Error.

    Where the write-ahead log cannot be opened in place, it and the database are read from a copy.
    """
    try:
        return _try_reading(f"{path.absolute().as_uri()}?mode=ro")
    except sqlite3.OperationalError:
        if not path.exists():
            raise
        with tempfile.TemporaryDirectory(prefix="tram-") as folder:
            copy = Path(folder, path.name)
            try:
                shutil.copyfile(path, copy)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}-wal", f"{copy}-wal")
            except OSError as error:
                raise sqlite3.OperationalError(f"unable to read {path}: {error.strerror}") from error
            memory = sqlite3.connect(":memory:", isolation_level=None)
            with contextlib.closing(_try_reading(copy.as_uri())) as source:
                source.backup(memory)
            return memory


def _try_reading(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _DamagedError(str(verdict))


def migrate(connection: sqlite3.Connection, scripts: Sequence[str] = MIGRATIONS) -> None:
    """Bring the schema up to date, one transaction a step."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for step in range(max(version, 0), len(scripts)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {scripts[step]} PRAGMA application_id={APPLICATION_ID};"
            f"PRAGMA user_version={step + 1}; COMMIT;"
        )


def apply(connection: sqlite3.Connection, write: Write) -> None:
    """One write, inside the transaction of its batch."""
    run = connection.execute
    match write:
        case PutOrder():
            run(
                "INSERT OR REPLACE INTO orders (iss, jti, sha256, kid, ctr, exp, ack) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (write.iss, write.jti, write.sha256, write.kid, write.ctr, write.exp, write.ack),
            )
            if write.ctr is not None:
                run(
                    "INSERT INTO counters (kid, highest) VALUES (?, ?)"
                    " ON CONFLICT DO UPDATE SET highest = max(highest, excluded.highest)",
                    (write.kid, write.ctr),
                )
        case PutState():
            run(
                "INSERT OR REPLACE INTO states (iss, scope, op, version, sha256, raw) VALUES (?, ?, ?, ?, ?, ?)",
                (write.iss, write.scope, write.op, write.version, write.sha256, write.raw),
            )
        case PutProgramme():
            run(
                "INSERT INTO programmes (key, doc) VALUES (?, ?) ON CONFLICT DO UPDATE SET doc = excluded.doc",
                (write.key, write.doc),
            )
        case DropProgramme():
            run("DELETE FROM programmes WHERE key = ?", (write.key,))
        case AppendLog():
            run("INSERT INTO playlog (n, entry) VALUES (?, ?)", (write.n, write.entry))
        case PutOut():
            run(
                "INSERT OR REPLACE INTO outbox (seq, topic, weight, body) VALUES (?, ?, ?, ?)",
                (write.seq, write.topic, write.weight, write.body),
            )
        case DropOut():
            run("DELETE FROM outbox WHERE seq = ?", (write.seq,))
        case PutValue():
            run(
                "INSERT INTO named (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (write.key, write.value),
            )
        case DropValue():
            run("DELETE FROM named WHERE key = ?", (write.key,))


def snapshot(connection: sqlite3.Connection) -> Snapshot:
    """All that the owner needs. `empty`: nothing was ever committed, whatever became of an earlier attempt to begin.

    Raises what `_is_damage` knows when a row does not hold what it should.
    """

    def rows(query: str) -> Iterator[dict[str, Any]]:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor)

    try:
        head = _log_head(connection)
        found = Snapshot(
            orders=[_as(PutOrder, r) for r in rows("SELECT * FROM orders")],
            ctr_highest={_str(r["kid"]): _int(r["highest"]) for r in rows("SELECT * FROM counters")},
            states=[_as(PutState, r) for r in rows("SELECT * FROM states")],
            programmes={_str(r["key"]): _bytes(r["doc"]) for r in rows("SELECT * FROM programmes ORDER BY rowid")},
            outbox=[_as(PutOut, r) for r in rows("SELECT * FROM outbox ORDER BY seq")],
            values={_str(r["key"]): _bytes(r["value"]) for r in rows("SELECT * FROM named")},
            log_n=head.n,
            log_hash=head.hash,
            played=_played(connection),
        )
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise _DamagedError(f"a row does not hold what it should: {error}") from error
    found.empty = not (
        found.orders
        or found.ctr_highest
        or found.states
        or found.programmes
        or found.outbox
        or found.values
        or found.log_n
    )
    return found


def _log_head(connection: sqlite3.Connection) -> Head:
    row = connection.execute("SELECT n, entry FROM playlog ORDER BY n DESC LIMIT 1").fetchone()
    if row is not None:
        return Head(_int(row[0]), msgspec.json.decode(_bytes(row[1]), type=_Sealed).hash)
    row = connection.execute("SELECT n, hash FROM checkpoint").fetchone()
    return Head() if row is None else Head(_int(row[0]), _str(row[1]))


def _played(connection: sqlite3.Connection) -> tuple[str, dict[str, float]]:
    rows = connection.execute("SELECT entry FROM playlog ORDER BY n DESC")  # read no further than that day
    return newest_day(msgspec.json.decode(_bytes(raw), type=Sounded) for (raw,) in rows)


class _Sealed(msgspec.Struct):
    hash: str
    ended: str | None = None
    started: str | None = None
    planned: str | None = None


def _as(kind: type[Any], row: dict[str, Any]) -> Any:
    # bytes are base64 in msgspec's builtins unless told otherwise
    return msgspec.convert(row, kind, builtin_types=(bytes,))


def _str(value: object) -> str:
    return msgspec.convert(value, str)


def _int(value: object) -> int:
    return msgspec.convert(value, int)


def _bytes(value: object) -> bytes:
    return msgspec.convert(value, bytes, builtin_types=(bytes,))


class _Batch(NamedTuple):
    number: int
    work: Callable[[sqlite3.Connection], None]


class SqliteStore:
    """`agent.ports.Store` on a file. `post` receives Committed and CommitFailed, from the writer's thread.

    `load` once, then `submit` from any thread; `close` commits what waits, ends the thread and folds the write-ahead
    log into the database. A store that cannot be used (`Snapshot.usable` False) fails every batch, with the reason.
    """

    def __init__(self, path: Path | str, post: Inbox) -> None:
        self.path = Path(path)
        self._post = post
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._broken = "the store was not loaded"
        self._thread: threading.Thread | None = None

    def load(self) -> Snapshot:
        """Open the database and read it; never raises for what the disk holds.

        A damaged database is renamed to `<name>.damaged-<UTC time>` (the newest three are kept) and a fresh one
        begun: `empty` and `detail` say so. A disk that cannot be written gives what can still be read, not `usable`.
        """
        try:
            found = self._open()
        except Exception as error:  # noqa: BLE001 - damage shows as anything; each is told by its sentence
            found = self._rescue(error)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()
        return found

    def submit(self, batch: int, writes: Sequence[Write]) -> None:
        """Queue one transaction. All of `writes` is applied in order, or nothing."""
        todo = tuple(writes)

        def work(connection: sqlite3.Connection) -> None:
            for write in todo:
                apply(connection, write)

        self._queue.put(_Batch(batch, work))

    def prune(self, batch: int, now: float, sign: Sign | None = None) -> None:
        """Queue a pruning: replay memory past `exp` + 1 day and outside the counter's window, play log over 13 months.

        `now`: trusted epoch seconds. The log's last pruned entry stays as a checkpoint signed by `sign`, which is
        called in the store's thread. Reported like any batch; writes nothing when there is nothing to prune.
        """
        self._queue.put(_Batch(batch, lambda connection: prune(connection, now, sign)))

    def close(self) -> None:
        """Commit what waits, then close. May be called twice; later batches fail."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._broken = "the store is closed"

    @property
    def _suspect(self) -> Path:
        return self.path.with_name(self.path.name + ".suspect")

    def _open(self) -> Snapshot:
        fresh = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A clean close leaves no write-ahead log: one that is there tells of a power cut, the time to look closely.
        unclean = Path(f"{self.path}-wal").exists() or self._suspect.exists()
        connection = connect(self.path)
        try:
            if unclean:
                _check(connection)
            migrate(connection)
            found = snapshot(connection)
        except BaseException:
            connection.close()
            raise
        if fresh:
            sync_folder(self.path.parent)
        self._suspect.unlink(missing_ok=True)
        self._connection = connection
        return found

    def _rescue(self, error: Exception) -> Snapshot:
        sentence = explain(error, self.path)
        try:
            if _is_damage(error, self.path):
                kept = self._set_aside()
                found = self._open()
                found.detail = f"the database was damaged ({error}); it is kept as {kept.name} and a fresh one begun"
                return found
        except Exception as second:  # noqa: BLE001 - whatever the disk does, the station goes on without a database
            sentence = explain(second, self.path)
        self._broken = sentence
        try:
            with contextlib.closing(open_readonly(self.path)) as connection:
                found = snapshot(connection)
        except Exception:  # noqa: BLE001 - already told: nothing can be read either
            found = Snapshot()
        found.detail, found.usable = sentence, False
        return found

    def _set_aside(self) -> Path:
        stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        target = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        for suffix in ("", "-wal", "-shm"):  # the log last: it must never be lost to a database that stays
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{target}{suffix}")
        sync_folder(self.path.parent)
        copies = sorted(p for p in self.path.parent.glob(f"{self.path.name}.damaged-*Z"))
        for old in copies[:-COPIES_KEPT]:
            for suffix in ("-wal", "-shm", ""):
                Path(f"{old}{suffix}").unlink(missing_ok=True)
        return target

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < GROUP and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    last = True
                    break
                group.append(more)
            self._commit(group)
            if last:
                return

    def _commit(self, group: Sequence[_Batch]) -> None:
        connection = self._connection
        if connection is None:
            for batch in group:
                self._post(CommitFailed(batch.number, self._broken))
            return
        refused: dict[int, str] = {}
        try:
            connection.execute("BEGIN IMMEDIATE")
            for batch in group:
                connection.execute("SAVEPOINT batch")
                try:
                    batch.work(connection)
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError, UnicodeEncodeError) as error:
                    # this batch's own fault: the others of the group go on
                    connection.execute("ROLLBACK TO batch")
                    refused[id(batch)] = f"not stored: {error}"
                connection.execute("RELEASE batch")
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - sqlite3.Error, MemoryError, a failing signer: all end as CommitFailed
            self._undo(connection, error)
            if len(group) > 1:
                for batch in group:
                    self._commit([batch])
            else:
                self._post(CommitFailed(group[0].number, explain(error, self.path)))
            return
        for batch in group:
            detail = refused.get(id(batch))
            self._post(Committed(batch.number) if detail is None else CommitFailed(batch.number, detail, own=True))

    def _undo(self, connection: sqlite3.Connection, error: Exception) -> None:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if _is_damage(error, self.path):
            with contextlib.suppress(OSError):
                self._suspect.touch()


def prune(connection: sqlite3.Connection, now: float, sign: Sign | None) -> None:
    """Forget what is too old, inside the caller's transaction (see SqliteStore.prune)."""
    connection.execute(
        "DELETE FROM orders WHERE exp < ? AND (ctr IS NULL OR ctr <= "
        "(SELECT highest FROM counters WHERE counters.kid = orders.kid) - ?)",
        (now - ORDER_GRACE_S, CTR_WINDOW),
    )
    connection.execute("DELETE FROM orders WHERE exp IS NULL AND sha256 NOT IN (SELECT sha256 FROM states)")
    last = _last_too_old(connection, now - LOG_KEPT_S)
    if last is None:
        return
    checkpoint = Checkpoint(n=last.n, hash=last.hash, at=int(now))
    signature = "" if sign is None else sign(checkpoint.payload())
    connection.execute(
        "INSERT OR REPLACE INTO checkpoint (one, n, hash, at, signature) VALUES (1, ?, ?, ?, ?)",
        (last.n, last.hash, checkpoint.at, signature),
    )
    connection.execute("DELETE FROM playlog WHERE n <= ?", (last.n,))


def _last_too_old(connection: sqlite3.Connection, limit: float) -> Head | None:
    """The last entry of the leading stretch older than `limit`; one that tells no time goes with its neighbours."""
    last = None
    for n, raw in connection.execute("SELECT n, entry FROM playlog ORDER BY n"):
        entry = msgspec.json.decode(raw, type=_Sealed)
        try:
            at = datetime.fromisoformat(entry.ended or entry.started or entry.planned or "").timestamp()
        except ValueError:
            continue
        if at >= limit:
            break
        last = Head(n, entry.hash)
    return last


def examine(path: Path) -> dict[str, Any]:
    """For `tram doctor`: `{check, rows: {table: count}, bytes, wal_bytes}` of a database, read-only.

    `check` is "ok" or the first fault that SQLite finds; raises sqlite3.Error when it cannot be opened at all.
    """
    from sqlite_utils import Database

    wal = Path(f"{path}-wal")
    with contextlib.closing(open_readonly(path)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        database = Database(connection)
        return {
            "check": verdict,
            "rows": {name: database[name].count for name in database.table_names()},
            "bytes": path.stat().st_size,
            "wal_bytes": wal.stat().st_size if wal.exists() else 0,
        }
