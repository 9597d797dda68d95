"""Programmes of the commune's own: add and play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli.context import Context, common, pass_context
from agent.cli.language import _
from agent.model.orders import Class

FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command(
    help=_(
        "Add a programme of the commune's own: a FILE (sound, picture, film) or a --text that is spoken and shown. "
        "It is signed with the station's key and names who approved it."
    )
)
@click.argument("file", type=FILE, required=False)
@click.option("--text", help=_("Words to be spoken and shown instead of a file."))
@click.option("--lang", metavar="LANG", default="vi", show_default=True, help=_("Language of the text."))
@click.option("--title", help=_("Title for schedule and board; else the file's name or the first words."))
@click.option(
    "--at", metavar="TIME", required=True, help=_("When: 17:30, tomorrow 05:00 (mai 05:00), 24/11 17:30, now.")
)
@click.option("--until", metavar="TIME", help=_("When it ends; a notice stays on the boards until then."))
@click.option("--zones", metavar="ZONES", required=True, help=_("Where: zones with commas between them, or “*”."))
@click.option("--class", "class_", type=click.Choice([c.value for c in Class]), default="normal", show_default=True)
@click.option("--repeat", type=click.IntRange(1, 10_000), help=_("How often it plays in all."))
@click.option("--approved-by", metavar="NAME", required=True, help=_("Who of the commune's leadership approved it."))
@common(lang=False)
@pass_context
def add(
    context: Context,
    file: Path | None,
    text: str | None,
    lang: str,
    title: str | None,
    at: str,
    until: str | None,
    zones: str,
    class_: str,
    repeat: int | None,
    approved_by: str,
) -> None:
    """Hand it to the agent, which signs it."""
    if (file is None) == (text is None):
        raise click.UsageError(_("Give either a FILE or --text."))
    if not approved_by.strip():
        raise click.UsageError(_("--approved-by needs a name."))
    if text is not None and not text.strip():
        raise click.UsageError(_("--text has no words."))
    moment = context.moment(at)
    args: dict[str, Any] = {
        "title": (title or (text or "").strip().partition("\n")[0] or (file.stem if file else ""))[:200],
        "at": moment.isoformat(timespec="seconds"),
        "zones": context.zones(zones),
        "class": class_,
        "approved_by": approved_by.strip(),
    }
    if until is not None:
        args["until"] = context.moment(until).isoformat(timespec="seconds")
    if repeat is not None:
        args["repeat"] = repeat
    if text is not None:
        args |= {"text": text, "lang": lang}
    if file is not None:
        context.ask("status")  # a station that is not there is told before a large file is copied
        args["media"] = msgspec.to_builtins(context.adopt(file))
    result = context.ask("add", args)
    click.echo(
        _("“{title}” is added for {when} as {id}.").format(
            title=args["title"],
            when=context.clock(args["at"]),
            id=result.get("id", "?") if isinstance(result, dict) else "?",
        )
    )


@click.command(help=_("Play a file at once in one zone, by the commune's own authority; the rules apply."))
@click.argument("file", type=FILE)
@click.option("--zone", required=True, metavar="ZONE", help=_("The zone's id."))
@common()
@pass_context
def play(context: Context, file: Path, zone: str) -> None:
    """Hand it to the agent."""
    (selector,) = context.zones(zone.replace(",", " "))
    context.ask("status")
    media = msgspec.to_builtins(context.adopt(file))
    context.ask("play", {"media": media, "zone": selector, "title": file.stem[:200]})
    click.echo(_("{file} plays in {zone}.").format(file=file, zone=zone))
