"""The fleet as people see it: rows of a table, sentences of a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent.cli.language import _, reason, word
from agent.cli.show import safe
from province.record import Alarm, Fleet, Record, Taken

if TYPE_CHECKING:
    from rich.console import RenderableType

    from province.watch import Watcher


def titles() -> list[str]:
    """The heads of `rows`."""
    return [
        _("device"),
        _("online"),
        _("birth"),
        _("last beat"),
        _("on air"),
        _("faults"),
        _("log"),
        _("outbox"),
        _("alarms"),
    ]


def rows(record: Record, now: float) -> list[list[object]]:
    """A row per device, by name."""
    return [_row(device, now) for device in sorted(record.fleet.values(), key=lambda d: d.device)]


def _row(device: Fleet, now: float) -> list[object]:
    head = device.beat.get("log")
    log = f"{head[0]} {head[1]}" if isinstance(head, list) else f"{device.head[0]} {device.head[1][:8]}"
    if device.missing:
        log += _(" ({n} missing)").format(n=device.missing)
    outbox = device.status.get("outbox")
    rows_ = outbox.get("rows") if isinstance(outbox, dict) else None
    online = _("silent") if device.silent else _("yes") if device.online else _("no")
    age = "" if device.heard is None else _("{n} s").format(n=max(0, round(now - device.heard)))
    faults = device.beat.get("faults", len(device.status.get("faults", [])))
    return [device.device, online, device.birth, age, on_air(device), faults, log, rows_, device.alarms or None]


def on_air(device: Fleet) -> str:
    """What owns which zone: by the beat, with the title where the status tells it."""
    zones = device.beat.get("zones")
    told = device.status.get("zones")
    parts = []
    for zone, bulletin in (zones if isinstance(zones, dict) else {}).items():
        about = told.get(zone) if isinstance(told, dict) else None
        owner: Any = about.get("owner") if isinstance(about, dict) else None
        same = isinstance(owner, dict) and str(owner.get("bulletin", "")).startswith(str(bulletin))
        parts.append(f"{zone}: {owner.get('title') if same else bulletin}")
    return "; ".join(parts)


def screen(watcher: Watcher) -> RenderableType:
    """The live table with the last alarms below it."""
    import time

    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    with watcher.changed:
        found = rows(watcher.record, time.time())
        quiet = [d.silent or not d.online for d in sorted(watcher.record.fleet.values(), key=lambda d: d.device)]
        alarms = list(watcher.record.alarms)[-8:]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in titles():
        drawn.add_column(name, overflow="fold")
    for row, bad in zip(found, quiet, strict=True):
        drawn.add_row(*(Text(safe("" if c is None else str(c))) for c in row), style="red" if bad else None)
    link = Text(_("connected") if watcher.up else _("no connection to the broker"), style="" if watcher.up else "red")
    said = [Text(safe(f"{a.device}: {_told(a)}"), style="yellow") for a in alarms]
    return Group(link, drawn, *said)


ALARMS = {
    "offline": _("went offline"),
    "silent": _("is silent"),
    "back": _("is back"),
    "foreign-device": _("does not belong to this province"),
    "duplicate-device": _("reports twice under one name"),
    "malformed": _("sends what nobody can read"),
    "seq-reused": _("uses event numbers again"),
    "ack-conflict": _("contradicts its own acknowledgement"),
    "log-altered": _("sent an altered log entry"),
    "log-broken": _("has a broken play log"),
    "log-fork": _("has two play logs"),
    "log-restarted": _("has begun a new play log"),
    "log-truncated": _("has lost log entries"),
    "log-head": _("has a log that differs from what it sent"),
}


def words(alarm: str) -> str:
    """An alarm in words."""
    return ALARMS.get(alarm, alarm)


def _told(alarm: Alarm) -> str:
    return f"{words(alarm.what)} ({alarm.detail})" if alarm.detail else words(alarm.what)


def sentence(taken: Taken) -> Iterator[str]:
    """What there is to say of a message; nothing for beats and for what was known."""
    for alarm in taken.alarms:
        yield _told(alarm)
    body = taken.body
    if not taken.new or body is None:
        return
    if taken.leaf == "state":
        yield _("online, birth {birth}").format(birth=body.get("birth")) if body.get("online") else _("offline")
    elif taken.leaf == "ack":
        why = body.get("reason")
        yield f"{body.get('id') or body.get('jti')}: {word(body.get('state'))}" + (f" ({reason(why)})" if why else "")
    elif taken.leaf == "event":
        entry = body.get("entry")
        if body.get("kind") == "log" and isinstance(entry, dict):
            yield f"{entry.get('title')} · {entry.get('zone')} · {word(entry.get('result'))}"
        elif body.get("kind") == "refused":
            yield _("refused: {why}").format(why=reason(str(body.get("reason"))))
        else:
            yield " ".join(str(body[k]) for k in ("kind", "what", "detail") if body.get(k))
