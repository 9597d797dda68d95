"""The play log (nhật ký phát, CONTRACT section 6): one hash-chained entry per stretch of a programme and zone.

`hash` is the SHA-256 of RFC 8785 (canonical JSON) of the entry without `hash`, so each entry seals all before it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import msgspec
import rfc8785
from msgspec import Struct

ZEROS = "0" * 64
"""`prev` of the first entry."""

Result = Literal["completed", "interrupted", "skipped", "failed", "declined"]


class LogEntry(Struct, frozen=True, kw_only=True):
    """One entry; `n`, `prev` and `hash` are filled in by `chain`.

    `planned`, `started`, `ended` RFC 3339 with offset (None: never). `start_error_ms` against `planned` plus the
    zone's delay. `level_dbfs` RMS over the sounding part, a full-scale sine being −3.01; None for screens and for
    what never sounded. `content`: hashes of what was played, in order. `by`: who or what caused it. `drill`: it was an
    exercise (diễn tập).
    """

    bulletin: str
    title: str
    class_: str = msgspec.field(name="class")
    iss: str
    zone: str
    result: Result
    by: str
    approved_by: str | None = None
    drill: bool = False
    planned: str | None = None
    started: str | None = None
    ended: str | None = None
    start_error_ms: float | None = None
    reason: str | None = None
    level_dbfs: float | None = None
    content: list[str] = []
    n: int = 0
    prev: str = ZEROS
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON sees it, in the contract's order of fields.

        `approved_by` is absent when nobody did, `drill` when it was none.
        """
        plain = cast("dict[str, Any]", msgspec.to_builtins(self))
        return {k: plain[k] for k in FIELDS if plain[k] or k not in ("approved_by", "drill")}


FIELDS = (
    "n",
    "prev",
    "hash",
    "bulletin",
    "title",
    "class",
    "drill",
    "iss",
    "approved_by",
    "zone",
    "planned",
    "started",
    "ended",
    "start_error_ms",
    "result",
    "reason",
    "by",
    "level_dbfs",
    "content",
)


class Head(NamedTuple):
    """The end of a chain: the number and hash of its last entry."""

    n: int = 0
    hash: str = ZEROS


class Checkpoint(Struct, frozen=True, kw_only=True):
    """What pruning leaves behind: the last pruned entry's `n` and `hash`, sealed by the station's key.

    `at` epoch seconds of the pruning; `signature` is what `sign(checkpoint.payload())` returned, "" when the station
    has no key.
    """

    n: int
    hash: str
    at: int
    signature: str = ""

    def payload(self) -> bytes:
        """The bytes that are signed: RFC 8785 of `{at, hash, n}`."""
        return rfc8785.dumps({"at": self.at, "hash": self.hash, "n": self.n})


def played_s(started: datetime, ended: datetime) -> float:
    """Of a stretch, the seconds that fall on the day of its end: `ended` says in which time zone a day is meant."""
    midnight = ended.replace(hour=0, minute=0, second=0, microsecond=0)
    return max(0.0, (ended - max(started, midnight)).total_seconds())


class Sounded(Struct, frozen=True):
    """Of an entry, where and when it sounded."""

    zone: str = ""
    started: str | None = None
    ended: str | None = None


def newest_day(newest_first: Iterable[Sounded]) -> tuple[str, dict[str, float]]:
    """The day (a date) of the newest entry, and how many seconds each zone was on the air on it.

    Takes no more of the entries than that day has, and one.
    """
    day, zones = "", dict[str, float]()
    for stretch in newest_first:
        if stretch.ended is None or (day and stretch.ended[:10] != day):
            break
        day = stretch.ended[:10]
        if stretch.started is not None:
            seconds = played_s(datetime.fromisoformat(stretch.started), datetime.fromisoformat(stretch.ended))
            zones[stretch.zone] = zones.get(stretch.zone, 0.0) + seconds
    return day, zones


def digest(entry: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of an entry without `hash`.

    Raises ValueError for what canonical JSON cannot carry (NaN, integers beyond 2^53, lone surrogates).
    """
    return hashlib.sha256(rfc8785.dumps({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def chain(head: Head, entry: LogEntry) -> LogEntry:
    """The entry as the next of the chain that ends at `head`, its figures rounded (ms to 3, dB to 2 places).

    A figure that is not finite was not measured and becomes None.
    """
    linked = msgspec.structs.replace(
        entry,
        n=head.n + 1,
        prev=head.hash,
        hash="",
        start_error_ms=_rounded(entry.start_error_ms, 3),
        level_dbfs=_rounded(entry.level_dbfs, 2),
    )
    return msgspec.structs.replace(linked, hash=digest(linked.to_dict()))


def encode(entry: LogEntry) -> bytes:
    """The entry as it is stored and reported: canonical JSON."""
    return rfc8785.dumps(entry.to_dict())


def _rounded(value: float | None, places: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), places) + 0.0  # + 0.0 turns −0.0 into 0.0
