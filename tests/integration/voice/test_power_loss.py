"""Power fails, or the machine is reset, while the transmitter is on the air: agent and voice end in the same moment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from province.bench import proc
from tests.integration.voice.test_hijack import Station, hours

pytestmark = pytest.mark.broker
CHAIN = ["nguon", "kich-thich", "phat-song"]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    made.example, made.hours = "fm-transmitter", hours(3, 4)
    with made:
        made.wait_ready()
        yield made


def on_air(station: Station, resume: str) -> None:
    items = [{"text": "Mời bà con ra quân làm vệ sinh đường làng ngõ xóm vào sáng chủ nhật. " * 6, "lang": "vi"}]
    station.order("commune", station.broadcast("commune", "tin", items, zones=["fm"], resume=resume))
    station.until("the carrier", lambda: all(station.relays().values()))
    station.until("the programme", lambda: "since" in station.ask("status")["result"]["zones"]["fm"].get("owner", {}))


def cut(station: Station) -> None:
    """All processes of the station at once. The kernel takes a process's lines later than its command line: a pidfd
    tells when all of it is over."""
    pids = {*proc.tree(station.agent_pid()), *filter(None, [station.voice_pid()])}
    with contextlib.ExitStack() as files:
        ends = [files.enter_context(os.fdopen(os.pidfd_open(pid), "rb")) for pid in pids]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        station.until("they are gone", lambda: len(select.select(ends, [], [], 0)[0]) == len(ends))


def test_power_that_fails_in_mid_programme_leaves_all_relays_off_and_so_does_the_next_start(station: Station) -> None:
    on_air(station, "drop")
    cut(station)
    assert not any(station.relays().values())
    station.start_agent()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert not any(station.relays().values())
        time.sleep(0.01)
    station.wait_ready()
    assert "owner" not in station.ask("status")["result"]["zones"]["fm"]


def test_a_programme_that_goes_on_after_a_reset_switches_its_chain_on_from_the_beginning(station: Station) -> None:
    on_air(station, "restart")
    cut(station)
    station.start_agent()
    order: list[str] = []

    def watched() -> bool:
        order.extend(r for r, on in station.relays().items() if on and r not in order)
        return len(order) == len(CHAIN)

    station.until("the chain", watched)
    assert order == CHAIN
    station.until("its end", lambda: not any(station.relays().values()))


def test_an_agent_that_crashes_leaves_the_transmitter_to_its_cool_down_and_then_off(station: Station) -> None:
    on_air(station, "drop")
    os.kill(station.agent_pid(), signal.SIGKILL)
    station.until("no carrier", lambda: not any(station.relays().values()))


def test_a_stop_in_mid_programme_leaves_all_relays_off(station: Station) -> None:
    on_air(station, "drop")
    os.kill(station.agent_pid(), signal.SIGTERM)
    station.until("no carrier", lambda: not any(station.relays().values()))
    station.until("voice is gone", lambda: station.voice_pid() is None)
    assert not any(station.relays().values())
