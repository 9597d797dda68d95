"""What must not wait: the words of an emergency, and the owner itself."""

from __future__ import annotations

from agent.core import commands as do
from tests.unit.core.world import World, broadcast

CHIME = {"chime": "gong"}
TEXT = {"text": "Bão số 9 sắp vào bờ.", "lang": "vi"}
LONG = {"text": " ".join(f"Bão số {n} sắp vào bờ, bà con khẩn trương đến nơi trú ẩn." for n in range(20)), "lang": "vi"}


def spoken_for(world: World, class_: str, text: dict[str, str] = TEXT) -> list[do.Speak]:
    asked: list[do.Speak] = []
    answer = world._speak
    world._speak = lambda c: (asked.append(c), answer(c))[1]  # type: ignore[method-assign, func-returns-value]
    world.order("broadcast", broadcast("bao", CHIME, text, **{"class": class_}))
    return asked


def test_the_words_of_an_emergency_are_spoken_before_others() -> None:
    assert [c.urgency for c in spoken_for(World(), "emergency")] == [2]
    assert [c.urgency for c in spoken_for(World(), "priority")] == [0]


def test_the_first_words_of_a_long_alert_are_spoken_first_and_all_are_heard() -> None:
    world = World()
    asked = spoken_for(world, "emergency", LONG)
    assert [c.urgency for c in asked] == [2, 1, 1]
    assert " ".join(c.text for c in asked) == LONG["text"]
    world.advance(60)
    (entry,) = [e for e in world.log if e["bulletin"] == "bao" and e["zone"] == "loa"]
    assert entry["result"] == "completed"
    assert len(entry["content"]) == len(asked) + 1


def test_an_alert_begins_with_its_first_words_while_the_rest_is_still_spoken() -> None:
    world = World()
    held: list[do.Speak] = []
    answer = world._speak
    world._speak = lambda c: held.append(c) if c.urgency == 1 else answer(c)  # type: ignore[method-assign]
    world.order("broadcast", broadcast("bao", LONG, **{"class": "emergency"}))
    world.advance(2)
    assert world.heard[0][1:] == ("loa", world.heard[0][2], "begin")
    (play,) = {play for _, zone, play, _ in world.heard if zone == "loa"}
    assert [length for _, length in world.on[play].segments] == [3 * 48_000]
    for c in held:
        answer(c)
    world.post()
    world.advance(30)
    assert world.heard[-1][3] == "end"


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
