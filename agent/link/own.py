"""The station's own key, as the owner signs with it (`agent.core.commune.Sign`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.link import topics
from agent.model.time import Instant
from agent.trust.signer import Signer

LOCAL_TTL_S = 24 * 3600.0
"""Of an emergency; of other commands thirty times as long, the longest that is admitted."""


class OwnKey:
    """Signs for the station itself (`device`) and for its clusters."""

    def __init__(self, signer: Signer, device: str) -> None:
        self._signer = signer
        self._device = device

    def __call__(
        self,
        op: str,
        args: dict[str, Any],
        now: Instant,
        *,
        ctr: int | None,
        aud: Sequence[str] | None = None,
        ttl: float | None = None,
    ) -> tuple[str, bytes]:
        """Sign one order: its topic at this station, and the compact JWS."""
        usual = LOCAL_TTL_S if args.get("class") == "emergency" else 30 * LOCAL_TTL_S
        life = None if ctr is None else min(usual, ttl or usual)
        raw = self._signer.order(op, args, aud or [self._device], now=now.wall, ttl=life, ctr=ctr)
        topic = topics.order(self._device) if ctr is not None else topics.desired(self._device, op, self._signer.iss)
        return topic, raw.encode()
