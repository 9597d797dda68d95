from __future__ import annotations

import pytest

from agent.core.power import TRANSITIONS, Changed, Cue, PowerPlan, State, Step, Switch, chain_of
from tests.unit.voice.rig import station

S = 1_000_000_000
CHAIN = [Step("mains", 2 * S, 3 * S), Step("line", S // 2, S // 10)]


def steps(plan: PowerPlan, until: int, now: int = 0) -> list[tuple[float, str]]:
    """Everything that happens until then, with its second."""
    seen = []
    while (due := plan.next_ns()) is not None and due <= until:
        now = max(now, due)
        for step in plan.advance(now):
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
