"""The commands of `tram province`."""

from __future__ import annotations

import csv
import functools
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from agent.cli.language import _, reason, word
from agent.cli.show import safe, table
from agent.model.orders import ARGS_OF, STATE_OPS, Broadcast, Class, Item, Reason, Repeat, Resume
from agent.trust.authorities import AuthoritiesError, AuthorityEntry
from province.publish import EMERGENCY_LIMIT, ORDER_LIMIT, Access, Publisher, describe
from province.record import DeviceReceipt, Journal, Message, Receipt, Record, Taken, dumps, stamp
from province.store import Endpoint, Province, ProvinceError, Settings, Signed

if TYPE_CHECKING:
    from province.cap import Order as CapOrder

Function = TypeVar("Function", bound=Callable[..., Any])
PROVINCE_RANK, COMMUNE_RANK = 50, 10
TAKEN_OVER_S = 60.0
"""How long an update's new bulletin may take to sound before the former is cancelled all the same."""
COMMUNE_OPS = ["broadcast", "schedule", "cancel", "silence", "test", "report"]

folder = click.make_pass_decorator(Path)


def told(function: Function) -> Function:
    """A ProvinceError or a damaged file becomes one sentence and exit 1."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        import sqlite3

        try:
            return function(*args, **kwargs)
        except (ProvinceError, AuthoritiesError) as error:
            raise click.ClickException(str(error)) from error
        except sqlite3.Error as error:
            raise click.ClickException(_("The record cannot be used: {detail}.").format(detail=error)) from error

    return run  # type: ignore[return-value]


def targets(function: Function) -> Function:
    """Add `--as` and `--to`."""
    function = click.option(
        "--to",
        "aud",
        multiple=True,
        required=True,
        metavar="TARGET",
        help=_("Device id, or group:NAME (group:all is everyone). May be repeated."),
    )(function)
    return click.option("--as", "iss", required=True, metavar="AUTHORITY", help=_("Who signs."))(function)


# init


@click.command(help=_("Make a province: root keys, its own authority, communes, certificates."))
@click.option("--name", default="Tỉnh", show_default=True, help=_("The province's name."))
@click.option("--unit", required=True, metavar="PATH", help=_("Its administrative code, for instance 86."))
@click.option("--id", "own", default="tinh", show_default=True, help=_("The province's authority id."))
@click.option("--commune", "communes", multiple=True, metavar="ID=UNIT", help=_("A commune's authority and its unit."))
@click.option("--device", "devices", multiple=True, metavar="ID", help=_("A device that gets a certificate."))
@click.option(
    "--lan",
    multiple=True,
    metavar="ID=NAME",
    help=_("A station with clusters, and its name or address on their network: a second certificate."),
)
@click.option("--roots", default=3, show_default=True, help=_("How many root keys."))
@click.option("--threshold", default=2, show_default=True, help=_("How many of them must sign."))
@click.option("--broker", default="127.0.0.1:8883", show_default=True, metavar="HOST:PORT")
@click.option("--media-url", default="https://127.0.0.1/media", show_default=True)
@folder
@told
def init(
    dir_: Path,
    *,
    name: str,
    unit: str,
    own: str,
    communes: Sequence[str],
    devices: Sequence[str],
    lan: Sequence[str],
    roots: int,
    threshold: int,
    broker: str,
    media_url: str,
) -> None:
    """Make the folder and say what belongs where."""
    from province import pki

    host, _colon, port = broker.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(_("--broker is HOST:PORT, for instance 127.0.0.1:8883."))
    lans = [(station, at) for station, _equals, at in (one.partition("=") for one in lan)]
    if not all(station in devices and at for station, at in lans):
        raise click.UsageError(_("--lan is ID=NAME of one of the devices, for instance xa-mau=tram.xa-mau.lan."))
    everything = ["*"]
    entries = [
        AuthorityEntry(own, "province", PROVINCE_RANK, [], "*", Class.EMERGENCY, [unit], "*"),
    ]
    for commune in communes:
        commune_id, _equals, place = commune.partition("=")
        if not place:
            raise click.UsageError(_("--commune is ID=UNIT, for instance xa-mau=86/xa-mau."))
        entries.append(
            AuthorityEntry(commune_id, "commune", COMMUNE_RANK, [], COMMUNE_OPS, Class.EMERGENCY, [place], everything)
        )
    settings = Settings(
        name=name,
        broker=Endpoint(host, int(port)),
        media_url=media_url,
        devices=list(devices) or None,
    )
    made = Province.create(dir_, entries, settings=settings, roots=roots, threshold=threshold)
    made.trusted()
    try:
        authority = pki.make(dir_ / "pki", devices, [host])
        for station, at in lans:
            authority.server(f"{station}-lan", [at])
    except ValueError as error:
        raise ProvinceError(str(error)) from error
    rows = [
        [_("every device"), dir_ / "root_keys.json", "trust.root_keys"],
        [_("every device"), dir_ / "authorities.json", "trust.authorities"],
        [_("every device"), dir_ / "pki" / "ca.crt", "mqtt.ca"],
        *([device, dir_ / "pki" / f"{device}.crt, .key", "mqtt.cert, mqtt.key"] for device in devices),
        *([station, dir_ / "pki" / f"{station}-lan.crt, .key", "cluster_link.cert, key"] for station, _at in lans),
        *([entry.id, dir_ / "keys" / f"{entry.id}.jwk", "trust.station_key"] for entry in entries[1:]),
        [_("the broker"), dir_ / "pki" / "broker.crt, .key, ca.crt", ""],
        [_("a safe, offline"), dir_ / "keys" / "root-*.jwk", _("{n} of them sign").format(n=threshold)],
        [_("nowhere else"), dir_ / "keys" / f"{own}.jwk", _("signs the province's orders")],
    ]
    table([_("for"), _("copy"), _("as")], rows, title=_("The province “{name}” is made.").format(name=name))


# sign and publish


@click.command(help=_("Sign an order. ARGS: a JSON or YAML file of its arguments, - for standard input."))
@click.argument("args", type=click.File("rb"), default="-")
@targets
@click.option("--op", required=True, type=click.Choice(sorted(ARGS_OF)))
@click.option(
    "--ttl", type=float, metavar="SECONDS", help=_("How long it is valid (an hour; a state order: for ever).")
)
@click.option("--unchecked", is_flag=True, help=_("Sign what devices will refuse, too (for exercises)."))
@folder
@told
def sign(dir_: Path, *, args: Any, iss: str, aud: Sequence[str], op: str, ttl: float | None, unchecked: bool) -> None:
    """Print the compact JWS."""
    click.echo(_signed(Province(dir_), args, iss, aud, op, ttl, checked=not unchecked).jws)


@click.command(help=_("Sign an order and send it. ARGS as in sign, or --order with one that is signed already."))
@click.argument("args", type=click.File("rb"), required=False)
@click.option("--as", "iss", metavar="AUTHORITY", help=_("Who signs."))
@click.option("--to", "aud", multiple=True, metavar="TARGET", help=_("Device id, or group:NAME. May be repeated."))
@click.option("--op", type=click.Choice(sorted(ARGS_OF)))
@click.option(
    "--ttl", type=float, metavar="SECONDS", help=_("How long it is valid (an hour; a state order: for ever).")
)
@click.option("--order", type=click.File("r"), help=_("A signed order, as sign prints it; - for standard input."))
@click.option("--wait", default=0.0, metavar="SECONDS", help=_("Show acknowledgements for so long."))
@folder
@told
def publish(
    dir_: Path,
    *,
    args: Any,
    iss: str | None,
    aud: Sequence[str],
    op: str | None,
    ttl: float | None,
    order: Any,
    wait: float,
) -> None:
    """Send it and, if asked, print the acks."""
    there = Province(dir_)
    if order is not None:
        signed, to = describe(order.read().strip()), list(aud) or None
    elif iss and op and aud and args is not None:
        signed, to = _signed(there, args, iss, aud, op, ttl, checked=True), None
    else:
        raise click.UsageError(_("Give ARGS with --as, --to and --op, or --order."))
    with Publisher(Access.publisher(there)) as publisher:
        for topic in publisher.send(signed, to):
            click.echo(_("sent to {topic} ({size} bytes)").format(topic=topic, size=len(signed.jws)))
        if wait:
            follow_acks(publisher, signed, wait)


def _signed(
    there: Province, args: Any, iss: str, aud: Sequence[str], op: str, ttl: float | None, *, checked: bool
) -> Signed:
    import yaml

    try:
        given = yaml.safe_load(args.read())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ProvinceError(_("The arguments cannot be read: {detail}").format(detail=error)) from error
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ProvinceError(
            _("The arguments are an object with members, as the contract lists them for {op}.").format(op=op)
        )
    given = json.loads(json.dumps(given, default=_moment))
    if checked:
        full = {"scope": aud[0], "version": 1, **given} if op in STATE_OPS else given
        try:
            msgspec.convert(full, ARGS_OF[op])
        except msgspec.ValidationError as error:
            raise ProvinceError(_("Devices would refuse this: {detail}").format(detail=error)) from error
    return there.sign(iss, op, given, aud, ttl_s=ttl)


def _moment(value: object) -> str:
    """YAML reads times by itself; an order carries them as RFC 3339 with offset."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone()).isoformat()
    raise ProvinceError(_("{value} cannot be part of an order.").format(value=repr(value)))


