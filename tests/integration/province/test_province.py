"""The province against the real broker."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.province import province as command
from agent.link import topics
from province.broker import Broker
from province.publish import Access, Connection, LinkError, Publisher, describe
from province.record import Journal, Message, Record
from province.store import Endpoint, Province, ProvinceError, Settings
from province.watch import Watcher
from tests.unit.province.test_record import Desk, stamp
from tests.unit.province.test_store import entry

pytestmark = pytest.mark.broker
DEVICES = {"xa-mau-1": ["ven-bien"], "xa-mau-2": ["ven-bien"]}


class World:
    """A province, its broker, and the devices' connections."""

    def __init__(self, folder: Path) -> None:
        from province import pki

        self.folder = folder
        certificates = pki.make(folder / "pki", DEVICES)
        self.broker = Broker(folder / "broker", certificates, DEVICES)
        self.broker.start()
        settings = Settings(name="Tỉnh", broker=Endpoint("127.0.0.1", self.broker.port), devices=list(DEVICES))
        self.province = Province.create(folder, [entry("tinh", 50)], settings=settings)
        self.open: list[Connection] = []

    def access(self, name: str) -> Access:
        pki = self.folder / "pki"
        files = (str(pki / "ca.crt"), str(pki / f"{name}.crt"), str(pki / f"{name}.key"))
        return Access("127.0.0.1", self.broker.port, *files)

    def device(self, name: str = "xa-mau-1", *, deaf_for: int = 0) -> Device:
        made = Device(self, name, deaf_for)
        self.open.append(made.connection)
        return made

    def close(self) -> None:
        for connection in self.open:
            connection.close()
        self.broker.stop()


class Device:
    """Acknowledges orders like a station, after having missed the first `deaf_for` of them."""

    def __init__(self, world: World, name: str, deaf_for: int) -> None:
        self.name, self.deaf_for = name, deaf_for
        self.heard: list[Message] = []
        self.arrived = threading.Event()
        filters = [f for target in topics.targets(name, DEVICES[name]) for f in topics.inbound(target)]
        self.connection = Connection(world.access(name), name, subscribe=filters, on_messages=self._take)
        self.connection.open()

    def say(self, leaf: str, body: dict[str, Any], *, retain: bool = False) -> None:
        self.connection.publish(topics.up(self.name, leaf), json.dumps(body).encode(), retain=retain)

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            self.heard.append(message)
            if len(self.heard) > self.deaf_for:
                # Publishing waits for the broker, which would wait for this very thread.
                threading.Thread(target=self._answer, args=(message,)).start()
        self.arrived.set()

    def _answer(self, message: Message) -> None:
        order = describe(message.payload.decode())
        body: dict[str, Any] = {"jti": order.jti, "iss": order.iss, "at": stamp(time.time())}
        for seq, state in enumerate(("received", "running", "done"), 1):
            zones = {"loa": {"state": state, "first_sample_at": stamp(time.time())}}
            self.say("ack", body | {"seq": seq, "state": state, "zones": zones})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def broadcast(world: World, *aud: str, ttl_s: float = 60) -> Any:
    args = {"id": "b1", "title": "t", "class": "emergency", "start": "now", "zones": ["*"], "resume": "drop"}
    items = [{"text": "Sơ tán ngay", "lang": "vi"}]
    return world.province.sign("tinh", "broadcast", args | {"items": items}, list(aud), ttl_s=ttl_s)


def test_an_order_arrives_and_its_acks_come_back(world: World) -> None:
    world.device()
    order = broadcast(world, "xa-mau-1")
    with Publisher(world.access("publisher")) as publisher:
        assert publisher.send(order) == ["tram/1/dev/xa-mau-1/order"]
        receipt = publisher.wait(order, lambda r: "xa-mau-1" in r.devices and r.devices["xa-mau-1"].final, 10)
    device = receipt.devices["xa-mau-1"]
    assert list(device.times) == ["received", "running", "done"]
    assert device.zones["loa"].first_sample_at is not None


