"""What the store's tests share: an inbox that can be waited on, and writes of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from agent.model.events import CommitFailed, Committed
from agent.model.playlog import Head, LogEntry, chain, encode
from agent.model.records import (
    AppendLog,
    PutOrder,
    PutOut,
    PutProgramme,
    PutState,
    PutValue,
    Write,
)


class Events:
    """An inbox for tests."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, event: Any, *, urgent: bool = False) -> None:
        with self._changed:
            self.all.append(event)
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[Any]], Any], timeout: float = 20.0) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.all), timeout), f"not within {timeout} s: {self.all}"
            return list(self.all)

    def of(self, kind: type[Any]) -> list[Any]:
        with self._changed:
            return [e for e in self.all if isinstance(e, kind)]

    def outcome(self, batch: int) -> Committed | CommitFailed:
        def found(events: list[Any]) -> list[Any]:
            return [e for e in events if isinstance(e, Committed | CommitFailed) and e.batch == batch]

        return found(self.wait(found))[0]


def log_entry(**changes: Any) -> LogEntry:
    fields: dict[str, Any] = {
        "bulletin": "tin-1",
        "title": "Bản tin sáng",
        "class_": "normal",
        "iss": "xa-mau",
        "zone": "loa",
        "planned": "2025-11-20T05:00:00+07:00",
        "started": "2025-11-20T05:00:00.001+07:00",
        "ended": "2025-11-20T05:10:00+07:00",
        "start_error_ms": 0.4213,
        "result": "completed",
        "by": "schedule",
        "level_dbfs": -18.004,
        "content": ["ab" * 32],
    }
    return LogEntry(**(fields | changes))


def chained(*entries: LogEntry, head: Head | None = None) -> list[LogEntry]:
    last = head or Head()
    out = []
    for entry in entries:
        linked = chain(last, entry)
        out.append(linked)
        last = Head(linked.n, linked.hash)
    return out


def append(entry: LogEntry) -> AppendLog:
    return AppendLog(n=entry.n, entry=encode(entry))


def order(jti: str = "j1", **changes: Any) -> PutOrder:
    fields: dict[str, Any] = {
        "iss": "tinh",
        "jti": jti,
        "sha256": "aa" * 32,
        "kid": "k1",
        "ctr": 7,
        "exp": 1_760_000_000.5,
        "ack": b'{"seq":1}',
    }
    return PutOrder(**(fields | changes))


def one_of_each() -> list[Write]:
    return [
        order(),
        PutState(iss="tinh", scope="all", op="silence", version=3, sha256="bb" * 32, raw=b"e30.x.y"),
        PutProgramme(key="tinh/tin-1", doc=b'{"state":"accepted"}'),
        append(chained(log_entry())[0]),
        PutOut(seq=1, topic="event", weight=3, body=b"{}"),
        PutValue(key="birth", value=b"4"),
    ]
