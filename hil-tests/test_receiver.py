"""The ear in its unit: receivers on a sound card, started by systemd for the agent's connection. One station for all.

The card is the kernel's loop-back. Voice plays the zone's sound on it as well, and one receiver is the other end of
that loop: its transmitter is alive, but the emulator's underruns tear what it carries, so that nothing is said of it.
The other receiver's loop carries nothing: a transmitter that has died.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from board import RATE, Board, answered, armed, put, wait
from surroundings import Surroundings, noise

from province.demo.listening import Signal

pytestmark = [pytest.mark.virtual_board, pytest.mark.sound]
ZONE = "loa-xa"
WELL, DEAD, ABSENT = "thu-tot", "thu-hong", "thu-mat"
LOOP = "CARD=Loopback,DEV={},SUBDEV={}"


def talk(seconds: float) -> Signal:
    """A hiss that comes and goes, as speech does."""
    steps = np.random.default_rng(5).uniform(0.05, 1.0, round(seconds * 5))
    at = np.linspace(0, len(steps) - 1, round(seconds * RATE))
    return noise(seconds, seed=5) * np.interp(at, np.arange(len(steps)), steps)


def ears(board: Board) -> str:
    """Process ids of the instances that run."""
    found = answered(board, "systemctl list-units 'tram-ear@*' --state=running --plain --no-legend").split()
    if not found:
        return ""
    return answered(board, f"systemctl show -P MainPID '{found[0]}'").strip()


def alarms(around: Surroundings, what: str) -> list[dict[str, Any]]:
    """What the province was told of that alarm, in order."""
    events = [e["body"] for e in around.watcher.export()["events"]]
    return [e for e in events if e.get("kind") == "alarm" and e.get("what") == what]


@pytest.fixture(scope="module")
def station(board: Board, around: Surroundings) -> Board:
    """With three receivers; the third one's card is not there."""
    assert not ears(board), "an ear runs, and there is nothing to listen to"
    answered(board, "modprobe snd-aloop && udevadm settle", timeout_s=60)
    station = around.configuration(board.sound_device)
    (zone,) = (z for z in station["zones"] if z["id"] == ZONE)
    zone["output"]["also"] = [{"driver": "alsa", "device": "hw:" + LOOP.format(0, 0), "buffer_ms": 150}]
    devices = {WELL: LOOP.format(1, 0), DEAD: LOOP.format(1, 1), ABSENT: "CARD=Absent"}
    station["monitors"] = [
        {"id": name, "zone": ZONE, "kind": "air", "driver": "alsa", "device": f"plughw:{card}"}
        for name, card in devices.items()
    ]
    put(board, {"/etc/tram/station.yaml": yaml.safe_dump(station, allow_unicode=True, sort_keys=False).encode()})
    answered(board, "tram check", timeout_s=60)
    answered(board, "systemctl restart tram-voice tram-agent", timeout_s=180)
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    around.wait_online(board, 180)
    return board


def test_the_ear_is_started_for_the_agent_as_a_user_of_its_own_and_without_a_network(station: Board) -> None:
    wait("an ear runs", lambda: ears(station), 60 * station.patience)
    pid = ears(station)
    status = answered(station, f"cat /proc/{pid}/status")
    assert answered(station, f"stat -c %U /proc/{pid}").strip() == "tram-ear"
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    mine, its = (answered(station, f"readlink /proc/{p}/ns/net").strip() for p in (1, pid))
    assert mine != its


def test_a_receiver_whose_card_is_not_there_is_an_alarm_that_says_so(station: Board, around: Surroundings) -> None:
    wait("the alarm is raised", lambda: alarms(around, "ear"), 60 * station.patience)
    assert {e["device"] for e in alarms(around, "ear")} == {ABSENT}
    detail = alarms(around, "ear")[-1]["detail"]
    print(detail)
    assert "plughw:CARD=Absent" in detail


def test_a_transmitter_that_is_dead_is_an_alarm_while_something_is_sent(station: Board, around: Surroundings) -> None:
    around.order(
        "broadcast",
        {
            "id": "noi",
            "title": "Bản tin",
            "class": "priority",
            "start": "now",
            "zones": [ZONE],
            "items": [around.media("noi", talk(60))],
            "resume": "drop",
        },
    )
    wait("the dead one is told", lambda: alarms(around, "air-dead"), 180 * station.patience)
    print(alarms(around, "air-dead")[-1]["detail"])
    wait("the alarm ends with the sound", lambda: not alarms(around, "air-dead")[-1]["on"], 180 * station.patience)
    assert {e["device"] for e in alarms(around, "air-dead")} == {DEAD}
    assert not alarms(around, "air-foreign")


def test_an_ear_that_is_killed_is_an_alarm_until_another_one_listens(station: Board, around: Surroundings) -> None:
    before = ears(station)
    answered(station, f"kill -9 {before}")
    wait("it is told", lambda: alarms(around, "ear-lost"), 60 * station.patience)
    wait("another one listens", lambda: not alarms(around, "ear-lost")[-1]["on"], 60 * station.patience)
    assert ears(station) not in ("", before)
