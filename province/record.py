"""The province's record: what the fleet has reported, each thing once, checked against what was reported before.

`Record` is pure: messages and time go in, alarms come out. `Journal` keeps it in a SQLite file. What arrives is
foreign: a damaged message is counted and named, never believed and never fatal.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import deque
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field

from agent.link import topics
from agent.model.playlog import ZEROS, digest

SILENT_PERIODS = 3
"""A device that has not beaten for so many periods is silent."""
REMEMBERED = 20_000
"""Events and log entries remembered per device: as many as its outbox can send a second time."""
FINAL = frozenset({"done", "rejected", "failed"})
"""States after which an order's ack does not change."""


class Message(Struct, frozen=True):
    """What arrived on a topic. `at` epoch seconds, by this machine's clock."""

    topic: str
    payload: bytes
    at: float
    retain: bool = False


class Alarm(Struct, frozen=True):
    """Something a person in the province must know. `what` is a stable word:

    `offline`, `silent`, `back`, `foreign-device`, `duplicate-device`, `malformed`, `seq-reused`, `ack-conflict`,
    `log-altered`, `log-broken`, `log-fork`, `log-restarted`, `log-truncated`, `log-head`.
    """

    at: float
    device: str
    what: str
    detail: str = ""


class Taken(Struct, frozen=True):
    """What became of a message. `new` is False for a duplicate and for what could not be read."""

    device: str | None
    leaf: str | None
    body: dict[str, Any] | None
    new: bool
    alarms: list[Alarm] = []


class ZoneReceipt(Struct):
    """What one zone did with an order. Times RFC 3339, as the device told them."""

    state: str
    reason: str | None = None
    first_sample_at: str | None = None


class DeviceReceipt(Struct):
    """How far an order came at one device. `times`: state → when the device reached it first."""

    state: str
    seq: int
    reason: str | None = None
    times: dict[str, str] = {}
    zones: dict[str, ZoneReceipt] = {}
    report: dict[str, Any] | None = None
    """What it has uploaded: `{sha256, size}`."""

    @property
    def final(self) -> bool:
        """Whether nothing more is to come."""
        return self.state in FINAL


class Receipt(Struct):
    """An order's acks, put together: from receiving it to its end, per device and zone."""

    iss: str
    jti: str
    id: str | None = None
    devices: dict[str, DeviceReceipt] = {}


class Fleet(Struct):
    """What is known of one device now. Times are epoch seconds."""

    device: str
    online: bool = False
    birth: int | None = None
    state: dict[str, Any] = {}
    status: dict[str, Any] = {}
    beat: dict[str, Any] = {}
    heard: float | None = None
    """When its last beat or state `online` arrived."""
    silent: bool = False
    head: tuple[int, str] = (0, ZEROS)
    """Highest log entry received: number and hash."""
    missing: int = 0
    """Log entries up to the head that have not arrived (yet)."""
    refused: dict[str, int] = {}
    alarms: int = 0
    presence: list[list[float]] = []
    """Stretches [from, to] in which it was heard."""
    _seen: dict[int, bytes] = field(default_factory=dict)
    _log: dict[int, tuple[str, str]] = field(default_factory=dict)
    _first: int = 0
    _made: float = 0.0
    _named: set[str] = field(default_factory=set)


