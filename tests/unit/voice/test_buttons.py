from __future__ import annotations

from typing import Any

import pytest

from agent.model import voice as v
from agent.model.config import Station
from agent.voice.contact import CHATTER, Contact
from tests.unit.voice.rig import MS, PERIOD_NS, Rig, pcm_of, station


def commune(zones: list[dict[str, Any]] | None = None, **more: Any) -> Station:
    return station(
        zones or [{"id": "a"}, {"id": "b"}],
        buttons=[
            {"id": "fire", "pin": 1, "action": {"message": "fire"}},
            {"id": "flood", "pin": 2, "action": {"message": "flood"}, "zones": ["b"]},
            {"id": "stop", "pin": 3, "action": {"stop": True}},
            {"id": "invite", "pin": 4, "class": "normal", "action": {"message": "fire"}},
        ],
        messages=[
            {"id": "fire", "title": "Cháy", "text": "Cháy!", "repeat": 2},
            {"id": "flood", "title": "Lũ", "text": "Lũ!", "chime": "gong"},
        ],
        **more,
    )


def rig_of(zones: list[dict[str, Any]] | None = None, **more: Any) -> Rig:
    rig = Rig(commune(zones, **more))
    rig.voice.sounds["message:flood"] = pcm_of(200, 2400)
    return rig


def test_a_pressed_emergency_button_plays_chime_and_message_as_often_as_configured() -> None:
    rig = rig_of()
    pressed = rig.clock.now
    rig.press("fire")
    rig.run(1000)
    started = rig.one(v.LocalStarted)
    assert (started.button, started.message, started.zones, started.pressed_ns) == ("fire", "fire", ["a", "b"], pressed)
    assert started.submitted_ns - pressed <= 5 * MS
    assert rig.sound(started.at_ns, 10_561) == [*[250] * 480, *[310] * 4800, *[250] * 480, *[310] * 4800, 0]
    assert [(e.zone, e.samples, e.reason) for e in rig.of(v.LocalEnded)] == [
        ("a", 10_560, "completed"),
        ("b", 10_560, "completed"),
    ]
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "released"]


def test_a_button_takes_its_zones_and_what_plays_there_ends_as_local() -> None:
    rig = rig_of()
    rig.voice.sounds["chime:low"] = pcm_of(8000, 48_000)
    rig.do(v.Open(play="p", zones=["a", "b"], pinned=["chime:low"]))
    rig.do(v.Open(play="later", zones=["b"], at_ns=rig.clock.now + 10**10, pinned=["chime:low"]))
    rig.run(50)
    rig.press("flood", hold_ms=15)
    assert rig.one(v.Ended, zone="b", play="p").reason == "local"
    assert rig.one(v.Ended, zone="b", play="later").samples == 0
    assert rig.of(v.Ended, zone="a") == []
    rig.do(v.Open(play="q", zones=["a", "b"], pinned=["chime:gong"]), v.Close(play="q"))
    refused = rig.one(v.Ended, play="q", zone="b")
    assert (refused.reason, refused.samples) == ("local", 0)
    rig.run(300)
    assert rig.one(v.Ended, play="q", zone="a").samples == 240
    rig.do(v.Open(play="again", zones=["b"], pinned=["chime:gong"]), v.Close(play="again"))
    rig.run(100)
    assert rig.one(v.Ended, play="again").reason == "completed"


def test_while_the_chain_warms_up_the_chime_sounds_already() -> None:
    power = [{"relay": "amp", "warm_up_s": 0.5}]
    rig = rig_of([{"id": "a", "power": power}, {"id": "b"}], relays=[{"id": "amp", "pin": 9}])
    pressed = rig.clock.now
    rig.press("fire")
    rig.run(2000)
    assert rig.one(v.LocalStarted).submitted_ns - pressed <= 5 * MS
    assert rig.one(v.LocalEnded, zone="a").samples == 10_560


def test_the_words_wait_for_the_last_relay_while_the_chime_loops_without_a_gap() -> None:
    power = [{"relay": "main", "warm_up_s": 0.3}, {"relay": "amp", "warm_up_s": 0.4}]
    rig = rig_of([{"id": "a", "power": power}, {"id": "b"}], relays=[{"id": "main", "pin": 8}, {"id": "amp", "pin": 9}])
    pressed = rig.clock.now
    rig.press("fire")
    rig.run(2000)
    started = rig.one(v.LocalStarted)
    assert [(e.relay, e.on) for e in rig.of(v.RelayEvent)][:2] == [("main", True), ("amp", True)]
    ready = rig.one(v.Power, zone="a", state="on").at_ns
    assert ready - pressed == pytest.approx(705 * MS, abs=MS)
    b = rig.sound(started.at_ns, 48_000, channel=1)
    words = b.index(310)
    assert min(b[:words]) == 250  # no gap; where the chime begins anew its loop still fades out
    assert rig.at(started.at_ns) + words - rig.at(ready) == pytest.approx(480, abs=2 * 240)
    assert rig.sound(started.at_ns, 48_000, channel=0)[words : words + 4800] == [310] * 4800


