"""What one asks of the running station: status, today, inbox, accept, decline, silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from agent.cli import show
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _, titled, word, yes_no


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
    facts = [(_LABELS[k]() if k in _LABELS else k, v) for k, v in _flat(context, rest)]
    show.table([_("Station"), ""], facts)
    zones = list(_named(document.get("zones")))
    if zones:
        rows = [_zone_row(context, name, zone) for name, zone in zones]
        styles = [
            "bold red" if z.get("class") == "emergency" else "green" if z else None
            for z in map(_owner, (z for _n, z in zones))
        ]
        click.echo()
        show.table(
            [_("Zone"), _("Kind"), _("State"), _("On air"), _("From"), _("Since"), _("Level")], rows, styles=styles
        )
    lines = [_line_row(context, name, z) for name, z in zones if "line" in z]
    if lines:
        click.echo()
        head = [_("Zone"), _("Line"), _("Amplifier"), _("Measured"), _("Last self-test")]
        show.table(head, lines)
    relays = [(name, word("on" if _on(state) else "off")) for name, state in _pairs(document.get("relays"))]
    if relays:
        click.echo()
        show.table([_("Relay"), _("State")], relays)
    clusters = [
        (
            c.get("name") or name,
            c.get("hamlet"),
            yes_no(c["online"]) if "online" in c else word("unknown"),
            context.clock(c.get("seen")),
            word(f"line-{c['line']}") if "line" in c else None,
            ", ".join(c["plays"].values()) if isinstance(c.get("plays"), dict) else None,
        )
        for name, c in _named(document.get("clusters"))
    ]
    if clusters:
        click.echo()
        show.table([_("Cluster"), _("Hamlet"), _("Online"), _("Last seen"), _("Line"), _("On air")], clusters)
    silences = [
        (s.get("issuer") or s.get("iss"), s.get("zones"), context.clock(s.get("until")))
        for s in _dicts(document.get("silences"))
    ]
    if silences:
        click.echo()
        show.table([_("Silenced by"), _("Zones"), _("Until")], silences, styles=["red"] * len(silences))
    faults = [(f.get("what"), f.get("detail"), context.clock(f.get("since"))) for f in _dicts(document.get("faults"))]
    click.echo()
    if faults:
        show.table([_("Fault"), _("Detail"), _("Since")], faults, styles=["red"] * len(faults))
    else:
        click.echo(_("No faults."))
    programmes = _dicts(document.get("next"))
    if programmes:
        click.echo()
        _programmes(context, programmes)


_LABELS: dict[str, Any] = {
    "device": lambda: _("Device"),
    "name": lambda: _("Name"),
    "unit": lambda: _("Unit"),
    "at": lambda: _("At"),
    "online": lambda: _("Source connected"),
    "since": lambda: _("Running since"),
    "agent": lambda: _("Version"),
    "image": lambda: _("Image"),
    "clock.trusted": lambda: _("Time certain"),
    "clock.offset_ms": lambda: _("Clock offset, ms"),
    "outbox.rows": lambda: _("Reports waiting"),
    "outbox.dropped": lambda: _("Reports lost"),
    "disk.free_mb": lambda: _("Disk free, MB"),
    "disk.read_only": lambda: _("Disk read-only"),
    "log": lambda: _("Play log head"),
    "rev": lambda: _("Revision"),
    "temperature_c": lambda: _("Temperature, °C"),
}
_TIMES = frozenset({"at", "since"})


def _flat(context: Context, value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Members of members as dotted names, with booleans and times in words."""
    for key, member in value.items():
        name = f"{prefix}{key}"
        if isinstance(member, dict):
            yield from _flat(context, member, f"{name}.")
        elif isinstance(member, bool):
            yield name, yes_no(member)
        elif key in _TIMES:
            yield name, context.clock(member)
        elif member is not None:
            yield name, member


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
    return [name, word(zone.get("kind", "")), word(state), title, owner.get("iss"), context.clock(since), level]


def _line_row(context: Context, name: str, zone: dict[str, Any]) -> list[object]:
    """What is known of a zone's line, amplifier and loudspeakers."""
    units = (("current_ma", "mA"), ("supply_v", "V"), ("temperature_c", "°C"))
    measured = ", ".join(f"{zone[key]:.1f} {unit}" for key, unit in units if isinstance(zone.get(key), int | float))
    amplifier = word("on" if zone["amplifier"] else "off") if "amplifier" in zone else None
    test = zone.get("test")
    told = None
    if isinstance(test, dict):
        level = f" {test['level_db']:.0f} dB" if isinstance(test.get("level_db"), int | float) else ""
        told = f"{word(test.get('verdict', ''))}{level} ({context.clock(test.get('at'))})"
    return [zone.get("name") or name, word(f"line-{zone.get('line')}"), amplifier, measured or None, told]


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


def _programmes(context: Context, programmes: list[dict[str, Any]]) -> None:
    head = [_("Time"), _("Programme"), _("Class"), _("From"), _("Zones"), _("State"), _("Missing")]
    rows = [
        [
            context.clock(p.get("at")),
            p.get("title"),
            word(p.get("class", "")),
            p.get("iss"),
            p.get("zones"),
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
