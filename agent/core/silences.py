"""Silence (ngắt toàn bộ): who has silenced what. Silences add up; an issuer lifts its own and lower-ranked ones."""

from __future__ import annotations

import msgspec
from msgspec import Struct, structs

from agent.core.recurrence import parse_time
from agent.model.config import Station
from agent.model.orders import Silence

KEY = "key:"
"""Begins the issuer's name of a key switch's silence; no authority has such a name."""
KEY_RANK = 2**31
"""Whoever stands at the key: nobody lifts its silence from afar."""
SILENCES_KEY = "silences"
"""The named value that holds what is in force (`Silences.encode`)."""


class Held(Struct, frozen=True):
    """One silence in force. `until` epoch seconds; `local` also covers what is started in the commune; `at`: when it
    was issued (`iat`), for an older lift that the broker brings later lifts nothing."""

    rank: int
    zones: frozenset[str]
    until: float | None
    local: bool
    at: float = 0.0


class Silences:
    """All silences in force, by (issuer, scope)."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Held] = {}

    def encode(self) -> bytes:
        """As it is stored: the newest orders alone do not tell it, for one may lift a part of another."""
        return msgspec.json.encode([(*key, held) for key, held in self.held.items()])

    def restore(self, doc: bytes) -> None:
        """From the store; `msgspec.DecodeError` or `ValidationError` when it is damaged."""
        stored = msgspec.json.decode(doc, type=list[tuple[str, str, Held]])
        self.held = {(iss, scope): held for iss, scope, held in stored}

    def apply(self, iss: str, rank: int, order: Silence, at: float, config: Station) -> None:
        """A silence order that was admitted, issued at `at`: begin, change or lift."""
        if order.on:
            until = None if order.until is None else parse_time(order.until).timestamp()
            zones = frozenset(config.match(order.zones))
            self.held[iss, order.scope] = Held(rank, zones, until, order.include_local, at)
            return
        lifted = frozenset(config.match(order.zones))
        for key, held in list(self.held.items()):
            if key[0] == iss or (held.rank < rank and held.at <= at):
                left = held.zones - lifted
                if left:
                    self.held[key] = structs.replace(held, zones=left)
                else:
                    del self.held[key]

    def turn(self, key: str, scope: str, zones: list[str], on: bool) -> bool:
        """The key switch `key` was found closed or open: a silence of its own, or an end to all. False: as before."""
        name = (f"{KEY}{key}", scope)
        if on == (name in self.held):
            return False
        if on:
            self.held[name] = Held(KEY_RANK, frozenset(zones), None, local=False)
            return True
        del self.held[name]
        for other, held in list(self.held.items()):
            left = held.zones - frozenset(zones)
            if left:
                self.held[other] = structs.replace(held, zones=left)
            else:
                del self.held[other]
        return True

    def turned(self) -> list[str]:
        """The key switches that silence now."""
        return [iss.removeprefix(KEY) for iss, _ in self.held if iss.startswith(KEY)]

    def covers(self, zone: str, now: float, *, local: bool) -> bool:
        """Whether a zone is silenced now; `local`: for what is started in the commune."""
        return any(
            zone in h.zones and (h.until is None or now < h.until) and (h.local or not local)
            for h in self.held.values()
        )

    def expire(self, now: float) -> bool:
        """Forget what has run out; True when something did."""
        over = [k for k, h in self.held.items() if h.until is not None and now >= h.until]
        for key in over:
            del self.held[key]
        return bool(over)
