"""Who should own a zone, worked out from CONTRACT section 1 alone: a second opinion on `agent.core`, sharing no code.

The contract says, of one zone at one moment:

- class first: emergency over priority over normal;
- among emergencies the authority's rank, then the earlier start;
- two priority programmes go by the commune's own order of preference;
- a pressed emergency button sounds at once, and the remote alert resumes after it;
- what was interrupted follows its own `resume`: drop, restart, continue from the saved sample.

Where it says nothing (equal priority programmes, normal ones) nobody interrupts what is on, and of those that wait the
earlier start goes first, then the one that came first.

Zones are independent of each other, so one zone is played through here second by second, in whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

RANKS = {"normal": 0, "priority": 1, "emergency": 2, "button": 3}


@dataclass(frozen=True)
class Wish:
    """A programme that wants a zone from `start` on for `length` seconds (all in whole seconds)."""

    name: str
    class_: Literal["normal", "priority", "emergency", "button"]
    start: int
    length: int
    authority_rank: int = 0
    preference: int = 0
    """Place of the issuer in the commune's order of preference; the lower goes first."""
    resume: Literal["drop", "restart", "continue"] = "continue"


@dataclass(frozen=True)
class Heard:
    """`name` sounded from `begin` to `end`, from second `offset` of its sound on."""

    name: str
    begin: int
    end: int
    offset: int = 0


@dataclass
class _Waiting:
    wish: Wish
    order: int
    left: int = field(init=False)
    offset: int = 0

    def __post_init__(self) -> None:
        self.left = self.wish.length


def outranks(one: Wish, other: Wish) -> bool:
    """Whether `one` takes the zone from `other`."""
    mine, theirs = RANKS[one.class_], RANKS[other.class_]
    if mine != theirs:
        return mine > theirs
    if one.class_ == "emergency":
        if one.authority_rank != other.authority_rank:
            return one.authority_rank > other.authority_rank
        return one.start < other.start
    if one.class_ == "priority":
        return one.preference < other.preference
    return False


def play_through(wishes: Sequence[Wish]) -> list[Heard]:
    """What is heard in one zone that all `wishes` mean. Given in the order in which they came."""
    waiting = [_Waiting(w, n) for n, w in enumerate(wishes)]
    heard: list[Heard] = []
    on: _Waiting | None = None
    since = 0
    for second in range(min(w.start for w in wishes), sum(w.length for w in wishes) * 4 + 100):
        if on is not None and second - since == on.left:
            heard.append(Heard(on.wish.name, since, second, on.offset))
            waiting.remove(on)
            on = None
        due = [w for w in waiting if w.wish.start <= second]
        best = on
        for other in _first_come(due):
            if best is None or outranks(other.wish, best.wish):
                best = other
        if best is on:
            continue
        if on is not None:
            heard.append(Heard(on.wish.name, since, second, on.offset))
            _interrupt(on, second - since, waiting)
        on, since = best, second
    return [h for h in heard if h.end > h.begin]


def _first_come(due: Iterable[_Waiting]) -> Iterator[_Waiting]:
    return iter(sorted(due, key=lambda w: (w.wish.start, w.order)))


def _interrupt(on: _Waiting, played: int, waiting: list[_Waiting]) -> None:
    if played == 0:
        return  # it was not heard yet, so it was not interrupted
    if on.wish.resume == "drop":
        waiting.remove(on)
    elif on.wish.resume == "continue":
        on.offset += played
        on.left -= played
