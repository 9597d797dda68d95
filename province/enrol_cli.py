"""`tram province device`, `devices`, `revoke`, `enrol-server` and `admit`: how devices come to the province."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.language import _
from agent.cli.show import table
from province.cli import folder, told
from province.enrolment import CODE_DAYS, Register
from province.store import Province, ProvinceError

if TYPE_CHECKING:
    from province.pki import Pki


def _pki(dir_: Path) -> Pki:
    from province.pki import Pki

    try:
        return Pki(dir_ / "pki")
    except OSError as error:
        raise ProvinceError(
            _("The province's certificate authority is not here: {path}: {detail}.").format(
                path=error.filename, detail=error.strerror
            )
        ) from error


@click.command(
    help=_(
        "Prepare a device, or a new board for one: writes the folder “tram” for its card. Copy it to the card's FAT "
        "partition. An earlier board of the same device loses its certificate when the code is used."
    )
)
@click.argument("device")
@click.option(
    "--like",
    "template",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=_("Its configuration, or an example of that kind of station."),
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help=_("Where to write it."))
@click.option("--url", required=True, metavar="HTTPS-URL", help=_("Where enrol-server can be reached."))
@click.option(
    "--lan", multiple=True, metavar="HOST", help=_("By what its clusters call it, for a station with a cluster_link.")
)
@click.option("--days", default=CODE_DAYS, show_default=True, help=_("How long the code is valid."))
@folder
@told
def device(dir_: Path, *, device: str, template: Path, out: Path, url: str, lan: Sequence[str], days: float) -> None:
    """Make the code and the folder."""
    import re

    from province.device import prepare
    from province.pki import RESERVED

    if not re.fullmatch(r"[a-z0-9-]{3,40}", device) or device in RESERVED:
        raise ProvinceError(_("“{name}” cannot be a device's id: 3 to 40 of a–z, 0–9 and -.").format(name=device))
    there = Province(dir_)
    register = Register(dir_, _pki(dir_))
    code = register.new_code(device, time.time(), days)
    made = prepare(there, device, template, out, url=url, code=code, lan=lan)
    register.close()
    there.enlist(device)
    click.echo(_("The card's folder is {path}; the code in it: {code}").format(path=made, code=code))
    click.echo(_("It is valid for {days:g} days and for one device. Earlier unused codes are void.").format(days=days))


@click.command(help=_("Show the devices that have a code or a certificate, and the keys with which stations sign."))
@click.option("--json", "as_json", is_flag=True, help=_("For machines."))
@folder
@told
def devices(dir_: Path, *, as_json: bool) -> None:
    """Print them."""
    import msgspec

    register = Register(dir_, _pki(dir_))
    known = register.known(time.time())
    register.close()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(known), ensure_ascii=False, indent=1))
        return
    words = {"open": _("open"), "used": _("used"), "expired": _("too old"), "none": "–"}
    rows = [
        [
            k.device,
            words[k.code],
            "–" if k.until is None else f"{datetime.fromtimestamp(k.until, UTC):%d/%m/%Y}",
            "–" if k.station_key is None else k.station_key["x"],
        ]
        for k in known
    ]
    table([_("Device"), _("Code"), _("Certificate until"), _("Station's key")], rows)


@click.command(help=_("Withdraw every certificate and code of a device (stolen, given away)."))
@click.argument("device")
@click.option("--reload", "command", metavar="COMMAND", help=_("Makes the broker read pki/crl.pem again."))
@folder
@told
def revoke(dir_: Path, *, device: str, command: str | None) -> None:
    """Do it and say how many."""
    from province.enrol_server import reloader

    register = Register(dir_, _pki(dir_))
    count = register.revoke(device, time.time())
    register.close()
    reloader(command)()
    click.echo(_("{count} certificates of {device} are withdrawn.").format(count=count, device=device))


@click.command(
    "enrol-server",
    help=_(
        "Register devices over HTTPS until it is stopped. The broker must use pki/crl.pem as its revocation list and "
        "read it again when it changes (--reload)."
    ),
)
@click.option("--listen", default="127.0.0.1:8884", show_default=True, metavar="HOST:PORT")
@click.option("--name", "names", multiple=True, metavar="HOST", help=_("What devices call this server by."))
@click.option("--reload", "command", metavar="COMMAND", help=_("Makes the broker read pki/crl.pem again."))
@folder
@told
def enrol_server(dir_: Path, *, listen: str, names: Sequence[str], command: str | None) -> None:
    """Serve until a signal comes."""
    from province.enrol_server import EnrolServer, reloader

    host, _colon, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(_("--listen is HOST:PORT, for instance 0.0.0.0:8884."))
    Province(dir_)
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    server = EnrolServer(
        dir_,
        _pki(dir_),
        host=host.strip("[]"),
        port=int(port),
        names=[*names, "localhost", "127.0.0.1"],
        changed=reloader(command),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server.start()
    except OSError as error:
        raise ProvinceError(f"{listen}: {error.strerror or error}") from error
    click.echo(_("Devices register at {url}; Ctrl-C ends it.").format(url=server.url))
    ended.wait()
    server.stop()


@click.command(
    help=_(
        "Put the key that a station made at its enrolment into the list of authorities, as a key of AUTHORITY instead "
        "of its earlier ones, and sign the list anew. Prints the arguments of an order: tram province publish --op "
        "authorities."
    )
)
@click.argument("device")
@click.option("--as", "authority", required=True, metavar="AUTHORITY", help=_("The commune whose key it is."))
@click.option("--scope", default="group:all", show_default=True, metavar="TARGET", help=_("To whom it will be sent."))
@folder
@told
def admit(dir_: Path, *, device: str, authority: str, scope: str) -> None:
    """Write the next version of authorities.json."""
    there = Province(dir_)
    register = Register(dir_, _pki(dir_))
    keys = register.station_keys(device)
    register.close()
    if not keys:
        raise ProvinceError(_("{device} has not told a key of its own yet.").format(device=device))
    version, document = there.admit(authority, keys[-1], instead_of=keys[:-1])
    click.echo(_("authorities.json is now version {version}.").format(version=version), err=True)
    click.echo(json.dumps({"scope": scope, "version": version, "documents": [document]}))
