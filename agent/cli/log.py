"""`tram log`: reads the play log from the store, whether the agent runs or not."""

from __future__ import annotations

import re

import click

from agent.cli import show
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _, titled, word
from agent.store import playlog


@click.command(
    help=_("Show the play log (nhật ký phát), or verify that nothing in it was altered, removed or cut off.")
)
@click.option("--month", metavar="YYYY-MM", help=_("Only this month."))
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--verify", is_flag=True, help=_("Check the whole chain of hashes. Exit 1 if it is broken."))
@click.option(
    "--head",
    metavar="N:HASH",
    help=_("The last entry as the province knows it (the first 8 characters of the hash do)."),
)
@common()
@pass_context
def log(context: Context, month: str | None, form: str, verify: bool, head: str | None) -> None:
    """Read it."""
    if month is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month, re.ASCII):
        raise click.UsageError(_("“{month}” is not a month. Write it as 2025-11.").format(month=month))
    if verify:
        if month is not None:
            raise click.UsageError(_("A chain is verified as a whole: leave out --month."))
        _verify(context, _head(head))
        return
    if head is not None:
        raise click.UsageError(_("--head belongs to --verify."))
    found = _read(context, month)
    if form == "csv":
        click.echo(playlog.to_csv(found.entries), nl=False)
    elif form == "json":
        click.echo(playlog.to_json(found).decode())
    else:
        _table(context, found)


def _read(context: Context, month: str | None = None) -> playlog.PlayLog:
    try:
        return playlog.read(context.database, month)
    except playlog.PlayLogError as error:
        raise click.ClickException(_("The play log cannot be read: {detail}.").format(detail=error)) from None


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15}):([0-9a-fA-F]{8,64})", text, re.ASCII)
    if found is None:
        raise click.UsageError(_("“{head}” is not N:HASH, as 120:9f86d081.").format(head=text))
    return int(found[1]), found[2].lower()


def _verify(context: Context, head: tuple[int, str] | None) -> None:
    found = _read(context)
    problems = playlog.verify(found.entries, found.checkpoint, head)
    if problems:
        rows = [[p.n, say_what(p.what), p.detail] for p in problems]
        show.table([_("Entry"), _("Problem"), _("Detail")], rows, styles=["red"] * len(rows))
        raise click.exceptions.Exit(1)
    if not found.entries:
        click.echo(_("The play log is empty."))
        return
    last = found.entries[-1]
    click.echo(
        _("The play log is whole: {count} entries, head {n}:{hash}.").format(
            count=len(found.entries), n=last.get("n"), hash=str(last.get("hash"))[:8]
        )
    )
    if head is None:
        click.echo(_("A cut at the end shows only against the province's head: --head N:HASH."))


def say_what(what: str) -> str:
    """A kind of damage in words."""
    words = {
        "malformed": _("not an entry"),
        "altered": _("altered"),
        "missing": _("missing"),
        "duplicate": _("twice"),
        "order": _("out of order"),
        "broken": _("chain broken"),
        "truncated": _("cut off"),
        "head": _("rewritten"),
        "checkpoint": _("checkpoint not genuine"),
    }
    return words.get(what, what)


def _table(context: Context, found: playlog.PlayLog) -> None:
    if not found.entries:
        click.echo(_("The play log is empty."))
        return
    head = [
        _("No."),
        _("Planned"),
        _("Started"),
        _("Ended"),
        _("Programme"),
        _("Class"),
        _("From"),
        _("Zone"),
        _("Result"),
        _("Level"),
    ]
    rows = []
    for e in found.entries:
        level = e.get("level_dbfs")
        result = word(e.get("result", ""))
        if e.get("reason"):
            result += f" ({word(e['reason'])})"
        rows.append(
            [
                e.get("n"),
                context.clock(e.get("planned")),
                context.clock(e.get("started")),
                context.clock(e.get("ended")),
                titled(e.get("title"), e.get("drill")),
                word(e.get("class", "")),
                e.get("iss"),
                e.get("zone"),
                result,
                f"{level:.1f} dBFS" if isinstance(level, int | float) else None,
            ]
        )
    styles = [None if e.get("result") == "completed" else "yellow" for e in found.entries]
    show.table(head, rows, styles=styles)