def test_a_group_order_reaches_its_devices_and_a_state_order_those_that_come_later(world: World) -> None:
    one = world.device("xa-mau-1")
    state = world.province.sign("tinh", "silence", {"on": True, "zones": ["*"]}, ["group:ven-bien"])
    with Publisher(world.access("publisher")) as publisher:
        assert publisher.send(state) == ["tram/1/group/ven-bien/desired/silence/tinh"]
        two = world.device("xa-mau-2")
        receipt = publisher.wait(state, lambda r: len([d for d in r.devices.values() if d.final]) == 2, 10)
    assert set(receipt.devices) == set(DEVICES)
    assert [m.payload.decode() for m in (*one.heard, *two.heard)] == [state.jws] * 2


def test_an_emergency_is_sent_again_with_the_same_bytes_until_it_is_acknowledged(world: World) -> None:
    deaf = world.device("xa-mau-1", deaf_for=2)
    world.device("xa-mau-2")
    order = broadcast(world, "group:all")
    seen: list[tuple[str, str]] = []
    with Publisher(world.access("publisher")) as publisher:
        receipt = publisher.pursue(
            order, DEVICES, watch=lambda n, d: seen.append((n, d.state)), repeat_s=0.2, timeout_s=15
        )
    assert {n: d.state for n, d in receipt.devices.items()} == dict.fromkeys(DEVICES, "done")
    assert {m.payload.decode() for m in deaf.heard} == {order.jws}
    assert [m.topic.split("/")[2] for m in deaf.heard][:3] == ["group", "dev", "dev"]
    assert ("xa-mau-2", "done") in seen


def test_a_device_that_stays_away_leaves_an_open_receipt(world: World) -> None:
    order = broadcast(world, "xa-mau-1")
    with Publisher(world.access("publisher")) as publisher:
        receipt = publisher.pursue(order, ["xa-mau-1"], repeat_s=0.1, timeout_s=0.5)
    assert receipt.devices == {}


@pytest.mark.parametrize("case", ["expired", "too large", "alias"])
def test_what_cannot_arrive_is_not_sent(world: World, case: str) -> None:
    sign = world.province.sign
    order = broadcast(world, "xa-mau-1", ttl_s=0.5)
    if case == "too large":
        order = sign("tinh", "broadcast", {"x": "y" * 20_000}, ["xa-mau-1"])
    elif case == "alias":
        order = sign("tinh", "reboot", {}, ["Xã Mẫu cũ"])
    with Publisher(world.access("publisher")) as publisher, pytest.raises(ProvinceError):
        publisher.send(order, now=time.time() + (1 if case == "expired" else 0))


def test_what_a_device_sends_twice_is_recorded_once(world: World) -> None:
    device, desk = world.device(), Desk()
    record = Record()
    with Watcher(world.access("watcher"), record) as watcher:
        body = {"kind": "log", "entry": desk.entry(), "seq": 1, "at": stamp(time.time())}
        device.say("event", body)
        device.say("event", body)
        device.say("event", {"kind": "alarm", "what": "x", "seq": 2})
        assert watcher.wait_for(lambda r: len(r.export()["events"]) == 2, 10)
        assert not watcher.wait_for(lambda r: len(r.export()["events"]) > 2, 0.3)
        export = watcher.export()
    assert [e["body"]["seq"] for e in export["events"]] == [1, 2]
    assert export["events"][0]["device"] == "xa-mau-1"
    assert export["alarms"] == []


def test_what_happens_while_nobody_watches_is_in_the_record_afterwards(world: World, tmp_path: Path) -> None:
    device = world.device()
    path = tmp_path / "r.sqlite"

    def watch() -> Watcher:
        record, journal = Record(), Journal(path)
        journal.load(record)
        return Watcher(world.access("watcher"), record, journal)

    with watch() as first:
        device.say("event", {"kind": "alarm", "what": "a", "seq": 1})
        assert first.wait_for(lambda r: len(r.export()["events"]) == 1, 10)
    for seq in (1, 2, 3):
        device.say("event", {"kind": "alarm", "what": "a", "seq": seq})
    with watch() as second:
        assert second.wait_for(lambda r: len(r.export()["events"]) == 3, 10)
        assert [e["body"]["seq"] for e in second.export()["events"]] == [1, 2, 3]