class Record:
    """The record of a fleet.

    `known`: device ids that belong to it; others raise `foreign-device`. None: whoever reports belongs to it.
    `keep` bounds each of the lists of `export`.
    """

    def __init__(self, *, period_s: float = 60.0, known: Collection[str] | None = None, keep: int = 100_000) -> None:
        self.period_s = period_s
        self.known = None if known is None else set(known)
        self.fleet: dict[str, Fleet] = {}
        self.receipts: dict[tuple[str, str], Receipt] = {}
        self.alarms: deque[Alarm] = deque(maxlen=keep)
        self._acks: dict[tuple[str, str, str, int], bytes] = {}
        self._lists: dict[str, deque[dict[str, Any]]] = {leaf: deque(maxlen=keep) for leaf in topics.UP}

    # what comes in

    def take(self, message: Message) -> Taken:
        """Take one message. Never raises, whatever it holds."""
        topic = topics.parse(message.topic)
        if topic is None or topic.leaf not in topics.UP:
            return Taken(None, None, None, new=False)
        if message.retain and not message.payload:
            return Taken(topic.target, topic.leaf, None, new=False)
        device = self.fleet.setdefault(topic.target, Fleet(topic.target))
        alarms: list[Alarm] = []

        def alarm(what: str, detail: str = "", *, once: bool = False) -> None:
            if not once or what not in device._named:
                alarms.append(Alarm(message.at, device.device, what, detail))
            device._named.add(what)

        if self.known is not None and device.device not in self.known:
            alarm("foreign-device", "not one of ours", once=True)
        body = _object(message.payload)
        try:
            if body is None:
                raise _MalformedError("not a JSON object")  # noqa: TRY301 - one place counts all of these
            handle = getattr(self, f"_take_{topic.leaf}")
            new = bool(handle(device, body, message, alarm))
        except _MalformedError as error:
            alarm("malformed", f"{topic.leaf}: {error}", once=True)
            body, new = None, False
        if new and body is not None:
            self._lists[topic.leaf].append({"device": device.device, "at": stamp(message.at), "body": body})
        return Taken(device.device, topic.leaf, body, new, self._note(alarms))

    def tick(self, now: float) -> list[Alarm]:
        """Devices that have just fallen silent: online by their state, but no beat for three periods."""
        alarms = []
        for device in self.fleet.values():
            if "via" in device.state:
                continue  # its station says when it is gone; beats stay on the commune's own network
            quiet = now - device.heard if device.heard is not None else 0.0
            if device.online and not device.silent and quiet > SILENT_PERIODS * self.period_s:
                device.silent = True
                alarms.append(Alarm(now, device.device, "silent", f"no beat for {quiet:.0f} s"))
        return self._note(alarms)

    def _note(self, alarms: list[Alarm]) -> list[Alarm]:
        for alarm in alarms:
            self.fleet[alarm.device].alarms += alarm.what != "back"
            self.alarms.append(alarm)
        return alarms

    def _take_state(self, device: Fleet, body: dict[str, Any], message: Message, alarm: _Alarm) -> bool:
        birth, online = _integer(body, "birth"), body.get("online")
        if not isinstance(online, bool):
            raise _MalformedError("online is not true or false")
        if online and device.heard is None:
            device.heard = message.at
        if device.birth is not None and birth < device.birth:
            if not online or message.retain:
                return False  # an old session's Will, or what the broker had kept
            alarm("duplicate-device", f"birth {birth} after {device.birth}: its memory was lost, or it is not alone")
        if device.state == body:
            return False
        was_online = device.online
        if birth != device.birth:
            device.beat = {}
        device.birth, device.online, device.state = birth, online, body
        if online:
            if not message.retain:
                self._heard(device, message.at, alarm)
        elif was_online:
            alarm("offline", "its connection broke")
        return True

    def _take_beat(self, device: Fleet, body: dict[str, Any], message: Message, alarm: _Alarm) -> bool:
        number, (n, start) = _integer(body, "n"), _head(body)
        if device.beat and number <= device.beat["n"]:
            alarm("duplicate-device", f"beat {number} after {device.beat['n']} of the same birth", once=True)
        device.beat = body
        self._heard(device, message.at, alarm)
        self._check_head(device, n, start, body.get("at"), alarm)
        return True

    def _take_status(self, device: Fleet, body: dict[str, Any], message: Message, alarm: _Alarm) -> bool:
        if device.status == body:
            return False
        device.status = body
        return True

    def _take_event(self, device: Fleet, body: dict[str, Any], message: Message, alarm: _Alarm) -> bool:
        seq = _integer(body, "seq")
        print_ = hashlib.sha256(message.payload).digest()[:12]
        before = device._seen.get(seq)
        if before == print_:
            return False
        if before is not None:
            alarm("seq-reused", f"event {seq} came with other content: its memory was lost, or it is not alone")
        _remember(device._seen, seq, print_)
        kind = body.get("kind")
        if kind == "log":
            self._take_entry(device, body, alarm)
        elif kind == "refused":
            count = body.get("count", 1)
            reason = str(body.get("reason"))
            device.refused[reason] = device.refused.get(reason, 0) + (count if isinstance(count, int) else 1)
        return True

    def _take_ack(self, device: Fleet, body: dict[str, Any], message: Message, alarm: _Alarm) -> bool:
        iss, jti, seq = _text(body, "iss"), _text(body, "jti"), _integer(body, "seq")
        key, print_ = (device.device, iss, jti, seq), hashlib.sha256(message.payload).digest()[:12]
        before = self._acks.get(key)
        if before is not None:
            if before != print_:
                alarm("ack-conflict", f"ack {seq} of {jti} came with other content")
            return False
        _remember(self._acks, key, print_, len(self.fleet) * REMEMBERED)
        receipt = self.receipts.setdefault((iss, jti), Receipt(iss, jti))
        receipt.id = body["id"] if isinstance(body.get("id"), str) else receipt.id
        state = _text(body, "state")
        known = receipt.devices.setdefault(device.device, DeviceReceipt(state, 0))
        known.times.setdefault(state, str(body.get("at")))
        zones = body.get("zones")
        for zone, told in (zones if isinstance(zones, dict) else {}).items():
            if isinstance(told, dict):
                held = known.zones.setdefault(str(zone), ZoneReceipt("", None))
                held.first_sample_at = held.first_sample_at or _maybe(told, "first_sample_at")
                if seq > known.seq:
                    held.state, held.reason = str(told.get("state")), _maybe(told, "reason")
        if seq > known.seq:
            known.seq, known.state, known.reason = seq, state, _maybe(body, "reason")
            known.report = told if isinstance(told := body.get("report"), dict) else None
        return True

    def _heard(self, device: Fleet, at: float, alarm: _Alarm) -> None:
        if device.silent:
            device.silent = False
            alarm("back", "heard again")
        device.heard = at
        last = device.presence[-1] if device.presence else None
        if last is not None and at - last[1] <= SILENT_PERIODS * self.period_s:
            last[1] = max(last[1], at)
        else:
            device.presence.append([at, at])

    # the play log's chain

    def _take_entry(self, device: Fleet, body: dict[str, Any], alarm: _Alarm) -> None:
        entry = body.get("entry")
        if not isinstance(entry, dict):
            raise _MalformedError("a log event without entry")
        n, prev, own = _integer(entry, "n"), _text(entry, "prev"), _text(entry, "hash")
        try:
            true = digest(entry)
        except ValueError as error:
            raise _MalformedError(f"entry {n}: {error}") from error
        if own != true:
            alarm("log-altered", f"entry {n} does not have the hash it carries")
            return
        if n == 1 and prev == ZEROS and device._log.get(1, (own, prev))[0] != own:
            alarm("log-restarted", f"a new log begins; the old one had {device.head[0]} entries")
            device._log.clear()
            device.head, device._first = (0, ZEROS), 0
        held = device._log.get(n)
        if held is not None:
            if held[0] != own:
                alarm("log-fork", f"entry {n} came with another hash before")
            return
        below, above = device._log.get(n - 1), device._log.get(n + 1)
        if (below is not None and below[0] != prev) or (above is not None and above[1] != own):
            alarm("log-broken", f"entry {n} does not continue the chain")
        _remember(device._log, n, (own, prev))
        device._first = n if device._first == 0 else min(device._first, n)
        if n > device.head[0]:
            device.head = (n, own)
            device._made = _epoch(body.get("at"))
        device.missing = max(0, device.head[0] - device._first + 1 - len(device._log))

    def _check_head(self, device: Fleet, n: int, start: str, made: object, alarm: _Alarm) -> None:
        if n < device.head[0]:
            # A beat older than the newest entry has been overtaken by it on its way.
            if not isinstance(made, int | float) or made + 1 >= device._made:
                alarm("log-truncated", f"the beat says {n} entries, {device.head[0]} have arrived", once=True)
            return
        known = device._log.get(n)
        if known is not None and not known[0].startswith(start):
            alarm("log-head", f"entry {n} has hash {known[0][:8]}, the beat says {start[:8]}", once=True)
        first = device._first or 1
        device.missing = max(0, n - first + 1 - len(device._log))

    # what comes out

    def receipt(self, iss: str, jti: str) -> Receipt:
        """The receipt of an order; empty while nobody has acknowledged it."""
        return self.receipts.get((iss, jti), Receipt(iss, jti))

    def export(self) -> dict[str, Any]:
        """`province.json`: lists of `{device, at, body}` by kind, alarms, and receipts. `at` when it arrived."""
        names = {"event": "events", "ack": "acks", "state": "states", "status": "statuses", "beat": "beats"}
        out: dict[str, Any] = {names[leaf]: list(records) for leaf, records in self._lists.items()}
        out["alarms"] = [
            {"at": stamp(a.at), "device": a.device, "what": a.what, "detail": a.detail} for a in self.alarms
        ]
        out["receipts"] = [_plain(receipt) for receipt in self.receipts.values()]
        return out

    def report(self, since: float, until: float) -> list[dict[str, Any]]:
        """Per device, for [since, until): share of the time it was heard, programmes by result, refusals, alarms."""
        rows = []
        for device in sorted(self.fleet.values(), key=lambda d: d.device):
            grace = self.period_s
            heard = sum(max(0.0, min(b + grace, until) - max(a, since)) for a, b in device.presence)
            row: dict[str, Any] = {
                "device": device.device,
                "online_percent": round(100 * min(1.0, heard / max(1.0, until - since)), 2),
            }
            results = dict.fromkeys(("completed", "interrupted", "skipped", "failed", "declined"), 0)
            refused = 0
            requisitioned = 0.0
            zones = device.state.get("zones")
            taken_over = [
                z.get("id")
                for z in (zones if isinstance(zones, list) else [])
                if isinstance(z, dict) and z.get("idle") == "external" and z.get("kind") == "screen"
            ]
            drills: list[float] = []
            for record in self._lists["event"]:
                body = record["body"]
                if record["device"] != device.device or not since <= _epoch(record["at"]) < until:
                    continue
                if body.get("kind") == "log" and isinstance(body.get("entry"), dict):
                    result = str(body["entry"].get("result"))
                    results[result] = results.get(result, 0) + 1
                    if body["entry"].get("zone") in taken_over:
                        requisitioned += _lasted_s(body["entry"])
                elif body.get("kind") == "refused":
                    refused += body["count"] if isinstance(body.get("count"), int) else 1
                elif body.get("what") == "drill" and (took := drill_ms(body, "first_sample")) is not None:
                    drills.append(took)
            row |= results
            row["refused"] = refused
            row["requisition_minutes"] = round(requisitioned / 60, 1)
            row["drills"] = len(drills)
            row["drill_first_sample_ms"] = max(drills, default=None)
            row["alarms"] = sum(
                a.device == device.device and a.what != "back" and since <= a.at < until for a in self.alarms
            )
            row["log_missing"] = device.missing
            rows.append(row)
        return rows

    # memory

    def restore_presence(self, device: str, since: float, until: float) -> None:
        """Presence from an earlier run, in order."""
        self.fleet.setdefault(device, Fleet(device)).presence.append([since, until])


