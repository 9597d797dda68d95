"""Whatever is wanted, however contacts lie: interlocks hold, shortest times are kept, and what nobody owns is off."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.power import Changed, PowerPlan, State, Step, Switch
from agent.core.relay import SETTLE_NS, Place, Stand, Told, Wiring

MS = 1_000_000
S = 1000 * MS
CHAINS = {
    "fm": [Step("over"), Step("amp", S, 2 * S), Step("exciter", S), Step("tx", S // 2, S // 2)],
    "hamlet-1": [Step("amp", S, 2 * S), Step("line-1", 100 * MS)],
    "hamlet-2": [Step("amp", S, 2 * S), Step("line-2", 100 * MS, S)],
    "gate": [Step("lamp")],
}
WIRINGS = {
    "over": Wiring(within_ns=S, retries=1),
    "amp": Wiring(within_ns=S, retries=2, min_on_ns=3 * S),
    "exciter": Wiring(requires=("amp",)),
    "tx": Wiring(requires=("amp", "exciter"), min_on_ns=4 * S, min_off_ns=6 * S, within_ns=S // 2),
    "line-1": Wiring(excludes=("line-2",)),
    "line-2": Wiring(within_ns=S // 2),
}
WATCHED = [name for name, w in WIRINGS.items() if w.within_ns is not None]
CALM_NS = 60 * S


class PowerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100 * S
        self.plan = PowerPlan(CHAINS, WIRINGS, self.now)
        self.coils = dict.fromkeys(self.plan.relays, False)
        self.on_since = dict.fromkeys(self.coils, 0)
        self.off_since = dict.fromkeys(self.coils, self.now)
        self.held: dict[str, Place] = {}
        self.lied: dict[str, int] = {}
        """When the contact of a relay last said something else than on."""
        self.told: dict[str, Told] = {}
        self.wanted: set[str] = set()
        self.states = dict.fromkeys(CHAINS, State.OFF)
        self.turn()

    # -- the world ---------------------------------------------------------------------------------------------------

    def where(self, relay: str) -> Place:
        return self.held.get(relay, Place.ON if self.coils[relay] else Place.OFF)

    def look(self) -> None:
        """What an edge of a contact makes the loop do."""
        for relay in WATCHED:
            self.plan.see(relay, self.where(relay), self.now)
            if self.held.get(relay, Place.ON) is not Place.ON:
                self.lied[relay] = self.now

    def turn(self) -> None:
        self.look()
        for done in self.plan.advance(self.now):
            if isinstance(done, Switch):
                self.switched(done)
            elif isinstance(done, Told):
                self.told[done.relay] = done
            elif isinstance(done, Changed):
                self.states[done.zone] = done.state
        self.look()

    def switched(self, switch: Switch) -> None:
        relay, wiring = switch.relay, WIRINGS.get(switch.relay, Wiring())
        assert self.coils[relay] is not switch.on, f"{relay} is switched to what it is"
        self.coils[relay] = switch.on
        if switch.on:
            assert self.now - self.off_since[relay] >= wiring.min_off_ns, f"{relay} was off too short"
            self.on_since[relay] = self.now
        else:
            lied = any(self.lied.get(r, 0) >= self.on_since[relay] for r in (relay, *wiring.requires))
            assert lied or self.now - self.on_since[relay] >= wiring.min_on_ns, f"{relay} was on too short"
            self.off_since[relay] = self.now

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(zone=st.sampled_from(sorted(CHAINS)), insist=st.booleans())
    def want(self, zone: str, insist: bool) -> None:
        if zone in self.wanted and self.plan.state(zone) is State.FAULT:
            self.plan.release(zone, self.now)
            self.wanted.discard(zone)
        if zone not in self.wanted:
            self.plan.want(zone, self.now, insist=insist)
            self.wanted.add(zone)
        self.turn()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        zone = data.draw(st.sampled_from(sorted(self.wanted)))
        self.plan.release(zone, self.now)
        self.wanted.discard(zone)
        self.turn()

    @rule(relay=st.sampled_from(WATCHED), where=st.one_of(st.none(), st.sampled_from(Place)))
    def contact(self, relay: str, where: Place | None) -> None:
        if where is None:
            self.held.pop(relay, None)
        else:
            self.held[relay] = where
        self.turn()

    @rule(ms=st.integers(1, 5000))
    def wait(self, ms: int) -> None:
        """From wake to wake, as the loop sleeps."""
        end = self.now + ms * MS
        while (due := self.plan.next_ns()) is not None and due <= end:
            self.now = max(self.now + 1, due)
            self.turn()
        self.now = max(self.now, end)
        self.turn()

    @rule(ms=st.integers(1, 5000))
    def oversleep(self, ms: int) -> None:
        self.now += ms * MS
        self.turn()

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def the_transmitter_is_keyed_only_over_a_confirmed_amplifier(self) -> None:
        for relay, wiring in WIRINGS.items():
            for other in wiring.requires:
                assert not self.coils[relay] or self.plan._relays[other].confirmed, f"{relay} without {other}"

    @invariant()
    def the_two_lines_are_never_on_together(self) -> None:
        assert not (self.coils["line-1"] and self.coils["line-2"])

    @invariant()
    def nothing_is_told_to_be_on_that_has_no_current_or_no_contact(self) -> None:
        for relay, told in self.told.items():
            if told.on and told.fault is None:
                assert self.coils[relay], relay
                if relay in WATCHED and self.now - self.plan._relays[relay]._raw_ns >= SETTLE_NS:
                    assert self.where(relay) is Place.ON, relay

    @invariant()
    def a_zone_that_is_on_has_its_whole_chain(self) -> None:
        for zone, state in self.states.items():
            for step in CHAINS[zone] if state is State.ON else ():
                retried = self.plan._relays[step.relay].stand is Stand.PAUSED  # it dropped out in mid-programme
                assert self.coils[step.relay] or retried, zone

    @invariant()
    def relays_that_nobody_can_need_are_off(self) -> None:
        idle = all(state is State.OFF for state in self.states.values())
        assert not idle or not any(self.coils.values()), self.coils

    def teardown(self) -> None:
        for zone in sorted(self.wanted):
            self.plan.release(zone, self.now)
        self.wanted.clear()
        self.turn()
        self.wait(CALM_NS // MS)
        assert not any(self.coils.values()), f"left on: {self.coils}"
        assert set(self.states.values()) == {State.OFF}
        self.held.clear()
        self.turn()
        self.wait(CALM_NS // MS)
        self.want("fm", insist=False)
        self.wait(CALM_NS // MS)
        assert self.states["fm"] is State.ON, "it does not come back once everything is mended"


TestPowerMachine = PowerMachine.TestCase
TestPowerMachine.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
