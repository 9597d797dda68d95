"""Who has not sounded yet: an alert's receipts against the devices that it was sent to."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import language
from province.alerts import Alert, Alerts, alert_of, expected, sounding
from province.record import Journal, Message, Receipt, Record
from province.screenful import sentence, standing, standings
from tests.unit.province.test_record import T0, Desk

ARGS = {"id": "bao", "title": "Bão số 9", "class": "emergency"}


def order(args: dict[str, Any] = ARGS, **claims: Any) -> bytes:
    body = {"iss": "tinh", "jti": "j1", "op": "broadcast", "args": args, "exp": T0 + 600, "aud": ["xa-mau"], **claims}
    return b"e30." + urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=") + b".c2ln"


def acks(**devices: list[dict[str, Any]]) -> Receipt:
    desk = Desk()
    for name, told in devices.items():
        for seq, body in enumerate(told, start=1):
            said = {"jti": "j1", "iss": "tinh", "id": "bao", "seq": seq, "at": "2026-11-24T12:00:00+07:00", **body}
            desk.say("ack", said, device=name.replace("_", "-"))
    return desk.record.receipt("tinh", "j1")


RECEIVED = {"state": "received", "zones": {"loa": {"state": "received"}, "bang": {"state": "received"}}}
HEARD = {"state": "running", "first_sample_at": "2026-11-24T12:00:01+07:00"}
PARTLY = {"state": "running", "zones": {"loa": HEARD, "bang": {"state": "accepted"}}}
BOTH = {"state": "running", "zones": {"loa": HEARD, "bang": HEARD}}
DEAF = {"state": "running", "zones": {"loa": {"state": "failed", "reason": "no-voice"}, "bang": HEARD}}
DONE = {
    "state": "done",
    "zones": {"loa": {**HEARD, "state": "done"}, "bang": {"state": "failed", "reason": "not-shown"}},
}
SILENCED = {"state": "rejected", "reason": "silenced"}


@pytest.mark.parametrize(
    ("told", "where"),
    [
        ([], "unheard"),
        ([RECEIVED], "received"),
        ([RECEIVED, PARTLY], "partly"),
        ([RECEIVED, BOTH], "sounded"),
        ([RECEIVED, DEAF], "sounded"),
        ([RECEIVED, BOTH, DONE], "sounded"),
        ([SILENCED], "refused"),
        ([RECEIVED, {"state": "failed", "reason": "content-unavailable"}], "refused"),
    ],
)
def test_every_device_is_in_exactly_one_place(told: list[dict[str, Any]], where: str) -> None:
    found = sounding(acks(xa_mau=told), {"xa-mau"})
    assert "xa-mau" in getattr(found, where)
    assert found.total == 1
    assert bool(found.waiting) == (where in ("unheard", "received", "partly"))


def test_who_answers_though_nobody_knew_of_it_counts_too() -> None:
    assert sounding(acks(xa_la=[RECEIVED]), {"xa-mau"}).total == 2


def test_a_group_means_its_devices_only_where_they_are_known() -> None:
    assert expected({"group:all"}, {"xa-a", "xa-b"}) == {"xa-a", "xa-b"}
    assert expected({"group:ven-song", "xa-c"}, {"xa-a"}) == {"xa-c"}


def test_only_emergencies_are_watched_for_and_what_is_damaged_is_none() -> None:
    assert alert_of("tram/1/dev/xa-mau/order", order(), T0) == Alert(
        "tinh", "j1", "bao", "Bão số 9", False, T0, T0 + 600, {"xa-mau"}
    )
    assert alert_of("tram/1/dev/xa-mau/ack", order(), T0) is None
    assert alert_of("tram/1/dev/xa-mau/order", order({**ARGS, "class": "normal"}), T0) is None
    assert alert_of("tram/1/dev/xa-mau/order", order(op="cancel"), T0) is None


@given(payload=st.binary(max_size=80))
def test_no_bytes_on_an_order_topic_stop_the_watcher(payload: bytes) -> None:
    assert alert_of("tram/1/group/all/order", payload, T0) is None
    assert alert_of("tram/1/group/all/order", b"a." + payload + b".c", T0) is None


def test_the_same_alert_to_further_devices_is_one_and_is_forgotten_long_after_its_end() -> None:
    alerts = Alerts()
    for target in ("xa-a", "xa-b"):
        alert = alert_of(f"tram/1/dev/{target}/order", order(), T0)
        assert alert is not None
        alerts.take(alert)
    assert [a.targets for a in alerts.current(T0)] == [{"xa-a", "xa-b"}]
    assert alerts.current(T0 + 600 + 601) == []


@pytest.fixture(params=["vi", "en"])
def speaks(request: pytest.FixtureRequest) -> Any:
    language.use(request.param)
    yield request.param
    language.use("en")


def test_the_sentence_names_who_has_not_sounded_and_counts_where_there_are_many(speaks: str) -> None:
    devices = {f"xa-{n:03}" for n in range(120)}
    receipt = acks(**{f"xa_{n:03}": [RECEIVED, BOTH] for n in range(100)}, xa_100=[RECEIVED], xa_101=[SILENCED])
    alert = Alert("tinh", "j1", "bao", "Bão số 9", True, T0, T0 + 600, devices)
    said = standing(alert, sounding(receipt, devices))
    assert "100" in said
    assert "120" in said
    assert "xa-102" in said
    assert "xa-119" not in said
    assert "xa-100" in said
    assert "xa-101 (" in said
    assert ("DIỄN TẬP" if speaks == "vi" else "DRILL") in said
    assert ("và 6 nữa" if speaks == "vi" else "and 6 more") in said


def test_the_watch_shows_the_alerts_that_it_saw_and_those_that_it_kept(tmp_path: Any) -> None:
    journal = Journal(tmp_path / "record.sqlite")
    journal.keep(Message("tram/1/group/all/order", order(), T0))
    journal.close()
    record = Record(known={"xa-a", "xa-b"})
    again = Journal(tmp_path / "record.sqlite")
    alerts = Alerts()
    for message in again.load(record):
        alert = alert_of(message.topic, message.payload, message.at)
        assert alert is not None
        alerts.take(alert)
    again.close()
    (said,) = standings(SimpleNamespace(record=record, alerts=alerts), T0)  # type: ignore[arg-type]
    assert "xa-a, xa-b" in said


def test_the_latencies_of_a_drill_are_said_and_counted_in_the_report() -> None:
    desk = Desk()
    body = {
        "kind": "progress",
        "what": "drill",
        "id": "thu",
        "zones": ["loa"],
        "latency_ms": {"verified": 4.2, "first_sample": 9.1, "converter": 24.0},
    }
    desk.state()
    taken = desk.event(body)
    (said,) = sentence(taken)
    assert "9.1 ms" in said
    assert "4.2 ms" in said
    desk.event({**body, "latency_ms": {"first_sample": "x"}})
    (row,) = desk.record.report(T0 - 1, T0 + 1)
    assert (row["drills"], row["drill_first_sample_ms"]) == (1, 9.1)
