"""What a station passes on to its clusters over its own link: the province's orders unchanged, and its own.

A row is written before the order is acknowledged to the province, and kept until every cluster has acknowledged it or
it has expired. The link itself remembers nothing over a restart, so each cluster that comes (back) is given what is
still valid and not acknowledged by it: the same bytes, which it knows if it had them already (CONTRACT section 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

import msgspec
from msgspec import Struct

from agent.core.commands import PassOn
from agent.core.examination import Examination, Route
from agent.core.intake import LEEWAY_S
from agent.model.orders import STATE_OPS, Class, Media
from agent.model.records import DropValue, PutValue, Snapshot, Write
from agent.model.time import Instant
from agent.trust.authorities import Trusted
from agent.trust.refusal import Refusal
from agent.trust.verify import AUTHORITIES_OP, VerifiedOrder, recall

PREFIX = "pass/"
"""Named values that hold the rows."""
MAX_ROWS = 512
MAX_BYTES = 8 * 2**20


class Row(Struct, kw_only=True):
    """One order for clusters. `target` as in an order's `aud`; `op` and `iss` of a desired topic, None on an order's.

    `bulletin`: the id of a broadcast; `own`: this station signed it; `media`: what it plays; `on`: of a silence, that
    it begins; `stopped`: an officer has ended it, no cluster that comes back is given it.
    """

    n: int
    target: str
    op: str | None = None
    iss: str | None = None
    payload: bytes
    sha256: str
    by: str
    jti: str
    aud: list[str]
    exp: float | None = None
    version: int | None = None
    urgent: bool = False
    own: bool = False
    bulletin: str | None = None
    title: str = ""
    class_: str = ""
    start: str = ""
    media: list[Media] = []
    on: bool = False
    stopped: bool = False

    @property
    def key(self) -> str:
        """Its named value."""
        return f"{PREFIX}{self.n}"

    def send(self, now: Instant, target: str | None = None) -> PassOn:
        """The command that publishes it, to everyone it is for or to one cluster alone."""
        expiry = None if self.exp is None or self.op is not None else max(1, int(self.exp - now.surely))
        return PassOn(target or self.target, self.payload, self.op, self.iss, expiry)


class Passing:
    """The rows, and who has acknowledged which. `fleet`: device ids of the clusters on the link."""

    def __init__(self, fleet: Collection[str], snapshot: Snapshot) -> None:
        self.fleet = set(fleet)
        self.rows: dict[int, Row] = {}
        self.given_up = 0
        """Rows dropped because there were too many."""
        self._done: dict[int, set[str]] = {}
        self._through: dict[int, set[str]] = {}
        self._next = 1
        self.damaged: list[str] = []
        for key, value in snapshot.values.items():
            if key.startswith(PREFIX):
                try:
                    row = msgspec.msgpack.decode(value, type=Row)
                except msgspec.DecodeError as error:
                    self.damaged.append(f"{key}: {error}")
                    continue
                self.rows[row.n] = row
        self.rows = dict(sorted(self.rows.items()))
        self._next = max(self.rows, default=0) + 1

    # downwards

    def take(self, examination: Examination | None, now: Instant) -> tuple[list[Row], list[Write]]:
        """An order that came from the province: the new rows to publish for the clusters, and the writes with them.

        What no authority has signed, what has expired and what is passed on already goes nowhere.
        """
        if examination is None or not self.fleet:
            return [], []
        try:
            order = examination.verified()
        except Refusal:
            return [], []
        route = examination.route
        if order.exp is not None and route.command and now.surely > order.exp + LEEWAY_S:
            return [], []
        if order.op == AUTHORITIES_OP and not order.authentic and not self._advances(order, examination.trusted):
            return [], []
        rows: list[Row] = []
        writes: list[Write] = []
        for target in self._targets(route, order):
            row, dropped = self._add(order, target, route.op, route.iss)
            writes += dropped
            if row is not None:
                rows.append(row)
                writes.append(PutValue(key=row.key, value=msgspec.msgpack.encode(row)))
        return rows, writes

    def add_own(self, raw: bytes, trusted: Trusted, target: str) -> tuple[Row, list[Write]]:
        """An order this station has signed for its clusters: its row, and the writes that keep it."""
        order = recall(raw, trusted)
        desired = order.op in STATE_OPS
        row, writes = self._add(order, target, order.op if desired else None, order.iss if desired else None)
        if row is None:
            raise LookupError("an order of our own was signed twice")
        row.own = True
        return row, [*writes, PutValue(key=row.key, value=msgspec.msgpack.encode(row))]

    def _targets(self, route: Route, order: VerifiedOrder) -> list[str]:
        if route.group or route.name in self.fleet:
            return [route.target]
        # The station's own topic: an order that names clusters beside it is theirs too.
        return sorted(self.fleet & set(order.aud)) if route.command else []

    @staticmethod
    def _advances(order: VerifiedOrder, trusted: Trusted) -> bool:
        """Whether an `authorities` order by an unknown hand holds a chain that the roots have signed."""
        documents = order.members.get("documents")
        try:
            return isinstance(documents, list) and bool(trusted.advance(documents))
        except Refusal:
            return False

    def _add(
        self, order: VerifiedOrder, target: str, op: str | None, iss: str | None
    ) -> tuple[Row | None, list[Write]]:
        writes: list[Write] = []
        version = order.members.get("version") if op is not None else None
        version = version if isinstance(version, int) else None
        for held in list(self.rows.values()):
            if held.target != target:
                continue
            if held.sha256 == order.sha256:
                return None, []
            if op is not None and (held.op, held.iss) == (op, iss):
                if (version or 0) <= (held.version or 0):
                    return None, []
                writes += self._drop(held.n)
        emergency = order.class_ is Class.EMERGENCY
        row = Row(
            n=self._next,
            target=target,
            op=op,
            iss=iss,
            payload=order.raw,
            sha256=order.sha256,
            by=order.iss,
            jti=order.jti,
            aud=list(order.aud),
            exp=order.exp,
            version=version,
            urgent=emergency or order.op in ("cancel", "silence"),
            bulletin=order.id,
            title=str(order.members.get("title", ""))[:200],
            class_="" if order.class_ is None else order.class_.value,
            start=str(order.members.get("start", ""))[:64],
            media=list(_media(order)),
            on=order.op == "silence" and order.members.get("on") is True,
        )
        self._next += 1
        self.rows[row.n] = row
        return row, writes + self._bound(row)

    def _bound(self, newest: Row) -> list[Write]:
        """Too many: the oldest that is not urgent goes first."""
        writes: list[Write] = []
        size = sum(len(r.payload) for r in self.rows.values())
        while len(self.rows) > MAX_ROWS or size > MAX_BYTES:
            victims = [r for r in self.rows.values() if r is not newest]
            victim = next((r for r in victims if not r.urgent and r.op is None), victims[0])
            size -= len(victim.payload)
            self.given_up += 1
            writes += self._drop(victim.n)
        return writes

    def _drop(self, n: int) -> list[Write]:
        row = self.rows.pop(n)
        self._done.pop(n, None)
        self._through.pop(n, None)
        return [DropValue(key=row.key)]

    # what becomes of it

    def all_of(self, now: Instant) -> list[PassOn]:
        """Everything that the link must hold when it begins: state orders stay retained, commands go out again."""
        return [row.send(now) for row in self.rows.values() if not (row.stopped or self._over(row, now))]

    def for_cluster(self, device: str, now: Instant) -> list[PassOn]:
        """What a cluster that has come back may have missed: commands, for state orders are retained."""
        return [
            row.send(now, device)
            for row in self.rows.values()
            if row.op is None
            and not (row.stopped or self._over(row, now))
            and device not in self._done.get(row.n, ())
            and self.reaches(row, device)
        ]

    def media(self) -> Iterator[tuple[Media, bool]]:
        """What the rows will play, and whether that is soon: a programme's, not a schedule's."""
        return ((media, row.op is None) for row in self.rows.values() for media in row.media)

    def acknowledged(self, device: str, iss: str, jti: str, *, final: bool) -> list[Write]:
        """A cluster has acknowledged an order. When it is through with all of them it is forgotten.

        One with media is kept until then, because the clusters fetch them here.
        """
        writes: list[Write] = []
        for row in list(self.rows.values()):
            if (row.by, row.jti) == (iss, jti) and row.op is None:
                self._done.setdefault(row.n, set()).add(device)
                through = self._through.setdefault(row.n, set())
                if final or not row.media:
                    through.add(device)
                if not row.own and {d for d in self.fleet if self.reaches(row, d)} <= through:
                    writes += self._drop(row.n)
        return writes

    def withdraw(self, rows: Iterable[Row]) -> list[Write]:
        """These are over: no cluster that comes back is given them."""
        return [write for row in list(rows) if row.n in self.rows for write in self._drop(row.n)]

    def stop_alerts(self) -> list[Write]:
        """What came from above and sounds at once is over here. The rows stay: the same bytes may come again."""
        writes: list[Write] = []
        for row in self.rows.values():
            if not row.own and not row.stopped and row.bulletin is not None and row.class_ == Class.EMERGENCY:
                row.stopped = True
                writes.append(PutValue(key=row.key, value=msgspec.msgpack.encode(row)))
        return writes

    def silenced(self) -> set[str]:
        """The targets that this station has silenced."""
        return {row.target for row in self.rows.values() if row.own and row.on}

    def expire(self, now: Instant) -> list[Write]:
        """Forget what has run out. State orders stay: they are in force until another replaces them."""
        return self.withdraw([row for row in self.rows.values() if self._over(row, now)])

    def own(self) -> Iterator[Row]:
        """What this station started at its clusters, oldest first."""
        return (row for row in self.rows.values() if row.own and row.bulletin is not None)

    @staticmethod
    def _over(row: Row, now: Instant) -> bool:
        return row.op is None and row.exp is not None and now.surely > row.exp

    @staticmethod
    def reaches(row: Row, device: str) -> bool:
        """Whether a cluster is (or, by a group that only it knows, may be) meant."""
        return row.target == device or (
            row.target.startswith("group:") and (device in row.aud or any(a.startswith("group:") for a in row.aud))
        )


def _media(order: VerifiedOrder) -> Iterator[Media]:
    """The media files that an order names, as far as they are well formed."""
    entries = order.members.get("entries")
    holders = (
        [order.members, *(e for e in entries if isinstance(e, dict))] if isinstance(entries, list) else [order.members]
    )
    for items in (holder.get("items") for holder in holders):
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict) and "media" in item:
                with contextlib.suppress(msgspec.ValidationError):
                    yield msgspec.convert(item["media"], Media)
