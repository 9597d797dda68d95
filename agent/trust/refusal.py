"""The one exception of the order path: a reason of the contract and a sentence for people."""

from __future__ import annotations

from agent.model.orders import Reason

LONGEST_DETAIL = 300


class Refusal(Exception):  # noqa: N818 - a decision with a reason, not a fault of the program
    """An order is refused. `reason` is the contract's word, `detail` names the place in the order.

    `detail` is cut to 300 characters: it may quote what a stranger wrote.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail if len(detail) <= LONGEST_DETAIL else detail[: LONGEST_DETAIL - 1] + "…"
        super().__init__(f"{reason}: {self.detail}")
