"""The province's record: each thing once, checked against what came before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.playlog import Head, LogEntry, chain
from province.record import Journal, Message, Record, Taken

T0 = 1_780_000_000.0


def stamp(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class Desk:
    """A record and a device that reports to it."""

    def __init__(self, **options: Any) -> None:
        self.record = Record(**options)
        self.now = T0
        self.seq = 0
        self.head = Head()

    def say(self, leaf: str, body: Any, *, device: str = "xa-mau", retain: bool = False) -> Taken:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.record.take(Message(f"tram/1/dev/{device}/{leaf}", payload, self.now, retain))

    def state(self, birth: int = 1, *, online: bool = True, retain: bool = False) -> Taken:
        return self.say("state", {"device": "xa-mau", "online": online, "birth": birth}, retain=retain)

    def beat(self, n: int, head: tuple[int, str] | None = None, *, at: float | None = None) -> Taken:
        log = [head[0], head[1][:8]] if head else [self.head.n, self.head.hash[:8]]
        made = int(self.now if at is None else at)
        return self.say("beat", {"n": n, "at": made, "zones": {}, "faults": 0, "rev": 1, "log": log})

    def event(self, body: dict[str, Any], seq: int | None = None) -> Taken:
        self.seq = self.seq + 1 if seq is None else seq
        return self.say("event", {"at": stamp(self.now), **body, "seq": self.seq})

    def entry(self, **changes: Any) -> dict[str, Any]:
        """The next entry of the device's own log."""
        given: dict[str, Any] = {"bulletin": "b1", "title": "t", "class_": "normal", "iss": "tinh", "zone": "loa"}
        made = chain(self.head, LogEntry(**given | {"result": "completed", "by": "order"} | changes))
        self.head = Head(made.n, made.hash)
        return made.to_dict()

    def log(self, entry: dict[str, Any]) -> Taken:
        return self.event({"kind": "log", "entry": entry})

    def ack(self, seq: int, state: str, *, device: str = "xa-mau", **more: Any) -> Taken:
        body = {"jti": "j1", "iss": "tinh", "id": "bao", "seq": seq, "state": state, "at": stamp(self.now), **more}
        return self.say("ack", body, device=device)

    def alarms(self) -> list[str]:
        return [a.what for a in self.record.alarms]


def words(taken: Taken) -> list[str]:
    return [a.what for a in taken.alarms]


def test_an_event_sent_twice_is_recorded_once() -> None:
    desk = Desk()
    first = desk.event({"kind": "alarm", "what": "x"}, seq=7)
    again = desk.event({"kind": "alarm", "what": "x"}, seq=7)
    assert (first.new, again.new) == (True, False)
    assert len(desk.record.export()["events"]) == 1
    assert desk.alarms() == []


def test_the_same_number_with_other_content_is_kept_and_is_an_alarm() -> None:
    desk = Desk()
    desk.event({"kind": "alarm", "what": "x"}, seq=7)
    assert words(desk.event({"kind": "alarm", "what": "y"}, seq=7)) == ["seq-reused"]
    assert len(desk.record.export()["events"]) == 2


def test_events_of_two_devices_do_not_meet() -> None:
    desk = Desk()
    body = {"kind": "alarm", "seq": 1}
    assert desk.say("event", body, device="xa-mau").new
    assert desk.say("event", body, device="xa-hai").new


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_a_whole_log_is_accepted_in_any_order_of_arrival(order: list[int]) -> None:
    desk = Desk()
    entries = [desk.entry() for _ in range(4)]
    for n in order:
        desk.log(entries[n])
    desk.beat(1)
    assert desk.alarms() == []
    assert desk.record.fleet["xa-mau"].head == (4, entries[3]["hash"])
    assert desk.record.fleet["xa-mau"].missing == 0


def _altered(desk: Desk) -> None:
    desk.log(desk.entry() | {"title": "khác"})


