from __future__ import annotations

import pytest

from agent.model.orders import Reason
from agent.model.records import PutOrder, PutState, Snapshot
from agent.trust.refusal import Refusal
from agent.trust.replay import FLOOR_KEY, WINDOW, ReplayMemory


def order(jti: str = "a", ctr: int | None = 1, exp: float | None = 100.0, sha256: str = "00") -> PutOrder:
    return PutOrder(iss="tinh", jti=jti, sha256=sha256, kid="k", ctr=ctr, exp=exp, ack=b"{}")


def state(version: int, sha256: str = "00") -> PutState:
    return PutState(iss="tinh", scope="d", op="schedule", version=version, sha256=sha256, raw=b"")


def refuses(memory: ReplayMemory, ctr: int, kid: str = "k") -> bool:
    try:
        memory.check_ctr(kid, ctr)
    except Refusal as refusal:
        return refusal.reason is Reason.REPLAYED
    return False


def test_the_first_counter_of_a_key_may_be_any() -> None:
    assert not refuses(ReplayMemory(), 2**53 - 1)


def test_gaps_and_late_counters_within_the_window_pass_once() -> None:
    memory = ReplayMemory()
    memory.put(order("a", 2000))
    assert not refuses(memory, 2000 - WINDOW + 1)
    memory.put(order("b", 2000 - WINDOW + 1))
    assert refuses(memory, 2000 - WINDOW + 1)
    assert refuses(memory, 2000)
    assert refuses(memory, 2000 - WINDOW)
    assert not refuses(memory, 2001)


def test_keys_have_windows_of_their_own() -> None:
    memory = ReplayMemory()
    memory.put(order("a", 5))
    assert refuses(memory, 5)
    assert not refuses(memory, 5, kid="other")


def test_a_restart_forgets_nothing() -> None:
    rows = [order("a", 5000), order("b", 4990), order("c", None, None)]
    memory = ReplayMemory.load(
        Snapshot(orders=rows, ctr_highest={"k": 6000, "l": 3}, states=[state(4)], empty=False), 0
    )
    assert memory.find("tinh", "a") == rows[0]
    assert memory.find("bao", "a") is None
    assert refuses(memory, 4990)
    assert refuses(memory, 6000)
    assert refuses(memory, 6000 - WINDOW)
    assert refuses(memory, 3, kid="l")
    assert not refuses(memory, 5999)
    assert memory.in_force("tinh", "d", "schedule") == state(4)


VERSIONS = {
    "newer": (5, None),
    "the same in other words": (4, Reason.VERSION_CONFLICT),
    "older": (3, Reason.STALE_VERSION),
}


@pytest.mark.parametrize(("version", "reason"), VERSIONS.values(), ids=VERSIONS.keys())
def test_state_versions(version: int, reason: Reason | None) -> None:
    memory = ReplayMemory()
    memory.put_state(state(4))
    memory.check_version("bao", "d", "schedule", 1)
    memory.check_version("tinh", "group:all", "schedule", 1)
    memory.check_version("tinh", "d", "silence", 1)
    if reason is None:
        memory.check_version("tinh", "d", "schedule", version)
    else:
        with pytest.raises(Refusal) as caught:
            memory.check_version("tinh", "d", "schedule", version)
        assert caught.value.reason is reason


def test_a_jti_is_forgotten_a_day_after_exp_and_its_counter_is_not() -> None:
    memory = ReplayMemory()
    memory.put(order("a", 7, 1000.0))
    assert memory.prune(1000.0 + 86_400) == 0
    assert memory.prune(1000.0 + 86_401) == 1
    assert memory.find("tinh", "a") is None
    assert refuses(memory, 7)


def test_an_order_without_exp_is_kept_while_it_is_in_force() -> None:
    memory = ReplayMemory()
    memory.put(order("a", None, None, sha256="aa"))
    memory.put_state(state(1, "aa"))
    assert memory.prune(1e12) == 0
    memory.put_state(state(2, "bb"))
    assert memory.prune(0) == 1


FLOORS = {
    "an empty store": (Snapshot(empty=True), 500.0),
    "a store that cannot be used": (Snapshot(empty=False, usable=False), 500.0),
    "a store that began long ago": (Snapshot(empty=False, values={FLOOR_KEY: b"77.5"}), 77.5),
    "a store with a damaged floor": (Snapshot(empty=False, values={FLOOR_KEY: b"?"}), 500.0),
    "a store from before there was a floor": (Snapshot(empty=False), 0.0),
}


@pytest.mark.parametrize(("snapshot", "floor"), FLOORS.values(), ids=FLOORS.keys())
def test_what_was_issued_before_the_memory_began_is_refused(snapshot: Snapshot, floor: float) -> None:
    memory = ReplayMemory.load(snapshot, 500.0)
    assert memory.floor == floor
    memory.check_floor(floor)
    with pytest.raises(Refusal, match="replayed"):
        memory.check_floor(floor - 1)
    again = Snapshot(empty=False, values={FLOOR_KEY: memory.floor_write().value})
    assert ReplayMemory.load(again, 1e9).floor == floor
