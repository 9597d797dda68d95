"""What the commune starts itself: signed with the station's key, for its own zones and for its clusters.

For its own zones an order goes through the same door as the province's. For clusters the same is signed once more,
addressed to them, and given to the station's own link. Whom selectors mean there, the station's `clusters` say; what
is addressed to some of them travels on the group's topic, where the others pass over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent.core.intake import Refused, Rejected
from agent.core.programme import By, Programme
from agent.core.recurrence import parse_time
from agent.model.config import Button, Message
from agent.model.orders import STATE_OPS, Reason
from agent.model.records import PutValue, Snapshot, Write
from agent.model.talk import LOCAL, LONGER_S
from agent.model.time import Instant

if TYPE_CHECKING:
    from agent.core.gate import Gate
    from agent.core.station import Station

STEP_S = 2.0
"""What is to begin at once here and at clusters begins so much later, together. An emergency does not wait."""
LATE_S = 600.0
"""A cluster that comes back so long after the start of something is not given it any more."""
ALL = "*"
AUD = 60
"""Most devices named in one order, lest it exceed the 4 KiB of an emergency."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The answer is no: `reason` is the contract's word where there is one, `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Sign(Protocol):
    """Signs by the station's own key: (topic, compact JWS). `aud` None: for this station itself.

    `ctr` for commands only; `ttl` in seconds, None for what is usual.
    """

    def __call__(
        self,
        op: str,
        args: dict[str, Any],
        now: Instant,
        *,
        ctr: int | None,
        aud: Sequence[str] | None = None,
        ttl: float | None = None,
    ) -> tuple[str, bytes]:
        """Sign one order."""


class OwnCounter:
    """The `ctr` of the station's own key. Reserved in blocks, so that none is used twice after a power cut.

    A station that has lost its memory begins at the time of day, which is above all it has used before.
    """

    KEY = "own-ctr"
    BLOCK = 256

    def __init__(self, snapshot: Snapshot, now: Instant) -> None:
        stored = snapshot.values.get(self.KEY, b"")
        self._used = int(stored) if stored.isdigit() else int(now.wall) if snapshot.empty else 0
        self._reserved = 0

    def begin(self) -> Write:
        """What reserves the first block: at boot, so that it is on the disk long before a button is pressed."""
        self._reserved = self._used + self.BLOCK
        return PutValue(key=self.KEY, value=b"%d" % self._reserved)

    def next(self, highest: int) -> tuple[int, list[Write]]:
        """A counter above `highest` and all given out before, and what must be written with it."""
        self._used = max(self._used, highest) + 1
        return self._used, [self.begin()] if self._used + self.BLOCK // 2 > self._reserved else []


# for the station's own zones


def admit(station: Station, op: str, args: dict[str, Any], now: Instant) -> None:
    """Sign and take in at the station's own door. Refusal when it is not admitted."""
    topic, raw = _signed(station, op, args, now)
    reason, detail = station.admit(topic, raw, op in STATE_OPS, now)
    if reason is not None:
        raise Refusal(reason, detail or reason)


def broadcast(station: Station, args: dict[str, Any], now: Instant) -> None:
    """A programme of the commune's own, where its selectors say: here, at clusters, or both in step. Refusal."""
    calls = addressed(station, args["zones"])
    if not calls:
        admit(station, "broadcast", args, now)
        return
    if args["start"] == "now" and args["class"] != "emergency":
        args = args | {"start": station.ledger.time(now.wall + STEP_S)}
    if station.config.match(args["zones"]):
        admit(station, "broadcast", args, now)
    else:
        _try(station, args, now)
    for zones, devices in calls:
        call(station, "broadcast", args | {"zones": zones, "items": _items(station, args["items"])}, devices, now)


def _try(station: Station, args: dict[str, Any], now: Instant) -> None:
    """Refusal for an order that this station would not take either, but for its zones."""
    topic, raw = _signed(station, "broadcast", args, now)
    verdict = station.intake.check(topic, raw, False, now)
    if isinstance(verdict, Refused | Rejected) and verdict.reason is not Reason.NO_SUCH_ZONE:
        raise Refusal(verdict.reason.value, verdict.detail)
    if not now.trusted and args["class"] != "emergency":
        raise Refusal(Reason.CLOCK_UNTRUSTED.value, "the station does not know the time yet")


def silence(station: Station, args: dict[str, Any], now: Instant) -> None:
    """A silence by an officer, here and at clusters. Refusal."""
    calls = addressed(station, args["zones"])
    if station.config.match(args["zones"]) or not calls:
        admit(station, "silence", args | _versioned(station, station.config.device.id, now), now)
    silence_clusters(station, args, now)


def silence_clusters(station: Gate, args: dict[str, Any], now: Instant) -> None:
    """The same at the clusters that its selectors mean. Refusal."""
    for zones, devices in addressed(station, args["zones"]):
        scopes = _scopes(station, devices)
        if len(devices) == len(station.clusters.views) and not args["on"]:
            scopes += [
                r.target for r in station.passing.rows.values() if r.own and r.op == "silence" and r.target in devices
            ]
        for scope in scopes:
            order = args | {"zones": zones} | _versioned(station, scope, now)
            _send(station, "silence", order, [scope], scope, now)


