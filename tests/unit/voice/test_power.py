from __future__ import annotations

import pytest

from agent.core.power import TRANSITIONS, Changed, Cue, PowerPlan, State, Step, Switch, Told, chain_of, lead_s, rivals
from agent.core.relay import Place, Wiring, place
from tests.unit.voice.rig import station

S = 1_000_000_000
CHAIN = [Step("mains", 2 * S, 3 * S), Step("line", S // 2, S // 10)]


def steps(plan: PowerPlan, until: int, now: int = 0) -> list[tuple[float, str]]:
    """Everything that happens until then, with its second."""
    seen = []
    while (due := plan.next_ns()) is not None and due <= until:
        now = max(now, due)
        for step in plan.advance(now):
            if not isinstance(step, Told):
                word = f"{step.relay} {'on' if step.on else 'off'}" if isinstance(step, Switch) else str(step.state)
                seen.append((now / S, word))
    return seen


def test_relays_go_on_in_order_with_warm_up_after_each() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    assert plan.ready_ns("z", 0) == plan.lead_ns("z") == 2.5 * S
    assert steps(plan, 9 * S) == [(0, "mains on"), (0, "warming"), (2, "line on"), (2.5, "on")]


def test_relays_go_off_in_reverse_each_after_its_own_cool_down() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    steps(plan, 9 * S)
    plan.release("z", 10 * S)
    assert steps(plan, 99 * S, 10 * S) == [(10, "cooling"), (10.1, "line off"), (13, "mains off"), (13, "off")]


def test_an_inner_relay_with_a_long_cool_down_holds_the_outer_one() -> None:
    plan = PowerPlan({"z": [Step("mains", 0, S), Step("line", 0, 5 * S)]})
    plan.want("z", 0)
    steps(plan, S)
    plan.release("z", S)
    assert [w for w in steps(plan, 99 * S, S) if "off" in w[1]] == [(6, "line off"), (6, "mains off"), (6, "off")]


def test_a_play_during_cooling_goes_straight_back_on() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    steps(plan, 9 * S)
    plan.release("z", 10 * S)
    plan.advance(10 * S)
    plan.want("z", 10 * S + 1)
    assert plan.advance(10 * S + 1) == [Changed("z", State.ON)]


def test_a_play_late_in_cooling_warms_only_what_went_off() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    steps(plan, 9 * S)
    plan.release("z", 10 * S)
    steps(plan, 11 * S, 10 * S)
    plan.want("z", 11 * S)
    assert steps(plan, 99 * S, 11 * S) == [(11, "line on"), (11, "warming"), (11.5, "on")]


def test_released_while_warming_goes_off_the_same_way() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    plan.advance(0)
    plan.release("z", S)
    assert steps(plan, 99 * S, S) == [(1, "cooling"), (4, "mains off"), (4, "off")]
    assert not any(plan.relays.values())


def test_a_shared_relay_is_off_only_when_neither_zone_needs_it() -> None:
    plan = PowerPlan({"a": [Step("amp", S)], "b": [Step("amp", S), Step("b", 0)]})
    plan.want("a", 0)
    plan.advance(0)
    steps(plan, 5 * S)
    plan.want("b", 5 * S)
    assert plan.ready_ns("b", 5 * S) == 5 * S  # the amplifier is warm already
    assert steps(plan, 6 * S, 5 * S) == [(5, "b on"), (5, "on")]
    plan.release("a", 6 * S)
    assert steps(plan, 7 * S, 6 * S) == [(6, "off")]
    assert plan.relays == {"amp": True, "b": True}
    plan.release("b", 7 * S)
    assert steps(plan, 8 * S, 7 * S) == [(7, "b off"), (7, "amp off"), (7, "off")]


def test_the_change_over_relay_of_an_external_source_is_first_on_and_last_off() -> None:
    zone = station([{"id": "fm", "power": [{"relay": "amp"}], "idle": {"source": "external", "relay": "over"}}]).zones[
        0
    ]
    assert [s.relay for s in chain_of(zone)] == ["over", "amp"]


def test_all_off_names_every_relay() -> None:
    assert {s.relay for s in PowerPlan({"z": CHAIN}).all_off()} == {"mains", "line"}


@pytest.mark.parametrize("pair", [(s, c) for s in State for c in Cue if (s, c) not in TRANSITIONS])
def test_a_missing_pair_is_an_error(pair: tuple[State, Cue]) -> None:
    with pytest.raises(KeyError):
        TRANSITIONS[pair]


def test_wanting_twice_is_an_error() -> None:
    plan = PowerPlan({"z": CHAIN})
    plan.want("z", 0)
    with pytest.raises(KeyError):
        plan.want("z", 1)


# -- shortest times --------------------------------------------------------------------------------------------------


def on_air(plan: PowerPlan, zone: str, now: int) -> int:
    """Want the zone, let it warm up; when it is on."""
    plan.want(zone, now)
    steps(plan, now + 600 * S, now)
    assert plan.state(zone) is State.ON
    return plan.ready_ns(zone, now + 600 * S)


def test_a_relay_stays_on_for_its_shortest_time() -> None:
    plan = PowerPlan({"z": [Step("tx", S)]}, {"tx": Wiring(min_on_ns=60 * S)})
    plan.want("z", 0)
    steps(plan, 2 * S)
    plan.release("z", 5 * S)
    assert steps(plan, 99 * S, 5 * S) == [(5, "cooling"), (60, "tx off"), (60, "off")]


def test_a_relay_stays_off_for_its_shortest_time_which_counts_from_the_start_of_the_process() -> None:
    plan = PowerPlan({"z": [Step("tx", S)]}, {"tx": Wiring(min_off_ns=30 * S)}, now=10 * S)
    assert plan.ready_ns("z", 10 * S) == 41 * S
    plan.want("z", 10 * S)
    assert steps(plan, 99 * S, 10 * S) == [(10, "warming"), (40, "tx on"), (41, "on")]
    plan.release("z", 50 * S)
    steps(plan, 51 * S, 50 * S)
    plan.want("z", 52 * S)
    assert steps(plan, 99 * S, 52 * S)[1:] == [(80, "tx on"), (81, "on")]


def test_a_chain_is_kept_on_when_it_could_not_be_on_again_in_time() -> None:
    plan = PowerPlan({"z": [Step("tx", 2 * S, 5 * S)]}, {"tx": Wiring(min_off_ns=30 * S)}, now=-99 * S)
    assert not plan.due("z", 100 * S, 97 * S)
    assert plan.due("z", 100 * S, 98 * S)  # cold: its warm-up is enough
    on_air(plan, "z", 0)
    plan.release("z", 10 * S)
    plan.advance(10 * S)
    assert not plan.due("z", 100 * S, 60 * S)
    assert plan.due("z", 45 * S, 14 * S)  # once off it would be off for 30 s
    assert plan.due_ns("z", 100 * S) == 68 * S


# -- feedback --------------------------------------------------------------------------------------------------------

FOLLOWS = Wiring(within_ns=2 * S, retries=1)


class Bench:
    """A plan with contacts that follow, but for those that are held."""

    def __init__(self, chains: dict[str, list[Step]], **wirings: Wiring) -> None:
        self.plan = PowerPlan(chains, wirings)
        self.coils = dict.fromkeys(self.plan.relays, False)
        self.held: dict[str, Place] = {}
        self.now = 0
        self.seen: list[tuple[float, str]] = []
        self.run(S)
        self.seen.clear()

    def run(self, ns: int) -> list[tuple[float, str]]:
        """Turn the loop every 5 ms, as a running card does; what happened."""
        before = len(self.seen)
        end = self.now + ns
        while self.now < end:
            for relay, on in self.coils.items():
                self.plan.see(relay, self.held.get(relay, Place.ON if on else Place.OFF), self.now)
            for done in self.plan.advance(self.now):
                self.take(done)
            self.now += S // 200
        return self.seen[before:]

    def take(self, done: object) -> None:
        at = round(self.now / S, 1)
        match done:
            case Switch(relay, on):
                self.coils[relay] = on
                self.seen.append((at, f"{relay} {'energised' if on else 'cut'}"))
            case Told(relay, on, fault):
                self.seen.append((at, f"{relay} {fault or ('on' if on else 'off')}"))
            case Changed(_, state):
                self.seen.append((at, str(state)))


def test_the_chain_goes_on_when_the_contact_confirms_and_not_before() -> None:
    bench = Bench({"z": [Step("amp", S), Step("tx")]}, amp=FOLLOWS)
    bench.held["amp"] = Place.OFF
    bench.plan.want("z", bench.now)
    assert bench.run(S + S // 2) == [(1.0, "amp energised"), (1.0, "warming")]
    assert bench.plan.waits("z")
    del bench.held["amp"]
    assert [w for _, w in bench.run(S // 2)] == ["amp on", "tx energised", "tx on", "on"]


def test_a_relay_that_does_not_follow_is_tried_again_and_then_the_zone_is_in_fault() -> None:
    bench = Bench({"z": [Step("amp", S), Step("tx")]}, amp=FOLLOWS)
    bench.held["amp"] = Place.OFF
    bench.plan.want("z", bench.now)
    assert bench.run(9 * S) == [
        (1.0, "amp energised"),
        (1.0, "warming"),
        (3.0, "amp cut"),
        (3.5, "amp energised"),
        (5.5, "amp cut"),
        (5.5, "amp not-following"),
        (5.5, "fault"),
    ]
    assert not any(bench.coils.values())
    bench.plan.release("z", bench.now)
    assert [w for _, w in bench.run(S)] == ["off"]
    del bench.held["amp"]
    bench.plan.want("z", bench.now)
    assert [w for _, w in bench.run(2 * S)] == [
        "amp energised",
        "warming",
        "amp on",
        "tx energised",
        "tx on",
        "on",
    ]


def test_an_emergency_goes_on_through_a_relay_that_is_not_confirmed_but_it_is_not_reported_as_on() -> None:
    bench = Bench({"z": [Step("amp", S)]}, amp=FOLLOWS)
    bench.held["amp"] = Place.OFF
    bench.plan.want("z", bench.now, insist=True)
    assert bench.run(9 * S) == [
        (1.0, "amp energised"),
        (1.0, "warming"),
        (2.0, "on"),
        (3.0, "amp not-following"),
    ]
    assert bench.coils["amp"]


def test_a_relay_that_requires_another_is_never_forced_through_it() -> None:
    bench = Bench({"z": [Step("amp", S), Step("tx")]}, amp=FOLLOWS, tx=Wiring(requires=("amp",)))
    bench.held["amp"] = Place.OFF
    bench.plan.want("z", bench.now, insist=True)
    assert [w for _, w in bench.run(9 * S)] == [
        "amp energised",
        "warming",
        "amp not-following",
        "fault",
        "tx interlock",
        "amp cut",
    ]


def test_the_transmitter_is_cut_at_once_when_its_amplifier_drops_out() -> None:
    bench = Bench(
        {"z": [Step("amp", S), Step("tx", 0, 60 * S)]},
        amp=FOLLOWS,
        tx=Wiring(requires=("amp",), min_on_ns=600 * S),
    )
    bench.plan.want("z", bench.now)
    bench.run(3 * S)
    bench.held["amp"] = Place.OFF
    seen = bench.run(S)
    assert [w for _, w in seen][:3] == ["amp off", "tx cut", "tx interlock"]
    assert seen[1][0] - 4 < 0.1


def test_a_contact_that_bounces_is_no_dropout() -> None:
    bench = Bench({"z": [Step("amp")]}, amp=FOLLOWS)
    bench.plan.want("z", bench.now)
    bench.run(S)
    for _ in range(20):
        bench.held["amp"] = Place.OFF
        bench.run(S // 100)
        del bench.held["amp"]
        assert bench.run(S // 100) == []


@pytest.mark.parametrize(
    ("held", "word"), [(Place.ON, "stuck"), (Place.BETWEEN, "stuck"), (Place.BOTH, "contradiction")]
)
def test_a_contact_that_says_on_while_the_relay_is_off_is_told_and_over_when_it_lets_go(held: Place, word: str) -> None:
    bench = Bench({"z": [Step("over")]}, over=FOLLOWS)
    bench.held["over"] = held
    assert [w for _, w in bench.run(4 * S)] == [f"over {word}"]
    del bench.held["over"]
    assert [w for _, w in bench.run(4 * S)] == ["over off"]


def test_both_positions_of_a_change_over_at_once_are_never_on() -> None:
    bench = Bench({"z": [Step("over")]}, over=Wiring(within_ns=S))
    bench.held["over"] = Place.BOTH
    bench.plan.want("z", bench.now)
    seen = [w for _, w in bench.run(3 * S)]
    assert "over contradiction" in seen
    assert "over on" not in seen
    assert "fault" in seen


@pytest.mark.parametrize(
    ("contacts", "expected"),
    [
        ((True, None), Place.ON),
        ((False, None), Place.OFF),
        ((True, False), Place.ON),
        ((False, True), Place.OFF),
        ((False, False), Place.BETWEEN),
        ((True, True), Place.BOTH),
    ],
)
def test_two_contacts_tell_four_places(contacts: tuple[bool, bool | None], expected: Place) -> None:
    assert place(*contacts) is expected


# -- never both ------------------------------------------------------------------------------------------------------

LINES = {"a": [Step("amp", S), Step("line-a")], "b": [Step("amp", S), Step("line-b", 0, S)]}


def test_two_lines_that_exclude_each_other_are_never_on_together() -> None:
    bench = Bench(LINES, **{"line-a": Wiring(excludes=("line-b",))})
    bench.plan.want("b", bench.now)
    bench.run(2 * S)
    bench.plan.want("a", bench.now)
    assert [w for _, w in bench.run(S)] == ["warming"]
    assert bench.plan.blockers("a") == {"b"}
    bench.plan.release("b", bench.now)
    assert bench.run(3 * S) == [
        (4.0, "cooling"),
        (5.0, "line-b cut"),
        (5.0, "line-b off"),
        (5.0, "off"),
        (5.0, "line-a energised"),
        (5.0, "line-a on"),
        (5.0, "on"),
    ]


def test_a_line_that_does_not_let_go_bars_the_other_with_a_fault() -> None:
    bench = Bench(LINES, **{"line-a": Wiring(excludes=("line-b",)), "line-b": Wiring(within_ns=S)})
    bench.held["line-b"] = Place.ON
    bench.run(2 * S)
    bench.plan.want("a", bench.now)
    seen = [w for _, w in bench.run(3 * S)]
    assert "fault" in seen
    assert "line-a interlock" in seen
    assert not bench.coils["line-a"]


def test_zones_with_relays_that_exclude_each_other_are_rivals() -> None:
    zones = [
        {"id": "a", "power": [{"relay": "amp"}, {"relay": "la"}]},
        {"id": "b", "power": [{"relay": "amp"}, {"relay": "lb"}]},
        {"id": "c", "power": [{"relay": "lc"}]},
    ]
    relays = [{"id": "amp", "pin": 1}, {"id": "la", "pin": 2, "excludes": ["lb"], "min_off_s": 7}]
    config = station(zones, relays=[*relays, {"id": "lb", "pin": 3}, {"id": "lc", "pin": 4}])
    assert rivals(config.zones, config.relays) == {"a": {"b"}, "b": {"a"}, "c": set()}
    assert lead_s(config.zones[0], config.relays) == 7


def test_the_last_act_switches_off_what_needs_others_before_them() -> None:
    chains = {"a": [Step("tx"), Step("x")], "b": [Step("amp"), Step("tx")]}
    order = [s.relay for s in PowerPlan(chains, {"tx": Wiring(requires=("amp",))}).all_off()]
    assert sorted(order) == ["amp", "tx", "x"]
    assert order.index("tx") < order.index("amp")
