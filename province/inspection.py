"""`tram province inspect`: has a device upload how it is, and saves it with the pictures of its boards."""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.cli.language import _
from agent.cli.show import safe
from province.cli import folder, follow_acks, told
from province.publish import Access, Publisher
from province.store import WANTED, Province, ProvinceError, replace_file

LARGEST = 16 * 2**20
_NAME = re.compile(r"[a-z0-9-]{1,40}")
_PICTURE = b"\x89PNG\r\n\x1a\n"


@click.command(help=_("Have a device upload how it is: status, play log, and a small picture of each of its boards."))
@click.argument("device")
@click.option("--as", "iss", required=True, metavar="AUTHORITY", help=_("Who signs."))
@click.option(
    "--what",
    type=click.Choice(["diagnostics", "health", "playlog"]),
    default="diagnostics",
    show_default=True,
    help=_("health: the status alone; playlog: the play log alone."),
)
@click.option("--from", "since", type=click.DateTime(), help=_("The play log from then on (24 hours ago)."))
@click.option("--to", "until", type=click.DateTime(), help=_("The play log until then (now)."))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help=_("The folder to save it in (this one)."),
)
@click.option("--wait", default=60.0, show_default=True, metavar="SECONDS", help=_("How long to wait for it."))
@folder
@told
def inspect(
    dir_: Path,
    *,
    device: str,
    iss: str,
    what: str,
    since: datetime | None,
    until: datetime | None,
    out: Path,
    wait: float,
) -> None:
    """Exit 0 when it came, whole, and with a picture of each board."""
    there = Province(dir_)
    now = datetime.now().astimezone()
    end = until.astimezone() if until else now
    begin = since.astimezone() if since else end - timedelta(days=1)
    url, file = there.awaited(LARGEST)
    args = {"what": what, "from": begin.isoformat(), "to": end.isoformat(), "upload": url}
    try:
        signed = there.sign(iss, "report", args, [device], ttl_s=max(60.0, wait))
        with Publisher(Access.publisher(there)) as publisher:
            publisher.send(signed)
            receipt = follow_acks(publisher, signed, wait).devices.get(device)
        if receipt is None or receipt.state != "done" or receipt.report is None or not file.exists():
            raise ProvinceError(_("{device} has uploaded nothing within {n:.0f} s.").format(device=device, n=wait))
        data = file.read_bytes()
    finally:
        file.with_name(file.name + WANTED).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    if hashlib.sha256(data).hexdigest() != receipt.report.get("sha256"):
        raise ProvinceError(_("What arrived is not what {device} says it sent (SHA-256).").format(device=device))
    if not _save(out, f"{device}-{now:%Y%m%d-%H%M%S}", data):
        raise click.exceptions.Exit(1)


def _save(out: Path, stem: str, data: bytes) -> bool:
    """Write the document, and each picture as a file of its own. False: a board gave none."""
    try:
        document = json.loads(data)
        boards = document.get("boards", {})
        pictures = {str(zone): dict(board) for zone, board in boards.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ProvinceError(_("What arrived is damaged: {detail}").format(detail=error)) from error
    path = out / f"{stem}.json"
    replace_file(path, data)
    click.echo(_("{path}: {size} bytes").format(path=path, size=len(data)))
    whole = True
    for zone, board in pictures.items():
        picture = _picture(board)
        if picture is None or not _NAME.fullmatch(zone):
            whole = False
            click.echo(safe(_("{zone}: no picture: {why}").format(zone=zone, why=board.get("detail", ""))))
            continue
        path = out / f"{stem}-{zone}.png"
        replace_file(path, picture)
        click.echo(_("{path}: what {zone} showed at {time}").format(path=path, zone=zone, time=board.get("at")))
    return whole


def _picture(board: dict[str, Any]) -> bytes | None:
    """The PNG whose hash the device names; None when there is none, or another."""
    try:
        data = binascii.a2b_base64(str(board.get("png", "")), strict_mode=True)
    except binascii.Error:
        return None
    right = data.startswith(_PICTURE) and hashlib.sha256(data).hexdigest() == board.get("sha256")
    return data if right else None
