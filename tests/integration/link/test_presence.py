"""Who is there: birth, Will, farewell, and no lie left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.link import topics
from agent.link.birth import BirthFile
from agent.model.events import LinkDown, LinkUp
from province.broker import Broker
from province.pki import Pki
from tests.integration.link.peers import Births, Network, Peer, Station, until

pytestmark = pytest.mark.broker

STATE = topics.up("tram-a", "state")

STATION_PROCESS = """
import sys, time
from pathlib import Path
from agent.link.birth import BirthFile
from province.pki import Pki
from tests.integration.link.peers import Station
with Station(Pki(Path(sys.argv[1])), int(sys.argv[2]), births=BirthFile(Path(sys.argv[3]))) as station:
    time.sleep(60)
"""


def states(watcher: Peer) -> list[tuple[int, bool]]:
    return [(s["birth"], s["online"]) for s in map(json.loads, watcher.on(STATE))]


def test_the_will_of_a_killed_station_says_offline_with_the_same_birth(
    pki: Pki, broker: Broker, tmp_path: Path
) -> None:
    birth = tmp_path / "birth"
    birth.write_text("6")
    with Peer(pki, broker.port, "watcher", STATE) as watcher:
        child = subprocess.Popen(
            [sys.executable, "-c", STATION_PROCESS, str(pki.dir), str(broker.port), str(birth)],
            cwd=Path(__file__).parents[3],
        )
        until(lambda: states(watcher) == [(7, True)])
        child.kill()
        child.wait()
        until(lambda: states(watcher) == [(7, True), (7, False)])
    with Peer(pki, broker.port, "watcher", STATE) as later:
        until(lambda: states(later) == [(7, False)])
        assert json.loads(later.on(STATE)[0])["agent"] == "test"
    assert BirthFile(birth)() == 8


def test_the_will_of_a_dead_connection_does_not_overwrite_the_newer_birth(pki: Pki, broker: Broker) -> None:
    births = Births()
    with Peer(pki, broker.port, "watcher", STATE) as watcher, Network(broker.port) as network:
        first = Station(pki, network.port, births=births)
        with first:
            until(lambda: states(watcher) == [(1, True)])
            network.freeze()  # the broker goes on believing in this connection
            with Station(pki, broker.port, births=births) as second:
                second.up()
                until(lambda: (2, True) in states(watcher))
                time.sleep(2.5)  # longer than the Will's delay
                assert states(watcher) == [(1, True), (2, True)]


def test_a_short_break_is_never_seen_as_offline(pki: Pki, broker: Broker) -> None:
    with (
        Peer(pki, broker.port, "watcher", STATE) as watcher,
        Network(broker.port) as network,
        Station(pki, network.port) as station,
    ):
        until(lambda: states(watcher) == [(1, True)])
        network.cut()
        station.up(2)
        until(lambda: (2, True) in states(watcher))
        assert states(watcher) == [(1, True), (2, True)]


def test_a_stale_state_of_ones_own_is_put_right(pki: Pki, broker: Broker) -> None:
    with (
        Peer(pki, broker.port, "watcher", STATE) as watcher,
        Station(pki, broker.port, births=Births(5), stale_state_pause_s=0.1) as station,
        Peer(pki, broker.port, "tram-a", client_id="ghost") as ghost,
    ):
        station.up()
        until(lambda: states(watcher) == [(5, True)])
        for n, lie in enumerate((b'{"birth":4,"online":false}', b'{"birth":5,"online":false}', b"", b"[not json"), 1):
            ghost.send(STATE, lie, retain=True)
            until(lambda n=n: watcher.on(STATE).count(watcher.on(STATE)[0]) == n + 1)


def test_stop_says_offline_retained_and_leaves_no_will(pki: Pki, broker: Broker) -> None:
    with Peer(pki, broker.port, "watcher", STATE) as watcher:
        with Station(pki, broker.port) as station:
            until(lambda: states(watcher) == [(1, True)])
        until(lambda: states(watcher) == [(1, True), (1, False)])
        time.sleep(1.5)
        assert states(watcher) == [(1, True), (1, False)]
    assert [e.reason for e in station.inbox.of(LinkDown)] == ["the link was stopped"]


def test_stop_returns_in_time_when_the_network_is_dead(pki: Pki, broker: Broker) -> None:
    with Network(broker.port) as network, Station(pki, network.port, farewell_s=0.2) as station:
        station.up()
        network.freeze()
        began = time.monotonic()
        station.link.stop(5)
        assert time.monotonic() - began < 3
        assert station.link._thread is not None
        assert not station.link._thread.is_alive()


def test_each_connection_has_a_greater_birth_and_failed_attempts_use_none_up(pki: Pki, broker: Broker) -> None:
    births = Births()
    with Network(broker.port) as network, Station(pki, network.port, births=births) as station:
        station.up()
        broker.stop()
        station.inbox.wait(LinkDown, 2)
        assert births.given == [1]
        broker.start()
        station.up(2)
        assert [e.birth for e in station.inbox.of(LinkUp)] == births.given == [1, 2]


def test_a_disk_that_fails_does_not_silence_the_link(
    pki: Pki, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def __call__(self) -> int:
            raise OSError(30, "Read-only file system")

    with Network(broker.port) as network, Station(pki, network.port, births=Failing()) as station:
        station.up()
        network.cut()
        station.up(2)
        assert [e.birth for e in station.inbox.of(LinkUp)] == [1, 2]
    assert "could not be made durable" in caplog.text
