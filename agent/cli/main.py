"""The `tram` command for people: a table of commands, each imported only when it is used."""

from __future__ import annotations

import importlib
import importlib.util

import click

from agent.cli.context import Context, common
from agent.cli.language import _

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("province.demo.main:demo", _("Play a commune station's day with everything virtual.")),
    "run": ("agent.cli.daemons:run", _("Run the station's agent (a service does this).")),
    "voice": ("agent.cli.daemons:voice", _("Run the station's emergency core (a service does this).")),
    "check": ("agent.cli.configuration:check", _("Check the configuration and show every mistake.")),
    "doctor": ("agent.cli.doctor:doctor", _("Examine the whole station and say what to do.")),
    "status": ("agent.cli.station:status", _("Show what the station is doing.")),
    "today": ("agent.cli.station:today", _("Show the programmes of the next 24 hours.")),
    "screen": ("agent.cli.board:screen", _("Save what a board shows now.")),
    "log": ("agent.cli.log:log", _("Show or verify the play log.")),
    "inbox": ("agent.cli.station:inbox", _("Show bulletins that wait for the commune's decision.")),
    "accept": ("agent.cli.station:accept", _("Accept an offered bulletin.")),
    "decline": ("agent.cli.station:decline", _("Decline an offered bulletin.")),
    "add": ("agent.cli.programmes:add", _("Add a programme of the commune's own.")),
    "record": ("agent.cli.recording:record", _("Record a stored message in one's own voice.")),
    "play": ("agent.cli.programmes:play", _("Play a file at once in one zone.")),
    "drill": ("agent.cli.station:drill", _("Make the next presses of the buttons an exercise (diễn tập).")),
    "silence": ("agent.cli.station:silence", _("Cut all sound and pictures, or lift the cut.")),
    "enrol": ("agent.cli.enrol:enrol", _("Register a new device with its province.")),
    "province": ("agent.cli.province:province", _("Tools of the province: sign, publish, watch.")),
    "schema": ("agent.cli.configuration:schema", _("Write the JSON Schemas of configuration and orders.")),
}
HIDDEN = frozenset({"schema"})


class Commands(click.Group):
    """Looks its commands up in the table. The listing of all commands imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All but the hidden ones, in the order of the table."""
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None for a name that is not in the table."""
        if cmd_name not in COMMANDS:
            return None
        module, _colon, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                _("“tram {command}” is not installed here: the part {part} is missing.").format(
                    command=cmd_name, part=error.name
                )
            ) from None
        assert isinstance(found, click.Command)  # noqa: S101 - the table names commands
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that does not exist."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from agent.model.problem import nearest

            guess = nearest(args[0], self.list_commands(ctx))
            hint = _("Did you mean “tram {command}”?").format(command=guess) if guess else _("See “tram --help”.")
            ctx.fail(_("There is no command “{command}”. {hint}").format(command=args[0], hint=hint))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself."""
        with formatter.section(_("Commands")):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, help=_("Trạm: a commune's loudspeaker station (đài truyền thanh) and public boards."))
@click.version_option(package_name="tram", prog_name="tram")
@common()
@click.pass_context
def tram(ctx: click.Context) -> None:
    """Only makes sure that every command finds its context."""
    ctx.ensure_object(Context)
