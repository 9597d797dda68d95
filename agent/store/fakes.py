"""Stores and libraries in memory, for tests of everything else: same port, same SQL, no disk, no thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from agent.model.events import CommitFailed, Committed, MediaFailed, MediaReady
from agent.model.records import Snapshot, Write
from agent.ports import Inbox, Need
from agent.store.database import Sign, apply, migrate, prune, snapshot


class MemoryStore:
    """`agent.ports.Store` that commits at once (`auto`), or when the test says `commit()`.

    `fail`: while set, batches fail with this detail. `restart(post)` is the store after a crash: what was not
    committed is gone.
    """

    def __init__(self, post: Inbox, *, auto: bool = True) -> None:
        self._post = post
        self._connection = _memory()
        self.auto = auto
        self.fail: str | None = None
        self.pending: list[tuple[int, tuple[Write, ...]]] = []
        self.committed: list[Write] = []

    def load(self) -> Snapshot:
        """What was committed so far."""
        return snapshot(self._connection)

    def submit(self, batch: int, writes: Sequence[Write]) -> None:
        """Queue one transaction; with `auto` it is committed before this returns."""
        self.pending.append((batch, tuple(writes)))
        if self.auto:
            self.commit()

    def commit(self, count: int | None = None) -> None:
        """Commit (or fail) the oldest `count` waiting batches, by default all."""
        todo = self.pending if count is None else self.pending[:count]
        self.pending = self.pending[len(todo) :]
        for batch, writes in todo:
            self._commit(batch, writes)

    def prune(self, batch: int, now: float, sign: Sign | None = None) -> None:
        """As SqliteStore.prune, at once."""
        prune(self._connection, now, sign)
        self._post(Committed(batch))

    def close(self) -> None:
        """Commit what waits."""
        self.commit()

    def restart(self, post: Inbox) -> MemoryStore:
        """A new store on what this one had committed."""
        store = MemoryStore(post, auto=self.auto)
        store._connection = self._connection
        return store

    def _commit(self, batch: int, writes: tuple[Write, ...]) -> None:
        if self.fail is not None:
            self._post(CommitFailed(batch, self.fail))
            return
        self._connection.execute("BEGIN")
        try:
            for write in writes:
                apply(self._connection, write)
        except (sqlite3.Error, OverflowError) as error:
            self._connection.execute("ROLLBACK")
            self._post(CommitFailed(batch, f"not stored: {error}"))
            return
        self._connection.execute("COMMIT")
        self.committed.extend(writes)
        self._post(Committed(batch))


def _memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(connection)
    return connection


class MemoryLibrary:
    """`agent.ports.Library` whose files arrive when the test says so."""

    def __init__(self, post: Inbox) -> None:
        self._post = post
        self.files: dict[str, Path] = {}
        self.wanted: list[Need] = []

    def want(self, needs: Sequence[Need]) -> None:
        """Keep the list in `wanted`; what is here already and newly wanted is reported ready."""
        before = {need.media.sha256 for need in self.wanted}
        self.wanted = list(needs)
        for sha256 in dict.fromkeys(need.media.sha256 for need in needs):
            if sha256 in self.files and sha256 not in before:
                self._post(MediaReady(sha256, str(self.files[sha256])))

    def path(self, sha256: str) -> Path | None:
        """The file given by `arrive`, or None."""
        return self.files.get(sha256)

    def arrive(self, sha256: str, path: Path) -> None:
        """The file is there now."""
        self.files[sha256] = path
        self._post(MediaReady(sha256, str(path)))

    def refuse(self, sha256: str, detail: str, *, final: bool = True) -> None:
        """The file cannot be had."""
        self._post(MediaFailed(sha256, detail, final))
