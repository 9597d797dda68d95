"""What the province prepares for a device: the folder for its card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from agent.model.loader import examine
from province.store import Province, ProvinceError, replace_file

IDENTITY = "/var/lib/tram/identity"
CARD = "tram"
"""The folder's name on the card."""


def prepare(there: Province, device: str, template: Path, out: Path, *, url: str, code: str) -> Path:
    """Write the folder `tram` for a card into `out`; returns it. ProvinceError when the template is no configuration.

    From the template come zones, relays, buttons and all else; who the device is, where the province is and what it
    trusts is put in here. Its own keys are named and not made: the device makes them.
    """
    try:
        config: Any = yaml.safe_load(template.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProvinceError(f"{template}: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("device"), dict):
        raise ProvinceError(f"{template} is not a station's configuration")
    config["device"]["id"] = device
    broker = there.settings.broker
    config["mqtt"] = {
        **(config.get("mqtt") or {}),
        "host": broker.host,
        "port": broker.port,
        "ca": "pki/ca.crt",
        "cert": f"{IDENTITY}/device.crt",
        "key": f"{IDENTITY}/device.key",
    }
    config["enrolment"] = {"url": url}
    trust = {**(config.get("trust") or {}), "root_keys": "trust/roots.json", "authorities": "trust/authorities.json"}
    if trust.get("station_authority"):
        trust["station_key"] = f"{IDENTITY}/station.jwk"
    config["trust"] = trust
    for own in ("data_dir", "run_dir"):
        config.pop(own, None)

    folder = out / CARD
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