def _forked(desk: Desk) -> None:
    desk.log(desk.entry())
    second = desk.head
    desk.log(desk.entry())
    desk.head = second
    desk.log(desk.entry(title="khác"))


def _broken(desk: Desk) -> None:
    desk.log(desk.entry())
    desk.head = Head(1, "ab" * 32)
    desk.log(desk.entry())


def _restarted(desk: Desk) -> None:
    for _ in range(3):
        desk.log(desk.entry())
    desk.head = Head()
    desk.log(desk.entry(title="khác"))
    desk.log(desk.entry())


def _truncated(desk: Desk) -> None:
    entries = [desk.entry() for _ in range(3)]
    for entry in entries:
        desk.log(entry)
    desk.beat(1)
    desk.now += 60
    desk.beat(2, (1, entries[0]["hash"]))


def _rewritten(desk: Desk) -> None:
    desk.log(desk.entry())
    desk.beat(1, (1, "f" * 64))


def _overtaken(desk: Desk) -> None:
    desk.log(desk.entry())
    old = desk.head
    desk.now += 30
    desk.log(desk.entry())
    desk.beat(1, (old.n, old.hash), at=desk.now - 20)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (_altered, ["log-altered"]),
        (_forked, ["log-fork"]),
        (_broken, ["log-broken"]),
        (_restarted, ["log-restarted"]),
        (_truncated, ["log-truncated"]),
        (_rewritten, ["log-head"]),
        (_overtaken, []),
    ],
    ids=lambda c: c.__name__.strip("_") if callable(c) else "",
)
def test_a_log_that_was_tampered_with_is_an_alarm(case: Any, expected: list[str]) -> None:
    desk = Desk()
    case(desk)
    assert desk.alarms() == expected


def test_a_truncated_log_is_told_once_not_every_minute() -> None:
    desk = Desk()
    _truncated(desk)
    for n in range(3, 9):
        desk.now += 60
        desk.beat(n, (1, "0" * 64))
    assert desk.alarms() == ["log-truncated"]


def test_entries_that_have_not_arrived_are_counted() -> None:
    desk = Desk()
    first, _lost, third = desk.entry(), desk.entry(), desk.entry()
    desk.log(first)
    desk.log(third)
    assert desk.record.fleet["xa-mau"].missing == 1
    desk.entry()
    desk.beat(1)
    assert desk.record.fleet["xa-mau"].missing == 2
    assert desk.alarms() == []


def test_a_receipt_follows_an_emergency_from_receiving_to_its_end() -> None:
    desk = Desk()
    sample = stamp(T0 + 0.05)
    desk.ack(1, "received", zones={"loa": {"state": "received"}, "bang": {"state": "received"}})
    desk.now += 0.1
    desk.ack(2, "running", zones={"loa": {"state": "running", "first_sample_at": sample}})
    desk.now += 10
    desk.ack(3, "done", zones={"loa": {"state": "done"}, "bang": {"state": "failed", "reason": "no-such-zone"}})
    desk.ack(1, "rejected", device="xa-hai", reason="silenced")
    receipt = desk.record.receipt("tinh", "j1")
    mau, hai = receipt.devices["xa-mau"], receipt.devices["xa-hai"]
    assert (receipt.id, mau.state, mau.final) == ("bao", "done", True)
    assert list(mau.times) == ["received", "running", "done"]
    assert mau.zones["loa"].first_sample_at == sample
    assert (mau.zones["bang"].state, mau.zones["bang"].reason) == ("failed", "no-such-zone")
    assert (hai.state, hai.reason, hai.final) == ("rejected", "silenced", True)


def test_acks_out_of_order_leave_the_newest_state() -> None:
    desk = Desk()
    desk.ack(3, "done", zones={"loa": {"state": "done"}})
    desk.ack(2, "running", zones={"loa": {"state": "running", "first_sample_at": "x"}})
    device = desk.record.receipt("tinh", "j1").devices["xa-mau"]
    assert (device.state, device.zones["loa"].state, device.zones["loa"].first_sample_at) == ("done", "done", "x")