def test_a_button_with_a_hold_time_acts_when_it_was_held_for_so_long() -> None:
    rig = Rig(station(buttons=[{"id": "fire", "pin": 1, "action": {"message": "fire"}, "hold_s": 0.5}]))
    rig.press("fire", hold_ms=400)
    rig.run(500)
    assert rig.of(v.LocalStarted) == []
    pressed = rig.clock.now
    rig.press("fire", hold_ms=600)
    assert 500 * MS <= rig.one(v.LocalStarted).submitted_ns - pressed <= 506 * MS
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "released", "pressed", "held", "released"]


def test_a_contact_that_chatters_is_stuck_cannot_loop_and_works_again_after_a_quiet_time() -> None:
    rig = rig_of()
    for _ in range(400):  # a wet cable: 100 s of it, its message takes 220 ms
        rig.press("fire", hold_ms=100)
        rig.run(140)
    begun = len(rig.of(v.LocalStarted))
    states = [e.state for e in rig.of(v.ButtonEvent)]
    assert begun <= CHATTER
    assert states.count("stuck") == 1
    assert len(states) <= 2 * CHATTER + 1
    rig.run(4000)
    rig.press("fire")
    assert len(rig.of(v.LocalStarted)) == begun
    rig.run(5001)
    assert [e.state for e in rig.of(v.ButtonEvent)][-1] == "released"
    rig.press("fire")
    assert len(rig.of(v.LocalStarted)) == begun + 1


def test_a_person_who_presses_again_and_again_is_served_each_time() -> None:
    rig = rig_of()
    for _ in range(40):
        rig.press("fire", hold_ms=200)
        rig.run(2000)
    assert len(rig.of(v.LocalStarted)) == 40


def test_the_same_button_again_during_its_message_is_ignored() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=30)
    rig.press("fire", hold_ms=30)
    rig.run(1000)
    rig.one(v.LocalStarted)
    assert len(rig.of(v.ButtonEvent, state="pressed")) == 2


def test_a_second_button_follows_in_the_shared_zone() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    rig.press("flood", hold_ms=20)
    rig.run(1000)
    fire, flood = rig.of(v.LocalStarted)
    assert flood.zones == ["b"]
    assert 0 <= flood.at_ns - rig.one(v.LocalEnded, play=fire.play, zone="b").at_ns < 2 * PERIOD_NS
    assert rig.one(v.LocalEnded, play=flood.play).samples == 2640


def test_a_second_button_begins_at_once_in_a_free_zone_and_later_in_the_other() -> None:
    rig = rig_of()
    rig.press("flood", hold_ms=20)
    rig.press("fire", hold_ms=20)
    rig.run(1000)
    assert [(e.button, e.zones) for e in rig.of(v.LocalStarted)] == [
        ("flood", ["b"]),
        ("fire", ["a"]),
        ("fire", ["b"]),
    ]


def test_stop_ends_local_plays_and_what_waits_and_tells_when_it_is_held() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    rig.press("flood", hold_ms=20)
    rig.press("stop", hold_ms=6000)
    rig.run(1000)
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"stopped"}
    assert len(rig.of(v.LocalStarted)) == 1
    assert [e.state for e in rig.of(v.ButtonEvent, button="stop")] == ["pressed", "held", "released"]


def test_a_stop_button_does_not_end_the_agents_plays() -> None:
    rig = rig_of()
    rig.voice.sounds["chime:low"] = pcm_of(8000, 96_000)
    rig.do(v.Open(play="p", zones=["a"], pinned=["chime:low"]))
    rig.press("stop")
    assert rig.of(v.Ended) == []


def test_a_button_of_another_class_only_reports() -> None:
    rig = rig_of()
    rig.press("invite")
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "released"]
    assert rig.of(v.LocalStarted) == []
    assert rig.sink.frames == b""


def test_a_stuck_button_is_reported_once_and_plays_once() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=200_000)
    assert [e.state for e in rig.of(v.ButtonEvent)] == ["pressed", "stuck", "released"]
    rig.one(v.LocalStarted)


