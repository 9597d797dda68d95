"""`tram doctor`: is everything there that the station needs, and what to do where it is not."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from agent.cli import show
from agent.cli.asking import NotRunning, Refused, ask
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _, say
from agent.model.config import AlsaOutput, HdmiOutput, Mqtt, Output, Parent, Station, WavOutput
from agent.model.loader import examine

NETWORK_S = 5.0
SOON = timedelta(days=30)
LOW_DISK = 500 * 1024 * 1024


class Finding(Struct, frozen=True):
    """One line: what was looked at, how it is, and what to do. "none": it does not apply or cannot be told."""

    what: str
    state: Literal["good", "warning", "bad", "none"]
    detail: str
    remedy: str = ""


def _good(what: str, detail: str) -> Finding:
    return Finding(what, "good", detail)


def _bad(what: str, detail: object, remedy: str) -> Finding:
    return Finding(what, "bad", str(detail), remedy)


def _warning(what: str, detail: object, remedy: str) -> Finding:
    return Finding(what, "warning", str(detail), remedy)


@click.command(
    help=_(
        "Examine the whole station: files, keys, broker, clock, disk, sound, pins, speech. Exit 1 if anything is bad."
    )
)
@common()
@pass_context
def doctor(context: Context) -> None:
    """Look at everything; one failed look does not stop the others."""
    station, problems = examine(context.config)
    errors = [p for p in problems if p.level == "error"]
    what = _("Configuration")
    found: list[Finding] = []
    if station is None:
        found.append(_bad(what, _("{count} mistakes").format(count=len(errors)), _("See “tram check”.")))
    else:
        found.append(_good(what, context.config))
        found += [_warning(p.path, say(p.reason), say(p.remedy)) for p in problems]
        for check in CHECKS:
            found += check(station)
    words = {"good": _("good"), "warning": _("attention"), "bad": _("bad"), "none": _("–")}
    styles = {"good": "green", "warning": "yellow", "bad": "bold red", "none": "dim"}
    show.table(
        [_("Check"), _("Result"), _("Found"), _("What to do")],
        [[f.what, words[f.state], f.detail, f.remedy] for f in found],
        styles=[styles[f.state] for f in found],
    )
    if any(f.state == "bad" for f in found):
        raise click.exceptions.Exit(1)


def _folders(station: Station) -> Iterator[Finding]:
    for what, path in ((_("Data folder"), station.data_dir), (_("Folder of sockets"), station.run_dir)):
        if not Path(path).is_dir():
            yield _bad(
                what,
                _("{path} is not there").format(path=path),
                _("Create it for the user tram: install -d -o tram {path}").format(path=path),
            )
        elif not os.access(path, os.W_OK | os.X_OK):
            yield _bad(
                what,
                _("{path} cannot be written by this user").format(path=path),
                _("Run the command as the user tram, or: chown tram {path}").format(path=path),
            )
        else:
            yield _good(what, path)


def _disk(station: Station) -> Iterator[Finding]:
    what = _("Disk")
    path = next(p for p in (Path(station.data_dir), *Path(station.data_dir).parents) if p.exists())
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield _bad(
            what,
            _("{path} is read-only").format(path=path),
            _("The card may be worn out: replace it. Emergencies still sound."),
        )
        return
    free = shutil.disk_usage(path).free
    detail = _("{free} MB free").format(free=free // 1024**2)
    if free < LOW_DISK:
        yield _warning(what, detail, _("Make room, or lower content.max_mb."))
    else:
        yield _good(what, detail)


def _certificate(station: Station) -> Iterator[Finding]:
    what = _("Certificate")
    if station.mqtt is None:
        yield Finding(what, "none", _("the station works alone (no “mqtt:”)"))
        return
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(Path(station.mqtt.cert).read_bytes())
    except (OSError, ValueError) as error:
        yield _bad(
            what,
            error,
            _("Ask the province for a new certificate and put it at {path}.").format(path=station.mqtt.cert),
        )
        return
    names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [station.device.id]:
        yield _bad(
            what,
            _("it is for “{name}”, not for “{device}”").format(name=", ".join(names), device=station.device.id),
            _("device.id and the certificate's CN must be the same."),
        )
    now, end = datetime.now(UTC), certificate.not_valid_after_utc
    detail = _("valid until {date}").format(date=end.strftime("%d/%m/%Y"))
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc.strftime("%d/%m/%Y")
        yield _bad(what, _("valid only from {date}").format(date=begin), _("Check this machine's clock."))
    elif now > end:
        yield _bad(what, detail, _("It has expired: ask the province for a new one."))
    elif now > end - SOON:
        yield _warning(what, detail, _("It expires soon: ask the province for a new one."))
    else:
        yield _good(what, detail)


def _trust(station: Station) -> Iterator[Finding]:
    what = _("Authorities")
    from agent.trust.authorities import Trusted

    try:
        roots, first = Path(station.trust.root_keys).read_bytes(), Path(station.trust.authorities).read_bytes()
        Trusted.first(roots, first)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the files is the finding
        yield _bad(what, error, _("Without them no order is obeyed: get both files from the province again."))
    else:
        yield _good(what, _("signed by the roots"))


def _broker(station: Station) -> Iterator[Finding]:
    what = _("Broker")
    mqtt = station.mqtt
    if mqtt is None:
        yield Finding(what, "none", _("the station works alone (no “mqtt:”)"))
    else:
        yield _reached(what, "mqtt", mqtt)


def _clusters(station: Station) -> Iterator[Finding]:
    """The way to the station of a cluster, or a station's own for its clusters."""
    from agent.link import mosquitto

    what = _("Clusters")
    if station.parent is not None:
        yield _reached(_("Parent station"), "parent", station.parent)
    link = station.cluster_link
    if link is None:
        return
    if mosquitto.program() is None:
        yield _bad(what, _("mosquitto is not installed"), "apt install mosquitto")
        return
    for name in ("ca", "cert", "key"):
        path = getattr(link, name)
        if not os.access(path, os.R_OK):
            remedy = _("Ask the province for a certificate for the local network: cluster_link.{name}.").format(
                name=name
            )
            yield _bad(what, _("{path} cannot be read").format(path=path), remedy)
            return
    yield _good(what, _("{count} on {host}:{port}").format(count=len(station.fleet()), host=link.host, port=link.port))


