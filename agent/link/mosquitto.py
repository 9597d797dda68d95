"""Mosquitto's configuration, written in one place: for the province's reference broker and for a station's own.

Who a client is, is the name in its certificate; what it may do is written per name (CONTRACT section 3).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from agent.link import topics

CONFIGURATION = "mosquitto.conf"
ACCESS = "acl"


class Listener(Struct, frozen=True, kw_only=True):
    """A TLS listener: everyone shows a certificate of `ca` that is not on the list `crl`, if there is one.

    `named`: a client's MQTT id is its certificate's name.
    """

    host: str
    port: int
    ca: str
    cert: str
    key: str
    crl: str | None = None
    named: bool = False
    most: int | None = None
    """Connections at once."""


def device_access(
    devices: Mapping[str, Sequence[str]], clusters: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Lines of an access list by which devices write their own topics and read their own and their groups'.

    `clusters`: station → the devices for which it stands in, whose topics it reads and writes beside its own.
    """
    lines: list[str] = []
    for device, groups in devices.items():
        lines += ["", f"user {device}"]
        below = list((clusters or {}).get(device, ()))
        for one in (device, *below):
            lines += [f"topic write {topics.up(one, leaf)}" for leaf in topics.UP]
        lines.append(f"topic read {topics.up(device, 'state')}")
        for target in (*topics.targets(device, list(groups)), *below):
            lines += [f"topic read {f}" for f in topics.inbound(target)]
    return lines


def write(
    folder: Path,
    access: str,
    listener: Listener,
    *,
    settings: Iterable[str],
    socket: Path | None = None,
    max_packet_bytes: int = 2**20,
) -> Path:
    """Write configuration and access list into `folder` and return the configuration's path.

    `settings` are further lines. `socket`: a Unix socket for this user's own processes, which need no certificate.
    """
    listed = folder / ACCESS
    listed.write_text(access, "utf-8")
    listed.chmod(0o600)
    lines = [
        # As root Mosquitto would become a user that may read neither our keys nor this folder.
        *(["user root"] if os.geteuid() == 0 else []),
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        *settings,
        f"max_packet_size {max_packet_bytes}",
        "set_tcp_nodelay true",
        "sys_interval 0",
        f"acl_file {listed}",
        f"allow_anonymous {'false' if socket is None else 'true'}",
        *([] if socket is None else [f"listener 0 {socket}"]),
        f"listener {listener.port} {listener.host}",
        f"cafile {listener.ca}",
        *([] if listener.crl is None else [f"crlfile {listener.crl}"]),
        f"certfile {listener.cert}",
        f"keyfile {listener.key}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        *(["use_username_as_clientid true"] if listener.named else []),
        *([] if listener.most is None else [f"max_connections {listener.most}"]),
    ]
    path = folder / CONFIGURATION
    path.write_text("\n".join(lines) + "\n", "utf-8")
    path.chmod(0o600)
    return path


def program() -> str | None:
    """Where Mosquitto is, None when it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
