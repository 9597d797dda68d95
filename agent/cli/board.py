"""`tram screen`: what a public board shows now, read back from its output."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Any

import click

from agent.cli.context import Context, common, pass_context
from agent.cli.language import _


@click.command(help=_("Save what a board shows now, read back from its output, as a small picture."))
@click.argument("zone")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("screen.png"),
    show_default=True,
    help=_("The PNG file to write."),
)
@common()
@pass_context
def screen(context: Context, zone: str, out: Path) -> None:
    """Save it."""
    result: Any = context.ask("screen", {"zone": zone})
    out.write_bytes(binascii.a2b_base64(result["png"]))
    click.echo(_("{path}: what {zone} shows now.").format(path=out, zone=zone))
