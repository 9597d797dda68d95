"""The fleet as people see it: rows of a table, sentences of a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agent.cli.language import _, reason, titled, word
from agent.cli.show import safe
from province.alerts import Alert, Sounding, expected, sounding
from province.record import Alarm, Fleet, Record, Taken, drill_ms

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
        alerts = standings(watcher, time.time())[-4:]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in titles():
        drawn.add_column(name, overflow="fold")
    for row, bad in zip(found, quiet, strict=True):
        drawn.add_row(*(Text(safe("" if c is None else str(c))) for c in row), style="red" if bad else None)
    link = Text(_("connected") if watcher.up else _("no connection to the broker"), style="" if watcher.up else "red")
    said = [Text(safe(f"{a.device}: {_told(a)}"), style="yellow") for a in alarms]
    return Group(link, *(Text(line, style="bold") for line in alerts), drawn, *said)


NAMED = 12
"""So many devices are named; of more it is said how many."""


def standing(alert: Alert, found: Sounding) -> str:
    """One alert in a sentence: how many have sounded, and who has not yet, or never will."""
    title = titled(alert.title, alert.drill)
    parts = [
        _("{title} ({id} of {iss}): sounded at {n} of {total} devices").format(
            title=title, id=alert.id, iss=alert.iss, n=len(found.sounded), total=found.total
        )
    ]
    for label, names in (
        (_("no answer from"), found.unheard),
        (_("received, not sounded yet"), found.received),
        (_("not in all zones yet"), found.partly),
        (_("will not sound"), [f"{name} ({reason(why)})" for name, why in found.refused.items()]),
    ):
        if names:
            parts.append(f"{label}: {some(names)}")
    return safe("; ".join(parts))


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - NAMED
    text = ", ".join(names[:NAMED])
    return text if more <= 0 else _("{names} and {n} more").format(names=text, n=more)


def standings(watcher: Watcher, now: float) -> list[str]:
    """The current alerts, each in a sentence. Call it inside `watcher.changed`."""
    record = watcher.record
    known = record.known if record.known is not None else set(record.fleet)
    return [
        standing(alert, sounding(record.receipt(alert.iss, alert.jti), expected(alert.targets, known)))
        for alert in watcher.alerts.current(now)
    ]


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
        elif body.get("what") == "drill":
            moments = [drill_ms(body, moment) for moment in ("verified", "first_sample", "converter")]
            times = ["–" if took is None else f"{took:g} ms" for took in moments]
            yield _(
                "drill {id}: verified after {verified}, first sample after {first}, at the converter after {out}"
            ).format(id=body.get("id"), verified=times[0], first=times[1], out=times[2])
        elif body.get("kind") == "refused":
            yield _("refused: {why}").format(why=reason(str(body.get("reason"))))
        else:
            yield " ".join(str(body[k]) for k in ("kind", "what", "detail") if body.get(k))