def test_the_recorded_ack_again_changes_nothing_and_another_one_in_its_place_is_an_alarm() -> None:
    desk = Desk()
    desk.ack(1, "received")
    assert not desk.ack(1, "received").new
    assert words(desk.ack(1, "done")) == ["ack-conflict"]
    assert desk.record.receipt("tinh", "j1").devices["xa-mau"].state == "received"


def test_nobody_waits_for_the_beats_of_a_cluster_whose_station_speaks_for_it() -> None:
    desk = Desk(period_s=60)
    desk.say("state", {"device": "cum-1", "online": True, "birth": 1, "via": "xa-mau"}, device="cum-1")
    assert desk.record.tick(T0 + 3600) == []
    gone = desk.say("state", {"device": "cum-1", "online": False, "birth": 1, "via": "xa-mau"}, device="cum-1")
    assert words(gone) == ["offline"]


def test_a_device_that_stops_beating_is_silent_after_three_periods_and_told_when_back() -> None:
    desk = Desk(period_s=60)
    desk.state()
    desk.beat(1)
    assert desk.record.tick(T0 + 180) == []
    assert [a.what for a in desk.record.tick(T0 + 181)] == ["silent"]
    assert desk.record.tick(T0 + 240) == []
    desk.now = T0 + 300
    assert words(desk.beat(2)) == ["back"]
    assert desk.record.fleet["xa-mau"].presence == [[T0, T0], [T0 + 300, T0 + 300]]


def test_the_will_is_an_alarm_and_an_older_will_is_none() -> None:
    desk = Desk()
    desk.state(5)
    assert not desk.state(4, online=False).new
    assert desk.record.fleet["xa-mau"].online
    assert words(desk.state(5, online=False)) == ["offline"]
    assert desk.record.tick(T0 + 10_000) == [], "offline is known: silence is no news"


def test_what_the_broker_kept_is_no_sign_of_life() -> None:
    desk = Desk()
    desk.state(3, retain=True)
    assert desk.record.fleet["xa-mau"].presence == []
    assert [a.what for a in desk.record.tick(T0 + 200)] == ["silent"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("an older birth online", ["duplicate-device"]),
        ("the same beat again", ["duplicate-device"]),
        ("beats begin anew with a new birth", []),
    ],
)
def test_two_devices_under_one_name_are_noticed(case: str, expected: list[str]) -> None:
    desk = Desk()
    desk.state(5)
    desk.beat(9)
    if case == "an older birth online":
        desk.state(2)
    elif case == "the same beat again":
        desk.beat(3)
    else:
        desk.state(6)
        desk.beat(1)
    assert desk.alarms() == expected


def test_a_foreign_device_is_an_alarm_once() -> None:
    desk = Desk(known={"xa-mau"})
    desk.state()
    desk.say("event", {"kind": "alarm", "seq": 1}, device="xa-la")
    desk.say("event", {"kind": "alarm", "seq": 2}, device="xa-la")
    assert [(a.device, a.what) for a in desk.record.alarms] == [("xa-la", "foreign-device")]


