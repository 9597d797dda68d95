"""A stream stops unless its lease is renewed; renewed it goes on, and nobody hears it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core import commands as do
from agent.model import events as ev
from tests.unit.core.world import RATE, World, broadcast

STREAM = {"stream": "https://media.example/truc-tiep", "lease_s": 30}


class Streaming(World):
    """Decoders of streams tell of their end when it comes, and keep what they were granted."""

    def __init__(self) -> None:
        self.started = 0
        self.extended: list[float] = []
        super().__init__()

    def _startfeed(self, c: do.StartFeed) -> None:
        self.started += 1
        self.decoding.add(c.play)
        self.pipes[c.play, c.segment] = 600 * RATE
        self._queue.append(ev.FeedMark(c.play, c.segment, 0, "ready"))

    def _extendfeed(self, c: do.ExtendFeed) -> None:
        self.extended.append(c.seconds)


@pytest.fixture
def world() -> Streaming:
    return Streaming()


def stream(**changes: Any) -> dict[str, Any]:
    return broadcast("truc-tiep", STREAM, **changes)


def test_a_renewed_stream_goes_on_without_a_gap_under_the_new_order(world: Streaming) -> None:
    first = world.order("broadcast", stream())
    world.advance(20)
    second = world.order("broadcast", broadcast("truc-tiep", {**STREAM, "lease_s": 45}))
    world.advance(20)
    assert (world.started, world.extended) == (1, [45.0])
    assert [what for *_, zone, _, what in world.heard if zone == "loa"] == ["begin"]
    assert world.states_of(first)[-1] == "failed/superseded"
    assert world.states_of(second) == ["received", "accepted", "running"]
    world.order("cancel", {"ids": ["truc-tiep"]})
    world.advance(1)
    assert world.states_of(second)[-1] == "failed/cancelled"
    assert [e["reason"] for e in world.log if e["zone"] == "loa"] == ["cancelled"], "one stretch, one entry"
    assert world.audit() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"zones": ["loa"]},
        {"class": "emergency"},
        {"volume_db": -6.0},
        {"items": [{**STREAM, "stream": STREAM["stream"] + "-2"}]},
    ],
    ids=["other zones", "another class", "another volume", "another stream"],
)
def test_an_order_that_changes_more_than_the_lease_begins_anew(world: Streaming, changes: dict[str, Any]) -> None:
    world.order("broadcast", stream())
    world.advance(5)
    world.order("broadcast", stream() | changes)
    world.advance(5)
    assert (world.started > 1, world.extended) == (True, [])
    assert world.audit() == []


def test_the_power_may_fail_after_a_renewal(world: Streaming) -> None:
    first = world.order("broadcast", stream())
    world.advance(5)
    second = world.order("broadcast", stream())
    world.crash()
    world.advance(5)
    assert world.sounding() == "truc-tiep"
    assert world.states_of(first)[-1] == "failed/superseded"
    assert world.states_of(second)[-1] == "running"
    assert world.audit() == []