def _reached(what: str, section: str, there: Mqtt | Parent) -> Finding:
    """Whether a broker takes us, by the certificate that the section names."""
    import socket

    from agent.link.tls import CredentialError, context

    place = f"{there.host}:{there.port}"
    try:
        tls = context(there.ca, there.cert, there.key, check_dates=True, section=section)
        with (
            socket.create_connection((there.host, there.port), NETWORK_S) as plain,
            tls.wrap_socket(plain, server_hostname=there.host) as secure,
        ):
            return _good(what, f"{place}, {secure.version()}")
    except CredentialError as error:
        return _bad(what, error, _("Get the station's certificate and key from the province again."))
    except ssl.SSLCertVerificationError as error:
        remedy = _("Check this machine's clock, {section}.ca and {section}.host.").format(section=section)
        return _bad(what, f"{place}: {error.verify_message}", remedy)
    except (OSError, ValueError) as error:
        remedy = _("Check the network and {section}.host. The station works on without.").format(section=section)
        return _bad(what, f"{place}: {error}", remedy)


def _clock(station: Station) -> Iterator[Finding]:
    what = _("Clock")
    answer = _output(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    if answer is None or answer.strip() not in {"yes", "no"}:
        yield Finding(what, "none", _("whether it is synchronised cannot be told here"))
    elif answer.strip() == "yes":
        yield _good(what, _("synchronised"))
    else:
        yield _warning(
            what,
            _("not synchronised"),
            _("Check the network and the service chrony. Normal programmes wait for the time."),
        )


def _outputs(station: Station) -> Iterator[Output]:
    for zone in station.zones:
        yield zone.output
        if isinstance(zone.output, AlsaOutput | WavOutput):
            yield from zone.output.also


_TRY_CARD = """
import alsaaudio, sys
try:
    alsaaudio.PCM(type=alsaaudio.PCM_PLAYBACK, mode=alsaaudio.PCM_NONBLOCK, device=sys.argv[1]).close()
except alsaaudio.ALSAAudioError as error:
    print(error, end="")
"""
"""Opens a card in a child, because ALSA writes its own complaints to stderr."""


def _sound(station: Station) -> Iterator[Finding]:
    what = _("Sound card")
    devices = sorted({o.device for o in _outputs(station) if isinstance(o, AlsaOutput)})
    if not devices:
        yield Finding(what, "none", _("no zone uses one"))
        return
    for device in devices:
        answer = _output([_python(), "-c", _TRY_CARD, device])
        if answer is None:
            yield _bad(what, _("ALSA does not work here"), _("Install the part “sound”: libasound2 and pyalsaaudio."))
        elif not answer:
            yield _good(what, device)
        elif "busy" in answer.lower():
            yield _good(what, _("{device} is in use").format(device=device))
        else:
            yield _bad(what, answer, _("List the cards with “aplay -L” and correct zones[].output.device."))


def _boards(station: Station) -> Iterator[Finding]:
    what = _("Board output")
    devices = [o.device for o in _outputs(station) if isinstance(o, HdmiOutput)]
    if not devices:
        yield Finding(what, "none", _("no zone uses one"))
    for device in devices:
        if not Path(device).exists():
            yield _bad(
                what, _("there is no {path}").format(path=device), _("Plug the display in; the board comes by itself.")
            )
        elif not os.access(device, os.R_OK | os.W_OK):
            yield _bad(
                what,
                _("{path} may not be used by this user").format(path=device),
                _("Add the user to the group video."),
            )
        else:
            yield _good(what, device)


def _pins(station: Station) -> Iterator[Finding]:
    what = _("Pins (GPIO)")
    if station.hardware.gpio == "virtual" or not (station.relays or station.buttons):
        yield Finding(what, "none", _("virtual") if station.hardware.gpio == "virtual" else _("no relays and buttons"))
        return
    chips = sorted(Path("/dev").glob("gpiochip*"))
    usable = [c for c in chips if os.access(c, os.R_OK | os.W_OK)]
    if not chips:
        yield _bad(
            what, _("there is no /dev/gpiochip*"), _("Relays and buttons need a board with GPIO, as a Raspberry Pi.")
        )
    elif not usable:
        yield _bad(
            what, _("{path} may not be used by this user").format(path=chips[0]), _("Add the user to the group gpio.")
        )
    else:
        yield _good(what, usable[0].name)


def _speech(station: Station) -> Iterator[Finding]:
    what = _("Speech")
    for lang in sorted({"vi", *(m.lang for m in station.stored)}):
        listing = _output(["espeak-ng", f"--voices={lang}"])
        if listing is None:
            yield _bad(what, _("espeak-ng does not run"), _("Install it: apt install espeak-ng"))
            return
        if len(listing.splitlines()) > 1:
            yield _good(what, lang)
        else:
            detail = _("no voice for “{lang}”").format(lang=lang)
            yield _warning(what, detail, _("Record messages in this language with “tram record”."))


def _decoder(station: Station) -> Iterator[Finding]:
    what = _("Decoder (libVLC)")
    script = "import vlc; print(vlc.libvlc_get_version().decode())"
    version = _output([_python(), "-c", script])
    if version is None:
        yield _bad(what, _("libVLC cannot be loaded"), _("Install it: apt install libvlc5 vlc-plugin-base"))
    else:
        yield _good(what, version.strip())


def _fonts(station: Station) -> Iterator[Finding]:
    what = _("Fonts")
    if not any(z.kind == "screen" for z in station.zones):
        yield Finding(what, "none", _("no board"))
        return
    try:
        from agent.screen.fonts import Fonts, NoFontError
    except ImportError as error:
        yield _bad(what, error, _("Install the part “board”: Pillow."))
        return
    try:
        Fonts()
    except NoFontError as error:
        yield _bad(what, error, _("Install them: apt install fonts-noto-core fonts-dejavu-core"))
    else:
        yield _good(what, _("with Vietnamese letters"))


def _processes(station: Station) -> Iterator[Finding]:
    what = _("Emergency core (voice)")
    path = str(Path(station.run_dir) / "voice.sock")
    listening = Path("/proc/net/unix")
    # Looked up, not connected to: a second connection would take the agent's place.
    if listening.exists() and any(
        line.endswith(f" {path}") for line in listening.read_text(errors="replace").splitlines()
    ):
        yield _good(what, path)
    else:
        yield _bad(
            what, _("it does not run"), _("Start it: systemctl start tram-voice. Until then buttons do nothing.")
        )
    what = _("Agent")
    try:
        document = ask(station.run_dir, "status", timeout_s=NETWORK_S)
    except (NotRunning, Refused) as error:
        yield _bad(what, error.format_message(), _("Start it: systemctl start tram"))
        return
    faults = document.get("faults") if isinstance(document, dict) else None
    if faults:
        yield _warning(what, _("it reports {count} faults").format(count=len(faults)), _("See “tram status”."))
    else:
        yield _good(what, _("it answers, without faults"))


def _playlog(station: Station) -> Iterator[Finding]:
    from agent.store import playlog

    what = _("Play log")
    path = Path(station.data_dir) / "tram.db"
    if not path.exists():
        yield Finding(what, "none", _("there is none yet"))
        return
    try:
        found = playlog.read(path)
    except playlog.PlayLogError as error:
        yield _bad(
            what,
            error,
            _("Save the folder {path} for examination; emergencies still sound.").format(path=station.data_dir),
        )
        return
    problems = playlog.verify(found.entries, found.checkpoint)
    if problems:
        yield _bad(what, problems[0].detail, _("Save the log with “tram log --format json”; see “tram log --verify”."))
    else:
        yield _good(what, _("whole, {count} entries").format(count=len(found.entries)))


CHECKS: tuple[Callable[[Station], Iterator[Finding]], ...] = (
    _folders,
    _disk,
    _certificate,
    _trust,
    _broker,
    _clusters,
    _clock,
    _sound,
    _boards,
    _pins,
    _speech,
    _decoder,
    _fonts,
    _processes,
    _playlog,
)


def _output(command: list[str]) -> str | None:
    """What a tool prints, None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _python() -> str:
    return sys.executable
