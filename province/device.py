"""What the province prepares for a device: the folder for its card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from agent.model.loader import examine
from province.pki import Pki
from province.store import Province, ProvinceError, replace_file

IDENTITY = "/var/lib/tram/identity"
CARD = "tram"
"""The folder's name on the card."""


def prepare(
    there: Province, device: str, template: Path, out: Path, *, url: str, code: str, lan: Sequence[str] = ()
) -> Path:
    """Write the folder `tram` for a card into `out`; returns it. ProvinceError when the template is no configuration.

    From the template come zones, relays, buttons and all else; who the device is, where the province is and what it
    trusts is put in here. Its own keys are named and not made: the device makes them. Only for a station with clusters
    of its own a server certificate is made, with its key: for the names `lan` by which its clusters call it.
    """
    try:
        config: Any = yaml.safe_load(template.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProvinceError(f"{template}: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("device"), dict):
        raise ProvinceError(f"{template} is not a station's configuration")
    config["device"]["id"] = device
    broker = there.settings.broker
    mine = {"ca": "pki/ca.crt", "cert": f"{IDENTITY}/device.crt", "key": f"{IDENTITY}/device.key"}
    config["mqtt"] = {**(config.get("mqtt") or {}), "host": broker.host, "port": broker.port, **mine}
    if config.get("parent"):
        config["parent"] |= mine
    config["enrolment"] = {"url": url}
    trust = {**(config.get("trust") or {}), "root_keys": "trust/roots.json", "authorities": "trust/authorities.json"}
    if trust.get("station_authority"):
        trust["station_key"] = f"{IDENTITY}/station.jwk"
    config["trust"] = trust
    for own in ("data_dir", "run_dir"):
        config.pop(own, None)

    if (config.get("content") or {}).get("ca"):
        config["content"]["ca"] = "pki/ca.crt"

    folder = out / CARD
    if config.get("cluster_link"):
        config["cluster_link"] |= {"ca": "pki/ca.crt", **_lan(there, device, lan, folder)}
    for name, source in (
        ("pki/ca.crt", there.path(there.settings.ca)),
        ("trust/roots.json", there.dir / "root_keys.json"),
        ("trust/authorities.json", there.dir / "authorities.json"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    head = f"# {device}: made by `tram province device` from {template.name}.\n"
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
    replace_file(folder / "station.yaml", (head + text).encode())
    _station, problems = examine(folder / "station.yaml")
    errors = [p for p in problems if p.level == "error"]
    if errors:
        raise ProvinceError("; ".join(f"{p.path}: {p.reason}" for p in errors))
    replace_file(folder / "code.txt", code.encode() + b"\n", 0o600)
    return folder


def _lan(there: Province, device: str, names: Sequence[str], folder: Path) -> dict[str, str]:
    """A server certificate and its key on the card; the members of the configuration that name them."""
    if not names:
        raise ProvinceError(
            f"{device} has a cluster_link: say with --lan by what name or address its clusters call it in their network"
        )
    made = Pki(there.dir / "pki").server(f"lan-{device}", list(names))
    (folder / "pki").mkdir(parents=True, exist_ok=True)
    replace_file(folder / "pki" / "lan.crt", made.cert.read_bytes())
    replace_file(folder / "pki" / "lan.key", made.key.read_bytes(), 0o600)
    return {"cert": "pki/lan.crt", "key": "pki/lan.key"}
