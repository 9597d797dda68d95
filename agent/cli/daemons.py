"""`run` and `voice` as click sees them: help and mistakes only."""

from __future__ import annotations

import sys

import click

from agent.cli.context import Context, common, pass_context
from agent.cli.language import _
from agent.cli.start import start


@click.command(help=_("Run the station's agent: orders, schedule, play log. Normally the service “tram” does this."))
@common()
@pass_context
def run(context: Context) -> None:
    """Start the agent."""
    sys.exit(start("run", context.config))


@click.command(help=_("Run the emergency core: sound, relays, buttons. Normally the service “tram-voice” does this."))
@common()
@pass_context
def voice(context: Context) -> None:
    """Start the voice process."""
    sys.exit(start("voice", context.config))
