"""What officers and technicians ask of the running station (`tram status`, `accept`, `add` …).

Programmes made in the commune are signed with the station's key and go through the same door as the province's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from agent.core import commune
from agent.core.commands import Reply
from agent.core.commune import Refusal
from agent.core.programme import Programme, State
from agent.core.recurrence import parse_time
from agent.model.config import Button
from agent.model.events import Asked
from agent.model.time import Instant
from agent.model.voice import MICROPHONE

if TYPE_CHECKING:
    from agent.core.station import Station

DRILL_MINUTES = 15.0
STALE_NS = 5 * 10**9
"""An everyday button that was pressed so long ago, while the agent was away, does nothing any more."""


def answer(station: Station, asked: Asked, now: Instant) -> None:
    """Carry out one command and reply once."""
    try:
        handler = _HANDLERS.get(asked.what, _unknown)
        body = {"ok": True, "result": handler(station, asked.args, now)}
    except Refusal as refusal:
        body = {"ok": False, "reason": refusal.reason, "detail": refusal.detail}
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        body = {"ok": False, "reason": "bad-args", "detail": f"{asked.what}: {error}"}
    station.reply(Reply(asked.token, body))


def everyday_button(station: Station, button: Button, pressed_ns: int, now: Instant) -> None:
    """A button that is no emergency ("mời họp") keeps the rules: what it does is a programme like any other.

    Its message is played, or its microphone goes on the air; pressed again, a latched microphone goes off.
    """
    if station.hang_up(button, now):
        return
    message = next((m for m in station.config.stored if m.id == button.message), None)
    if message is None and not button.action.microphone:
        return
    if now.mono_ns - pressed_ns > STALE_NS:
        station.ledger.alarm("button-refused", f"{button.id}: nobody was there when it was pressed", now.wall)
        return
    try:
        chime = button.action.chime if message is None else message.chime
        items: list[dict[str, Any]] = [{"chime": chime}] if chime else []
        items.append({"local": MICROPHONE if message is None else message.id})
        order = f"button-{button.id}-{now.mono_ns // 1_000_000}"
        station.pressed[order] = button.id
        args: dict[str, Any] = {
            "id": order,
            "title": button.name or station.config.talk_title if message is None else message.title,
            "class": button.class_.value,
            "start": "now",
            "zones": button.zones,
            "items": items if message is None else items * message.repeat,
            "resume": "drop",
            "approved_by": button.approved_by or button.name or button.id,
        }
        if now.mono_ns < station.drill_until_ns:
            args["drill"] = True
        if message is None:
            commune.admit(station, "broadcast", args, now)
        else:
            commune.broadcast(station, args, now)
    except Refusal as refusal:
        station.ledger.alarm("button-refused", f"{button.id}: {refusal.detail}", now.wall)
    finally:
        station.pressed.clear()


def _unknown(station: Station, args: dict[str, Any], now: Instant) -> Any:
    raise Refusal("unknown-op", "there is no such command; there are " + ", ".join(sorted(_HANDLERS)))


def _status(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    return station.reporter.status(station, now)


def _inbox(station: Station, args: dict[str, Any], now: Instant) -> list[dict[str, Any]]:
    time = station.ledger.time
    return [
        {
            "iss": p.iss,
            "id": p.id,
            "title": p.title,
            "class": p.class_.value,
            "start": time(p.start),
            "zones": list(p.parts),
            "offered_at": time(p.received_at),
        }
        for p in station.programmes.values()
        if p.state is State.OFFERED
    ]


def _accept(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    p = _offered(station, str(args["id"]))
    at = args.get("at")
    when = None if at is None else parse_time(str(at)).timestamp()
    if when is not None and when < now.wall - 1:
        raise Refusal("bad-args", "that time has passed")
    station.accept(p.key, when, now)
    return {"id": p.id, "at": station.ledger.time(p.start)}


def _decline(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    p = _offered(station, str(args["id"]))
    station.decline(p.key, now)
    return {"id": p.id}


def _offered(station: Station, wanted: str) -> Programme:
    found = [p for p in station.programmes.values() if p.state is State.OFFERED and wanted in (p.id, p.key)]
    if not found:
        raise Refusal("not-offered", f"nothing with the id {wanted!r} is offered")
    return min(found, key=lambda p: p.start)


def _add(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    if args.get("chime"):
        items.append({"chime": args["chime"]})
    if args.get("media") is not None:
        items.append({"media": args["media"]})
    if args.get("text") is not None:
        items.append({"text": args["text"], "lang": args.get("lang") or "vi"})
    if not items:
        raise Refusal("bad-args", "a programme needs a file or a text")
    order: dict[str, Any] = {
        "id": args.get("id") or f"xa-{int(now.wall * 1000)}",
        "title": args["title"],
        "class": args.get("class") or "normal",
        "start": args.get("at") or "now",
        "zones": args["zones"],
        "items": items,
        "resume": args.get("resume") or "continue",
        "approved_by": args["approved_by"],
    }
    if args.get("until"):
        order["until"] = args["until"]
    if args.get("repeat"):
        order["repeat"] = {"count": int(args["repeat"]), "interval_s": 5}
    commune.broadcast(station, order, now)
    return {"id": order["id"]}


def _play(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    order = {
        "id": f"play-{int(now.wall * 1000)}",
        "title": args.get("title") or "tram play",
        "class": "normal",
        "start": "now",
        "zones": [args["zone"]],
        "items": [{"media": args["media"]}],
        "resume": "drop",
        "approved_by": args.get("approved_by") or "tram play",
    }
    commune.broadcast(station, order, now)
    return {"id": order["id"]}


def _silence(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    order: dict[str, Any] = {"on": bool(args["on"]), "zones": args.get("zones") or ["*"]}
    if args.get("until"):
        order["until"] = args["until"]
    commune.silence(station, order, now)
    if order["on"]:
        # A silence by order leaves the commune's own programmes alone; an officer at the station means those too.
        station.stop_local(now, remote_emergencies=False, selectors=order["zones"])
    return {"on": order["on"]}


def _drill(station: Station, args: dict[str, Any], now: Instant) -> dict[str, Any]:
    minutes = float(args.get("minutes") or DRILL_MINUTES)
    if not 0 < minutes <= 60:
        raise Refusal("bad-args", "a drill lasts at most 60 minutes")
    station.drill(minutes if args["on"] else 0.0, now)
    return {"on": bool(args["on"]), "minutes": minutes}


def _today(station: Station, args: dict[str, Any], now: Instant) -> list[dict[str, Any]]:
    return [*station.coming(now, 24 * 3600.0), *commune.coming(station)]


_HANDLERS: dict[str, Callable[[Station, dict[str, Any], Instant], Any]] = {
    "status": _status,
    "inbox": _inbox,
    "accept": _accept,
    "decline": _decline,
    "add": _add,
    "play": _play,
    "silence": _silence,
    "drill": _drill,
    "today": _today,
}
