"""What an order says by itself is found once, by whoever asks first, and never by the authorities of yesterday."""

from __future__ import annotations

import pytest

from agent.core.examination import Examination, Route
from agent.core.intake import Admitted, Refused
from agent.model.orders import Reason
from agent.trust.refusal import Refusal
from tests.unit.trust import world
from tests.unit.trust.world import ORDER, at, claims, desired, entry, sign, state

RULES = [entry(id=f"muc-{n}", rrule="FREQ=DAILY") for n in range(3)]


def test_the_rules_of_a_schedule_are_computed_once() -> None:
    asked: list[str] = []
    door = world.intake()
    door._check_rrule = lambda rule, _start: asked.append(rule)
    order = sign(state("schedule", {"entries": RULES}))
    examination = door.examine(desired("schedule"), order, True)
    assert examination is not None
    examination.finish()
    assert len(asked) == len(RULES)
    assert isinstance(door.check(desired("schedule"), order, True, at(), examination), Admitted)
    assert len(asked) == len(RULES)


def test_what_is_wrong_is_found_once_too() -> None:
    examination = world.intake().examine(ORDER, b"no order", False)
    assert examination is not None
    examination.finish()
    raised = []
    for _ in range(2):
        with pytest.raises(Refusal) as refusal:
            examination.verified()
        raised.append(refusal.value)
    assert raised[0] is raised[1]
    assert raised[0].reason is Reason.MALFORMED


def test_after_a_change_of_authorities_an_order_is_examined_anew() -> None:
    door = world.intake()
    order = sign(claims())
    examination = door.examine(ORDER, order, False)
    assert examination is not None
    examination.finish()
    last = world.document(2, authorities=[a for a in world.AUTHORITIES if a["id"] != "vinh-long"])
    door.trusted = door.trusted.advance([last])
    verdict = door.check(ORDER, order, False, at(), examination)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.UNKNOWN_AUTHORITY


def test_what_is_too_large_is_not_looked_into() -> None:
    route = Route.of(ORDER)
    assert route is not None
    examination = Examination(route, b"x" * 20_000, world.intake().trusted, lambda *_: None, retain=False)
    with pytest.raises(Refusal, match="20000 bytes"):
        examination.verified()


def test_no_order_comes_on_another_topic() -> None:
    assert world.intake().examine("tram/1/dev/xa-mau-01/beat", b"", False) is None
