"""Who may connect and what they may do: certificates, dates, access lists; and what a person is told when it fails."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from agent.link import topics
from agent.model.events import LinkDown, LinkUp
from province.broker import Broker, BrokerError
from province.pki import Identity, Pki, make
from tests.integration.link.peers import Peer, Station, until

pytestmark = pytest.mark.broker

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def why(station: Station) -> str:
    return str(station.inbox.wait(LinkDown)[0].reason)


def test_a_foreign_certificate_is_refused(pki: Pki, broker: Broker, tmp_path: Path) -> None:
    foreign = make(tmp_path / "foreign", ["tram-a"])
    with Station(pki, broker.port, identity=foreign.identity("tram-a")) as station:
        assert "our certificate" in why(station)
        assert station.inbox.of(LinkUp) == []


def test_a_source_of_another_authority_is_not_talked_to(pki: Pki, broker: Broker, tmp_path: Path) -> None:
    foreign = make(tmp_path / "foreign", ["tram-a"])
    for trusted in (True, False):
        with Station(foreign, broker.port, trusted=trusted) as station:
            assert why(station).startswith("the source's certificate was not issued by our authority")
            assert station.births.given == []  # type: ignore[attr-defined]


def test_a_source_of_another_name_is_not_talked_to(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki", ["tram-a"])
    pki.server("broker", ["elsewhere.example", "192.0.2.1"])
    broker = Broker(tmp_path / "broker", pki, {"tram-a": []})
    broker.start()
    try:
        for host in ("127.0.0.1", "localhost"):
            for trusted in (True, False):
                with Station(pki, broker.port, host=host, trusted=trusted) as station:
                    assert why(station) == f"the source's certificate is for another name than {host}"
                    assert station.births.given == []  # type: ignore[attr-defined]
    finally:
        broker.stop()


DATES = {
    "expired, clock trusted": (
        (-9 * DAY, -1 * DAY),
        True,
        "the source's certificate has expired (is this clock right?)",
    ),
    "not yet valid, clock trusted": (
        (DAY, 9 * DAY),
        True,
        "the source's certificate is not valid yet (is this clock right?)",
    ),
    "expired, clock untrusted": ((-9 * DAY, -1 * DAY), False, None),
    "not yet valid, clock untrusted": ((DAY, 9 * DAY), False, None),
    "valid, clock trusted": ((-DAY, DAY), True, None),
    "valid, clock untrusted": ((-DAY, DAY), False, None),
}


@pytest.mark.parametrize(("dates", "trusted", "reason"), DATES.values(), ids=DATES)
def test_dates_count_only_while_the_clock_is_trusted(
    tmp_path: Path, dates: tuple[timedelta, timedelta], trusted: bool, reason: str | None
) -> None:
    pki = make(tmp_path / "pki", ["tram-a"])
    pki.server("broker", starts=NOW + dates[0], ends=NOW + dates[1])
    broker = Broker(tmp_path / "broker", pki, {"tram-a": ["nhom-1"]})
    broker.start()
    try:
        with Station(pki, broker.port, trusted=trusted) as station:
            if reason is None:
                station.up()
            else:
                assert why(station) == reason
                assert station.inbox.of(LinkUp) == []
    finally:
        broker.stop()


def test_when_the_clock_becomes_trusted_the_link_reconnects_once_and_checks_the_dates(
    pki: Pki, broker: Broker, tmp_path: Path
) -> None:
    with Station(pki, broker.port, trusted=False) as station:
        station.up()
        station.link.set_clock_trusted(True)
        station.up(2)
        station.link.set_clock_trusted(True)
        station.link.set_clock_trusted(False)
        station.link.set_clock_trusted(True)
        station.link.publish_status(b"{}")
        until(lambda: not station.link._held.unsent)
        assert [type(e) for e in station.inbox.events] == [LinkUp, LinkDown, LinkUp]

    expired = make(tmp_path / "pki", ["tram-a"])
    expired.server("broker", starts=NOW - 9 * DAY, ends=NOW - DAY)
    other = Broker(tmp_path / "broker", expired, {"tram-a": []})
    other.start()
    try:
        with Station(expired, other.port, trusted=False) as station:
            station.up()
            station.link.set_clock_trusted(True)
            assert station.inbox.wait(LinkDown, 2)[1].reason == DATES["expired, clock trusted"][2]
    finally:
        other.stop()


class Stranger:
    """A server that is no broker: silent, not speaking TLS, or hanging up."""

    def __init__(self, says: bytes | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._says = says

    def serve_one(self) -> socket.socket:
        conn, _ = self._listener.accept()
        if self._says is not None:
            conn.sendall(self._says)
            conn.shutdown(socket.SHUT_WR)
        return conn


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (None, "does not answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS (is mqtt.port right?)"),
        (b"", "cut the connection"),
    ],
    ids=["silent", "no TLS", "hangs up"],
)
def test_a_stranger_on_the_port_is_explained(pki: Pki, says: bytes | None, reason: str) -> None:
    stranger = Stranger(says)
    with Station(pki, stranger.port, connect_timeout_s=0.3, backoff_min_s=9, backoff_max_s=9) as station:
        kept = stranger.serve_one()
        assert why(station) == f"127.0.0.1:{stranger.port} {reason}"
        kept.close()


def test_a_tls_server_that_never_answers_mqtt_is_given_up(pki: Pki) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    content = pki.identity("content")
    context.load_cert_chain(content.cert, content.key)
    with Station(pki, port, connect_timeout_s=0.5, backoff_min_s=9, backoff_max_s=9) as station:
        conn, _ = listener.accept()
        with context.wrap_socket(conn, server_side=True):
            assert why(station) == f"127.0.0.1:{port} took the connection but does not answer"


def test_an_unknown_name_and_a_closed_port_are_explained_and_said_once(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port, host="khong-co.invalid") as station:
        assert why(station) == "the name khong-co.invalid cannot be resolved (is the network up, and mqtt.host right?)"
    broker.stop()
    with Station(pki, broker.port, backoff_min_s=0.01, backoff_max_s=0.01) as station:
        where = f"127.0.0.1:{broker.port}"
        assert why(station) == f"{where} refuses connections (is the broker running, and mqtt.port right?)"
        broker.start()
        station.up()
        assert len(station.inbox.of(LinkDown)) == 1, "the same reason again and again is said once"


def test_unreadable_credentials_are_named(pki: Pki, broker: Broker, tmp_path: Path) -> None:
    a, b = pki.identity("tram-a"), pki.identity("tram-b")
    cases = {
        f"mqtt.key: cannot read {tmp_path / 'none.key'}: No such file or directory": Identity(
            a.cert, tmp_path / "none.key"
        ),
        f"mqtt.cert and mqtt.key: {a.cert} and {b.key} do not belong together": Identity(a.cert, b.key),
    }
    for reason, identity in cases.items():
        with Station(pki, broker.port, identity=identity) as station:
            assert why(station) == reason


def test_the_station_takes_its_session_back_from_a_client_with_the_same_id(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
        with Peer(pki, broker.port, "tram-a", client_id="tram-a") as twin:
            station.inbox.wait(LinkDown)
            twin.client.loop_stop()
            station.up(2)


OWN_WRITES = {topics.up("tram-a", leaf): True for leaf in topics.UP}
FOREIGN_WRITES = {
    topics.order("tram-a"): False,
    topics.order("group:all"): False,
    topics.order("group:nhom-1"): False,
    topics.desired("tram-a", "silence", "tinh"): False,
    topics.desired("group:all", "silence", "tinh"): False,
    **{topics.up("tram-b", leaf): False for leaf in topics.UP},
    topics.order("tram-b"): False,
    "tram/1/dev/tram-a/other": False,
    "tram/1/dev/tram-a/event/x": False,
    "tram/2/dev/tram-a/event": False,
    "elsewhere": False,
}
PUBLISHER_WRITES = {
    topics.order("tram-a"): True,
    topics.order("tram-b"): True,
    topics.order("group:nhom-1"): True,
    topics.desired("tram-b", "schedule", "xa-mau"): True,
    topics.desired("group:all", "silence", "tinh"): True,
    topics.up("tram-a", "ack"): False,
    topics.up("tram-a", "state"): False,
    topics.up("tram-a", "event"): False,
    "elsewhere": False,
}
WRITES = [
    *(("tram-a", t, ok) for t, ok in {**OWN_WRITES, **FOREIGN_WRITES}.items()),
    *(("publisher", t, ok) for t, ok in PUBLISHER_WRITES.items()),
    *(("watcher", t, False) for t in {**OWN_WRITES, **PUBLISHER_WRITES}),
]


def test_only_what_the_contract_allows_may_be_written(pki: Pki, broker: Broker) -> None:
    """The broker's answer, and what really passed to a watcher of everything."""
    got: list[tuple[str, str, bool]] = []
    with Peer(pki, broker.port, "watcher", "#", client_id="w") as watcher:
        peers = {n: Peer(pki, broker.port, n, client_id=f"{n}-x") for n in ("tram-a", "publisher", "watcher")}
        for who, topic, _ in WRITES:
            answer = peers[who].send(topic, f"{who} {topic}".encode())
            got.append((who, topic, not answer.is_failure))
        for peer in peers.values():
            peer.__exit__()
        expected = {f"{who} {topic}".encode() for who, topic, ok in WRITES if ok}
        until(lambda: {m.payload for m in watcher.received} == expected)
    assert got == WRITES


