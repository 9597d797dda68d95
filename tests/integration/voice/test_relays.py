"""Relays are safe however the process ends: seen from outside, as the kernel shows the pins."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.model import voice as v
from agent.model.loader import load
from drivers.virtual_gpio import positions
from tests.integration.voice.process import HEAD, WAIT_S, Process, write_wav

CONFIG = (
    HEAD
    + """
zones:
  - id: fm
    kind: sound
    output: {driver: wav, path: out/station.wav, buffer_ms: 100}
    power: [{relay: amp, warm_up_s: 0.1, cool_down_s: 30}, {relay: tx, cool_down_s: 30}]
  - {id: hall, kind: sound, output: {driver: wav, path: out/station.wav, buffer_ms: 100}, power: [{relay: lamp}]}
relays:
  - {id: amp, pin: 5, switches: amplifier, feedback: {pin: 12, within_s: 0.3, retries: 1}}
  - {id: tx, pin: 6, active_high: false, requires: [amp]}
  - {id: lamp, pin: 7}
messages: [{id: fire, title: Cháy, text: "Cháy!", chime: null}]
"""
)
ALL_OFF = {"amp": False, "tx": False, "lamp": False}
FM_ON = {"amp": True, "tx": True, "lamp": False}


@pytest.fixture
def voice(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, CONFIG)
    write_wav(tmp_path / "data" / "pinned" / "fire.wav", [3000, -3000] * 96_000)
    process.start()
    process.connect()
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.send_signal(signal.SIGCONT)
        process.end("kill")


def pins(process: Process) -> dict[str, bool]:
    station = load(process.folder / "station.yaml")
    return positions(str(station.hardware.control), station.relays)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def play(process: Process, zone: str = "fm", name: str = "p", **more: Any) -> None:
    process.do(v.Open(play=name, zones=[zone], pinned=["message:fire"], **more), v.Close(play=name))


def on_air(process: Process) -> None:
    play(process)
    process.wait(v.Started)
    until(lambda: pins(process) == FM_ON)


def test_relays_are_off_from_the_start(voice: Process) -> None:
    assert pins(voice) == ALL_OFF


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_process_that_dies_in_mid_programme_leaves_every_relay_off(voice: Process, how: str) -> None:
    on_air(voice)
    assert voice.child is not None
    voice.child.send_signal(getattr(signal, how))
    voice.child.wait(WAIT_S)
    assert pins(voice) == ALL_OFF
    assert voice.client is not None
    voice.client.close()
    voice.start()
    voice.connect()
    assert pins(voice) == ALL_OFF
    on_air(voice)


def test_a_stop_in_mid_programme_switches_off_and_waits_for_no_cool_down(voice: Process) -> None:
    on_air(voice)
    assert voice.end() == 0
    assert pins(voice) == ALL_OFF


def test_a_hang_keeps_the_relays_until_the_watchdog_ends_it(tmp_path: Path) -> None:
    process = Process(tmp_path, CONFIG)
    write_wav(tmp_path / "data" / "pinned" / "fire.wav", [3000, -3000] * 96_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_S)
        process.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        assert systemd.recv(100) == b"READY=1"
        process.connect()
        on_air(process)
        assert process.child is not None
        process.child.send_signal(signal.SIGSTOP)
        assert pins(process) == FM_ON  # what hangs holds its lines
        systemd.settimeout(2)
        with contextlib.suppress(TimeoutError):  # systemd hears nothing for WATCHDOG_USEC …
            while systemd.recv(100):
                pass
        os.kill(process.child.pid, signal.SIGKILL)  # … and does this
        process.child.wait(WAIT_S)
    assert pins(process) == ALL_OFF


def test_an_agent_that_goes_away_in_mid_programme_leaves_the_chain_to_cool_in_order(voice: Process) -> None:
    on_air(voice)
    assert voice.client is not None
    voice.client.close()
    assert pins(voice) == FM_ON  # cool-down: half a minute here
    voice.connect()
    play(voice, name="q")
    voice.wait(v.Started, play="q")


def test_a_relay_that_does_not_follow_is_retried_alarmed_never_on_and_ends_only_its_own_programme(
    voice: Process,
) -> None:
    voice.control(do="set", sensor="feedback:amp", value=False)
    play(voice)
    play(voice, zone="hall", name="other")
    fault = voice.wait(v.RelayEvent, relay="amp", fault="not-following")
    ended = voice.wait(v.Ended, play="p")
    assert (ended.reason, ended.samples) == ("relay-fault", 0)
    assert voice.wait(v.Ended, play="other").reason == "completed"
    assert not fault.on
    assert not any(e.on for e in voice.seen if isinstance(e, v.RelayEvent) and e.relay in ("amp", "tx"))
    until(lambda: pins(voice) == ALL_OFF)
    voice.control(do="set", sensor="feedback:amp", value=None)
    on_air_again = v.Open(play="again", zones=["fm"], pinned=["message:fire"])
    voice.do(on_air_again, v.Close(play="again"))
    voice.wait(v.RelayEvent, relay="amp", on=True, fault=None)
    voice.wait(v.Started, play="again")


def test_the_transmitter_is_cut_when_its_amplifier_drops_out_in_mid_programme(voice: Process) -> None:
    on_air(voice)
    voice.control(do="set", sensor="feedback:amp", value=False)
    assert voice.wait(v.RelayEvent, relay="tx", fault="interlock").on is False
    assert pins(voice)["tx"] is False
    assert voice.wait(v.Ended, play="p").reason == "relay-fault"


def test_a_contact_that_says_on_while_off_is_told_and_over_when_it_lets_go(voice: Process) -> None:
    voice.control(do="set", sensor="feedback:amp", value=True)
    stuck = voice.wait(v.RelayEvent, relay="amp")
    assert (stuck.on, stuck.fault) == (True, "stuck")
    voice.control(do="set", sensor="feedback:amp", value=None)
    free = voice.wait(v.RelayEvent, relay="amp")
    assert (free.on, free.fault) == (False, None)


def test_a_later_agent_is_told_what_is_wrong(voice: Process) -> None:
    voice.control(do="set", sensor="feedback:amp", value=True)
    voice.wait(v.RelayEvent, relay="amp")
    assert voice.client is not None
    voice.client.close()
    hello = voice.connect()
    assert hello.relay_faults == {"amp": "stuck"}
