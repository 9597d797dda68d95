"""What waits for the province, as a pure policy over the durable rows: order, bounds, and what to give up first.

The owner appends, submits the returned writes to the store, says `durable` once they are on the disk, and gives the
link what `hand_over` returns. Each row is handed over once in a process; the link keeps it over reconnects and
reports OutTaken, and `taken` then returns the write that forgets it. So a row is sent again only after a restart or a
lost acknowledgement: the same `seq` with the same bytes, by which the province de-duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from agent.model.records import DropOut, PutOut, PutValue, Snapshot, Write

WEIGHTS = range(4)
RESERVED = "outbox.reserved"
"""Named value: no `seq` at or above it was ever given out."""
_BLOCK = 1024


class Outbox:
    """A bounded outbox. When it is full, the oldest row of the least weight goes first, and is counted.

    `max_rows` and `max_bytes` (bodies) bound what is kept; `max_row_bytes` bounds one body.
    """

    def __init__(
        self,
        rows: Iterable[PutOut] = (),
        *,
        next_seq: int = 1,
        max_rows: int = 20_000,
        max_bytes: int = 16 * 2**20,
        max_row_bytes: int = 64 * 2**10,
    ) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.max_row_bytes = max_row_bytes
        self.bytes = 0
        self.dropped = dict.fromkeys(WEIGHTS, 0)
        """Rows given up since the start, by weight. A row that was with the link already may have arrived after all."""
        self._rows: dict[int, dict[int, PutOut]] = {w: {} for w in WEIGHTS}
        self._waiting: dict[int, dict[int, PutOut]] = {w: {} for w in WEIGHTS}
        self._with_link: set[int] = set()
        for row in sorted(rows, key=lambda r: r.seq):
            self._keep(row)
            next_seq = max(next_seq, row.seq + 1)
        self._next = self._reserved = next_seq
        self._durable = next_seq - 1

    @classmethod
    def load(cls, snapshot: Snapshot, **bounds: int) -> Outbox:
        """The outbox that survived. Rows above the bounds are given up with the next `append`."""
        reserved = snapshot.values.get(RESERVED)
        return cls(snapshot.outbox, next_seq=int(reserved) if reserved else 1, **bounds)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def last_seq(self) -> int:
        """The highest `seq` given out; for `durable`."""
        return self._next - 1

    def append(self, topic: str, weight: int, body: dict[str, Any] | Struct) -> list[Write]:
        """Keep a body for `topic` ("event" or "ack") and return the writes, in order, that make it durable.

        An event, given as a dict, gets its `seq` added; an ack has its own. The new row itself is given up (and only
        counted) when the outbox is full of heavier ones. ValueError for a body that could never be sent.
        """
        if topic not in {"event", "ack"} or weight not in WEIGHTS:
            raise ValueError(f"no outbox row for topic {topic!r} with weight {weight!r}")
        seq = self._next
        if topic == "event":
            if not isinstance(body, dict):
                raise ValueError("an event is a dict: it gets the row's seq")
            body = {**body, "seq": seq}
        return self._put(topic, weight, msgspec.json.encode(body))

    def relay(self, device: str, leaf: str, weight: int, body: bytes) -> list[Write]:
        """Keep another device's message for its own topic, bytes unchanged; what could never be sent is left out."""
        if len(body) > self.max_row_bytes:
            return []
        return self._put(f"{device}/{leaf}", weight, body)

    def _put(self, topic: str, weight: int, encoded: bytes) -> list[Write]:
        if len(encoded) > self.max_row_bytes:
            raise ValueError(f"a row of {len(encoded)} bytes is over the {self.max_row_bytes} allowed")
        seq = self._next
        writes: list[Write] = []
        if seq >= self._reserved:
            self._reserved = seq + _BLOCK
            writes.append(PutValue(key=RESERVED, value=b"%d" % self._reserved))
        self._next += 1
        row = PutOut(seq=seq, topic=topic, weight=weight, body=encoded)
        self._keep(row)
        given_up = self._give_up()
        if all(r is not row for r in given_up):
            writes.append(row)
        writes.extend(DropOut(seq=r.seq) for r in given_up if r is not row)
        return writes

    def durable(self, seq: int) -> None:
        """Rows up to `seq` are on the disk. Call it too when the disk is lost: better sent than never sent."""
        self._durable = max(self._durable, seq)

    def hand_over(self, limit: int = 64) -> list[PutOut]:
        """Durable rows the link does not have yet, heaviest first, then oldest; at most `limit` are with it at once."""
        out: list[PutOut] = []
        for weight in reversed(WEIGHTS):
            waiting = self._waiting[weight]
            while waiting and len(self._with_link) < limit:
                seq = next(iter(waiting))
                if seq > self._durable:
                    break
                out.append(waiting.pop(seq))
                self._with_link.add(seq)
        return out

    def taken(self, seq: int) -> list[Write]:
        """The broker has the row: forget it. Empty for a row that was given up meanwhile."""
        self._with_link.discard(seq)
        return [DropOut(seq=seq)] if self._forget(seq) else []

    def pending(self) -> list[PutOut]:
        """All rows kept, oldest first."""
        return sorted((r for rows in self._rows.values() for r in rows.values()), key=lambda r: r.seq)

    def _keep(self, row: PutOut) -> None:
        self._rows[row.weight][row.seq] = row
        self._waiting[row.weight][row.seq] = row
        self.bytes += len(row.body)

    def _forget(self, seq: int) -> bool:
        for weight in WEIGHTS:
            row = self._rows[weight].pop(seq, None)
            if row is not None:
                self._waiting[weight].pop(seq, None)
                self.bytes -= len(row.body)
                return True
        return False

    def _give_up(self) -> list[PutOut]:
        """Drop down to the bounds. A row that is with the link still counts there, so that the link stays bounded."""
        given_up: list[PutOut] = []
        while len(self) > self.max_rows or self.bytes > self.max_bytes:
            lightest = next(rows for rows in self._rows.values() if rows)
            row = next(iter(lightest.values()))
            self._forget(row.seq)
            self.dropped[row.weight] += 1
            given_up.append(row)
        return given_up
