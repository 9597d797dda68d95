"""Who owns a zone. Pure: claims in, owner out (CONTRACT section 1, "Rank")."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Claim(Struct, frozen=True):
    """A programme that wants a zone. `rank` as of `programme.rank`; `due` False: it starts later, at `start`."""

    key: str
    rank: tuple[float, ...]
    start: float
    due: bool


class Ruling(Struct, frozen=True):
    """`owner` has the zone now; `following` may be opened ahead of its start, for it will have it then."""

    owner: Claim | None
    following: Claim | None


def arbitrate(claims: Iterable[Claim]) -> Ruling:
    """The greatest rank among the due owns the zone; the next one is opened ahead only if it will win at its start."""
    owner: Claim | None = None
    waiting: list[Claim] = []
    for claim in claims:
        if not claim.due:
            waiting.append(claim)
        elif owner is None or claim.rank > owner.rank:
            owner = claim
    following: Claim | None = None
    for claim in waiting:
        if owner is not None and claim.rank[:-1] <= owner.rank[:-1]:
            continue
        if following is None or (claim.start, [-r for r in claim.rank]) < (
            following.start,
            [-r for r in following.rank],
        ):
            following = claim
    return Ruling(owner, following)
