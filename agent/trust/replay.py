"""Replay memory: what was ordered before, so that no order works twice (CONTRACT section 4, steps 6 to 8).

Pure: loaded from a Snapshot, it hands back the writes that make it durable. The store deletes by the same rules, so
that what is forgotten here is forgotten there.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from agent.model.orders import Reason
from agent.model.records import PutOrder, PutState, PutValue, Snapshot
from agent.trust.refusal import Refusal

WINDOW = 1024
KEPT_AFTER_EXP_S = 86_400.0
FLOOR_KEY = "replay-floor"
"""The named value that holds `ReplayMemory.floor` (decimal epoch seconds)."""


def _number(stored: bytes | None, damaged: float) -> float:
    if stored is None:
        return 0.0
    try:
        return float(stored)
    except ValueError:
        return damaged


class _Counter(Struct):
    """The counters used by one key: `used` holds those within the window."""

    highest: int = 0
    used: set[int] = set()

    def use(self, ctr: int) -> None:
        self.used.add(ctr)
        if ctr > self.highest:
            self.highest = ctr
            self.used = {c for c in self.used if c > ctr - WINDOW}


class ReplayMemory:
    """`jti` and acks, a window of counters per key, and the state orders in force.

    `floor`: orders issued before it (epoch seconds) are refused as `replayed`, because the memory began then and
    cannot know them. Set when the store was empty, and kept for good.
    """

    def __init__(self, floor: float = 0.0) -> None:
        self.floor = floor
        self._orders: dict[tuple[str, str], PutOrder] = {}
        self._counters: dict[str, _Counter] = {}
        self._states: dict[tuple[str, str, str], PutState] = {}

    @classmethod
    def load(cls, snapshot: Snapshot, fresh_floor: float) -> ReplayMemory:
        """What the store remembers.

        `fresh_floor` is max(image time, authorities `iat`, certificate notBefore), used when the store is empty or
        cannot be used; `floor_write` then makes it last.
        """
        fresh = snapshot.empty or not snapshot.usable
        memory = cls(_number(snapshot.values.get(FLOOR_KEY), fresh_floor) if not fresh else fresh_floor)
        for order in snapshot.orders:
            memory.put(order)
        for kid, highest in snapshot.ctr_highest.items():
            memory._use(kid, highest)
        for state in snapshot.states:
            memory.put_state(state)
        return memory

    def floor_write(self) -> PutValue:
        """The write that keeps `floor`."""
        return PutValue(key=FLOOR_KEY, value=repr(self.floor).encode())

    def find(self, iss: str, jti: str) -> PutOrder | None:
        """The order that consumed this `jti`."""
        return self._orders.get((iss, jti))

    def check_ctr(self, kid: str, ctr: int) -> None:
        """Refuse (`replayed`) a counter that is used, or too far behind the highest to know."""
        counter = self._counters.get(kid)
        if counter is None:
            return
        if ctr <= counter.highest - WINDOW:
            raise Refusal(Reason.REPLAYED, f"ctr {ctr} is {WINDOW} or more behind the highest, {counter.highest}")
        if ctr in counter.used:
            raise Refusal(Reason.REPLAYED, f"ctr {ctr} was used before")

    def highest(self, kid: str) -> int:
        """The highest counter this key has used here; 0 when it has used none."""
        counter = self._counters.get(kid)
        return 0 if counter is None else counter.highest

    def check_floor(self, iat: float) -> None:
        """Refuse (`replayed`) what was issued before this memory began, in whole seconds, as signers count."""
        if iat < int(self.floor):
            raise Refusal(Reason.REPLAYED, "issued before this device's memory begins")

    def in_force(self, iss: str, scope: str, op: str) -> PutState | None:
        """The state order in force for that key."""
        return self._states.get((iss, scope, op))

    def check_version(self, iss: str, scope: str, op: str, version: int) -> None:
        """Refuse a version lower than the one in force (`stale-version`) or the same (`version-conflict`).

        The same version in the same bytes never comes here: it is ignored before.
        """
        held = self.in_force(iss, scope, op)
        if held is None or version > held.version:
            return
        if version == held.version:
            raise Refusal(Reason.VERSION_CONFLICT, f"version {version} is in force in other words")
        raise Refusal(Reason.STALE_VERSION, f"version {version}; {held.version} is in force")

    def put(self, order: PutOrder) -> None:
        """Remember an order, its counter, and its newest ack."""
        self._orders[order.iss, order.jti] = order
        if order.ctr is not None:
            self._use(order.kid, order.ctr)

    def put_state(self, state: PutState) -> None:
        """Remember a state order as the one in force for its key."""
        self._states[state.iss, state.scope, state.op] = state

    def states(self) -> Iterable[PutState]:
        """All state orders in force."""
        return self._states.values()

    def prune(self, earliest: float) -> int:
        """Forget the `jti` of orders whose `exp` lies more than a day before `earliest`; returns how many.

        `earliest` is a time that has passed for certain (`Instant.surely`): what is forgotten must stay expired.
        Counters stay. An order without `exp` is kept while it is in force.
        """
        in_force = {state.sha256 for state in self._states.values()}
        gone = [
            key
            for key, o in self._orders.items()
            if (o.sha256 not in in_force if o.exp is None else o.exp + KEPT_AFTER_EXP_S < earliest)
        ]
        for key in gone:
            del self._orders[key]
        return len(gone)

    def _use(self, kid: str, ctr: int) -> None:
        self._counters.setdefault(kid, _Counter()).use(ctr)
