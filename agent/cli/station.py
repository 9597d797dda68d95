"""What one asks of the running station: status, today, inbox, accept, decline, silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from agent.cli import show
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _, fact, fault_word, titled, word, yes_no


@click.command(help=_("Show what the station is doing: zones, relays, faults, connection, the next programmes."))
@click.option("--json", "as_json", is_flag=True, help=_("For machines: the whole document."))
@common()
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Print the status document."""
    document = context.ask("status")
    if as_json:
        show.json(document)
        return
    if not isinstance(document, dict):
        raise click.ClickException(_("The station answered something that is not a status."))
    _status(context, document)


def _status(context: Context, document: dict[str, Any]) -> None:
    shown = {"zones", "relays", "faults", "next", "clusters", "silences", "frames"}
    rest = {k: v for k, v in document.items() if k not in shown}
    show.table([_("Station"), ""], [(fact(name), v) for name, v in _flat(context, rest)])
    zones = list(_named(document.get("zones")))
    names = {zone_id: str(z.get("name") or zone_id) for zone_id, z in zones}
    if zones:
        rows = [_zone_row(context, names[zone_id], zone) for zone_id, zone in zones]
        styles = [
            "bold red" if z.get("class") == "emergency" else "green" if z else None
            for z in map(_owner, (z for _n, z in zones))
        ]
        head = [_("Zone"), _("Kind"), _("State"), _("Source"), _("On air"), _("From"), _("Since"), _("Level")]
        click.echo()
        show.table([*head, _("Played today")], rows, styles=styles)
    lines = [_line_row(context, names[zone_id], z) for zone_id, z in zones if "line" in z]
    if lines:
        click.echo()
        head = [_("Zone"), _("Line"), _("Amplifier"), _("Measured"), _("Last self-test")]
        show.table(head, lines)
    relays = [(name, word("on" if _on(state) else "off")) for name, state in _pairs(document.get("relays"))]
    if relays:
        click.echo()
        show.table([_("Relay"), _("State")], relays)
    clusters = list(_named(document.get("clusters")))
    if clusters:
        click.echo()
        head = [_("Cluster"), _("Hamlet"), _("Online"), _("Last seen"), _("Line"), _("Measured"), _("Last self-test")]
        show.table([*head, _("On air")], [_cluster_row(context, name, c) for name, c in clusters])
    names |= {cluster_id: str(c.get("name") or cluster_id) for cluster_id, c in clusters}
    silences = [
        (s.get("issuer") or s.get("iss"), _called(s.get("zones"), names), context.clock(s.get("until")))
        for s in _dicts(document.get("silences"))
    ]
    if silences:
        click.echo()
        show.table([_("Silenced by"), _("Zones"), _("Until")], silences, styles=["red"] * len(silences))
    faults = [_fault_row(f, names) for f in _dicts(document.get("faults"))]
    click.echo()
    if faults:
        show.table([_("Fault"), _("Where"), _("Code"), _("For the technician")], faults, styles=["red"] * len(faults))
    else:
        click.echo(_("No faults."))
    programmes = _dicts(document.get("next"))
    if programmes:
        click.echo()
        _programmes(context, programmes, names)


def _called(zones: object, names: dict[str, str]) -> object:
    """Zones by the names that people know."""
    return [names.get(str(z), z) for z in zones] if isinstance(zones, list) else zones


def _fault_row(fault: dict[str, Any], names: dict[str, str]) -> list[object]:
    """What is wrong in words, where by name, the stable word, and what the part that found it has said."""
    what, *where = str(fault.get("what", "")).split("@")
    places = ", ".join(names.get(place, place) for place in where) or None
    return [fault_word(what), places, what, fault.get("detail")]


_TIMES = frozenset({"at", "since"})
_WORDS = frozenset({"network.type", "reset.reason"})


