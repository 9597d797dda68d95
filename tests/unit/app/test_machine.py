"""What the machine tells of itself: read from files as the kernel, the firmware and ModemManager write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import machine, modem

MMCLI = """\
modem.dbus-path                                 : /org/freedesktop/ModemManager1/Modem/0
modem.generic.state                             : connected
modem.generic.access-technologies.length        : 1
modem.generic.access-technologies.value[1]      : lte
modem.generic.signal-quality.value              : 71
modem.generic.signal-quality.recent             : yes
modem.3gpp.operator-code                        : 45204
modem.3gpp.operator-name                        : Viettel
"""


@pytest.mark.parametrize(
    ("file", "register", "told"),
    [
        ("bootloader/rsts", 0x1000, {"code": "0x1000", "reason": "power-on"}),
        ("bootloader/rsts", 0x1020, {"code": "0x1020", "reason": "power-on"}),
        ("bootloader/rsts", 0x20, {"code": "0x20", "reason": "restart"}),
        ("bootloader/rsts", 0x400, {"code": "0x400", "reason": "restart"}),
        ("power/power_reset", 0b10, {"code": "0x2", "reason": "under-voltage"}),
        ("bootloader/rsts", 0, None),
    ],
)
def test_the_firmwares_register_says_why_the_machine_started(
    tmp_path: Path, file: str, register: int, told: dict[str, str] | None
) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(register.to_bytes(4, "big"))
    assert machine._reset(tmp_path) == told


def test_without_such_a_register_no_reason_is_made_up(tmp_path: Path) -> None:
    assert machine._reset(tmp_path) is None


def test_a_microphone_is_plugged_in_when_its_card_is_there(tmp_path: Path) -> None:
    for name in ("card0", "card1", "Device"):
        (tmp_path / name).mkdir()
    there = {
        device: machine.card_is_there(device, tmp_path) for device in ("plughw:CARD=Device", "hw:1,0", "hw:Device")
    }
    assert set(there.values()) == {True}
    assert machine.card_is_there("plughw:CARD=Other,DEV=0", tmp_path) is False
    assert machine.card_is_there("hw:2", tmp_path) is False
    assert machine.card_is_there("default", tmp_path) is None
    assert machine.card_is_there("hw:0", tmp_path / "no-alsa-here") is None


def mmcli(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    program = folder / "mmcli"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_operator_and_signal_are_modem_managers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mmcli(tmp_path, monkeypatch, f"cat <<'END'\n{MMCLI}END")
    assert modem.ask() == {"operator": "Viettel", "technology": "lte", "signal_percent": 71}


@pytest.mark.parametrize(
    "does",
    [
        "echo 'error: couldn't find modem' >&2; exit 1",
        "printf 'modem.3gpp.operator-name : --\\nmodem.generic.signal-quality.value : --\\n'",
        "printf 'modem.generic.signal-quality.value : ²\\nnonsense\\n'",
        "head -c 4096 /dev/zero",
    ],
)
def test_what_no_modem_tells_is_absent(does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mmcli(tmp_path, monkeypatch, does)
    assert modem.ask() == {}


def test_without_modem_manager_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = modem.Modem()
    asked.start()
    assert not asked._thread.is_alive()
    assert asked.facts() == modem.ask() == {}
