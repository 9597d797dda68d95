"""What a program that has taken over one of our processes can still do: nothing that its work does not need.

Each unit is started a second time under another name, with a program in its place that tries to break out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from board import Board, answered, put

PROBE = Path(__file__).with_name("breakout.py")
KEY = "/etc/tram/pki/xa-mau.key"
PLACE = "/usr/lib/tram/guide"
"""Where the probe lies in the unit's name space: a file that is there, for on a read-only root none can be made."""

COMMON = frozenset(
    {
        "read /etc/shadow",
        "write /usr",
        "write /etc/tram",
        "write /var/log",
        "write /dev/vda",
        "read /dev/vda",
        "read /dev/mem",
        "read kernel log",
        "listen on TCP",
        "raw socket",
        "packet socket",
        "netlink socket",
        "become root",
        "make a set-uid file",
        "load a module",
        "mount",
        "new name space",
        "set the clock",
        "reboot",
        "trace another process",
        "kill process 1",
        "memory that is written and run",
        "foreign system call ABI",
        "see other users' processes",
    }
)
"""What nobody may."""
FORBIDDEN = {
    "tram-voice": COMMON | {"connect to the network", f"read {KEY}", "read the database", "write /var/lib/tram"},
    # It may listen: a station with clusters does.
    "tram-agent": (COMMON - {"listen on TCP"}) | {"open a GPIO line", "open a sound card", "real-time priority"},
    "tram-ear@": COMMON
    | {
        "connect to the network",
        f"read {KEY}",
        "read the database",
        "write /var/lib/tram",
        "open a GPIO line",
        "real-time priority",
    },
    "tram-decoder@": COMMON
    | {
        "connect to the network",
        f"read {KEY}",
        "read /etc/tram/station.yaml",
        "read the database",
        "write /var/lib/tram",
        "open a GPIO line",
        "open a sound card",
        "real-time priority",
        "write a file",
        "reach the agent's socket",
        "reach voice's socket",
    },
}
EXPOSURE = 2.0
NEEDED = {
    "tram-voice": {"open a GPIO line", "open a sound card", "real-time priority"},
    "tram-agent": {"connect to the network", f"read {KEY}", "write /var/lib/tram"},
    "tram-ear@": {"open a sound card"},
    "tram-decoder@": set(),
}
"""What the same probe must be able to do there, or it would prove nothing."""


@pytest.mark.parametrize("unit", FORBIDDEN)
def test_nothing_breaks_out_of(board: Board, unit: str) -> None:
    put(board, {"/run/breakout.py": PROBE.read_bytes()}, 0o644)
    original = answered(board, f"systemctl cat {unit}1.service" if unit.endswith("@") else f"systemctl cat {unit}")
    kept = [
        line
        for line in original.splitlines()
        if not line.startswith(
            ("ExecStart", "Type=", "Restart", "WatchdogSec=", "NotifyAccess", "Standard", "Condition")
        )
        and not line.startswith(("StartLimit", "WantedBy=", "Requires=", "LogLevelMax", "TimeoutStartSec"))
    ]
    at = kept.index("[Service]") + 1
    kept[at:at] = [
        "Type=oneshot",
        "TimeoutStartSec=300",
        f"ExecStart=/usr/lib/tram/bin/python3 {PLACE}",
        f"BindReadOnlyPaths=/run/breakout.py:{PLACE}",
        "StandardOutput=journal",  # not a file: a decoder can write none, not even one that is open already
        "StandardError=journal",
    ]
    put(board, {"/run/systemd/system/breakout.service": "\n".join(kept).encode()}, 0o644)
    answered(board, "systemctl daemon-reload && systemctl start breakout", timeout_s=300)
    told = answered(board, "journalctl --sync; journalctl --boot --unit=breakout --output=cat | grep '^{' | tail -n 1")
    could = {name for name, done in json.loads(told).items() if done}
    assert could & FORBIDDEN[unit] == set()
    assert could >= NEEDED[unit]


@pytest.mark.parametrize("unit", FORBIDDEN)
def test_the_systems_own_figure_for_the_exposure_is_within_the_bound(board: Board, unit: str) -> None:
    """Of the unit as this board's systemd has loaded it, with every drop-in."""
    name = f"{unit}1.service" if unit.endswith("@") else f"{unit}.service"
    told = answered(board, f"systemd-analyze security --no-pager {name}", timeout_s=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert found is not None, told
    print(json.dumps({"unit": unit, "exposure": float(found[1])}))
    assert float(found[1]) <= EXPOSURE