def _flat(context: Context, value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Members of members as dotted names, with booleans, times and states in words."""
    for key, member in value.items():
        name = f"{prefix}{key}"
        if isinstance(member, dict):
            yield from _flat(context, member, f"{name}.")
        elif isinstance(member, bool):
            yield name, yes_no(member)
        elif key in _TIMES:
            yield name, context.clock(member)
        elif name == "uptime_s" and isinstance(member, int):
            yield name, _duration(member)
        elif name in _WORDS:
            yield name, word(member)
        elif member is not None:
            yield name, member


def _duration(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return _("{days} days {clock}").format(days=days, clock=clock) if days else clock


def _owner(zone: dict[str, Any]) -> dict[str, Any]:
    owner = zone.get("owner")
    if isinstance(owner, dict):
        return owner
    return {"title": owner} if owner else {}


def _zone_row(context: Context, name: str, zone: dict[str, Any]) -> list[object]:
    owner = _owner(zone)
    state = owner.get("state") or zone.get("state") or zone.get("power") or "idle"
    title = owner.get("title") or zone.get("title")
    class_ = owner.get("class")
    if title:
        title = titled(title, owner.get("drill"))
    if title and class_:
        title = f"{title} ({word(class_)})"
    since = owner.get("since") or zone.get("since")
    level = zone.get("level_dbfs")
    level = f"{level:.1f} dBFS" if isinstance(level, int | float) else None
    played = zone.get("played_today_s")
    return [
        name,
        word(zone.get("kind", "")),
        word(state),
        word(zone["mode"]) if "mode" in zone else None,
        title,
        owner.get("issuer") or owner.get("iss"),
        context.clock(since),
        level,
        _duration(played) if isinstance(played, int) else None,
    ]


def _line_row(context: Context, name: str, zone: dict[str, Any]) -> list[object]:
    """What is known of a zone's line, amplifier and loudspeakers."""
    amplifier = word("on" if zone["amplifier"] else "off") if "amplifier" in zone else None
    return [name, word(f"line-{zone.get('line')}"), amplifier, _measured(zone), _last_test(context, zone)]


def _cluster_row(context: Context, name: str, cluster: dict[str, Any]) -> list[object]:
    """What is known of a cluster."""
    plays = cluster.get("plays")
    return [
        cluster.get("name") or name,
        cluster.get("hamlet"),
        yes_no(cluster["online"]) if "online" in cluster else word("unknown"),
        context.clock(cluster.get("seen")),
        word(f"line-{cluster['line']}") if "line" in cluster else None,
        _measured(cluster),
        _last_test(context, cluster),
        ", ".join(plays.values()) if isinstance(plays, dict) else None,
    ]


def _measured(row: dict[str, Any]) -> str | None:
    units = (("current_ma", "mA"), ("supply_v", "V"), ("temperature_c", "°C"))
    return ", ".join(f"{row[key]:.1f} {unit}" for key, unit in units if isinstance(row.get(key), int | float)) or None


def _last_test(context: Context, row: dict[str, Any]) -> str | None:
    test = row.get("test")
    if not isinstance(test, dict):
        return None
    level = f" {test['level_db']:.0f} dB" if isinstance(test.get("level_db"), int | float) else ""
    return f"{word(test.get('verdict', ''))}{level} ({context.clock(test.get('at'))})"


def _named(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, document) of a mapping by name or of a list of documents with an id."""
    if isinstance(value, dict):
        yield from ((str(k), v) for k, v in value.items() if isinstance(v, dict))
    elif isinstance(value, list):
        yield from ((str(v.get("id", "?")), v) for v in value if isinstance(v, dict))


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((str(k), v) for k, v in value.items())
    else:
        yield from ((name, v.get("on")) for name, v in _named(value))


def _on(state: object) -> bool:
    return bool(state.get("on") if isinstance(state, dict) else state)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _programmes(context: Context, programmes: list[dict[str, Any]], names: dict[str, str] | None = None) -> None:
    head = [_("Time"), _("Programme"), _("Class"), _("From"), _("Zones"), _("State"), _("Missing")]
    rows = [
        [
            context.clock(p.get("at")),
            p.get("title"),
            word(p.get("class", "")),
            p.get("issuer") or p.get("iss"),
            _called(p.get("zones"), names or {}),
            word(p.get("state", "")),
            p.get("missing"),
        ]
        for p in programmes
    ]
    show.table(head, rows, styles=["red" if p.get("class") == "emergency" else None for p in programmes])


@click.command(help=_("Show the programmes of the next 24 hours, the commune's own and the province's."))
@click.option("--json", "as_json", is_flag=True, help=_("For machines."))
@common()
@pass_context
def today(context: Context, as_json: bool) -> None:
    """Print the programme."""
    programmes = context.ask("today")
    if as_json:
        show.json(programmes)
    elif not _dicts(programmes):
        click.echo(_("Nothing is planned."))
    else:
        _programmes(context, _dicts(programmes))


@click.command(help=_("Show bulletins from above that wait for the commune's decision."))
@click.option("--json", "as_json", is_flag=True, help=_("For machines."))
@common()
@pass_context
def inbox(context: Context, as_json: bool) -> None:
    """Print what is offered."""
    offers = context.ask("inbox")
    if as_json:
        show.json(offers)
        return
    rows = [
        [
            o.get("id"),
            o.get("title"),
            word(o.get("class", "")),
            o.get("iss"),
            context.clock(o.get("start")),
            o.get("zones"),
            context.clock(o.get("offered_at")),
        ]
        for o in _dicts(offers)
    ]
    if not rows:
        click.echo(_("No bulletin waits for a decision."))
        return
    show.table([_("Id"), _("Title"), _("Class"), _("From"), _("Start"), _("Zones"), _("Offered")], rows)
    click.echo(_("Accept with “tram accept ID”, at another time with “--at TIME”; decline with “tram decline ID”."))


@click.command(help=_("Accept an offered bulletin; it plays at its own time, or at TIME."))
@click.argument("id")
@click.option("--at", metavar="TIME", help=_("When to play it instead: 17:30, tomorrow 05:00, 2025-11-24 17:30."))
@common()
@pass_context
def accept(context: Context, id: str, at: str | None) -> None:
    """Accept it."""
    args: dict[str, Any] = {"id": id}
    if at is not None:
        args["at"] = context.moment(at).isoformat(timespec="seconds")
    result = context.ask("accept", args)
    when = result.get("at") if isinstance(result, dict) else None
    if when:
        click.echo(_("{id} is accepted and plays at {when}.").format(id=id, when=context.clock(when)))
    else:
        click.echo(_("{id} is accepted.").format(id=id))


@click.command(help=_("Decline an offered bulletin; the province is told."))
@click.argument("id")
@common()
@pass_context
def decline(context: Context, id: str) -> None:
    """Decline it."""
    context.ask("decline", {"id": id})
    click.echo(_("{id} is declined.").format(id=id))


@click.command(help=_("Cut all sound and pictures at once (ngắt toàn bộ), or lift the cut. It survives a restart."))
@click.argument("what", type=click.Choice(["on", "off"]))
@click.option("--zones", default="*", show_default=True, metavar="ZONES", help=_("Zones, with commas between them."))
@click.option("--until", metavar="TIME", help=_("Lift it by itself then."))
@common()
@pass_context
def silence(context: Context, what: str, zones: str, until: str | None) -> None:
    """Cut or lift."""
    args: dict[str, Any] = {"on": what == "on", "zones": context.zones(zones)}
    if until is not None:
        args["until"] = context.moment(until).isoformat(timespec="seconds")
    context.ask("silence", args)
    if what == "off":
        click.echo(_("The silence is lifted. Another authority's silence, if there is one, stays: see “tram status”."))
    elif until is not None:
        click.echo(_("Silenced until {when}: {zones}.").format(when=context.clock(args["until"]), zones=zones))
    else:
        click.echo(_("Silenced: {zones}. Lift it with “tram silence off”.").format(zones=zones))


@click.command(
    help=_(
        "Make what buttons start an exercise (diễn tập), marked in sound, on boards and in the log; it ends by itself."
    )
)
@click.argument("what", type=click.Choice(["on", "off"]))
@click.option("--minutes", default=15.0, show_default=True, help=_("How long, at most 60."))
@common()
@pass_context
def drill(context: Context, what: str, minutes: float) -> None:
    """Begin or end it."""
    if not 0 < minutes <= 60:
        raise click.UsageError(_("A drill lasts at most 60 minutes."))
    context.ask("drill", {"on": what == "on", "minutes": minutes})
    if what == "off":
        click.echo(_("The drill is over: a press of a button is an alarm again."))
    else:
        click.echo(
            _("For {n} minutes a press of a button is an exercise. End it with “tram drill off”.").format(
                n=f"{minutes:g}"
            )
        )
