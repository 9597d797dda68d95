"""What must arrive: orders over breaks, restarts and long queues; the outbox, once and whole."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from agent.core.outbox import Outbox
from agent.link import topics
from agent.model.events import LinkDown, LinkUp, OrderArrived, OutTaken
from agent.model.records import PutOut
from province.broker import Broker
from province.pki import Pki
from tests.integration.link.peers import Births, Network, Peer, Station, jws, mosquitto_sub, until

pytestmark = pytest.mark.broker

ORDER = topics.order("tram-a")


def rows(first: int, last: int) -> list[PutOut]:
    return [PutOut(seq=n, topic="event", weight=0, body=b'{"seq":%d}' % n) for n in range(first, last + 1)]


def test_an_order_sent_while_the_device_was_off_arrives_on_its_return(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
    with Peer(pki, broker.port, "publisher") as province:
        for name in (ORDER, topics.order("group:all"), topics.order("group:nhom-1")):
            assert not province.send(name, name.encode(), expiry_s=3600).is_failure
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived, 3)
        assert station.orders() == [
            ORDER.encode(),
            b"tram/1/group/all/order",
            b"tram/1/group/nhom-1/order",
        ]


def test_an_order_that_expired_while_the_device_was_off_does_not_arrive(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
    with Peer(pki, broker.port, "publisher") as province:
        province.send(ORDER, b"stale", expiry_s=1)
        province.send(ORDER, b"fresh", expiry_s=60)
    time.sleep(2.1)
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived)
        assert station.orders() == [b"fresh"]


def test_queued_orders_survive_a_restart_of_the_broker(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
    with Peer(pki, broker.port, "publisher") as province:
        province.send(ORDER, b"kept")
    broker.restart()
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived)
        assert station.orders() == [b"kept"]


def test_unacknowledged_orders_come_again_and_acknowledged_ones_do_not(pki: Pki, broker: Broker, record: Peer) -> None:
    with Station(pki, broker.port, acknowledge=False) as station, Peer(pki, broker.port, "publisher") as province:
        station.up()
        for n in range(3):
            province.send(ORDER, b"%d" % n)
        first, _, _ = station.inbox.wait(OrderArrived, 3)
        station.link.acknowledge(first.token)
        station.link.offer(rows(1, 1))
        station.inbox.wait(OutTaken)
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived, 2)
        province_done = time.monotonic()
        until(lambda: time.monotonic() > province_done + 0.2)
        assert station.orders() == [b"1", b"2"]


def test_acknowledgements_reach_the_broker_in_the_order_of_arrival(pki: Pki, broker: Broker, record: Peer) -> None:
    with Station(pki, broker.port, acknowledge=False) as station, Peer(pki, broker.port, "publisher") as province:
        station.up()
        for n in range(3):
            province.send(ORDER, b"%d" % n)
        tokens = [e.token for e in station.inbox.wait(OrderArrived, 3)]
        station.link.acknowledge(tokens[2])  # waits for the two before it
        station.link.offer(rows(1, 1))
        station.inbox.wait(OutTaken)
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived, 3)
        assert station.orders() == [b"0", b"1", b"2"]


def test_an_acknowledgement_for_an_earlier_connection_acknowledges_nothing_on_the_next(
    pki: Pki, broker: Broker, record: Peer
) -> None:
    with Network(broker.port) as network, Peer(pki, broker.port, "publisher") as province:
        with Station(pki, network.port, acknowledge=False) as station:
            station.up()
            province.send(ORDER, b"order")
            (first,) = station.inbox.wait(OrderArrived)
            network.cut()
            again = station.inbox.wait(OrderArrived, 2)[1]
            assert (again.payload, again.token != first.token) == (b"order", True)
            station.link.acknowledge(first.token)
            station.link.offer(rows(1, 1))
            station.inbox.wait(OutTaken)
        with Station(pki, broker.port) as station:
            station.inbox.wait(OrderArrived)
            assert station.orders() == [b"order"]


def test_retained_state_orders_come_with_each_new_process(pki: Pki, broker: Broker) -> None:
    own, group = topics.desired("tram-a", "schedule", "xa-mau"), topics.desired("group:all", "silence", "tinh")
    with Peer(pki, broker.port, "publisher") as province:
        province.send(own, b"plan", retain=True)
        province.send(group, b"hush", retain=True)
    for _ in range(2):
        with Station(pki, broker.port) as station:
            got = station.inbox.wait(OrderArrived, 2)
            assert {(e.topic, e.payload, e.retain) for e in got} == {(own, b"plan", True), (group, b"hush", True)}
            assert station.inbox.urgent == [b"hush"]


@pytest.mark.parametrize(("refresh_after_s", "times"), [(300.0, 1), (0.0, 2)], ids=["short break", "long break"])
def test_retained_orders_are_asked_for_again_only_after_a_long_break(
    pki: Pki, broker: Broker, record: Peer, refresh_after_s: float, times: int
) -> None:
    desired = topics.desired("tram-a", "schedule", "tinh")
    with Network(broker.port) as network, Peer(pki, broker.port, "publisher") as province:
        province.send(desired, b"plan", retain=True)
        with Station(pki, network.port, refresh_after_s=refresh_after_s) as station:
            station.inbox.wait(OrderArrived)
            station.link.offer(rows(1, 1))
            station.inbox.wait(OutTaken)  # so the broker has the acknowledgement of the order, too
            network.cut()
            station.up(2)
            province.send(ORDER, b"last")
            until(lambda: b"last" in station.orders())
            assert station.orders() == [b"plan"] * times + [b"last"]


def test_a_state_order_sent_in_a_short_break_arrives_all_the_same(pki: Pki, broker: Broker) -> None:
    with (
        Network(broker.port) as network,
        Peer(pki, broker.port, "publisher") as province,
        Station(pki, network.port, backoff_min_s=0.5, backoff_max_s=0.5) as station,
    ):
        station.up()
        network.cut()
        station.inbox.wait(LinkDown)
        province.send(topics.desired("tram-a", "silence", "tinh"), b"hush", retain=True)
        station.inbox.wait(OrderArrived)
        assert station.orders() == [b"hush"]


def test_a_retained_command_is_shown_as_retained_and_a_cleared_one_lifts_nothing(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station, Peer(pki, broker.port, "publisher") as province:
        station.up()
        province.send(ORDER, b"command", retain=True)
        province.send(ORDER, b"", retain=True)
        province.send(topics.desired("tram-a", "silence", "tinh"), b"", retain=True)
        province.send(ORDER, b"")
        arrived = station.inbox.wait(OrderArrived, 2)
        assert [(e.payload, e.retain) for e in arrived] == [(b"command", True), (b"", False)]


@pytest.mark.parametrize("size", [16 * 1024 + 1, 256 * 1024 + 1])
def test_an_oversized_order_arrives_so_that_it_can_be_refused_with_its_reason(
    pki: Pki, broker: Broker, size: int
) -> None:
    with Station(pki, broker.port) as station, Peer(pki, broker.port, "publisher") as province:
        station.up()
        assert not province.send(ORDER, b"x" * size).is_failure
        (order,) = station.inbox.wait(OrderArrived)
        assert len(order.payload) == size


def test_an_emergency_arrives_behind_1500_queued_orders_and_is_handed_over_as_urgent(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
    emergency = jws(op="broadcast", args={"class": "emergency", "title": "bão"})
    with Peer(pki, broker.port, "publisher") as province:
        province.send_all(ORDER, (jws(op="test", n=n, pad="x" * 600) for n in range(1500)))
        province.send(ORDER, emergency)
    began = time.monotonic()
    with Station(pki, broker.port) as station:
        station.inbox.wait(OrderArrived, 1501, patience_s=30)
        print(f"1501 queued orders in {time.monotonic() - began:.2f} s")
        assert station.inbox.urgent == [emergency]
        assert len(set(station.orders())) == 1501


@pytest.mark.parametrize("settled", [True, False], ids=["session on the broker's disk", "session lost with the broker"])
def test_the_outbox_arrives_whole_and_once_over_a_killed_broker(
    pki: Pki, broker: Broker, record: Peer, settled: bool
) -> None:
    if settled:
        broker.restart()
        until(record.client.is_connected)
    outbox = Outbox()
    with Station(pki, broker.port) as station:
        station.up()
        for n in range(600):
            outbox.append("event", 0, {"kind": "alarm", "n": n})
        outbox.durable(outbox.last_seq)
        done = 0
        while done < 600:
            station.link.offer(outbox.hand_over(64))
            taken = station.inbox.wait(OutTaken, done + 1)[done:]
            for event in taken:
                assert len(outbox.taken(event.seq)) == 1
            if done < 300 <= done + len(taken):
                broker.restart(kill=True)
            done += len(taken)
        assert (len(outbox), outbox.bytes) == (0, 0)
        until(lambda: len({m.payload for m in record.received}) == 600)
        seen = [msgspec.json.decode(m.payload) for m in record.received]
        assert list(dict.fromkeys(e["seq"] for e in seen)) == list(range(1, 601))
        assert len(station.inbox.of(OutTaken)) == 600, "each row is reported once, however often it was sent"


def test_nothing_is_thrown_away_while_nobody_in_the_province_listens(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port, outbox_pause_s=0.2) as station:
        station.up()
        station.link.offer(rows(1, 30))
        until(lambda: station.link._connection and station.link._connection._outbox_from)
        assert station.inbox.of(OutTaken) == []
        with Peer(pki, broker.port, "watcher", "tram/1/dev/+/event") as watcher:
            station.inbox.wait(OutTaken, 30)
            until(lambda: len(watcher.received) == 30)
            assert [json.loads(m.payload)["seq"] for m in watcher.received] == list(range(1, 31))


def test_rows_offered_without_a_connection_wait_and_no_more_than_the_window_is_in_flight(
    pki: Pki, broker: Broker, record: Peer
) -> None:
    with Network(broker.port) as network:
        station = Station(pki, network.port)
        station.link.offer(rows(1, 50))
        station.link.offer(rows(40, 60))  # the same rows again are the same rows
        with station:
            taken = station.inbox.wait(OutTaken, 60)
            assert [e.seq for e in taken] == list(range(1, 61))
            network.freeze()
            station.link.offer(rows(61, 200))
            connection = until(lambda: station.link._connection)
            until(lambda: connection._in_flight)
            assert len(connection._in_flight) <= 20


def test_rows_are_sent_again_after_a_break_and_the_province_sees_them_in_order(
    pki: Pki, broker: Broker, record: Peer
) -> None:
    with Network(broker.port) as network, Station(pki, network.port) as station:
        station.up()
        for first in range(1, 200, 20):
            station.link.offer(rows(first, first + 19))
            network.cut()
        station.inbox.wait(OutTaken, 200)
        until(lambda: len({m.payload for m in record.received}) == 200)
        seqs = [json.loads(m.payload)["seq"] for m in record.received]
        assert list(dict.fromkeys(seqs)) == list(range(1, 201))


def test_messages_the_source_refuses_stay_in_the_outbox_until_it_takes_them(
    pki: Pki, broker: Broker, record: Peer
) -> None:
    with Station(pki, broker.port, "tram-new", outbox_pause_s=0.2, groups=[]) as station:
        station.up()
        station.link.offer(rows(1, 30))
        until(lambda: station.link._connection and station.link._connection._outbox_from)
        assert station.inbox.of(OutTaken) == []
        broker.allow({"tram-a": [], "tram-b": [], "tram-new": []})
        assert [e.seq for e in station.inbox.wait(OutTaken, 30)] == list(range(1, 31))
        assert len(station.inbox.of(LinkUp)) == 1, "the link itself stayed up"


def test_a_group_the_configuration_has_left_is_left_at_the_broker_too(pki: Pki, broker: Broker) -> None:
    with Station(pki, broker.port) as station:
        station.up()
    with (
        Station(pki, broker.port, groups=[]) as station,
        Peer(pki, broker.port, "publisher") as province,
    ):
        station.up()
        province.send(topics.order("group:nhom-1"), b"not for us any more")
        province.send(ORDER, b"ours")
        station.inbox.wait(OrderArrived)
        assert station.orders() == [b"ours"]


def test_mosquittos_own_client_sees_state_beat_status_and_event_as_the_contract_says(
    pki: Pki, broker: Broker, record: Peer
) -> None:
    with Station(pki, broker.port, births=Births(41)) as station:
        station.up()
        station.link.publish_status(b'{"ok":true}')
        station.link.offer(rows(1, 1))
        station.inbox.wait(OutTaken)
        lines = mosquitto_sub(pki, broker.port, "watcher", "-t", "tram/1/#", "-C", "2", "-F", "%r %q %t %p")
        assert [line.partition(" {")[0] for line in sorted(lines)] == [
            "1 1 tram/1/dev/tram-a/state",
            "1 1 tram/1/dev/tram-a/status",
        ]
        state = json.loads(next(line for line in lines if "/state" in line).split(" ", 3)[3])
        assert state == {"agent": "test", "device": "tram-a", "online": True, "birth": 41}
        with Peer(pki, broker.port, "watcher", topics.up("tram-a", "beat")) as watcher:
            for n in range(3):  # the second and third go under a topic alias
                station.link.publish_beat(b'{"n":%d}' % n)
                until(lambda n=n: len(watcher.received) == n + 1)
            assert watcher.on(topics.up("tram-a", "beat")) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
            assert not any(m.retain for m in watcher.received)
            assert {m.expiry_s for m in watcher.received} <= {119, 120}
