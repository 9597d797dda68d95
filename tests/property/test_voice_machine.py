"""Whatever the agent sends and whoever presses what: relays go off with the sound, every Open ends exactly once."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.model import voice as v
from agent.voice.fakes import FakeMicrophone
from tests.unit.voice.rig import MS, Rig, pcm_of, station

ZONES: list[dict[str, Any]] = [
    {"id": "a"},
    {"id": "b", "power": [{"relay": "amp", "warm_up_s": 0.03, "cool_down_s": 0.02}, {"relay": "line"}]},
    {"id": "c", "power": [{"relay": "amp", "warm_up_s": 0.03}], "delay_ms": 12.5, "gain_db": 3},
    {"id": "d", "idle": {"source": "external", "relay": "over"}},
]
RELAYS = [{"id": r, "pin": i} for i, r in enumerate(["amp", "line", "over"])]
NEEDS = {"a": set(), "b": {"amp", "line"}, "c": {"amp"}, "d": {"over"}}
BUTTONS = [
    {"id": "fire", "pin": 11, "action": {"message": "fire"}, "lamp": 21},
    {"id": "flood", "pin": 12, "action": {"message": "flood"}, "zones": ["b", "d"]},
    {"id": "stop", "pin": 13, "action": {"stop": True}},
    {"id": "talk", "pin": 14, "action": {"microphone": True, "longest_s": 0.3}, "key_switch": 22},
    {"id": "latch", "pin": 15, "action": {"microphone": True, "mode": "latch", "longest_s": 0.3}, "zones": ["b", "c"]},
]
MESSAGES = [{"id": "fire", "title": "Cháy", "text": "Cháy"}, {"id": "flood", "title": "Lũ", "text": "Lũ"}]
SOUNDS = ["chime:gong", "chime:siren", "message:fire", "chime:none"]

zones = st.lists(st.sampled_from(["a", "b", "c", "d", "nowhere"]), min_size=1, max_size=4)
plays = st.integers(0, 7).map("p{}".format)


class VoiceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = station(ZONES, relays=RELAYS, buttons=BUTTONS, messages=MESSAGES, microphone={"device": "m"})
        self.rig = Rig(config, cards=[["a", "b"], ["c", "d"], ["a"]])
        self.microphone = self.rig.voice.microphone = FakeMicrophone()
        self.opened: Counter[tuple[str, str]] = Counter()
        self.names: dict[str, str] = {}
        self.pipes: list[int] = []
        self.count = 0

    @rule(
        name=plays,
        zones=zones,
        ahead=st.one_of(st.none(), st.integers(-50, 200)),
        pinned=st.lists(st.sampled_from(SOUNDS), max_size=2),
        bridge=st.sampled_from([None, "gong", "chime:siren", "none"]),
        gain=st.sampled_from([0.0, -20.0, 12.0]),
    )
    def open(
        self, name: str, zones: list[str], ahead: int | None, pinned: list[str], bridge: str | None, gain: float
    ) -> None:
        self.count += 1
        play = self.names[name] = f"{name}-{self.count}"
        at_ns = None if ahead is None else self.rig.clock.now + ahead * MS
        for zone in set(zones):
            self.opened[play, zone] += 1
        self.rig.do(v.Open(play=play, zones=zones, at_ns=at_ns, gain_db=gain, pinned=pinned, bridge=bridge))

    @rule(name=plays, segment=st.integers(-1, 5), data=st.binary(max_size=5000), live=st.booleans(), hold=st.booleans())
    def feed(self, name: str, segment: int, data: bytes, live: bool, hold: bool) -> None:
        write = self.rig.pipe(self.names.get(name, name), segment, live=live)
        try:
            os.write(write, data)
        except BrokenPipeError:
            hold = False
        if hold:
            self.pipes.append(write)
        else:
            os.close(write)
        self.rig.turn()

    @precondition(lambda self: self.pipes)
    @rule()
    def end_of_pipe(self) -> None:
        os.close(self.pipes.pop())
        self.rig.turn()

    @rule(name=plays, names=st.lists(st.sampled_from(SOUNDS), max_size=3))
    def pin(self, name: str, names: list[str]) -> None:
        self.rig.do(v.Pin(play=self.names.get(name, name), segment=3, names=names))

    @rule(name=plays)
    def close(self, name: str) -> None:
        self.rig.do(v.Close(play=self.names.get(name, name)))

    @rule(name=plays, zones=st.one_of(st.none(), zones))
    def stop(self, name: str, zones: list[str] | None) -> None:
        self.rig.do(v.Stop(play=self.names.get(name, name), zones=zones))

    @rule(samples=st.integers(1, 2400), loud=st.sampled_from([1000, 32_000]))
    def speak(self, samples: int, loud: int) -> None:
        self.microphone.speak(pcm_of(loud, samples))
        self.rig.turn()

    @rule()
    def microphone_fails(self) -> None:
        self.microphone.fail("gone")
        self.rig.turn()

    @rule(closed=st.booleans())
    def turn_the_key(self, closed: bool) -> None:
        (self.rig.board.pressed.add if closed else self.rig.board.pressed.discard)("key:22")
        self.rig.voice.edge("key:22", self.rig.clock.now)
        self.rig.turn()

    @rule(button=st.sampled_from(["fire", "flood", "stop", "talk", "latch"]), hold_ms=st.integers(11, 40))
    def press(self, button: str, hold_ms: int) -> None:
        self.rig.press(button, hold_ms)

    @rule(zones=st.one_of(st.just([]), zones))
    def lock(self, zones: list[str]) -> None:
        self.rig.do(v.Lock(zones=zones))

    @rule()
    def end_local(self) -> None:
        self.rig.do(v.EndLocal())

    @rule()
    def disconnect(self) -> None:
        self.rig.voice.disconnected(self.rig.clock.now)
        self.rig.turn()

    @rule(ms=st.integers(1, 400))
    def wait(self, ms: int) -> None:
        self.rig.run(ms)

    @rule(ms=st.integers(1, 60))
    def oversleep(self, ms: int) -> None:
        self.rig.clock.now += ms * MS
        self.rig.turn()

    @invariant()
    def no_zone_ends_twice(self) -> None:
        ended = Counter((e.play, e.zone) for e in self.rig.of(v.Ended))
        assert all(ended[key] <= self.opened[key] for key in ended)

    @invariant()
    def a_zone_has_one_message_at_a_time(self) -> None:
        for zone in NEEDS:
            assert sum(p.local is not None for p in self.rig.voice.mixer.in_zone(zone)) <= 1

    @invariant()
    def relays_are_what_the_zones_need(self) -> None:
        states = {z: self.rig.voice.mixer.power.state(z) for z in NEEDS}
        for relay, on in self.rig.board.relays.items():
            if relay == "lamp:fire":
                continue
            if all(states[z] == "off" for z, needs in NEEDS.items() if relay in needs):
                assert not on
            if any(states[z] == "on" for z, needs in NEEDS.items() if relay in needs):
                assert on

    def teardown(self) -> None:
        for write in self.pipes:
            os.close(write)
        self.rig.voice.disconnected(self.rig.clock.now)
        self.rig.do(v.EndLocal())
        self.rig.run(1000)
        ended = Counter((e.play, e.zone) for e in self.rig.of(v.Ended))
        assert ended == self.opened
        assert {relay for relay, on in self.rig.board.relays.items() if on} <= {"lamp:fire"}
        assert self.rig.voice.mixer.running_cards() == []
        assert list(self.rig.voice.pipes()) == []
        assert self.rig.wake is None
        taken = Counter((e.play, z) for e in self.rig.of(v.LocalOpened) for z in e.zones)
        assert Counter((e.play, e.zone) for e in self.rig.of(v.LocalEnded)) == taken
        begun = Counter((e.play, z) for e in self.rig.of(v.LocalStarted) for z in e.zones)
        assert begun <= taken, "what sounds was told before"
        for e in self.rig.of(v.LocalEnded):
            assert e.samples == 0 or (e.play, e.zone) in begun
        assert not self.microphone.speak(pcm_of(1, 1))
        for e in self.rig.of(v.Ended):
            assert e.samples == sum(e.segments)
        assert not [e for e in self.rig.of(v.Fault) if e.what not in {"command", "pinned", "xrun", "microphone"}]


TestVoiceMachine = VoiceMachine.TestCase
TestVoiceMachine.settings = settings(
    max_examples=settings().max_examples * 2 // 5,
    stateful_step_count=settings().stateful_step_count // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
