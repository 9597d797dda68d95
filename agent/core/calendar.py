"""The schedules in force: which entries there are, and when each is due. The expansion itself runs elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from agent.core.commands import Expand
from agent.model.events import Expanded
from agent.model.orders import Entry, OnLate

AHEAD_S = 48 * 3600.0
"""Occurrences are known this far ahead …"""
RENEW_S = 24 * 3600.0
"""… and computed again when less than this is left."""
BACK_S = 6 * 3600.0
"""After a boot, occurrences that began up to this long ago may still be joined or played late."""
MAX_ENTRIES = 300


class _Issuer(Struct):
    rank: int
    entries: dict[str, Entry]
    generation: int
    asked: bool = False
    starts: list[tuple[float, str]] = []
    before: float = 0.0


class Calendar:
    """Entries of all issuers, each with its next occurrences, soonest first."""

    def __init__(self) -> None:
        self._issuers: dict[str, _Issuer] = {}
        self._generation = 0
        self.accepted: set[str] = set()
        """`iss/id` of offered entries which the commune has accepted."""

    def replace(self, iss: str, rank: int, entries: list[Entry]) -> set[str]:
        """An issuer's schedule replaces its former one. Returns the ids of its entries that changed or are gone.

        With a changed entry its acceptance ends; the caller makes that durable.
        """
        self._generation += 1
        former = self._issuers.get(iss)
        changed = set() if former is None else {i for i, e in former.entries.items() if e not in entries}
        self.accepted -= {f"{iss}/{i}" for i in changed}
        self._issuers[iss] = _Issuer(rank, {e.id: e for e in entries}, self._generation)
        return changed

    def size(self, without: str | None = None) -> int:
        """Entries over all issuers but one."""
        return sum(len(i.entries) for iss, i in self._issuers.items() if iss != without)

    def expansions(self, now: float) -> Iterator[Expand]:
        """What must be computed (again); each is asked once."""
        for iss, issuer in self._issuers.items():
            if not issuer.asked and issuer.entries and issuer.before < now + RENEW_S:
                issuer.asked = True
                after = issuer.before or now - BACK_S
                yield Expand(iss, issuer.generation, tuple(issuer.entries.values()), after, now + AHEAD_S)

    def expanded(self, event: Expanded) -> None:
        """Occurrences came; those of a schedule that was replaced meanwhile are dropped."""
        issuer = self._issuers.get(event.issuer)
        if issuer is None or issuer.generation != event.generation:
            return
        found = [(at, entry) for entry, starts in event.starts.items() for at in starts]
        issuer.starts = sorted([*issuer.starts, *found])
        issuer.before = event.before
        issuer.asked = False

    def take(self, until: float) -> Iterator[tuple[str, int, Entry, float]]:
        """(issuer, rank, entry, start) of occurrences up to `until`; each is taken once."""
        for iss, issuer in self._issuers.items():
            while issuer.starts and issuer.starts[0][0] <= until:
                at, entry = issuer.starts.pop(0)
                yield iss, issuer.rank, issuer.entries[entry], at

    def coming(self) -> Iterator[tuple[str, Entry, float]]:
        """(issuer, entry, start) of all occurrences known and not yet taken."""
        for iss, issuer in self._issuers.items():
            for at, entry in issuer.starts:
                yield iss, issuer.entries[entry], at

    def next(self) -> float | None:
        """The soonest occurrence not yet taken."""
        return min((i.starts[0][0] for i in self._issuers.values() if i.starts), default=None)


def late(entry: Entry, start: float, now: float, grace: float) -> bool:
    """Whether an occurrence is over before it could begin: skipped when late, or its time has run out."""
    if now > start + BACK_S:
        return True
    if entry.duration_s is not None and start + entry.duration_s <= now:
        return True
    return entry.on_late is OnLate.SKIP and now > start + grace
