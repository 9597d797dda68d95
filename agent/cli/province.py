"""`tram province`: the table of the province's commands, each imported only when it is used."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from agent.cli.language import LANGUAGES, _, use

COMMANDS: dict[str, str] = {
    "init": _("Make a province: keys, authorities, certificates."),
    "device": _("Prepare a device: the folder for its card, with a one-time code."),
    "devices": _("Show the devices, their codes, certificates and keys."),
    "revoke": _("Withdraw a device's certificates."),
    "enrol-server": _("Register devices: HTTPS, code against certificate."),
    "admit": _("Put a station's own key into the list of authorities."),
    "sign": _("Sign an order and print it."),
    "publish": _("Sign an order and send it."),
    "emergency": _("Send an emergency and follow it to every loudspeaker and board."),
    "silence": _("Cut everything at once, or lift the cut."),
    "cap": _("Send a CAP 1.2 alert, and follow it."),
    "release": _("Release an update (not built yet)."),
    "watch": _("Watch the fleet live and record what it reports."),
    "report": _("What was played, and which devices were there."),
    "inspect": _("Have a device say how it is, with a picture of each board."),
}
MODULES = {
    **dict.fromkeys(("device", "devices", "revoke", "enrol-server", "admit"), "province.enrol_cli"),
    "inspect": "province.inspection",
}
"""Where a command is, if not in `province.cli`."""


class Commands(click.Group):
    """The listing imports none of the commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command from its module."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(MODULES.get(cmd_name, "province.cli")), cmd_name.replace("-", "_"))
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself."""
        with formatter.section(_("Commands")):
            formatter.write_dl(list(COMMANDS.items()))


def _language(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        use(value)


@click.group(cls=Commands, help=_("The province's side: signs and sends orders, watches the fleet."))
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("province"),
    envvar="TRAM_PROVINCE",
    show_default=True,
    help=_("The province's folder (else TRAM_PROVINCE); also the folder of “tram demo --hold”."),
)
@click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    callback=_language,
    expose_value=False,
    is_eager=True,
    help=_("Speak Vietnamese or English."),
)
@click.pass_context
def province(ctx: click.Context, folder: Path) -> None:
    """Keep the folder for the command."""
    ctx.obj = folder
