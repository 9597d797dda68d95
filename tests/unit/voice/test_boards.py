"""Voice switches the power of boards, which have no sound."""

from __future__ import annotations

from agent.model import voice as v
from tests.unit.voice.rig import Rig, station

BOARD = {
    "id": "bang",
    "kind": "screen",
    "output": {"driver": "png", "dir": "b"},
    "idle": {"source": "external", "relay": "hdmi"},
    "power": [{"relay": "led", "warm_up_s": 2, "cool_down_s": 1}],
}
RELAYS = [{"id": "hdmi", "pin": 4}, {"id": "led", "pin": 5}]


def rig() -> Rig:
    return Rig(station([{"id": "a"}, BOARD], relays=RELAYS), cards=[["a"]])


def test_a_held_board_is_switched_over_and_powered_and_given_back() -> None:
    r = rig()
    r.do(v.Hold(zone="bang", on=True))
    r.run(2500)
    r.do(v.Hold(zone="bang", on=True))
    r.do(v.Hold(zone="bang", on=False))
    r.run(2500)
    assert [(e.relay, e.on) for e in r.of(v.RelayEvent)] == [
        ("hdmi", True),
        ("led", True),
        ("led", False),
        ("hdmi", False),
    ]
    assert [e.state for e in r.of(v.Power, zone="bang")] == ["warming", "on", "cooling", "off"]


def test_without_the_agent_the_board_goes_back_to_its_owner() -> None:
    r = rig()
    r.do(v.Hold(zone="bang", on=True))
    r.run(2500)
    r.voice.disconnected(r.clock.now)
    r.wake = r.clock.now
    r.run(2500)
    assert not any(r.board.relays.values())


def test_the_relays_of_boards_are_off_when_voice_ends() -> None:
    r = rig()
    r.do(v.Hold(zone="bang", on=True))
    r.run(100)
    r.voice.finish(r.clock.now)
    assert not any(r.board.relays.values())


def test_holding_what_is_no_board_is_a_fault() -> None:
    r = rig()
    r.do(v.Hold(zone="a", on=True))
    assert r.one(v.Fault).what == "command"
