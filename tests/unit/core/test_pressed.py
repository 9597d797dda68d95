"""A pressed emergency button is a programme from the moment at which voice takes its zones, whatever becomes of it."""

from __future__ import annotations

from agent.core import commands as do
from agent.model import voice as vo
from tests.unit.core.test_clusters import Commune
from tests.unit.core.world import RATE, World, broadcast


def opened(world: World, *zones: str, n: int = 1) -> vo.LocalOpened:
    return vo.LocalOpened(
        play=f"local:khan-cap:{n}",
        button="khan-cap",
        message="bao-dong",
        zones=list(zones),
        pressed_ns=world.mono,
    )


def failed(world: World, zone: str, reason: str = "relay-fault") -> vo.LocalEnded:
    return vo.LocalEnded(play="local:khan-cap:1", zone=zone, at_ns=world.mono, samples=0, reason=reason)


def test_one_whose_amplifiers_fail_before_the_first_sample_is_in_the_record_with_its_one_outcome() -> None:
    world = World()
    world.post(opened(world, "loa", "loa-2"), failed(world, "loa"), failed(world, "loa-2"))
    for zone in ("loa", "loa-2"):
        assert world.outcomes(zone) == [("local:khan-cap:1", "failed", "relay-fault")]
    assert world.shows() == "Báo động", "what nobody hears can be read all the same"
    world.advance(60)
    assert world.outcomes("bang") == [("local:khan-cap:1", "completed", None)]
    assert not world.station.programmes
    assert world.audit() == []


def test_it_goes_to_the_clusters_though_the_station_itself_is_mute() -> None:
    world = Commune()
    world.post(opened(world, "loa"), failed(world, "loa"))
    assert [type(c) for c in world.passed] == [do.PassOn]


def test_where_one_zone_fails_the_other_sounds_and_both_are_one_programme() -> None:
    world = World()
    press = opened(world, "loa", "loa-2")
    world.post(press, failed(world, "loa"))
    world.post(
        vo.LocalStarted(
            play=press.play,
            button=press.button,
            message=press.message,
            zones=["loa-2"],
            pressed_ns=press.pressed_ns,
            at_ns=world.mono,
            submitted_ns=world.mono,
        )
    )
    world.leap(2)
    world.post(vo.LocalEnded(play=press.play, zone="loa-2", at_ns=world.mono, samples=2 * RATE, level_dbfs=-20.0))
    assert world.outcomes("loa") == [("local:khan-cap:1", "failed", "relay-fault")]
    assert world.outcomes("loa-2") == [("local:khan-cap:1", "completed", None)]
    assert not world.station.programmes


def test_one_that_is_stopped_before_its_first_sample_has_an_entry_too() -> None:
    world = World()
    world.post(opened(world, "loa"), failed(world, "loa", "stopped"))
    assert world.outcomes() == [("local:khan-cap:1", "failed", "stopped")]


def test_the_power_may_fail_before_its_first_sample() -> None:
    world = World()
    world.post(opened(world, "loa"))
    world.crash()
    assert world.outcomes() == [("local:khan-cap:1", "failed", "power")]
    assert not world.station.programmes


def test_one_that_goes_on_while_the_agent_is_started_anew_is_logged_to_its_end() -> None:
    world = World()
    world.press("khan-cap", 6.0)
    world.advance(2)
    world.restart()
    assert world.outcomes() == []
    assert world.shows() == "Báo động", "its words are on the board again"
    world.advance(30)
    (entry,) = [e for e in world.log if e["zone"] == "loa"]
    assert (entry["result"], entry["reason"]) == ("completed", None)
    assert not world.station.programmes
    assert world.audit() == []


def test_one_that_the_power_ends_is_logged_as_that() -> None:
    world = World()
    world.press("khan-cap", 6.0)
    world.advance(2)
    world.crash()
    world.advance(30)
    assert world.outcomes() == [("local:khan-cap:1", "interrupted", "power")]
    assert not world.station.programmes
    assert world.audit() == []


def test_a_board_that_was_taken_over_before_the_power_failed_is_logged_once() -> None:
    world = World()
    world.order("broadcast", broadcast("tin-1", {"text": "Mời họp.", "lang": "vi"}, zones=["bang"], resume="restart"))
    world.advance(2)
    world.press("khan-cap", 6.0)
    world.advance(1)
    world.crash()
    first = [e for e in world.log if (e["zone"], e["bulletin"]) == ("bang", "tin-1")]
    assert [(e["result"], e["reason"]) for e in first] == [("interrupted", "local")]
    assert world.audit() == []