def follow_acks(publisher: Publisher, signed: Signed, seconds: float) -> Receipt:
    """Show acknowledgements as they come, for so long or until all are final."""
    shown: dict[str, int] = {}
    deadline = time.monotonic() + seconds

    def news(receipt: Receipt) -> bool:
        return any(shown.get(name) != device.seq for name, device in receipt.devices.items())

    while True:
        receipt = publisher.wait(signed, news, max(0.0, deadline - time.monotonic()))
        for name, device in receipt.devices.items():
            if shown.get(name) != device.seq:
                _ack_line(name, device)
                shown[name] = device.seq
        single = [d for d in signed.aud if not d.startswith("group:")]
        all_final = bool(single) and all(d in receipt.devices and receipt.devices[d].final for d in single)
        if time.monotonic() >= deadline or (all_final and len(single) == len(signed.aud)):
            return receipt


def _ack_line(name: str, device: DeviceReceipt) -> None:
    zones = []
    for zone, told_ in device.zones.items():
        text = f"{zone} {word(told_.state)}"
        if told_.first_sample_at:
            text += _(", first sound {time}").format(time=told_.first_sample_at[11:23])
        if told_.reason:
            text += f" ({reason(told_.reason)})"
        zones.append(text)
    why = f" ({reason(device.reason)})" if device.reason else ""
    at = device.times.get(device.state, "")[11:23]
    click.echo(safe(f"{at} {name}: {word(device.state)}{why}" + (f" · {'; '.join(zones)}" if zones else "")))


