"""What every command shares: the configuration's path, the language, the loaded station."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli import language, problems, times
from agent.cli.language import _, say
from agent.cli.start import CONFIG
from agent.model.config import Station
from agent.model.loader import ConfigError, load

if TYPE_CHECKING:
    from agent.model.orders import Media

Function = TypeVar("Function", bound=Callable[..., Any])


class Context:
    """Made once a command line; `config` is the path of the configuration."""

    def __init__(self) -> None:
        self.config = os.environ.get("TRAM_CONFIG") or CONFIG

    @cached_property
    def station(self) -> Station:
        """The configuration; with mistakes in it they are shown and the command ends with 1."""
        try:
            return load(self.config)
        except ConfigError as error:
            problems.show(error.problems, self.config, sys.stderr)
            raise click.exceptions.Exit(1) from None

    @property
    def database(self) -> Path:
        """Where the station keeps its play log."""
        return Path(self.station.data_dir) / "tram.db"

    def ask(self, do: str, args: dict[str, Any] | None = None) -> Any:
        """The running agent's answer."""
        from agent.cli.asking import ask

        return ask(self.station.run_dir, do, args)

    def clock(self, value: object) -> str:
        """A time as people read it here."""
        return times.clock(value, self.station.timezone)

    def moment(self, text: str) -> datetime:
        """A time as people write it; a usage error when it is none."""
        try:
            return times.parse(text, times.zone_now(self.station.timezone))
        except times.BadTimeError as error:
            raise click.UsageError(say(error.text)) from None

    def zones(self, text: str, kind: str | None = None) -> list[str]:
        """Zone selectors written with commas; a usage error for one that names nothing here."""
        from agent.model.problem import nearest

        selectors = [s.strip() for s in text.split(",") if s.strip()]
        known = self.station.places() if kind is None else [z.id for z in self.station.zones if z.kind == kind]
        for selector in selectors or [text]:
            here = set(self.station.match([selector])) & set(known)
            if not here and (kind is not None or not self.station.reaches(selector)):
                guess = nearest(selector, known)
                hint = _("Did you mean “{guess}”?").format(guess=guess) if guess else ""
                raise click.UsageError(
                    _("There is no zone “{zone}”. Zones here: {known}. {hint}").format(
                        zone=selector, known=", ".join(known), hint=hint
                    )
                )
        return selectors

    def adopt(self, file: Path) -> Media:
        """Take a media file into the station's library."""
        from agent.store.library import adopt

        try:
            return adopt(Path(self.station.data_dir) / "content", file)
        except (OSError, ValueError) as error:
            raise click.ClickException(
                _("{file} cannot be taken into the station: {detail}.").format(
                    file=file, detail=getattr(error, "strerror", None) or error
                )
            ) from None


pass_context = click.make_pass_decorator(Context, ensure=True)


def common(*, lang: bool = True) -> Callable[[Function], Function]:
    """Add `--config` and `--lang`, before or behind the command's name."""

    def set_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.ensure_object(Context).config = value

    def set_language(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            language.use(value)

    def decorate(function: Function) -> Function:
        if lang:
            function = click.option(
                "--lang",
                type=click.Choice(language.LANGUAGES),
                callback=set_language,
                expose_value=False,
                is_eager=True,
                help=_("Speak Vietnamese or English."),
            )(function)
        return click.option(
            "--config",
            metavar="FILE",
            callback=set_config,
            expose_value=False,
            help=_("The station's configuration (else TRAM_CONFIG, else {path}).").format(path=CONFIG),
        )(function)

    return decorate
