"""Media is brought to the configured loudness, once measured; an emergency does not wait for it."""

from __future__ import annotations

import pytest

from agent.core import commands as do
from agent.model import events as ev
from agent.model.loudness import TARGET_LUFS
from tests.unit.core.world import CONFIG, World, broadcast, media

CONTENT = {"content": {**CONFIG["content"], "loudness_lufs": -20}}
NONE = {"content": {**CONFIG["content"], "loudness_lufs": None}}


class Measuring(World):
    """Keeps what decoders and the meter are asked; `slow`: the meter has not answered yet."""

    slow = False

    def _startfeed(self, c: do.StartFeed) -> None:
        self.pieces = [*getattr(self, "pieces", []), *c.pieces]
        super()._startfeed(c)

    def _measure(self, c: do.Measure) -> None:
        self.asked = [*getattr(self, "asked", []), c.sha256]
        if not self.slow:
            super()._measure(c)


def test_media_is_measured_when_it_has_come_and_played_at_the_target() -> None:
    world = Measuring(**CONTENT)
    item = media("a", 5, present=False)
    world.order("broadcast", broadcast("tin-1", item))
    world.advance(1)
    world.arrive(item["media"]["sha256"], 5)
    world.advance(10)
    assert [p.gain_db for p in world.pieces] == [6.0]
    assert world.outcomes() == [("tin-1", "completed", None)]


def test_it_is_measured_once_for_good() -> None:
    world = Measuring(**CONTENT)
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.advance(10)
    world.crash()
    world.order("broadcast", broadcast("tin-2", media("a", 5, world)))
    world.advance(10)
    assert len(world.asked) == 1
    assert [p.gain_db for p in world.pieces] == [6.0, 6.0]


def test_what_is_gone_from_the_library_is_forgotten_at_the_next_boot() -> None:
    world = Measuring(**CONTENT)
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.advance(10)
    assert [k for k in world.values if k.startswith("loudness/")]
    world.media.clear()
    world.crash()
    assert not [k for k in world.values if k.startswith("loudness/")]


def test_a_programme_waits_a_little_for_the_meter_and_an_emergency_not_at_all() -> None:
    world = Measuring(**CONTENT)
    world.slow = True
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.advance(4)
    assert world.sounding() is None
    world.order("broadcast", broadcast("bao", media("b", 5, world), **{"class": "emergency"}))
    world.advance(0.1)
    assert world.sounding() == "bao"
    world.advance(20)
    assert ("tin-1", "completed", None) in world.outcomes()


@pytest.mark.parametrize("told", [ev.Measured("x", None, 0.0, "it died"), ev.Measured("x", None, -200.0)])
def test_what_cannot_be_measured_is_played_as_it_is(told: ev.Measured) -> None:
    world = Measuring(**CONTENT)
    world.slow = True
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.post(ev.Measured(world.asked[0], told.lufs, told.peak, told.detail))
    world.advance(10)
    assert [(p.gain_db, p.level_lufs) for p in world.pieces] == [(0.0, None)]
    assert [a["what"] for a in world.events("alarm")] == (["loudness"] if told.detail else [])


def test_without_a_target_nothing_is_measured() -> None:
    world = Measuring(**NONE)
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.advance(10)
    assert not hasattr(world, "asked")
    assert [(p.gain_db, p.level_lufs) for p in world.pieces] == [(0.0, None)]


def test_without_a_word_about_it_in_the_configuration_there_is_a_target() -> None:
    world = Measuring()
    assert world.config.content.loudness_lufs == TARGET_LUFS


def test_what_cannot_be_measured_in_advance_is_levelled_while_it_plays() -> None:
    """A live relay, and an alert's media that has just come."""
    world = Measuring(**CONTENT)
    world.slow = True
    world.order("broadcast", broadcast("bao", media("b", 5, world), **{"class": "emergency"}))
    world.advance(10)
    world.order("broadcast", broadcast("tiep-am", {"relay": "voh", "duration_s": 10}))
    world.advance(1)
    assert [(bool(p.url), p.gain_db, p.level_lufs) for p in world.pieces] == [(False, 0.0, -20.0), (True, 0.0, -20.0)]