# emergency and silence


@click.command(help=_("Send an emergency at once and follow it to its end; silent devices get it again every 30 s."))
@targets
@click.option("--title", required=True, help=_("What boards show in large letters."))
@click.option("--text", help=_("Spoken, and shown on boards."))
@click.option("--text-lang", default="vi", show_default=True, help=_("The language of the text."))
@click.option(
    "--media",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help=_("A recording or picture."),
)
@click.option("--chime", default="siren", show_default=True, help=_("Sounds first; none: no chime."))
@click.option("--zones", default="*", show_default=True, help=_("Zone selectors with commas."))
@click.option("--minutes", default=30.0, show_default=True, help=_("Valid and repeated at most so long."))
@click.option("--count", default=1, show_default=True, help=_("How often it is played."))
@click.option("--interval", default=10.0, show_default=True, help=_("Seconds between repeats."))
@click.option("--drill", is_flag=True, help=_("An exercise (diễn tập), marked as one."))
@click.option("--wait", type=float, metavar="SECONDS", help=_("Follow it so long at most (else until it ends)."))
@folder
@told
def emergency(
    dir_: Path,
    *,
    iss: str,
    aud: Sequence[str],
    title: str,
    text: str | None,
    text_lang: str,
    media: Sequence[Path],
    chime: str,
    zones: str,
    minutes: float,
    count: int,
    interval: float,
    drill: bool,
    wait: float | None,
) -> None:
    """Exit 0 when every device named, or known, has ended it with something heard or shown."""
    there = Province(dir_)
    if not 0 < minutes <= 24 * 60:
        raise click.UsageError(_("An emergency is valid for at most 24 hours."))
    until = datetime.now().astimezone() + timedelta(minutes=minutes)
    try:
        items = [Item(chime=chime)] if chime not in {"", "none"} else []
        items += [Item(media=there.media(file)) for file in media]
        items += [Item(text=text, lang=text_lang)] if text else []
        args = Broadcast(
            id=f"kc-{datetime.now():%Y%m%d-%H%M%S}",
            title=title,
            class_=Class.EMERGENCY,
            start="now",
            until=until.isoformat(timespec="seconds"),
            zones=[z.strip() for z in zones.split(",")],
            items=items,
            resume=Resume.RESTART,
            repeat=Repeat(count=count, interval_s=interval) if count > 1 else None,
            drill=drill,
        )
        args = msgspec.convert(msgspec.to_builtins(args), Broadcast)
    except (msgspec.ValidationError, ValueError) as error:
        raise ProvinceError(_("Devices would refuse this: {detail}").format(detail=error)) from error
    signed = there.sign(iss, "broadcast", msgspec.to_builtins(args), aud, ttl_s=minutes * 60)
    if len(signed.jws) > EMERGENCY_LIMIT:
        raise ProvinceError(
            _("The emergency has {size} bytes, {limit} are allowed: shorten the text or send a recording.").format(
                size=len(signed.jws), limit=EMERGENCY_LIMIT
            )
        )
    expected = {t for t in aud if not t.startswith("group:")}
    if "group:all" in aud:
        expected |= set(there.settings.devices or [])
    with Publisher(Access.publisher(there)) as publisher:
        click.echo(_("emergency {id} of {iss} to {aud}").format(id=args.id, iss=iss, aud=", ".join(aud)))
        with _standing(publisher, signed, msgspec.to_builtins(args), expected):
            receipt = publisher.pursue(signed, expected, watch=_watching(expected), timeout_s=wait)
    missing = sorted(expected - set(receipt.devices))
    _receipts(receipt, missing)
    if missing or not receipt.devices or any(d.state != "done" for d in receipt.devices.values()):
        raise click.exceptions.Exit(1)


