"""Reading and checking the play log: for `tram log`, whether the agent runs or not, and for the province."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.model.playlog import FIELDS, ZEROS, Checkpoint, Head, LogEntry, chain, digest, encode

__all__ = [
    "FIELDS",
    "Checkpoint",
    "Head",
    "LogEntry",
    "PlayLog",
    "PlayLogError",
    "Problem",
    "chain",
    "digest",
    "encode",
    "read",
    "to_csv",
    "to_json",
    "verify",
]


class PlayLogError(Exception):
    """The play log cannot be read; the message is for people."""


class Problem(Struct, frozen=True):
    """Something wrong with a chain at entry `n` (None: cannot be said).

    `what`: "malformed", "altered", "missing", "duplicate", "order", "broken" (does not continue the entry before it),
    "truncated", "head" (the reported head has another hash), "checkpoint" (its signature is wrong).
    """

    n: int | None
    what: str
    detail: str


class PlayLog(Struct, frozen=True):
    """What `read` found: entries as stored, oldest first, and the checkpoint if older ones were pruned."""

    entries: list[dict[str, Any]]
    checkpoint: Checkpoint | None = None


def verify(
    entries: Iterable[Mapping[str, Any]],
    checkpoint: Checkpoint | None = None,
    head: tuple[int, str] | None = None,
    check: Callable[[bytes, str], bool] | None = None,
) -> list[Problem]:
    """Find every altered, missing, reordered, duplicated or cut-off entry of a whole chain.

    `head` is (n, hash) as last reported in a beat, the hash in full or its first characters (8 in a beat): without it
    a cut at the end, or a chain rewritten from some entry on, cannot show. `check(payload, signature)` verifies the
    checkpoint's signature. Entries may be anything that JSON can hold; nothing raises.
    """
    problems: list[Problem] = []
    start = Head() if checkpoint is None else Head(checkpoint.n, checkpoint.hash)
    if checkpoint is not None and check is not None and not check(checkpoint.payload(), checkpoint.signature):
        problems.append(Problem(checkpoint.n, "checkpoint", "the checkpoint's signature is not the station's"))
    expected, prev = start.n + 1, start.hash
    seen = {start.n: start.hash} if start.n else {}
    for position, entry in enumerate(entries, start=1):
        n = entry.get("n") if isinstance(entry, Mapping) else None
        stored = entry.get("hash") if isinstance(entry, Mapping) else None
        if not isinstance(n, int) or isinstance(n, bool) or n < 1 or not isinstance(stored, str):
            problems.append(Problem(None, "malformed", f"line {position} is not a play-log entry"))
            continue
        problems.extend(_seal(n, stored, entry))
        if n < expected:
            what = "duplicate" if n in seen else "order"
            problems.append(Problem(n, what, f"entry {n} comes after entry {expected - 1}"))
            continue
        if n > expected:
            gap = f"entry {expected} is" if n == expected + 1 else f"entries {expected} to {n - 1} are"
            problems.append(Problem(expected, "missing", f"{gap} missing"))
        elif entry.get("prev") != prev:
            problems.append(Problem(n, "broken", f"entry {n} does not continue the entry before it"))
        seen[n] = stored
        expected, prev = n + 1, stored
    if head is not None:
        problems.extend(_against_head(Head(*head), Head(expected - 1, prev), start, seen))
    return problems


def _seal(n: int, stored: str, entry: Mapping[str, Any]) -> list[Problem]:
    try:
        intact = digest(entry) == stored
    except (ValueError, TypeError, RecursionError) as error:
        return [Problem(n, "malformed", f"entry {n} has no canonical form: {error}")]
    return [] if intact else [Problem(n, "altered", f"entry {n} was altered: its hash does not fit its content")]


def _against_head(reported: Head, last: Head, start: Head, seen: Mapping[int, str]) -> list[Problem]:
    claimed = reported.hash.lower()
    if reported.n > last.n:
        detail = f"the station reported entry {reported.n}, but the log ends at {last.n}"
        return [Problem(last.n + 1, "truncated", detail)]
    if reported.n < start.n:
        return []  # pruned since: the checkpoint vouches for it
    known = ZEROS if reported.n == 0 else seen.get(reported.n)
    if known is not None and (not claimed or not known.startswith(claimed)):
        return [Problem(reported.n, "head", f"entry {reported.n} is not the one that the station reported")]
    return []


def read(path: Path | str, month: str | None = None) -> PlayLog:
    """The play log in a store's database, opened read-only: works beside a running agent and after its death.

    `month` ("2025-11") keeps the entries whose start, or else planned time, or else end, lies in that month as the
    station's own offset writes it; such a part cannot be verified as a chain. Raises PlayLogError.
    """
    import sqlite3

    from sqlite_utils import Database

    from agent.store.database import explain, open_readonly

    path = Path(path)
    if not path.exists():
        raise PlayLogError(f"there is no database at {path}")
    try:
        connection = open_readonly(path)
        try:
            connection.execute("BEGIN")  # entries and checkpoint of one moment
            database = Database(connection)
            rows = [(int(r["n"]), bytes(r["entry"])) for r in database.query("SELECT n, entry FROM playlog ORDER BY n")]
            sealed = next(database.query("SELECT n, hash, at, signature FROM checkpoint"), None)
            checkpoint = None if sealed is None else msgspec.convert(sealed, Checkpoint)
        finally:
            connection.close()
    except (sqlite3.Error, msgspec.ValidationError, TypeError, ValueError) as error:
        raise PlayLogError(f"the play log in {path} cannot be read: {explain(error, path)}") from error
    entries = [_entry(n, raw) for n, raw in rows]
    if month is not None:
        entries = [e for e in entries if _month(e) == month]
    return PlayLog(entries, checkpoint)


def _entry(n: int, raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"n": n}  # no hash: verify calls it malformed


def _month(entry: Mapping[str, Any]) -> str | None:
    at = next((entry[k] for k in ("started", "planned", "ended") if isinstance(entry.get(k), str)), None)
    return None if at is None else at[:7]


def to_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries as CSV with a header line; `content` joined by spaces, absent values empty.

    Text that a spreadsheet would run as a formula is given a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for entry in entries:
        writer.writerow([_cell(entry.get(field)) for field in FIELDS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(str(v) for v in value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return "" if value is None else value


def to_json(log: PlayLog) -> bytes:
    """`{entries, checkpoint?}`, as in a demonstration's playlog.json."""
    document: dict[str, Any] = {"entries": log.entries}
    if log.checkpoint is not None:
        document["checkpoint"] = msgspec.to_builtins(log.checkpoint)
    return msgspec.json.format(msgspec.json.encode(document), indent=1)
