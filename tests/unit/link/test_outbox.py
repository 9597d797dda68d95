from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from agent.core.outbox import Outbox
from agent.model.records import DropOut, PutOut, PutValue, Snapshot, Write


class Disk:
    """What the store would keep of the writes."""

    def __init__(self) -> None:
        self.rows: dict[int, PutOut] = {}
        self.values: dict[str, bytes] = {}

    def write(self, writes: Iterable[Write]) -> None:
        for w in writes:
            match w:
                case PutOut():
                    self.rows[w.seq] = w
                case DropOut():
                    del self.rows[w.seq]
                case PutValue():
                    self.values[w.key] = w.value
                case _:
                    raise AssertionError(w)

    def snapshot(self) -> Snapshot:
        return Snapshot(outbox=list(self.rows.values()), values=dict(self.values))


def filled(weights: str, **bounds: int) -> tuple[Outbox, Disk]:
    outbox, disk = Outbox((), **bounds), Disk()
    for w in weights:
        disk.write(outbox.append("event", int(w), {"w": int(w)}))
    outbox.durable(outbox.last_seq)
    return outbox, disk


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ("0000", [2, 3, 4]),
        ("3210", [1, 2, 3]),
        ("0123", [2, 3, 4]),
        ("1031", [1, 3, 4]),
        ("33330", [2, 3, 4]),
        ("00033", [3, 4, 5]),
    ],
)
def test_the_oldest_of_the_least_important_is_given_up_first(weights: str, kept: list[int]) -> None:
    outbox, disk = filled(weights, max_rows=3)
    assert [r.seq for r in outbox.pending()] == kept == sorted(disk.rows)
    assert sum(outbox.dropped.values()) == len(weights) - 3


def test_a_row_too_light_for_a_full_outbox_is_counted_and_never_written() -> None:
    outbox, _ = filled("33", max_rows=2)
    assert outbox.append("event", 1, {}) == []
    assert outbox.dropped == {0: 0, 1: 1, 2: 0, 3: 0}


def test_what_another_device_says_is_kept_as_it_is_and_what_could_never_be_sent_is_left_out() -> None:
    outbox, disk = filled("")
    disk.write(outbox.relay("cum-1", "event", 0, b'{ "seq": 9 }'))
    (row,) = disk.rows.values()
    assert (row.topic, row.body) == ("cum-1/event", b'{ "seq": 9 }')
    assert outbox.relay("cum-1", "event", 0, b"x" * (outbox.max_row_bytes + 1)) == []
    assert len(outbox) == 1


def test_bytes_are_bounded_too() -> None:
    outbox, disk = filled("1" * 50, max_bytes=200)
    assert outbox.bytes == sum(len(r.body) for r in disk.rows.values()) <= 200
    assert outbox.dropped[1] == 50 - len(outbox)


def test_an_event_carries_the_rows_seq_and_an_ack_its_own() -> None:
    class Ack(Struct):
        jti: str
        seq: int

    outbox = Outbox(next_seq=7)
    outbox.append("event", 0, {"kind": "alarm", "seq": 99})
    outbox.append("ack", 3, Ack("j", 1))
    assert [json.loads(r.body) for r in outbox.pending()] == [{"kind": "alarm", "seq": 7}, {"jti": "j", "seq": 1}]


def test_only_durable_rows_are_handed_over_heaviest_first_once_and_never_more_than_the_limit() -> None:
    outbox, _ = filled("0301")
    outbox.append("event", 3, {})
    assert [r.seq for r in outbox.hand_over(3)] == [2, 4, 1]
    assert outbox.hand_over(3) == []
    assert len(outbox.taken(2)) == 1
    assert [r.seq for r in outbox.hand_over(3)] == [3]
    outbox.durable(outbox.last_seq)
    assert outbox.hand_over(3) == []
    assert [r.seq for r in outbox.hand_over(4)] == [5]