def _watching(expected: set[str]) -> Callable[[str, DeviceReceipt], None] | None:
    """A line for each answer, where there are not too many of them."""
    return _ack_line if len(expected) <= 20 else None


@contextmanager
def _standing(publisher: Publisher, signed: Signed, args: Mapping[str, Any], expected: set[str]) -> Iterator[None]:
    """Say now and then who has not sounded yet, whenever that has changed, and at the end."""
    from province.alerts import Alert, sounding
    from province.screenful import standing

    drill = bool(args.get("drill"))
    alert = Alert(signed.iss, signed.jti, args["id"], args["title"], drill, time.time(), signed.exp or 0.0, set())
    over = threading.Event()
    told = ""

    def tell() -> None:
        nonlocal told
        with publisher.changed:
            said = standing(alert, sounding(publisher.receipt(signed), expected))
        if said != told:
            click.echo(said)
        told = said

    def keep_telling() -> None:
        while not over.wait(2.0):
            tell()

    teller = threading.Thread(target=keep_telling, name="standing", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
    tell()


def _receipts(receipt: Receipt, missing: Sequence[str]) -> None:
    rows: list[list[object]] = []
    for name, device in sorted(receipt.devices.items()):
        first = [z.first_sample_at[11:23] for z in device.zones.values() if z.first_sample_at]
        why = [reason(r) for r in (device.reason, *(z.reason for z in device.zones.values())) if r]
        received = device.times.get("received", "")[11:23]
        rows.append([name, received, min(first, default=""), word(device.state), ", ".join(dict.fromkeys(why))])
    rows += [[name, "", "", _("no answer"), ""] for name in missing]
    table([_("device"), _("received, verified"), _("first sound"), _("end"), _("why not")], rows)


@click.command(help=_("Cut everything that comes from above at once (ngắt toàn bộ), or lift the cut."))
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--as", "iss", required=True, metavar="AUTHORITY", help=_("Who signs."))
@click.option(
    "--to", "scope", default="group:all", show_default=True, metavar="TARGET", help=_("Device id or group:NAME.")
)
@click.option("--zones", default="*", show_default=True, help=_("Zone selectors with commas."))
@click.option("--minutes", type=float, help=_("Ends by itself after so long."))
@click.option("--include-local", is_flag=True, help=_("Local buttons and programmes too: at most 24 hours."))
@click.option("--wait", default=5.0, show_default=True, metavar="SECONDS", help=_("Show acknowledgements for so long."))
@folder
@told
def silence(
    dir_: Path,
    *,
    state: str,
    iss: str,
    scope: str,
    zones: str,
    minutes: float | None,
    include_local: bool,
    wait: float,
) -> None:
    """Publish the retained state order."""
    there = Province(dir_)
    on = state == "on"
    args: dict[str, Any] = {"scope": scope, "on": on, "zones": [z.strip() for z in zones.split(",")]}
    if minutes is not None and on:
        until = datetime.now().astimezone() + timedelta(minutes=minutes)
        args["until"] = until.isoformat(timespec="seconds")
    if include_local:
        if on and (minutes is None or minutes > 24 * 60):
            raise click.UsageError(_("--include-local needs --minutes, at most 24 hours."))
        args["include_local"] = True
    signed = there.sign(iss, "silence", args, [scope])
    with Publisher(Access.publisher(there)) as publisher:
        publisher.send(signed)
        text = _("silence ordered for {scope}") if on else _("silence lifted for {scope}")
        click.echo(text.format(scope=scope))
        follow_acks(publisher, signed, wait)


# CAP


@click.command(help=_("Send a CAP 1.2 alert, update or cancel, and follow it. FILE: the XML, - for standard input."))
@click.argument("file", type=click.File("rb"))
@click.option("--as", "--iss", "iss", metavar="AUTHORITY", help=_("Who signs."))
@click.option("--to", multiple=True, metavar="TARGET", help=_("Device id or group:NAME, instead of the alert's areas."))
@click.option("--dry-run", is_flag=True, help=_("Print the orders as JSON; sign and send nothing."))
@click.option(
    "--class",
    "class_",
    type=click.Choice([c.value for c in Class]),
    help=_("Instead of what urgency and severity say."),
)
@click.option("--zones", help=_("Zone selectors with commas, instead of all zones."))
@click.option("--chime", help=_("Sounds first (siren before an emergency, else gong); none: no chime."))
@click.option("--voice", "voices", multiple=True, metavar="LANG", help=_("A language that the stations can speak."))
@click.option(
    "--media-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=_("Where the alert's recordings lie, under the names in their addresses."),
)
@click.option("--minutes", default=60.0, show_default=True, help=_("How long it is valid if it does not say so."))
@click.option(
    "--count", default=1, show_default=True, help=_("How often it is played; 0: until it is cancelled or expires.")
)
@click.option("--interval", default=60.0, show_default=True, help=_("Seconds between repeats."))
@click.option(
    "--wait", type=float, metavar="SECONDS", help=_("Follow it so long (an emergency: to its end; else 15 s).")
)
@folder
@told
def cap(
    dir_: Path,
    *,
    file: Any,
    iss: str | None,
    to: Sequence[str],
    dry_run: bool,
    class_: str | None,
    zones: str | None,
    chime: str | None,
    voices: Sequence[str],
    media_dir: Path | None,
    minutes: float,
    count: int,
    interval: float,
    wait: float | None,
) -> None:
    """Exit 0 when there was nothing to send, or every device named, or known, has taken it and none has failed."""
    from agent.link import topics
    from drivers.espeak import VOICES
    from province import cap as cap_

    if iss is None and not dry_run:
        raise click.UsageError(_("Say who signs with --as, or look at it with --dry-run."))
    if minutes <= 0 or count < 0:
        raise click.UsageError(_("--minutes is more than 0, --count at least 0."))
    try:
        for target in to:
            topics.order(target)
    except ValueError as error:
        raise ProvinceError(str(error)) from error
    there = Province(dir_)
    choices = cap_.Choices(
        voices=frozenset(v.lower() for v in voices) or frozenset(VOICES),
        limits={c: EMERGENCY_LIMIT if c is Class.EMERGENCY else ORDER_LIMIT for c in Class},
        to=tuple(to),
        class_=None if class_ is None else Class(class_),
        zones=tuple(z.strip() for z in zones.split(",")) if zones else (),
        chime=chime,
        repeat=None if count == 1 else Repeat(count=count or None, interval_s=interval),
        minutes=minutes,
    )
    folders = [media_dir] if media_dir is not None else []
    with tempfile.TemporaryDirectory() as scratch:
        if dry_run:
            there.settings = msgspec.structs.replace(there.settings, media_dir=scratch)
        alert = cap_.parse(file.read(cap_.FILE_LIMIT + 1))
        now = datetime.now().astimezone().replace(microsecond=0)
        made = cap_.plan(alert, choices, cap_.Areas.load(dir_), cap_.Recordings(folders, there.media), now)
    for note in made.notes:
        click.echo(safe(note), err=True)
    if dry_run:
        shown = [{"op": o.op, "aud": o.aud, "ttl_s": o.ttl_s, "args": o.args} for o in made.orders]
        click.echo(json.dumps(shown, ensure_ascii=False, indent=1))
    elif made.orders and iss is not None and not _send_cap(there, iss, made.orders, wait):
        raise click.exceptions.Exit(1)


def _send_cap(there: Province, iss: str, orders: Sequence[CapOrder], wait: float | None) -> bool:
    """Sign, send and follow; whether it went well."""
    signed = [there.sign(iss, o.op, o.args, o.aud, ttl_s=o.ttl_s) for o in orders]
    for order, made in zip(orders, signed, strict=True):
        limit = EMERGENCY_LIMIT if order.class_ is Class.EMERGENCY else ORDER_LIMIT
        if len(made.jws) > limit:
            raise ProvinceError(
                _("The order has {size} bytes, {limit} are allowed.").format(size=len(made.jws), limit=limit)
            )
    pairs = list(zip(orders, signed, strict=True))
    first = [(o, s) for o, s in pairs if not o.afterwards]
    later = [s for o, s in pairs if o.afterwards]
    receipts: dict[str, Receipt] = {}
    failures: list[ProvinceError] = []
    with Publisher(Access.publisher(there)) as publisher:
        for order, made in first:
            click.echo(_name(order, made))
            if len(first) > 1:
                publisher.send(made)  # in this order; pursuing them sends them again, which changes nothing

        def follow(order: CapOrder, made: Signed) -> None:
            ends = wait if wait is not None or order.class_ is Class.EMERGENCY else 15.0
            named = _expected(there, made)
            try:
                urgent = order.class_ is Class.EMERGENCY
                with _standing(publisher, made, order.args, named) if urgent else nullcontext():
                    receipts[made.jti] = publisher.pursue(
                        made, named, watch=_watching(named), timeout_s=ends, ended=_ended(order)
                    )
            except ProvinceError as error:
                failures.append(error)

        # Daemons, so that Ctrl-C ends the command and not only the wait for them.
        following = [threading.Thread(target=follow, args=pair, daemon=True) for pair in first]
        for thread in following:
            thread.start()
        if later:
            deadline = time.monotonic() + (TAKEN_OVER_S if wait is None else min(wait, TAKEN_OVER_S))
            for _order, made in first:
                on = functools.partial(_taken_over, _expected(there, made))
                publisher.wait(made, on, max(0.0, deadline - time.monotonic()))
            for made in later:
                publisher.send(made)
                click.echo(_("the former bulletins are cancelled everywhere"))
        for thread in following:
            thread.join()
        if failures:
            raise failures[0]
    good: dict[str, list[bool | None]] = {}
    for order, made in first:
        receipt = receipts[made.jti]
        missing = sorted(_expected(there, made) - set(receipt.devices))
        click.echo(_name(order, made))
        _receipts(receipt, missing)
        for name in missing:
            good.setdefault(name, []).append(False)
        for name, device in receipt.devices.items():
            good.setdefault(name, []).append(_went_well(order, device, single=len(first) == 1))
    return bool(good) and all(False not in states and True in states for states in good.values())


def _name(order: CapOrder, made: Signed) -> str:
    what = order.args.get("id") or ", ".join(order.args["ids"])
    kind = _("cancel") if order.class_ is None else word(order.class_)
    return safe(f"{kind} {what} → {', '.join(made.aud)}")


def _expected(there: Province, made: Signed) -> set[str]:
    known = set(there.settings.devices or []) if "group:all" in made.aud else set()
    return known | {t for t in made.aud if not t.startswith("group:")}


def _taken_over(named: set[str], receipt: Receipt) -> bool:
    """Whether the new bulletin is on, or ended, at every device that was named or has answered."""
    on = {name for name, device in receipt.devices.items() if _is_on(device)}
    return bool(on) and (named | set(receipt.devices)) <= on


def _is_on(device: DeviceReceipt) -> bool:
    """Heard or shown in each zone that takes it, or ended."""
    zones = device.zones.values()
    return device.final or (device.state == "running" and all(z.first_sample_at or z.reason for z in zones))


def _ended(order: CapOrder) -> Callable[[DeviceReceipt], bool] | None:
    """What is repeated until it is cancelled is followed until it is on; all else to its end."""
    return _is_on if _endless(order) else None


def _endless(order: CapOrder) -> bool:
    repeat = order.args.get("repeat")
    return repeat is not None and "count" not in repeat


def _went_well(order: CapOrder, device: DeviceReceipt, *, single: bool) -> bool | None:
    """None: another order of the same alert says it. A station without boards refuses the boards' order."""
    if not single and device.reason in {Reason.NO_SUCH_ZONE, Reason.SUPERSEDED}:
        return None
    if order.class_ in {Class.NORMAL, Class.PRIORITY}:
        return device.state not in {"rejected", "failed"}
    return device.state == "done" or (_endless(order) and device.state == "running")


# not built


def _not_built(name: str) -> None:
    click.echo(_("“tram province {name}” is not built yet.").format(name=name), err=True)
    raise click.exceptions.Exit(2)


@click.command(help=_("Release an update (not built yet)."), context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1)
def release(rest: Sequence[str]) -> None:
    """Say so."""
    _not_built("release")


# watch and report


@click.command(help=_("Watch the fleet live. Everything that arrives is kept in the record."))
@click.option(
    "--record",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=_("The record (record.sqlite in the folder)."),
)
@click.option("--once", is_flag=True, help=_("Show the fleet as it is and end; records nothing."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object a line; with --once the whole record."))
@click.option("--period", default=60.0, show_default=True, help=_("Seconds between beats."))
@folder
@told
def watch(dir_: Path, *, file: Path | None, once: bool, as_json: bool, period: float) -> None:
    """A table that renews itself, lines when piped, JSON if asked."""
    from province.alerts import alert_of
    from province.screenful import rows, standings, titles
    from province.watch import Watcher

    there = Province(dir_)
    record = Record(period_s=period, known=there.settings.devices)
    path = file or dir_ / "record.sqlite"
    journal: Journal | None = None
    kept: list[Message] = []
    if not once:
        journal = Journal(path)
        kept = journal.load(record)
    elif path.exists():
        earlier = Journal(path)
        kept = earlier.load(record)
        earlier.close()
    lines = as_json or not sys.stdout.isatty()
    watcher = Watcher(Access.watcher(there), record, journal, hear=_line(as_json) if lines and not once else None)
    for message in kept:
        alert = alert_of(message.topic, message.payload, message.at)
        if alert is not None:
            watcher.alerts.take(alert)
    try:
        watcher.start()
        if once:
            watcher.wait_for(lambda _record: False, 2.0)
            with watcher.changed:
                if as_json:
                    click.echo(dumps(record.export()), nl=False)
                else:
                    table(titles(), rows(record, time.time()))
                    for said in standings(watcher, time.time()):
                        click.echo(said)
            return
        told: list[str] = []
        if lines:
            while not watcher.failure:
                watcher.wait_for(lambda _record: watcher.failure is not None, 2.0)
                with watcher.changed:
                    now = standings(watcher, time.time())
                for said in now if not as_json else ():
                    if said not in told:
                        click.echo(said)
                told = now
        else:
            _live(watcher)
        raise ProvinceError(_("Watching has ended: {why}").format(why=watcher.failure))
    except KeyboardInterrupt:
        pass
    finally:
        watcher.stop()


def _line(as_json: bool) -> Callable[[Taken], None]:
    def show(taken: Taken) -> None:
        now = stamp(time.time())
        if as_json:
            if taken.new:
                out = {"device": taken.device, "at": now, "kind": taken.leaf, "body": taken.body}
                print(json.dumps(out, ensure_ascii=False), flush=True)
            for alarm in taken.alarms:
                out = {
                    "device": alarm.device,
                    "at": stamp(alarm.at),
                    "kind": "alarm",
                    "body": msgspec.to_builtins(alarm),
                }
                print(json.dumps(out, ensure_ascii=False), flush=True)
            return
        from province.screenful import sentence

        for text in sentence(taken):
            print(safe(f"{now[11:23]} {taken.device}: {text}"), flush=True)

    return show


def _live(watcher: Any) -> None:
    from rich.live import Live

    from province.screenful import screen

    with Live(screen(watcher), refresh_per_second=2, screen=False) as live:
        while not watcher.failure:
            watcher.wait_for(lambda _record: False, 0.5)
            live.update(screen(watcher))


@click.command(help=_("Per device: share of time online, programmes played, refusals, alarms; from the record."))
@click.option(
    "--record",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=_("The record (record.sqlite in the folder)."),
)
@click.option("--from", "since", type=click.DateTime(), help=_("Begin (30 days ago)."))
@click.option("--to", "until", type=click.DateTime(), help=_("End (now)."))
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@folder
@told
def report(dir_: Path, *, file: Path | None, since: datetime | None, until: datetime | None, form: str) -> None:
    """Print it."""
    path = file or dir_ / "record.sqlite"
    if not path.exists():
        raise ProvinceError(_("There is no record {path}; tram province watch keeps one.").format(path=path))
    record = Record()
    journal = Journal(path)
    journal.load(record)
    journal.close()
    end = until.astimezone().timestamp() if until else time.time()
    begin = since.astimezone().timestamp() if since else end - 30 * 86400
    found = record.report(begin, end)
    if form == "json":
        click.echo(json.dumps({"from": stamp(begin), "to": stamp(end), "devices": found}, ensure_ascii=False, indent=1))
        return
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(found[0]) if found else ["device"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    click.echo(out.getvalue(), nl=False)