class Journal:
    """A record's SQLite file: what was new, beats only as stretches of presence.

    `load` feeds a Record; `write` is called with what `take` returned as new, `commit` before the broker is told.
    One process writes; sqlite3.Error is the caller's to report.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(
            """
            CREATE TABLE IF NOT EXISTS message (topic TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
            CREATE TABLE IF NOT EXISTS presence
                (device TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY (device, since));
            CREATE TABLE IF NOT EXISTS alarm (at REAL NOT NULL, device TEXT NOT NULL, what TEXT, detail TEXT);
            """
        )

    def load(self, record: Record) -> list[Message]:
        """Bring an empty record to where it was. Alarms are taken from the file, not raised again.

        Returns what was kept beside the record: alerts on their way to devices.
        """
        kept = []
        for topic, at, body in self._db.execute("SELECT topic, at, body FROM message ORDER BY rowid"):
            message = Message(topic, body, at, retain=True)
            if record.take(message).device is None:
                kept.append(message)
        record.alarms.clear()
        for device in record.fleet.values():
            device.presence.clear()
            device.alarms, device.heard = 0, None
        for at, name, what, detail in self._db.execute("SELECT at, device, what, detail FROM alarm ORDER BY rowid"):
            record.fleet.setdefault(name, Fleet(name))
            record._note([Alarm(at, name, what, detail)])
        for name, since, until in self._db.execute("SELECT device, since, until FROM presence ORDER BY since"):
            record.restore_presence(name, since, until)
        return kept

    def keep(self, message: Message) -> None:
        """Add a message that is not the record's."""
        row = (message.topic, message.at, message.payload)
        self._db.execute("INSERT INTO message (topic, at, body) VALUES (?, ?, ?)", row)

    def write(self, message: Message, taken: Taken, record: Record) -> None:
        """Add a message that was new, and where its device's presence is now."""
        if taken.device is None:
            return
        if taken.new and taken.leaf != "beat":
            row = (message.topic, message.at, message.payload)
            self._db.execute("INSERT INTO message (topic, at, body) VALUES (?, ?, ?)", row)
        presence = record.fleet[taken.device].presence
        if presence and taken.leaf in {"beat", "state"}:
            self._db.execute("INSERT OR REPLACE INTO presence VALUES (?, ?, ?)", (taken.device, *presence[-1]))
        self.note(taken.alarms)

    def note(self, alarms: Iterable[Alarm]) -> None:
        """Add alarms."""
        rows = [(a.at, a.device, a.what, a.detail) for a in alarms]
        self._db.executemany("INSERT INTO alarm VALUES (?, ?, ?, ?)", rows)

    def commit(self) -> None:
        """Everything written so far survives a crash of this process."""
        self._db.commit()

    def close(self) -> None:
        """Commit and close."""
        self._db.commit()
        self._db.close()


def drill_ms(body: dict[str, Any], moment: str) -> float | None:
    """How long a drill took to "verified", "first_sample" or "converter", as the device measured it."""
    latency = body.get("latency_ms")
    took = latency.get(moment) if isinstance(latency, dict) else None
    return float(took) if isinstance(took, int | float) and not isinstance(took, bool) else None


def stamp(at: float) -> str:
    """Epoch seconds as RFC 3339 with milliseconds, in this machine's time zone."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")


class _MalformedError(Exception):
    """A message is not what its topic promises."""


class _Alarm(Protocol):
    """The function that raises an alarm."""

    def __call__(self, what: str, detail: str = "", *, once: bool = False) -> None:
        """Raise it; `once`: only the first of that device."""


def _remember(memory: dict[Any, Any], key: Any, value: Any, limit: int = REMEMBERED) -> None:
    memory[key] = value
    while len(memory) > limit:
        del memory[next(iter(memory))]


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _integer(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise _MalformedError(f"{name} is not a number")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _MalformedError(f"{name} is not text")
    return value


def _head(beat: dict[str, Any]) -> tuple[int, str]:
    head = beat.get("log")
    if not (isinstance(head, list) and len(head) == 2 and isinstance(head[0], int) and isinstance(head[1], str)):
        raise _MalformedError("log is not [n, hash]")
    return head[0], head[1]


def _maybe(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def _lasted_s(entry: dict[str, Any]) -> float:
    """Seconds of a log entry's stretch; 0 when it did not begin."""
    started, ended = _epoch(entry.get("started")), _epoch(entry.get("ended"))
    return max(0.0, ended - started) if started else 0.0


def _epoch(at: object) -> float:
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except ValueError:
        return 0.0


def _plain(receipt: Receipt) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(receipt)
    return plain


def dumps(export: dict[str, Any]) -> str:
    """An export as the text of `province.json`."""
    return json.dumps(export, ensure_ascii=False, indent=1) + "\n"