def _versioned(station: Gate, scope: str, now: Instant) -> dict[str, Any]:
    """Scope and version of a state order of our own; at clusters the time of day is above all versions before."""
    iss = station.config.trust.station_authority or ""
    if scope == station.config.device.id:
        held = station.intake.replay.in_force(iss, scope, "silence")
        return {"scope": scope, "version": 1 if held is None else held.version + 1}
    before = max(
        (r.version or 0 for r in station.passing.rows.values() if (r.target, r.op) == (scope, "silence")), default=0
    )
    return {"scope": scope, "version": max(int(now.wall), before + 1)}


def stop(station: Gate, selectors: Sequence[str], now: Instant, *, remote: bool) -> None:
    """End at clusters what this station has started there; with `remote` also what came from above."""
    if station.sign is None:
        return
    if remote:
        _cut_short(station, selectors, now)
    own = [row for row in station.passing.own() if row.exp is None or row.exp > now.surely]
    ids = list(dict.fromkeys(row.bulletin for row in own if row.bulletin))
    for _, devices in addressed(station, selectors):
        for first in range(0, len(ids), 64):
            call(station, "cancel", {"ids": ids[first : first + 64]}, devices, now)
        if len(devices) == len(station.clusters.views):
            station.ledger.write(*station.passing.withdraw(own))


def _cut_short(station: Gate, selectors: Sequence[str], now: Instant) -> None:
    """Silence clusters, and let them speak again: what came from above is over there, what comes next is heard.

    Where an officer's own silence holds nothing is to be ended, and it must not be lifted. An alert that is over is not
    given to a cluster that comes back either.
    """
    silent = station.passing.silenced()
    for zones, devices in addressed(station, selectors):
        free = [d for d in devices if not any(t == d or t.startswith("group:") for t in silent)]
        for scope in _scopes(station, free):
            for on in (True, False):
                order = {"on": on, "zones": zones} | _versioned(station, scope, now)
                _send(station, "silence", order, [scope], scope, now)
        if len(devices) == len(station.clusters.views):
            station.ledger.write(*station.passing.stop_alerts())


def _scopes(station: Gate, devices: Sequence[str]) -> list[str]:
    """What a state order for these is addressed to: the group where all are meant, else each by its name."""
    link = station.config.cluster_link
    everyone = len(devices) == len(station.clusters.views)
    return [f"group:{link.group}"] if link and everyone else list(devices)


def coming(station: Gate) -> list[dict[str, Any]]:
    """What the commune has started at clusters alone, as rows of `tram today`."""
    here = {(p.iss, p.id) for p in station.programmes.values()}
    rows = [row for row in station.passing.own() if (row.by, row.bulletin) not in here and row.start != "now"]
    return [
        {
            "at": row.start,
            "title": row.title,
            "class": row.class_,
            "iss": row.by,
            "issuer": station.config.trust.called(row.by),
            "id": row.bulletin,
            "zones": [v.cluster.id for d, v in station.clusters.views.items() if station.passing.reaches(row, d)],
            "state": "passed-on",
            "ready": True,
        }
        for row in rows
    ]


# for clusters


