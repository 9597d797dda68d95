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


WORDS = {"text": "Đài xã đang thông báo trực tiếp. Bà con nghe loa của đài xã.", "lang": "vi"}
TALK = {"stream": "local:local:noi:1", "lease_s": 60, "fallback": WORDS}
PARENT = {"host": "10.20.0.5", "ca": "ca", "cert": "c", "key": "k", "media": "https://10.20.0.5:8443/media"}


@pytest.mark.parametrize(
    ("parent", "address", "taken"),
    [
        (PARENT, "local:local:noi:1", True),
        (None, "local:local:noi:1", False),
        (PARENT, "https://10.20.0.6:8443/media/talk/noi", False),
        (PARENT, "https://10.20.0.5:8443/media/talk/noi", False),
        (PARENT, "http://10.20.0.5/noi", False),
    ],
)
def test_what_is_said_live_at_a_station_is_taken_by_its_name_from_ones_own_station_and_nowhere_else(
    parent: dict[str, Any] | None, address: str, taken: bool
) -> None:
    world = World(parent=parent)
    jti = world.order("broadcast", broadcast("noi", {**TALK, "stream": address}, **{"class": "emergency"}), "xa-mau")
    world.advance(1)
    if taken:
        assert world.states_of(jti)[-1] == "running"
        assert world.station.mode(world.config.zones[0], world.station.owner("loa")) == "microphone"
    else:
        assert world.states_of(jti) == ["rejected/content-unavailable"]
        assert world.heard == []


def test_a_talk_is_as_loud_as_at_the_station_and_its_pauses_are_no_silence() -> None:
    world = World(parent=PARENT)
    world.order("broadcast", broadcast("noi", {"chime": "gong"}, TALK, **{"class": "emergency"}), "xa-mau")
    world.advance(1)
    (piece,) = world.fed
    assert (piece.talk, piece.level_lufs) == (True, None)
    assert piece.fallback, "spoken beforehand"
    (running,) = world.on.values()
    assert running.open.bridge == "chime:gong", "no siren before she speaks"