def test_only_what_the_contract_allows_may_be_read(pki: Pki, broker: Broker) -> None:
    sent = dict.fromkeys((topics.order("tram-a"), topics.order("group:all"), topics.order("group:nhom-1")), True)
    sent |= {
        topics.desired("tram-a", "schedule", "tinh"): True,
        topics.desired("group:nhom-1", "schedule", "tinh"): True,
    }
    sent |= {topics.order("tram-b"): False, topics.desired("tram-b", "schedule", "tinh"): False}
    sent |= {topics.order("group:other"): False}
    with (
        Peer(pki, broker.port, "tram-a", "tram/1/#", client_id="spy") as spy,
        Peer(pki, broker.port, "tram-b", client_id="b") as neighbour,
        Peer(pki, broker.port, "publisher", client_id="p") as province,
    ):
        for leaf in topics.UP:
            neighbour.send(topics.up("tram-b", leaf), b"private")
        for topic in sent:
            province.send(topic, topic.encode())
        province.send(topics.order("tram-a"), b"end")
        until(lambda: b"end" in spy.on(topics.order("tram-a")))
        assert {m.topic for m in spy.received} == {t for t, ok in sent.items() if ok}


def test_nobody_connects_without_a_certificate(pki: Pki, broker: Broker) -> None:
    context = ssl.create_default_context(cafile=str(pki.ca))

    def talk() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.recv(1)

    with pytest.raises(OSError, match=r"certificate required|reset|EOF"):
        talk()


def test_a_missing_mosquitto_is_named_with_the_remedy(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_a, **_k: None)
    with pytest.raises(BrokerError, match="apt install mosquitto"):
        Broker(tmp_path, pki, {}).start()


def test_a_taken_port_is_an_error_that_says_so(pki: Pki, broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="Address already in use"):
        Broker(tmp_path / "second", pki, {}, port=broker.port).start()


def test_requests_accepts_the_content_servers_certificate(pki: Pki) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    content = pki.identity("content")
    context.load_cert_chain(content.cert, content.key)

    def serve() -> None:
        conn, _ = listener.accept()
        with context.wrap_socket(conn, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    import threading

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    assert requests.get(url, verify=str(pki.ca), timeout=5).text == "ok"
