"""`tram check` and `tram schema`."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli import problems
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _
from agent.model.config import Station
from agent.model.loader import examine
from agent.model.problem import Problem, Text, listed


@click.command(
    help=_("Check the configuration: every mistake with its place, the reason and the remedy. Exit 1 if any.")
)
@click.argument("file", required=False)
@common()
@pass_context
def check(context: Context, file: str | None) -> None:
    """Show what is wrong; missing certificates and the like are warnings and leave the exit code 0."""
    path = file or context.config
    station, found = examine(path)
    chimes = _unknown_chimes(station) if station is not None else []
    found += chimes
    for line in problems.lines(found, path):
        click.echo(line)
    if station is None or chimes:
        raise click.exceptions.Exit(1)
    sound = sum(z.kind == "sound" for z in station.zones)
    click.echo(
        _("{path} can be used: {name} ({id}), {sound} sound zones, {screen} screen zones.").format(
            path=path,
            name=station.device.name,
            id=station.device.id,
            sound=sound,
            screen=len(station.zones) - sound,
        )
    )


def _unknown_chimes(station: Station) -> list[Problem]:
    """Which chimes there are only the room of sound knows; the station plays the message without."""
    from agent.sound.chimes import names

    used = [(f"messages[{i}].chime", message.chime) for i, message in enumerate(station.messages)]
    used += [(f"buttons[{i}].action.chime", button.action.chime) for i, button in enumerate(station.buttons)]
    return [
        Problem(
            path,
            Text("There is no chime “{name}”.", name=chime),
            Text("Write one of: {known}.", known=listed(names())),
        )
        for path, chime in used
        if chime and chime not in names()
    ]


@click.command(hidden=True, help=_("Write the JSON Schemas of configuration and orders."))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("config/schema"), show_default=True
)
@common()
def schema(out: Path) -> None:
    """Write them, for editors and for other programs."""
    from agent.cli.schemas import documents

    out.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (out / name).write_text(text, encoding="utf-8")
        click.echo(out / name)