def test_a_lock_refuses_buttons_ends_local_plays_and_can_be_lifted() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    rig.do(v.Lock(zones=["a"]))
    rig.run(1000)
    assert rig.one(v.LocalEnded, zone="a").reason == "silenced"
    assert rig.one(v.LocalEnded, zone="b").reason == "completed"
    rig.voice.disconnected(rig.clock.now)
    rig.press("fire", hold_ms=20)
    rig.run(1000)
    assert rig.of(v.LocalStarted)[-1].zones == ["b"]
    rig.do(v.Lock(zones=[]))
    rig.press("fire", hold_ms=20)
    assert rig.of(v.LocalStarted)[-1].zones == ["a", "b"]


def test_a_lock_does_not_outlive_the_longest_silence() -> None:
    rig = rig_of()
    rig.do(v.Lock(zones=["a", "b"]))
    rig.clock.now += 24 * 3600 * 1000 * MS + 1
    rig.sink.origin_ns = rig.clock.now
    rig.turn()
    rig.press("fire")
    rig.one(v.LocalStarted)


def test_a_missing_message_plays_its_chime_and_a_fault_tells() -> None:
    rig = rig_of()
    del rig.voice.sounds["message:fire"]
    rig.press("fire")
    rig.run(1000)
    assert rig.of(v.LocalEnded)[0].samples == 2 * 480
    assert rig.one(v.Fault).what == "pinned"


def test_with_every_sound_missing_there_is_still_an_alarm() -> None:
    rig = rig_of()
    rig.voice.sounds.clear()
    rig.press("fire")
    rig.run(20_000)
    assert rig.of(v.LocalEnded)[0].samples == 2 * 5 * 48_000
    assert rig.of(v.LocalEnded)[0].level_dbfs > -20


def test_local_plays_go_on_when_the_agent_goes_away() -> None:
    rig = rig_of()
    rig.press("fire", hold_ms=20)
    rig.voice.disconnected(rig.clock.now)
    rig.run(1000)
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"completed"}


def test_the_end_of_the_process_fades_out_and_switches_every_relay_off() -> None:
    power = [{"relay": "amp"}]
    rig = rig_of([{"id": "a", "power": power}, {"id": "b"}], relays=[{"id": "amp", "pin": 9}])
    rig.press("fire", hold_ms=20)
    assert rig.board.relays == {"amp": True}
    rig.voice.finish(rig.clock.now)
    assert rig.board.relays == {"amp": False}
    assert {e.reason for e in rig.of(v.LocalEnded)} == {"stopped"}
    assert abs(rig.sink.channel()[-1]) < 200


BUTTON = commune().buttons[0]


@pytest.mark.parametrize(
    ("name", "moves", "facts"),
    [
        ("a press", [(0, True), (50, False)], [("pressed", 0), ("released", 50)]),
        ("a glitch", [(0, True), (1, False)], []),
        ("bounce at the press", [(0, True), (0.5, False), (1, True), (60, False)], [("pressed", 0), ("released", 60)]),
        ("a spike of a thunderstorm", [(0, True), (4.9, False)], []),
        ("bounce around the check", [(0, True), (4.9, False), (5.4, True)], [("pressed", 5.4)]),
        (
            "bounce at the release",
            [(0, True), (50, False), (51, True), (52, False)],
            [("pressed", 0), ("released", 50)],
        ),
        ("a tap", [(0, True), (6, False)], [("pressed", 0), ("released", 6)]),
    ],
)
def test_contact(name: str, moves: list[tuple[float, bool]], facts: list[tuple[str, float]]) -> None:
    level = False
    contact = Contact(BUTTON, False, -(10**12))
    seen = []
    for tick in range(0, 1000):
        now = tick * MS // 10
        for at, closed in moves:
            if round(at * 10) == tick:
                level = closed
                contact.edge(now)
        seen += contact.poll(now, lambda level=level: bool(level))  # type: ignore[misc]
    assert [(state, at / MS) for state, at in seen] == facts, name


def test_a_contact_closed_at_the_start_is_no_press_but_stuck_after_a_minute() -> None:
    contact = Contact(BUTTON, True, 0)
    assert contact.poll(10 * 1000 * MS, lambda: True) == []
    assert contact.poll(60 * 1000 * MS, lambda: True) == [("stuck", 60 * 1000 * MS)]
    contact.edge(61 * 1000 * MS)
    assert contact.poll(62 * 1000 * MS, lambda: False) == [("released", 61 * 1000 * MS)]
