"""`tram province cap` against the real broker: what devices get, in which order, and what the command says."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.province import province as command
from province import cap
from province.publish import describe
from province.record import Message
from tests.integration.province.test_province import Device, World
from tests.unit.province.test_cap import sample, tomorrow

pytestmark = pytest.mark.broker


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    (tmp_path / "areas.yaml").write_text("areas: [{valueName: VN-DVHC, value: '29302', to: [xa-mau-1]}]")
    yield made
    made.close()


def run(world: World, data: bytes, *given: str) -> Result:
    return CliRunner().invoke(command, ["--dir", str(world.folder), "cap", "-", "--as", "tinh", *given], input=data)


def args(message: Message) -> dict[str, Any]:
    body = message.payload.decode().split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))["args"]
    return found


def heard(device: Device, n: int) -> list[Message]:
    deadline = time.monotonic() + 10
    while len(device.heard) < n and time.monotonic() < deadline:
        time.sleep(0.01)
    return device.heard


def test_an_alert_is_sent_to_its_area_and_followed_to_the_first_sound(world: World) -> None:
    device, other = world.device("xa-mau-1"), world.device("xa-mau-2")
    done = run(world, tomorrow("thunderstorm"), "--wait", "15")
    assert done.exit_code == 0, done.output
    assert "first sound" in done.output
    (message,) = device.heard
    assert args(message)["class"] == "emergency"
    assert "29305" not in str(args(message))
    assert other.heard == []


def test_sound_and_boards_are_followed_together_and_recordings_are_kept(world: World) -> None:
    device = world.device("xa-mau-1")
    done = run(world, tomorrow("flood-three-languages"), "--wait", "15")
    assert done.exit_code == 0, done.output
    assert {tuple(args(m)["zones"]) for m in device.heard} == {("kind:sound",), ("kind:screen",)}
    media = args(device.heard[0])["items"][2]["media"]
    assert (world.province.media_dir / media["url"].rpartition("/")[2]).read_bytes() == b"OggS Khmer recording"


def test_an_updates_former_bulletin_is_cancelled_after_the_new_one_is_on(world: World) -> None:
    here, gone = world.device("xa-mau-1"), world.device("xa-mau-2")
    done = run(world, tomorrow("update"), "--wait", "15")
    assert done.exit_code == 0, done.output
    assert [describe(m.payload.decode()).op for m in heard(here, 2)] == ["broadcast", "cancel"]
    assert [describe(m.payload.decode()).op for m in heard(gone, 1)] == ["cancel"]
    assert args(gone.heard[0])["ids"] == args(here.heard[0])["replaces"]


def test_a_cancel_goes_to_everyone(world: World) -> None:
    devices = [world.device("xa-mau-1"), world.device("xa-mau-2")]
    done = run(world, sample("cancel"))
    assert done.exit_code == 0, done.output
    former = cap.bulletin_id("pctt@tinh.example", "LU-2026-11-03-03")
    assert [args(d.heard[0])["ids"] for d in devices] == [[former, f"{former}.screen"]] * 2


def test_a_silent_device_is_named_and_the_command_fails(world: World) -> None:
    done = run(world, tomorrow("thunderstorm"), "--wait", "0.5")
    assert done.exit_code == 1
    assert "no answer" in done.output
