"""A push-button's contact: from edges to facts. Pure; time is given.

The first edge starts a wait of the button's debounce time (5 ms unless configured); if the level has changed when it is
over, the change is a fact, dated at the edge. So a press costs 5 ms, contact bounce within them cannot repeat it, and a
spike shorter than that (a thunderstorm on a long cable) does not sound a siren.

A contact that is closed when the process starts is not a press: a shorted cable must not sound the alarm at every
return of power. It is reported as stuck like any other that stays closed for 60 s, and must open before it can fire.

A wet cable closes and opens again and again, and would sound its message for ever. More than `CHATTER` presses within
a minute are not a person's: the button is stuck, its moves are no facts any more, and it is released when it has been
open for `QUIET_NS` without a break. Somebody who hammers on it has long been heard, and is again after that pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from agent.model.config import Button

STUCK_NS = 60_000_000_000
CHATTER = 30
CHATTER_NS = 60_000_000_000
QUIET_NS = 5_000_000_000
STOP_HOLD_S = 5.0
"""A stop button is held for this long to mean more than local (CONTRACT section 5), unless `hold_s` says otherwise."""


class Contact:
    """One button's state machine: feed it edges, poll it at `next_ns`."""

    def __init__(self, button: Button, closed: bool, now: int) -> None:
        self.button = button
        self.closed = closed
        self._debounce_ns = round(button.debounce_ms * 1e6)
        hold_s = button.hold_s or (STOP_HOLD_S if button.action.stop else 0.0)
        self._hold_ns = round(hold_s * 1e9)
        self._edge_ns: int | None = None
        self._check_ns = 0
        self._changed_ns = now - self._debounce_ns
        self._held_due: int | None = None
        self._stays = button.action.silence
        """A key switch: it may stay closed, and is no less turned for having been so before we came."""
        self._stuck_due: int | None = now + STUCK_NS if closed and not self._stays else None
        self.stuck = False
        """It was reported as stuck and has not opened since."""
        self.never_open = closed and not self._stays
        """It was closed at the start and has not opened since: it cannot fire."""
        self._pressed: deque[int] = deque(maxlen=CHATTER + 1)
        self._chattering = False
        self._quiet_due: int | None = None

    def edge(self, at_ns: int) -> None:
        """Something moved at `at_ns`."""
        if self._edge_ns is None:
            self._edge_ns = at_ns
            self._check_ns = max(at_ns, self._changed_ns) + self._debounce_ns

    def poll(self, now: int, closed: Callable[[], bool]) -> list[tuple[str, int]]:
        """What became a fact by `now`, as (state of a ButtonEvent, its time). `closed` reads the contact."""
        facts: list[tuple[str, int]] = []
        if self._edge_ns is not None and now >= self._check_ns:
            edge_ns, self._edge_ns = self._edge_ns, None
            if closed() != self.closed:
                facts += self._change(edge_ns, now)
        if self._held_due is not None and now >= self._held_due:
            facts.append(("held", self._held_due))
            self._held_due = None
        if self._stuck_due is not None and now >= self._stuck_due:
            facts.append(("stuck", self._stuck_due))
            self._stuck_due = None
            self.stuck = True
        if self._quiet_due is not None and now >= self._quiet_due:
            facts.append(("released", self._quiet_due))
            self._pressed.clear()
            self._chattering = self.stuck = False
            self._quiet_due = None
        return facts

    def forget_hold(self) -> None:
        """This press counts for nothing, however long it is held."""
        self._held_due = None

    def next_ns(self) -> int | None:
        """When to poll again."""
        check = self._check_ns if self._edge_ns is not None else None
        return min(
            (t for t in (check, self._held_due, self._stuck_due, self._quiet_due) if t is not None), default=None
        )

    def _change(self, edge_ns: int, now: int) -> list[tuple[str, int]]:
        self.closed = not self.closed
        self._changed_ns = now
        if self._chattering:
            self._quiet_due = None if self.closed else now + QUIET_NS
            return []
        if self.closed:
            self._pressed.append(edge_ns)
            if len(self._pressed) > CHATTER and edge_ns - self._pressed[0] < CHATTER_NS:
                self._chattering = self.stuck = True
                return [("stuck", edge_ns)]
        self._held_due = edge_ns + self._hold_ns if self.closed and self._hold_ns else None
        self._stuck_due = edge_ns + STUCK_NS if self.closed and not self._stays else None
        self.stuck = self.never_open = False
        return [("pressed" if self.closed else "released", edge_ns)]