def test_a_row_given_up_while_the_link_has_it_still_counts_until_the_link_is_done_with_it() -> None:
    outbox, _ = filled("000", max_rows=3)
    assert len(outbox.hand_over(3)) == 3
    outbox.append("event", 1, {})
    outbox.durable(outbox.last_seq)
    assert outbox.hand_over(3) == []
    assert outbox.taken(1) == []
    assert [r.seq for r in outbox.hand_over(3)] == [4]


def test_seq_never_comes_again_after_a_restart_even_when_nothing_was_left() -> None:
    outbox, disk = filled("0" * 3)
    for row in outbox.hand_over():
        disk.write(outbox.taken(row.seq))
    assert disk.rows == {}
    again = Outbox.load(disk.snapshot())
    assert again.append("event", 0, {})
    assert again.last_seq > outbox.last_seq


BAD: dict[str, tuple[str, int, Any]] = {
    "topic": ("status", 0, {}),
    "weight": ("event", 4, {}),
    "event that is no object": ("event", 0, PutValue(key="k", value=b"")),
    "too large": ("event", 0, {"detail": "x" * 70_000}),
}


@pytest.mark.parametrize(("topic", "weight", "body"), BAD.values(), ids=BAD)
def test_a_row_that_could_never_be_sent_is_refused(topic: str, weight: int, body: Any) -> None:
    outbox = Outbox()
    with pytest.raises(ValueError, match=r"outbox row|is a dict|is over"):
        outbox.append(topic, weight, body)
    assert len(outbox) == 0


class Machine(RuleBasedStateMachine):
    """Appends, hand-overs, acknowledgements, lost acknowledgements and power cuts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds = {"max_rows": 8, "max_bytes": 300}
        self.disk = Disk()
        self.uncommitted: list[Write] = []
        self.outbox = Outbox((), **self.bounds)
        self.link: dict[int, PutOut] = {}
        self.received: dict[int, bytes] = {}
        self.given_out: set[int] = set()
        self.count = 0

    @rule(weight=st.integers(0, 3), size=st.integers(0, 60))
    def append(self, weight: int, size: int) -> None:
        self.count += 1
        self.uncommitted += self.outbox.append("event", weight, {"n": self.count, "pad": "x" * size})
        assert self.outbox.last_seq not in self.given_out
        assert self.outbox.last_seq not in self.received
        self.given_out.add(self.outbox.last_seq)

    @rule()
    def commit(self) -> None:
        self.disk.write(self.uncommitted)
        self.uncommitted = []
        self.outbox.durable(self.outbox.last_seq)

    @rule(limit=st.integers(1, 5))
    def hand_over(self, limit: int) -> None:
        for row in self.outbox.hand_over(limit):
            assert row.seq in self.disk.rows or any(w == DropOut(seq=row.seq) for w in self.uncommitted)
            assert row.seq not in self.link
            self.link[row.seq] = row
        assert len(self.link) <= 5

    @precondition(lambda self: self.link)
    @rule(data=st.data(), lost=st.booleans())
    def send(self, data: st.DataObject, lost: bool) -> None:
        seq = data.draw(st.sampled_from(sorted(self.link)))
        body = self.link[seq].body
        assert self.received.setdefault(seq, body) == body, "one seq, two bodies"
        if not lost:
            del self.link[seq]
            self.uncommitted += self.outbox.taken(seq)

    @rule()
    def power_cut(self) -> None:
        lost = {w.seq for w in self.uncommitted if isinstance(w, PutOut)}
        assert not lost & set(self.received), "what was sent had been on the disk"
        self.uncommitted = []
        self.given_out = set()
        self.link = {}
        self.outbox = Outbox.load(self.disk.snapshot(), **self.bounds)

    @invariant()
    def bounded_and_agreed(self) -> None:
        assert len(self.outbox) <= 8
        assert self.outbox.bytes == sum(len(r.body) for r in self.outbox.pending()) <= 300
        shadow = Disk()
        shadow.rows, shadow.values = dict(self.disk.rows), dict(self.disk.values)
        shadow.write(self.uncommitted)
        assert sorted(shadow.rows) == [r.seq for r in self.outbox.pending()]


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyHistory = Machine.TestCase