def test_what_was_taken_is_not_delivered_again(world: World) -> None:
    device = world.device()
    lives: list[list[Message]] = []
    for _ in range(2):
        heard: list[Message] = []
        arrived = threading.Event()

        def take(messages: list[Message], heard: list[Message] = heard, arrived: threading.Event = arrived) -> None:
            heard.extend(messages)
            arrived.set()

        access = world.access("watcher")
        reader = Connection(access, "reader", subscribe=["tram/1/dev/+/event"], on_messages=take, keep_s=600)
        reader.open()
        if not lives:
            device.say("event", {"kind": "alarm", "seq": 1})
            assert arrived.wait(10)
        else:
            assert not arrived.wait(0.5)
        reader.close()
        lives.append(heard)
    assert [len(heard) for heard in lives] == [1, 0]


def test_publisher_and_watcher_come_back_after_the_broker_was_killed(world: World) -> None:
    record = Record()
    with Publisher(world.access("publisher")) as publisher, Watcher(world.access("watcher"), record) as watcher:
        world.broker.restart(kill=True)
        device = world.device()
        order = broadcast(world, "xa-mau-1")
        publisher.send(order)
        assert publisher.wait(order, lambda r: "xa-mau-1" in r.devices, 15).devices
        for _ in range(30):
            # As a station does while nobody has subscribed again: a killed broker forgets who had.
            device.say("event", {"kind": "alarm", "what": "a", "seq": 1})
            if watcher.wait_for(lambda r: len(r.export()["events"]) == 1, 1):
                break
        assert len(record.export()["events"]) == 1


def test_a_journal_that_fails_stops_the_watcher_and_leaves_the_messages_with_the_broker(
    world: World, tmp_path: Path
) -> None:
    device, record, journal = world.device(), Record(), Journal(tmp_path / "r.sqlite")
    watcher = Watcher(world.access("watcher"), record, journal)
    watcher.start()
    journal.close()
    device.say("event", {"kind": "alarm", "what": "a", "seq": 1})
    deadline = time.monotonic() + 10
    while watcher.failure is None and time.monotonic() < deadline:
        watcher.wait_for(lambda _r: False, 0.05)
    assert "ProgrammingError" in str(watcher.failure)
    watcher.stop()
    again, fresh = Record(), Journal(tmp_path / "r.sqlite")
    with Watcher(world.access("watcher"), again, fresh) as later:
        assert later.wait_for(lambda r: len(r.export()["events"]) == 1, 10)


def test_a_broker_that_is_not_there_is_named(world: World) -> None:
    world.broker.stop()
    with pytest.raises(LinkError, match=str(world.broker.port)):
        Publisher(world.access("publisher")).open(2)


def run(folder: Path, *args: str, input_: str | None = None) -> Result:
    return CliRunner().invoke(command, ["--lang", "en", "--dir", str(folder), *args], input=input_)


def test_init_says_what_to_copy_where(tmp_path: Path) -> None:
    made = run(tmp_path / "p", "init", "--unit", "86", "--commune", "xa-mau=86/xa-mau", "--device", "xa-mau-1")
    assert made.exit_code == 0, made.output
    for word in ("root_keys.json", "trust.authorities", "xa-mau-1.crt", "trust.station_key", "root-*.jwk"):
        assert word in made.output
    assert set(Province(tmp_path / "p").trusted().authorities) == {"tinh", "xa-mau"}
    again = run(tmp_path / "p", "init", "--unit", "86")
    assert again.exit_code == 1
    assert "never overwritten" in again.output


def test_a_station_with_clusters_gets_a_certificate_for_its_own_network(tmp_path: Path) -> None:
    made = run(tmp_path, "init", "--unit", "86", "--device", "xa-mau", "--lan", "xa-mau=tram.lan")
    assert made.exit_code == 0, made.output
    assert "xa-mau-lan.crt" in made.output
    assert (tmp_path / "pki" / "xa-mau-lan.key").stat().st_mode & 0o777 == 0o600
    wrong = run(tmp_path / "other", "init", "--unit", "86", "--device", "xa-mau", "--lan", "xa-khac=tram.lan")
    assert wrong.exit_code == 2


