"""The wiring tables are those of the ready configurations: each relay with its pin, terminal and rest position."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.model.config import Station
from agent.model.loader import load

ROOT = Path(__file__).parents[3]
SECTIONS = re.split(r"^## ", (ROOT / "docs" / "wiring.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
KINDS = {"fm-transmitter", "selector-amplifier", "mixer-and-amplifier", "fm-pole-receivers"}
"""Both FM bands are one: they are wired alike."""


def ready() -> dict[str, str]:
    """Configuration → its section."""
    found = {}
    for section in SECTIONS:
        named = re.search(r"Configuration: \[config/([a-z-]+)\.yaml\]", section)
        if named:
            found[named[1]] = section
    return found


def rows(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def wired(station: Station) -> set[tuple[str, str]]:
    """What stands in the first two columns of a table, by the configuration."""
    found: set[tuple[str, str]] = set()
    for relay in station.relays:
        found.add((f"`{relay.id}`", f"{relay.pin}" + ("" if relay.active_high else " (active low)")))
        if relay.feedback is not None:
            found.add((f"`{relay.id}`, contact", f"{relay.feedback.pin} in"))
            if relay.feedback.rest_pin is not None:
                found.add((f"`{relay.id}`, rest contact", f"{relay.feedback.rest_pin} in"))
    return found | {(f"`{s.id}`", f"I²C {s.address:#x}") for s in station.sensors}


def test_every_kind_of_station_has_a_table() -> None:
    assert set(ready()) == KINDS


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_table_names_each_relay_with_its_pin_terminal_and_position_without_power(name: str) -> None:
    station = load(ROOT / "config" / f"{name}.yaml")
    table = rows(ready()[name])
    told = {(row[0], row[1]) for row in table if row[0] != "–"}
    assert told == wired(station)
    for row in table:
        assert len(row) == 4
        assert all(row)
    for relay in station.relays:
        assert relay.de_energised, relay.id
        (row,) = (r for r in table if r[0] == f"`{relay.id}`")
        assert row[3] not in ("", "–"), relay.id
