"""Self-tests as the province and the officer see them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.model.ear import Checked, EarLost, Measured, Noticed, Ready
from agent.model.health import Verdict
from tests.unit.core.world import CONFIG, World, broadcast, media

MONITORS = [{"id": "tai-nghe", "zone": "loa", "driver": "pipe", "path": "p"}]


def world_of(**more: Any) -> World:
    return World(monitors=MONITORS, **more)


def under_test(world: World, zone: str = "loa") -> bool:
    return (world.sounding(zone) or "").startswith("test-")


def results(world: World) -> dict[str, Any]:
    return {e["zone"]: e["verdict"] for e in world.events("progress") if e["what"] == "self-test"}


def test_an_order_tests_one_zone_after_the_other_and_its_ack_has_number_and_verdict() -> None:
    world = world_of()
    jti = world.order("test", {"zones": ["kind:sound"]})
    world.advance(1)
    assert (under_test(world), under_test(world, "loa-2")) == (True, False)
    world.advance(3)
    (check,) = world.checks
    assert check.zone == "loa"
    assert 0 < check.end_ns - check.begin_ns <= 4e9
    world.post(Checked("loa", Verdict.OK, 31.5, 120.0))
    world.advance(1)
    assert under_test(world, "loa-2")
    world.advance(4)
    ack = world.acks(jti)[-1]
    assert world.states_of(jti) == ["received", "done"]
    assert (
        ack["zones"]["loa"]["test"] | {"verdict": "ok", "level_db": 31.5, "current_ma": 120.0}
        == (ack["zones"]["loa"]["test"])
    )
    assert ack["zones"]["loa-2"]["test"]["verdict"] == "unknown"  # nobody hears it: never ok
    assert world.ask("status")["result"]["zones"]["loa"]["test"]["verdict"] == "ok"


def test_a_silent_speaker_is_an_alarm_until_a_test_finds_it_well() -> None:
    world = world_of()
    for verdict in (Verdict.SILENT, Verdict.OK):
        world.order("test", {"zones": ["loa"]})
        world.advance(4)
        world.post(Checked("loa", verdict, 0.4))
        world.advance(1)
    alarms = [(e["on"], e["zone"]) for e in world.events("alarm") if e["what"] == "self-test"]
    assert alarms == [(True, "loa"), (False, "loa")]


def test_an_ear_that_does_not_answer_leaves_the_verdict_unknown() -> None:
    world = world_of()
    jti = world.order("test", {"zones": ["loa"]})
    world.advance(20)
    assert world.states_of(jti) == ["received", "done"]
    assert results(world) == {"loa": "unknown"}


def test_a_test_waits_for_a_zone_in_use_and_disturbs_nobody() -> None:
    world = world_of()
    world.order("broadcast", broadcast("tin", media("a", 30, world)))
    world.advance(2)
    world.order("test", {"zones": ["loa"]})
    world.advance(10)
    assert world.sounding("loa") == "tin"
    world.advance(18.5)
    assert under_test(world)
    world.order("broadcast", broadcast("bao", media("b", 5, world), **{"class": "emergency"}))
    world.advance(0.1)
    assert world.sounding("loa") == "bao"
    world.advance(10)
    assert results(world) == {"loa": "not-played"}


@pytest.mark.parametrize(("rules", "reason"), [({"quiet_hours": ["11:00-13:00"]}, "quiet-hours")])
def test_quiet_hours_are_kept_and_told(rules: dict[str, Any], reason: str) -> None:
    zones = [{**CONFIG["zones"][0], "rules": rules}]
    world = world_of(zones=zones, buttons=[])
    jti = world.order("test", {"zones": ["loa"]})
    world.advance(5)
    assert world.states_of(jti)[-1] == f"failed/{reason}"
    assert world.acks(jti)[-1]["zones"]["loa"]["test"]["verdict"] == "not-played"
    assert all(not part.startswith("test") for _, _, part, _ in world.heard)


def test_a_remote_silence_is_kept_by_a_test_at_its_hour() -> None:
    world = world_of(self_test={"at": ["12:01"], "zones": ["loa"]})
    world.state_order("silence", {"on": True, "zones": ["*"], "version": 1})
    world.advance(70)
    assert results(world) == {"loa": "not-played"}


def test_tests_at_set_hours_come_every_day_once() -> None:
    world = world_of(self_test={"at": ["12:01", "06:30"], "zones": ["loa"]})
    world.advance(59)
    assert results(world) == {}
    world.advance(20)
    assert [b for _, z, b, what in world.heard if z == "loa" and what == "begin"] != []
    begun = len(world.heard)
    world.advance(300)
    assert len(world.heard) == begun


def test_who_ordered_a_test_that_a_power_cut_ended_is_told() -> None:
    world = world_of()
    jti = world.order("test", {"zones": ["loa"]})
    world.advance(1)
    world.crash()
    world.advance(2)
    assert world.states_of(jti) == ["received", "failed/restart"]
    assert world.sounding("loa") is None
    world.crash()
    assert world.states_of(jti) == ["received", "failed/restart"]


def test_what_the_ear_notices_is_an_alarm_and_what_it_measures_is_in_the_status() -> None:
    world = world_of()
    world.post(Measured("loa", {"line": "open", "current_ma": 0.2}), Noticed("air-dead", "tai-nghe", "silence", "loa"))
    zone = world.ask("status")["result"]["zones"]["loa"]
    assert (zone["line"], zone["current_ma"]) == ("open", 0.2)
    world.post(Measured("loa", {"line": "normal"}), Noticed("air-dead", "tai-nghe", "", "loa", False))
    told = [(e["what"], e["on"]) for e in world.events("alarm")]
    assert told == [("line-open", True), ("air-dead", True), ("line-open", False), ("air-dead", False)]


def test_the_status_fits_its_schema() -> None:
    import msgspec

    from agent.model.status import Status

    world = world_of(clusters=[{"id": "cum-1", "hamlet": "Ấp 1", "zone": "loa"}])
    world.order("broadcast", broadcast("tin", media("a", 30, world)))
    world.advance(2)
    world.post(Measured("loa", {"line": "open", "current_ma": 0.2}), Checked("loa", Verdict.OK))
    status = msgspec.convert(world.ask("status")["result"], Status)
    assert status.zones["loa"].line == "open"
    assert status.zones["loa"].owner is not None
    assert status.zones["loa"].owner.class_ == "priority"
    assert status.clusters["cum-1"].line == "unknown"
    assert status.clusters["cum-1"].online is None


def test_without_the_ear_all_that_it_told_is_unknown_and_its_loss_is_the_alarm() -> None:
    world = world_of()
    world.post(Ready(), Measured("loa", {"line": "open", "current_ma": 0.2}))
    world.post(Noticed("air-dead", "tai-nghe", "silence", "loa"))
    assert world.ask("status")["result"]["zones"]["loa"]["line"] == "open"
    world.post(EarLost("the ear has ended (exit code -9)"), EarLost("the ear cannot be started"))
    status = world.ask("status")["result"]
    assert status["zones"]["loa"]["line"] == "unknown"
    assert "current_ma" not in status["zones"]["loa"]
    assert [f["what"] for f in status["faults"]] == ["ear-lost"]
    world.post(Ready(), Noticed("air-dead", "tai-nghe", "silence", "loa"))
    assert [f["what"] for f in world.ask("status")["result"]["faults"]] == ["air-dead@tai-nghe@loa"]
    told = [(e["what"], e["on"]) for e in world.events("alarm")]
    assert told == [
        ("line-open", True),
        ("air-dead", True),
        ("ear-lost", True),
        ("air-dead", False),
        ("line-open", False),
        ("ear-lost", False),
        ("air-dead", True),
    ]


def test_an_ear_that_was_never_there_is_an_alarm_from_the_start() -> None:
    world = world_of()
    world.post(EarLost("the ear cannot be started: ear-control.sock: No such file or directory"))
    assert [f["what"] for f in world.ask("status")["result"]["faults"]] == ["ear-lost"]
    assert world.ask("status")["result"]["zones"]["loa"]["line"] == "unknown"
