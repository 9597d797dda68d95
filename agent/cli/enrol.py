"""`tram enrol`: a new device registers itself with its province; the services of the card image use it too."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import problems
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _, say

if TYPE_CHECKING:
    from agent.enrolment.machine import Enrolment
    from agent.enrolment.states import Record
    from agent.model.config import Station

USER = "tram"
DATA, RUN = Path("/var/lib/tram"), Path("/run/tram")
AWAY = 3


@click.command(
    help=_(
        "Register this device with its province: it makes its own key and gets a certificate for the one-time code. "
        "Goes on where it was interrupted. Exit 3: the province could not be reached, try again."
    )
)
@click.option("--code", metavar="CODE", help=_("The one-time code of the province."))
@click.option(
    "--card",
    "cards",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help=_("Only take in the configuration and the code from the card's folder (the service does this at the start)."),
)
@click.option("--renew", is_flag=True, help=_("Renew the certificate if it is time (a service does this every day)."))
@common()
@pass_context
def enrol(context: Context, code: str | None, cards: Sequence[Path], renew: bool) -> None:
    """Do what is due and say how it stands."""
    if cards:
        _take(cards, Path(context.config).parent)
        return
    from agent.enrolment.office import AwayError
    from agent.link.tls import CredentialError

    station = context.station
    _become(USER)
    try:
        machine = _machine(station)
        if code is not None:
            machine.take_code(code)
        due = renew and _is_due(station)
        if machine.record.state == "new" and machine.code is None and not renew:
            machine.make_station_key()
            click.echo(_("There is no code yet. Ask the province for one, then: tram enrol --code CODE"))
            raise click.exceptions.Exit(1)
        record = machine.run(renew=due)
    except AwayError as error:
        click.echo(
            _("The province cannot be reached: {detail}. Nothing is lost; it is tried again.").format(detail=error),
            err=True,
        )
        raise click.exceptions.Exit(AWAY) from None
    except CredentialError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            _("{path} cannot be written: {detail}.").format(path=error.filename, detail=error.strerror)
        ) from None
    _tell(station, record)


def _machine(station: Station) -> Enrolment:
    from agent.enrolment.machine import Enrolment
    from agent.enrolment.office import HttpsOffice
    from drivers.clock import KernelClock

    if station.mqtt is None or station.enrolment is None:
        raise click.ClickException(
            _("The configuration does not say where the province registers devices: enrolment.url and mqtt are needed.")
        )
    office = HttpsOffice(station.enrolment.url, station.mqtt.ca, check_dates=KernelClock().read().synchronised)
    return Enrolment(station, office)


def _is_due(station: Station) -> bool:
    """Whether the certificate is to be renewed now. Without a certain time nobody knows."""
    from agent.enrolment import identity
    from drivers.clock import KernelClock

    if station.mqtt is None or not KernelClock().read().synchronised:
        return False
    now = datetime.now(UTC)
    try:
        pem = Path(station.mqtt.cert).read_bytes()
        if identity.has_ended(pem, now):
            raise click.ClickException(_("The certificate has run out. Ask the province for a new code."))
        return identity.is_due(pem, now)
    except (OSError, ValueError):
        return False


def _tell(station: Station, record: Record) -> None:
    from agent.enrolment import identity
    from agent.enrolment.states import REASONS, State
    from agent.model.problem import Text

    if record.state is State.REFUSED:
        reason = say(
            REASONS.get(record.reason or "", Text("The province has refused: {reason}.", reason=record.reason))
        )
        raise click.ClickException(reason)
    if station.mqtt is None or record.state is not State.ENROLLED:
        return
    ends = identity.valid_until(Path(station.mqtt.cert).read_bytes())
    click.echo(
        _("{device} is registered; its certificate is valid until {date}.").format(
            device=station.device.id, date=f"{ends:%d/%m/%Y}"
        )
    )


def _take(cards: Sequence[Path], etc: Path) -> None:
    from agent.enrolment.card import take
    from agent.model.loader import ConfigError

    bad = False
    for card in cards:
        try:
            taken = take(card, etc, DATA, RUN)
        except ConfigError as error:
            problems.show(error.problems, str(card / "station.yaml"), sys.stderr)
            click.echo(_("The card was not taken in; the station stays as it was."), err=True)
            bad = True
            continue
        if taken.station:
            click.echo(_("The configuration on the card is taken in."))
        if taken.code:
            click.echo(_("The code on the card is taken in."))
        if taken.left is not None:
            click.echo(_("The card cannot be written to: {detail}. The code is still on it.").format(detail=taken.left))
    if bad:
        raise click.exceptions.Exit(1)


def _become(user: str) -> None:
    """Root makes no files here that the agent could not read."""
    if os.geteuid() != 0:
        return
    try:
        who = pwd.getpwnam(user)
    except KeyError:
        return
    os.initgroups(user, who.pw_gid)
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)
