"""Programmes that go on under an alert, and caps that begin in mid-programme: what voice is told, what is logged."""

from __future__ import annotations

from typing import Any

from agent.core import commands as do
from agent.model import voice as vo
from tests.unit.core.world import CONFIG, World, broadcast, media

ALERT = {"class": "emergency"}
DUCKING = {"zones": [{**CONFIG["zones"][0], "duck_db": -18}, *CONFIG["zones"][1:]]}


class Told(World):
    """Keeps the gains that voice is told."""

    def _tovoice(self, c: do.ToVoice) -> None:
        if isinstance(c.command, vo.Gain):
            self.gains = [*getattr(self, "gains", []), c.command]
        super()._tovoice(c)


def test_in_a_ducking_zone_the_programme_stays_one_stretch_and_the_log_says_so() -> None:
    world = World(**DUCKING)
    world.order("broadcast", broadcast("tin-1", media("a", 30, world), zones=["loa"]))
    world.advance(5)
    world.order("broadcast", broadcast("bao", media("b", 4, world), zones=["loa"], **ALERT))
    world.advance(1)
    assert world.sounding() == "tin-1"
    assert world.station.owner("loa").id == "bao"
    assert world.shows() == "nghỉ"
    world.advance(40)
    assert world.outcomes() == [("bao", "completed", None), ("tin-1", "completed", "ducked")]
    assert world.audit() == []


def test_elsewhere_the_same_programme_is_interrupted_and_goes_on() -> None:
    world = World(**DUCKING)
    world.order("broadcast", broadcast("tin-1", media("a", 30, world), zones=["kind:sound"]))
    world.advance(5)
    world.order("broadcast", broadcast("bao", media("b", 4, world), zones=["kind:sound"], **ALERT))
    world.advance(60)
    assert ("tin-1", "completed", "ducked") in world.outcomes("loa")
    assert [o for o in world.outcomes("loa-2") if o[0] == "tin-1"] == [
        ("tin-1", "interrupted", "outranked"),
        ("tin-1", "completed", None),
    ]


def test_a_button_ducks_too_and_two_alerts_are_never_heard_together() -> None:
    world = World(**DUCKING)
    world.order("broadcast", broadcast("tin-1", media("a", 60, world), zones=["loa"]))
    world.advance(2)
    world.order("broadcast", broadcast("bao", media("b", 20, world), zones=["loa"], **ALERT))
    world.advance(2)
    world.press("khan-cap", 6)
    world.advance(3)
    assert world.station.owner("loa").by_whom == "khan-cap"
    world.advance(90)
    assert ("bao", "interrupted", "local") in world.outcomes()
    assert ("tin-1", "completed", "ducked") in world.outcomes()


def test_what_follows_an_alert_outranks_a_ducked_programme_as_ever() -> None:
    world = World(normal_from_above="auto", **DUCKING)
    world.order("broadcast", broadcast("tin-1", media("a", 60, world), zones=["loa"], **{"class": "normal"}))
    world.advance(2)
    world.order("broadcast", broadcast("bao", media("b", 5, world), zones=["loa"], **ALERT))
    world.advance(1)
    world.order("broadcast", broadcast("tin-2", media("c", 5, world), zones=["loa"]))
    world.advance(5)
    assert world.sounding() == "tin-2"


CAPS: list[dict[str, Any]] = [
    {**CONFIG["zones"][0], "rules": {"caps": [{"hours": "12:01-12:02", "gain_db": -9}]}},
    CONFIG["zones"][1],
]


def test_a_cap_that_begins_in_mid_programme_takes_effect_at_once_and_ends_with_its_hours() -> None:
    world = Told(zones=CAPS)
    world.order("broadcast", broadcast("tin-1", media("a", 300, world), zones=["kind:sound"]))
    world.advance(59)
    assert not hasattr(world, "gains")
    world.advance(2.1)
    (cap,) = world.gains
    assert (cap.gain_db, cap.zones) == (-9, ["loa"])
    world.advance(62)
    assert [g.gain_db for g in world.gains] == [-9, 0]
    assert [o for o in world.outcomes() if o[0] == "tin-1"] == []


def test_an_emergency_is_never_lowered_by_a_cap() -> None:
    world = Told(zones=CAPS)
    world.order("broadcast", broadcast("bao", media("a", 300, world), zones=["kind:sound"], **ALERT))
    world.advance(200)
    assert not hasattr(world, "gains")


def test_a_higher_alert_stops_a_lower_one_also_where_programmes_are_ducked() -> None:
    world = World(**DUCKING)
    world.order("broadcast", broadcast("huyen", media("a", 30, world), zones=["loa"], **ALERT), "khan-cap-huyen")
    world.advance(2)
    world.order("broadcast", broadcast("tinh", media("b", 5, world), zones=["loa"], **ALERT))
    world.advance(1)
    assert world.sounding() == "tinh"
    assert ("huyen", "interrupted", "outranked") in world.outcomes()
