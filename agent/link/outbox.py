"""The outbox policy moved to `agent.core.outbox`: the owner keeps it, the link only carries its rows."""

from agent.core.outbox import RESERVED, WEIGHTS, Outbox

__all__ = ["RESERVED", "WEIGHTS", "Outbox"]