def test_sign_refuses_what_devices_would_refuse_unless_told(tmp_path: Path) -> None:
    run(tmp_path, "init", "--unit", "86")
    given = ("sign", "--as", "tinh", "--to", "xa-mau-1", "--op", "cancel", "-")
    refused = run(tmp_path, *given, input_="idz: [a]")
    assert refused.exit_code == 1
    assert "idz" in refused.output
    signed = run(tmp_path, *given, input_="ids: [a]")
    assert describe(signed.output.strip()).op == "cancel"
    assert run(tmp_path, *given, "--unchecked", input_="idz: [a]").exit_code == 0


def test_publish_and_wait_shows_the_acks(world: World) -> None:
    world.device()
    given = ("publish", "--as", "tinh", "--to", "xa-mau-1", "--op", "reboot", "--wait", "10", "-")
    done = run(world.folder, *given, input_="{}")
    assert done.exit_code == 0, done.output
    assert "tram/1/dev/xa-mau-1/order" in done.output
    assert "xa-mau-1: done" in done.output


def test_an_emergency_command_follows_to_the_first_sound(world: World) -> None:
    world.device("xa-mau-1")
    given = ("emergency", "--as", "tinh", "--title", "BÃO SỐ 9", "--text", "Sơ tán ngay.", "--to", "xa-mau-1")
    done = run(world.folder, *given, "--wait", "15")
    assert done.exit_code == 0, done.output
    assert "first sound" in done.output
    missed = run(world.folder, *given, "--to", "xa-mau-2", "--wait", "1")
    assert missed.exit_code == 1
    assert "no answer" in missed.output
    long = run(world.folder, *given[:-4], "--text", "Sơ tán. " * 700, "--to", "xa-mau-1")
    assert long.exit_code == 1
    assert "4096" in long.output


def test_silence_is_retained_and_lifted_with_a_higher_version(world: World) -> None:
    assert run(world.folder, "silence", "on", "--as", "tinh", "--wait", "0").exit_code == 0
    device = world.device()
    assert device.arrived.wait(10)
    assert run(world.folder, "silence", "off", "--as", "tinh", "--wait", "1").exit_code == 0
    assert [describe(m.payload.decode()).op for m in device.heard] == ["silence", "silence"]
    refused = run(world.folder, "silence", "on", "--as", "tinh", "--include-local")
    assert refused.exit_code == 2


def test_watch_once_shows_the_fleet_and_report_counts(world: World) -> None:
    device, desk = world.device(), Desk()
    device.say("state", {"device": "xa-mau-1", "online": True, "birth": 4}, retain=True)
    shown = run(world.folder, "watch", "--once")
    assert shown.exit_code == 0, shown.output
    assert "xa-mau-1" in shown.output
    assert json.loads(run(world.folder, "watch", "--once", "--json").output)["states"][0]["body"]["birth"] == 4
    assert run(world.folder, "report").exit_code == 1
    record, journal = Record(), Journal(world.folder / "record.sqlite")
    with Watcher(world.access("watcher"), record, journal) as watcher:
        device.say("event", {"kind": "log", "entry": desk.entry(), "seq": 1, "at": stamp(time.time())})
        assert watcher.wait_for(lambda r: len(r.export()["events"]) == 1, 10)
    table = run(world.folder, "report").output.splitlines()
    assert table[0].startswith("device,online_percent,completed")
    assert table[1].split(",")[0::2][:2] == ["xa-mau-1", "1"]
    assert json.loads(run(world.folder, "report", "--format", "json").output)["devices"][0]["completed"] == 1


@pytest.mark.parametrize("name", ["release"])
def test_what_is_not_built_says_so(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, "--anything", "x")
    assert done.exit_code == 2
    assert "not built" in done.output


def test_the_help_of_the_group_loads_no_command() -> None:
    code = "import sys; from agent.cli.province import province; print('province.cli' in sys.modules)"
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"
