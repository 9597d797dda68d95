"""Two links into one inbox: a cluster's to the source over its own SIM, and to its station on the local network.

The same order over both ways is one order: the owner knows it by its bytes. What waits for the province goes to the
first link alone; state, status and beats go to all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from agent.link.hub import Hub, NoHub
from agent.model.events import ClusterSaid, LinkDown, LinkUp, OrderArrived
from agent.model.records import PutOut
from agent.ports import Inbox, Link


class Labelled:
    """An inbox for one of several links: tokens and ups and downs say whose they are."""

    def __init__(self, inbox: Inbox, link: str, number: int, count: int) -> None:
        self._inbox = inbox
        self._link = link
        self._number, self._count = number, count

    def __call__(self, event: Struct, *, urgent: bool = False) -> None:
        """Pass an event on."""
        if isinstance(event, OrderArrived | ClusterSaid):
            event = msgspec.structs.replace(event, token=event.token * self._count + self._number)
        elif isinstance(event, LinkUp | LinkDown):
            event = msgspec.structs.replace(event, link=self._link)
        self._inbox(event, urgent=urgent)


class Links:
    """`agent.ports.Link` over several, and over a hub, to which only acknowledgements go.

    All of them together are numbered, the hub last: `Labelled(inbox, name, number, len(links) + 1)`.
    """

    def __init__(self, links: Sequence[Link], hub: Hub | NoHub) -> None:
        self._links = list(links)
        self._all: list[Link | Hub | NoHub] = [*links, hub]

    def start(self) -> None:
        """All of them."""
        for link in self._links:
            link.start()

    def stop(self) -> None:
        """All of them."""
        for link in self._links:
            link.stop()

    def acknowledge(self, token: int) -> None:
        """The link over which it came."""
        own, number = divmod(token, len(self._all))
        self._all[number].acknowledge(own)

    def offer(self, rows: Sequence[PutOut]) -> None:
        """The first link, and no other: each row goes to the province once. A station of its own keeps them."""
        for link in self._links[:1]:
            link.offer(rows)

    def publish_state(self, body: bytes) -> None:
        """All of them."""
        for link in self._links:
            link.publish_state(body)

    def publish_status(self, body: bytes) -> None:
        """All of them."""
        for link in self._links:
            link.publish_status(body)

    def publish_beat(self, body: bytes) -> None:
        """All of them."""
        for link in self._links:
            link.publish_beat(body)

    def set_clock_trusted(self, trusted: bool) -> None:
        """All of them: each checks the dates of its own other side."""
        for link in self._links:
            link.set_clock_trusted(trusted)