def addressed(station: Gate, selectors: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Whom selectors mean among the clusters: (zone selectors for them, their device ids), grouped.

    A cluster is meant by its id or by one of its tags as a whole; `*` and `kind:…` mean all of them.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for device, view in station.clusters.views.items():
        named = {view.cluster.id, *(f"tag:{tag}" for tag in view.cluster.tags), ALL}
        if not named.isdisjoint(selectors):
            zones: tuple[str, ...] = (ALL,)
        else:
            zones = tuple(s for s in selectors if s.startswith("kind:"))
            if view.kinds and not any(z.removeprefix("kind:") in view.kinds for z in zones):
                continue
        if zones:
            found.setdefault(zones, []).append(device)
    return [(list(zones), devices) for zones, devices in found.items()]


def pressed(station: Gate, p: Programme, button: Button | None, message: Message | None, now: Instant) -> None:
    """An emergency button's message sounds here already: the clusters begin at once, the boards show its words.

    What an officer says live they take from this station's library, and say in her place where she is to be heard if
    they cannot.
    """
    if station.sign is None:
        return
    config = station.config
    order: dict[str, Any] = {"title": p.title, "class": "emergency", "start": "now", "resume": "drop"}
    if p.drill:
        order["drill"] = True
    name = _name(p)
    if message is not None:
        chime, late_s = message.chime, LATE_S
        text = {"text": message.text, "lang": message.lang}
        words = _items(station, [{"local": message.id}]) if message.id in station.shared else [text]
        if message.repeat > 1:
            order["repeat"] = {"count": message.repeat, "interval_s": 0}
    elif button is not None and button.action.microphone:
        chime, late_s = button.action.chime, button.action.longest_s
        text = {"text": config.talk_words, "lang": config.language}
        words = [_live(button, p.id, text)]
    else:
        return
    sound: list[dict[str, Any]] = [{"chime": chime}] if chime else []
    for _, devices in addressed(station, button.zones if button else [ALL]):
        ears = _ears(station, devices)
        eyes = [d for d in devices if "screen" in station.clusters.views[d].kinds]
        if ears:
            heard = order | {"id": name, "zones": ["kind:sound"], "items": sound + words}
            call(station, "broadcast", heard, ears, now, late_s=late_s)
        if eyes:
            shown = order | {"id": f"{name}.bang", "zones": ["kind:screen"], "items": [text]}
            call(station, "broadcast", shown, eyes, now)


def speaking(station: Gate, p: Programme, button: Button, play: str, now: Instant) -> None:
    """An everyday microphone is on the air here, in this play: the clusters that the button means take it up."""
    if station.sign is None:
        return
    text = {"text": station.config.talk_words, "lang": station.config.language}
    longest_s = button.action.longest_s + LONGER_S
    order: dict[str, Any] = {
        "id": _name(p),
        "title": p.title,
        "class": p.class_.value,
        "start": "now",
        "until": station.ledger.time(now.wall + longest_s),
        "zones": ["kind:sound"],
        "items": [*({"chime": c} for c in [button.action.chime] if c), _live(button, play, text)],
        "resume": "drop",
        "approved_by": p.approved_by,
    }
    if p.drill:
        order["drill"] = True
    for _, devices in addressed(station, button.zones):
        if ears := _ears(station, devices):
            call(station, "broadcast", order, ears, now, late_s=longest_s)


def hung_up(station: Gate, p: Programme, button: Button, now: Instant) -> None:
    """Nobody speaks there any more: no cluster that comes back is given it.

    What she has said to its end is heard to its end; what was cut off here is cut off there.
    """
    rows = [row for row in station.passing.own() if row.bulletin == _name(p)]
    if not rows:
        return
    sound = [part for zone, part in p.parts.items() if station.config.zone(zone).kind == "sound"]
    heard_out = any(part.completed or part.reason == "longest" for part in sound)
    if station.sign is not None and not heard_out:
        for _, devices in addressed(station, button.zones):
            call(station, "cancel", {"ids": [_name(p)]}, devices, now)
    station.ledger.write(*station.passing.withdraw(rows))


def _name(p: Programme) -> str:
    """What a button's programme is called at clusters: voice counts its own plays anew whenever it starts."""
    return f"{p.by_whom}.{int(p.start * 1000)}" if p.by is By.BUTTON else p.id


def _live(button: Button, play: str, instead: dict[str, Any]) -> dict[str, Any]:
    """What is said at this button's microphone in this play, as a cluster can have it."""
    return {"stream": LOCAL + play, "lease_s": button.action.longest_s + LONGER_S, "fallback": instead}


def _ears(station: Gate, devices: Iterable[str]) -> list[str]:
    return [d for d in devices if station.clusters.views[d].kinds != {"screen"}]


def call(
    station: Gate, op: str, args: dict[str, Any], devices: Sequence[str], now: Instant, *, late_s: float = LATE_S
) -> None:
    """Sign a command for these clusters and send it at once; one that comes back later than `late_s` is spared it."""
    link = station.config.cluster_link
    if link is None:
        return
    group = f"group:{link.group}"
    everyone = len(devices) == len(station.clusters.views)
    chunks = [[group]] if everyone else [list(devices[i : i + AUD]) for i in range(0, len(devices), AUD)]
    for aud in chunks:
        _send(station, op, args, aud, group, now, late_s)


def _send(
    station: Gate,
    op: str,
    args: dict[str, Any],
    aud: Sequence[str],
    target: str,
    now: Instant,
    late_s: float = LATE_S,
) -> None:
    begin = now.wall
    if args.get("start", "now") != "now":
        begin = max(begin, parse_time(str(args["start"])).timestamp())
    ttl = None if op in STATE_OPS else begin - now.wall + late_s
    _, raw = _signed(station, op, args, now, aud=aud, ttl=ttl)
    row, writes = station.passing.add_own(raw, station.intake.trusted, target)
    station.ledger.write(*writes)
    station.send_down([row.send(now)], urgent=row.urgent)


def _items(station: Gate, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as a cluster can play them: a stored message becomes the file that this station's library gives out."""
    found: list[dict[str, Any]] = []
    for item in items:
        media = station.shared.get(item.get("local", ""))
        if media is None:
            found.append(item)
        else:
            found.append({"media": {"sha256": media.sha256, "size": media.size, "url": media.url, "type": media.type}})
    return found


def _signed(
    station: Gate,
    op: str,
    args: dict[str, Any],
    now: Instant,
    *,
    aud: Sequence[str] | None = None,
    ttl: float | None = None,
) -> tuple[str, bytes]:
    """By the station's key; a command uses up a counter. Refusal when there is no key."""
    if station.sign is None:
        raise Refusal(
            "not-authorised", "this station has no key of its own (trust.station_key, trust.station_authority)"
        )
    ctr = station.take_ctr() if op not in STATE_OPS else None
    return station.sign(op, args, now, ctr=ctr, aud=aud, ttl=ttl)
