"""What must not wait: the words of an emergency, and the owner itself."""

from __future__ import annotations

from agent.core import commands as do
from tests.unit.core.world import World, broadcast

CHIME = {"chime": "gong"}
TEXT = {"text": "Bão số 9 sắp vào bờ.", "lang": "vi"}


def spoken_for(world: World, class_: str) -> list[do.Speak]:
    asked: list[do.Speak] = []
    answer = world._speak
    world._speak = lambda c: (asked.append(c), answer(c))[1]  # type: ignore[method-assign, func-returns-value]
    world.order("broadcast", broadcast("bao", CHIME, TEXT, **{"class": class_}))
    return asked


def test_the_words_of_an_emergency_are_spoken_before_others() -> None:
    assert [c.urgent for c in spoken_for(World(), "emergency")] == [True]
    assert [c.urgent for c in spoken_for(World(), "priority")] == [False]


def test_a_waiting_programme_is_not_looked_into_again_and_again() -> None:
    world = World()
    listed: list[object] = []
    media = world.station.catalogue.media
    world.station.catalogue.media = lambda items: (listed.append(items), media(items))[1]  # type: ignore[method-assign]
    start = world.station.ledger.time(world.wall + 3600)
    for n in range(5):
        world.order("broadcast", broadcast(f"mai-{n}", CHIME, start=start))
    asked = len(listed)
    for n in range(50):
        world.order("cancel", {"ids": [f"khong-co-{n}"]})
    assert len(listed) == asked