@pytest.mark.parametrize(
    ("leaf", "payload"),
    [
        ("event", b"\xff\x00"),
        ("event", b"[]"),
        ("event", b'{"kind":"log"}'),
        ("event", b'{"kind":"log","seq":1}'),
        ("event", b'{"kind":"log","seq":1,"entry":{"n":-1}}'),
        ("event", b'{"kind":"log","seq":1,"entry":{"n":1,"prev":"","hash":"","x":1e400}}'),
        ("event", b'{"seq":true}'),
        ("ack", b'{"jti":1}'),
        ("ack", b'{"jti":"a","iss":"b","seq":1}'),
        ("beat", b'{"n":1}'),
        ("beat", b'{"n":1,"log":"x"}'),
        ("state", b'{"birth":1,"online":"yes"}'),
        ("state", b'{"online":true}'),
        ("event", b"[" * 50_000),
    ],
)
def test_a_damaged_message_is_named_once_and_not_recorded(leaf: str, payload: bytes) -> None:
    desk = Desk()
    assert words(desk.say(leaf, payload)) == ["malformed"]
    assert desk.say(leaf, payload).alarms == []
    export = desk.record.export()
    assert export["events"] == export["acks"] == export["states"] == []


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["state", "beat", "status", "event", "ack"]),
    st.dictionaries(
        st.sampled_from(["n", "seq", "birth", "online", "log", "kind", "entry", "jti", "iss", "state", "zones", "at"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["log"]),
            lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=6), c, max_size=3),
            max_leaves=6,
        ),
    ),
)
def test_nothing_that_arrives_is_fatal(leaf: str, body: dict[str, Any]) -> None:
    desk = Desk()
    desk.say(leaf, body)
    desk.say(leaf, body)
    desk.record.tick(T0 + 1e6)
    json.dumps(desk.record.export())
    desk.record.report(T0 - 10, T0 + 10)


def test_other_topics_are_not_the_records_matter() -> None:
    record = Record()
    assert record.take(Message("tram/1/dev/xa-mau/order", b"x", T0)).device is None
    assert record.take(Message("anything", b"x", T0)).device is None
    assert record.fleet == {}


def test_the_report_counts_what_was_played_and_how_long_the_device_was_there() -> None:
    desk = Desk(period_s=60)
    desk.state()
    for n in range(30):
        desk.now = T0 + 60 * n
        desk.beat(n + 1)
    desk.log(desk.entry())
    desk.log(desk.entry(result="failed", reason="content-unavailable"))
    desk.event({"kind": "refused", "reason": "bad-signature", "count": 3})
    [row] = desk.record.report(T0, T0 + 3600)
    assert row["online_percent"] == pytest.approx(50, abs=0.1)
    assert (row["completed"], row["failed"], row["refused"], row["log_missing"]) == (1, 1, 3, 0)
    [later] = desk.record.report(T0 + 3600, T0 + 7200)
    assert (later["online_percent"], later["completed"]) == (0, 0)


def test_the_report_shows_for_how_long_boards_were_requisitioned() -> None:
    desk = Desk()
    zones = [{"id": "man-hinh", "kind": "screen", "idle": "external"}, {"id": "bang", "kind": "screen"}]
    desk.say("state", {"device": "xa-mau", "online": True, "birth": 1, "zones": zones})
    for zone in ("man-hinh", "bang", "man-hinh"):
        desk.log(desk.entry(zone=zone, started="2026-11-24T17:00:00+07:00", ended="2026-11-24T17:03:00+07:00"))
    desk.log(desk.entry(zone="man-hinh", result="skipped", reason="requisition-hours"))
    [row] = desk.record.report(T0 - 10, T0 + 3600)
    assert row["requisition_minutes"] == 6


def test_the_journal_brings_a_record_back_as_it_was(tmp_path: Path) -> None:
    desk = Desk()
    journal = Journal(tmp_path / "r.sqlite")
    took = desk.record.take

    def take(message: Message) -> Taken:
        taken = took(message)
        journal.write(message, taken, desk.record)
        return taken

    desk.record.take = take  # type: ignore[method-assign]
    desk.state()
    entry = desk.entry()
    desk.log(entry)
    desk.ack(1, "received", zones={"loa": {"state": "received"}})
    desk.beat(1)
    desk.beat(1)
    journal.close()

    again = Record()
    later = Journal(tmp_path / "r.sqlite")
    later.load(again)
    later.close()
    before, after = desk.record.export(), again.export()
    for kind in ("events", "acks", "states", "alarms", "receipts"):
        assert after[kind] == before[kind], kind
    assert again.fleet["xa-mau"].presence == [[T0, T0]]
    assert again.fleet["xa-mau"].head == (1, entry["hash"])
    desk.record = again
    assert not desk.event({"kind": "log", "entry": entry}, seq=1).new, "known after the restart too"
