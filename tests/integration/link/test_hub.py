"""A station's own link to its clusters, against the real broker."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.core.commands import PassOn
from agent.link.hub import Hub
from agent.link.pair import Labelled, Links
from agent.model.config import Station as Config
from agent.model.events import Alarm, ClusterSaid, ClustersUp, LinkDown, LinkUp, OrderArrived
from province.pki import Identity, Pki, make
from tests.integration.link.peers import Collector, Peer, Station, jws, until
from tests.unit.core.world import CONFIG

pytestmark = pytest.mark.broker
FLEET = {"cum-1": "xa-mau-cum-1", "cum-2": "xa-mau-cum-2"}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = make(tmp_path_factory.mktemp("pki"), [*FLEET.values(), "xa-khac"])
    made.server("lan")
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Serving:
    """A hub with its inbox, on a port of its own."""

    def __init__(self, pki: Pki, folder: Path, identity: Identity | None = None, port: int | None = None) -> None:
        identity = identity or pki.identity("lan")
        self.pki = pki
        self.port = port or free_port()
        self.inbox = Collector()
        config: dict[str, Any] = {
            **CONFIG,
            "run_dir": str(folder),
            "clusters": [{"id": name, "device": device} for name, device in FLEET.items()],
            "cluster_link": {
                "host": "127.0.0.1",
                "port": self.port,
                "ca": str(pki.ca),
                "cert": str(identity.cert),
                "key": str(identity.key),
                "group": "xa-mau-cum",
            },
        }
        self.hub = Hub(msgspec.convert(config, Config), self.inbox)

    def __enter__(self) -> Serving:
        self.hub.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.stop()

    def up(self, count: int = 1) -> Serving:
        self.inbox.wait(ClustersUp, count)
        return self

    def alarms(self) -> list[tuple[str, bool, str]]:
        return [(a.what, a.on, a.detail) for a in self.inbox.of(Alarm)]

    def cluster(self, name: str = "xa-mau-cum-1", **more: Any) -> Station:
        return Station(self.pki, self.port, name, groups=["xa-mau-cum"], section="parent", **more)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tram-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def serving(papers: Pki, folder: Path) -> Iterator[Serving]:
    with Serving(papers, folder) as made:
        yield made.up()


def test_an_order_passed_on_reaches_a_cluster_as_from_the_province(serving: Serving) -> None:
    with serving.cluster() as cluster:
        cluster.up()
        serving.hub.pass_on(PassOn("group:xa-mau-cum", jws(op="broadcast"), expiry_s=60))
        serving.hub.pass_on(PassOn("xa-mau-cum-1", jws(op="schedule"), "schedule", "tinh"))
        arrived = cluster.inbox.wait(OrderArrived, 2)
    assert [(a.topic, a.retain) for a in arrived] == [
        ("tram/1/group/xa-mau-cum/order", False),
        ("tram/1/dev/xa-mau-cum-1/desired/schedule/tinh", True),
    ]


def test_a_state_order_waits_for_a_cluster_that_comes_later(serving: Serving) -> None:
    serving.hub.pass_on(PassOn("group:xa-mau-cum", jws(op="silence"), "silence", "xa-mau"))
    with serving.cluster() as cluster:
        (arrived,) = cluster.inbox.wait(OrderArrived)
    assert arrived.retain


def test_what_clusters_say_arrives_and_is_taken_when_it_was_acknowledged(serving: Serving) -> None:
    with serving.cluster() as cluster:
        cluster.up()
        state = until(lambda: next((e for e in serving.inbox.of(ClusterSaid) if e.leaf == "state"), None))
    assert state.device == "xa-mau-cum-1"
    assert msgspec.json.decode(state.payload)["online"] is True
    serving.hub.acknowledge(state.token)
    gone = until(lambda: next((e for e in serving.inbox.of(ClusterSaid) if b'"online":false' in e.payload), None))
    assert gone.device == "xa-mau-cum-1"


def test_a_cluster_that_calls_itself_by_anothers_name_is_itself_to_the_broker(serving: Serving, papers: Pki) -> None:
    with serving.cluster("xa-mau-cum-2") as victim:
        victim.up()
        with Peer(papers, serving.port, "xa-mau-cum-1", client_id="xa-mau-cum-2") as liar:
            reason = liar.send("tram/1/dev/xa-mau-cum-2/status", b'{"device":"xa-mau-cum-2"}')
            assert reason.is_failure
        time.sleep(0.2)
        assert not victim.inbox.of(LinkDown), "its connection was not taken over"
    assert not any(e.leaf == "status" for e in serving.inbox.of(ClusterSaid))


def test_one_who_is_no_cluster_of_this_station_can_do_nothing_and_is_told(serving: Serving, papers: Pki) -> None:
    with Peer(papers, serving.port, "xa-khac", client_id="xa-khac") as stranger:
        assert stranger.send("tram/1/group/xa-mau-cum/order", b"x").is_failure
        assert stranger.send("tram/1/dev/xa-mau-cum-1/status", b"{}").is_failure
    (alarm,) = serving.inbox.wait(Alarm)
    assert alarm.what == "cluster-foreign"
    assert "xa-khac at 127.0.0.1" in alarm.detail


@pytest.mark.parametrize("who", ["another authority's", "none"])
def test_a_foreign_certificate_is_refused_and_told(serving: Serving, tmp_path: Path, who: str) -> None:
    context = ssl._create_unverified_context()  # noqa: S323 - it does not care whom it attacks
    if who != "none":
        foreign = make(tmp_path / "foreign", ["xa-mau-cum-1"]).identity("xa-mau-cum-1")
        context.load_cert_chain(foreign.cert, foreign.key)
    with (
        pytest.raises(OSError),  # noqa: PT011 - whichever way TLS says no
        socket.create_connection(("127.0.0.1", serving.port), 5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.recv(1)
    assert serving.inbox.wait(Alarm)[0].what == "cluster-foreign"


@pytest.mark.parametrize(("leaf", "size"), [("status", 70_000), ("event", 70_000), ("beat", 600), ("ack", 17_000)])
def test_what_is_too_large_arrives_empty(serving: Serving, papers: Pki, leaf: str, size: int) -> None:
    with Peer(papers, serving.port, "xa-mau-cum-1", client_id="xa-mau-cum-1") as peer:
        peer.send(f"tram/1/dev/xa-mau-cum-1/{leaf}", b"x" * size)
    (said,) = serving.inbox.wait(ClusterSaid)
    assert (said.leaf, said.payload) == (leaf, b"")


def test_a_flood_of_beats_does_not_reach_the_owner(serving: Serving, papers: Pki) -> None:
    with Peer(papers, serving.port, "xa-mau-cum-1", client_id="xa-mau-cum-1") as peer:
        for n in range(300):
            peer.send("tram/1/dev/xa-mau-cum-1/beat", b'{"n":%d}' % n)
    assert 1 <= len(serving.inbox.of(ClusterSaid)) < 60


def test_a_broker_that_dies_is_told_started_again_and_the_clusters_come_back(serving: Serving) -> None:
    with serving.cluster() as cluster:
        cluster.up()
        pid = serving.hub.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        serving.up(2)
        cluster.up(2)
    assert [what for what, on, _ in serving.alarms() if on] == ["cluster-link"]


def test_a_port_that_is_taken_is_told_and_tried_again(papers: Pki, folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with Serving(papers, folder, port=other.getsockname()[1]) as serving:
            (alarm,) = serving.inbox.wait(Alarm)
            assert alarm.what == "cluster-link"
            assert "Address already in use" in alarm.detail
            other.close()
            serving.up()


@pytest.mark.parametrize("case", ["missing", "expired", "soon"])
def test_a_certificate_that_is_missing_or_runs_out_is_told_at_the_start(
    papers: Pki, folder: Path, tmp_path: Path, case: str
) -> None:
    ends = datetime.now(UTC) + timedelta(days=-1 if case == "expired" else 3)
    identity = papers.server(f"lan-{case}", starts=datetime.now(UTC) - timedelta(days=30), ends=ends)
    if case == "missing":
        identity.cert.unlink()
    with Serving(papers, folder, identity) as serving:
        (alarm,) = serving.inbox.wait(Alarm)[:1]
        words = {"missing": "cluster_link.cert: cannot read", "expired": "has expired on", "soon": "expires on"}
        assert words[case] in alarm.detail
        if case != "missing":
            serving.up()


def test_the_broker_ends_with_the_process_that_started_it(papers: Pki, folder: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys, time, msgspec; from agent.link.hub import Hub; from agent.model.config import Station;"
        "hub = Hub(msgspec.json.decode(sys.stdin.read(), type=Station), lambda e, urgent=False: print(e, flush=True));"
        "hub.start(); time.sleep(60)"
    )
    serving = Serving(papers, folder)
    identity = papers.identity("lan")
    config = msgspec.json.encode(
        {
            **CONFIG,
            "run_dir": str(folder),
            "clusters": [{"id": "cum-1", "device": "xa-mau-cum-1"}],
            "cluster_link": {
                "host": "127.0.0.1",
                "port": serving.port,
                "ca": str(papers.ca),
                "cert": str(identity.cert),
                "key": str(identity.key),
                "group": "g",
            },
        }
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(config)
        child.stdin.close()
        assert b"ClustersUp" in child.stdout.readline()
        child.kill()
        child.wait()
    with Serving(papers, folder, port=serving.port) as again:
        again.up()


def test_two_links_feed_one_inbox_and_each_order_is_acknowledged_where_it_came_from(
    serving: Serving, papers: Pki
) -> None:
    inbox = Collector()
    links = []
    for number, name in enumerate(("xa-mau-cum-1", "xa-mau-cum-2")):
        station = serving.cluster(name)
        links.append(station.link)
        station.link._inbox = Labelled(inbox, ("source", "parent")[number], number, 3)
    both = Links(links, serving.hub)
    both.start()
    try:
        until(lambda: {e.link for e in inbox.of(LinkUp)} == {"source", "parent"})
        serving.hub.pass_on(PassOn("group:xa-mau-cum", jws(op="broadcast")))
        arrived = inbox.wait(OrderArrived, 2)
        assert {a.token % 3 for a in arrived} == {0, 1}
        for order in arrived:
            both.acknowledge(order.token)
    finally:
        both.stop()
    with serving.cluster("xa-mau-cum-1") as again:
        again.up()
        time.sleep(0.2)
        assert again.orders() == [], "what was acknowledged does not come again"
