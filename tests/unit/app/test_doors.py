"""How events come to the owner: urgent ones first, and never behind an order that takes long to examine."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from agent.app import Inbox, Worker
from agent.core.commands import Expand
from agent.core.examination import OrderExamined
from agent.core.intake import Admitted
from agent.model.events import Expanded, LinkUp, OrderArrived
from tests.unit.trust import world
from tests.unit.trust.world import ORDER, at, claims, desired, entry, sign, state

SCHEDULE = OrderArrived(desired("schedule"), sign(state("schedule", {"entries": [entry()]})), True, 1)
BULLETIN = OrderArrived(ORDER, sign(claims()), False, 2)
EMERGENCY = OrderArrived(ORDER, sign(claims(jti="bao", ctr=2)), False, 3)
DOOR = world.intake()


def taken(inbox: Inbox, count: int) -> list[object]:
    return [inbox.take(10.0) for _ in range(count)]


def test_urgent_events_are_first_and_each_kind_keeps_its_order() -> None:
    inbox = Inbox()
    for number in range(4):
        inbox(LinkUp(number), urgent=number >= 2)
    assert taken(inbox, 4) == [LinkUp(2), LinkUp(3), LinkUp(0), LinkUp(1)]
    assert inbox.take(0.0) is None


def test_an_urgent_order_does_not_wait_for_one_that_is_still_examined() -> None:
    inbox = Inbox()
    worker = Worker(inbox, DOOR, ZoneInfo("Asia/Ho_Chi_Minh"))  # not started: it is as busy as can be
    worker.from_link(SCHEDULE)
    worker.from_link(LinkUp(1))
    worker.from_link(EMERGENCY, urgent=True)
    assert taken(inbox, 2) == [EMERGENCY, LinkUp(1)]
    assert inbox.take(0.0) is None


def test_other_orders_come_examined_and_in_their_order() -> None:
    inbox = Inbox()
    worker = Worker(inbox, DOOR, ZoneInfo("Asia/Ho_Chi_Minh"))
    stranger = OrderArrived("tram/1/dev/xa-mau-01/beat", b"?", False, 4)
    for order in (SCHEDULE, BULLETIN, stranger):
        worker.from_link(order)
    worker.start()
    first, second, third = taken(inbox, 3)
    worker.stop()
    assert isinstance(first, OrderExamined)
    assert isinstance(second, OrderExamined)
    assert (first.arrived, second.arrived, third) == (SCHEDULE, BULLETIN, stranger)
    verdict = DOOR.check(BULLETIN.topic, BULLETIN.payload, False, at(), second.examination)
    assert isinstance(verdict, Admitted)


def test_an_examination_that_fails_costs_neither_the_order_nor_the_worker() -> None:
    inbox = Inbox()
    door = world.intake()
    worker = Worker(inbox, door, ZoneInfo("Asia/Ho_Chi_Minh"))
    door.examine = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    worker.start()
    worker.from_link(BULLETIN)
    assert inbox.take(10.0) == BULLETIN
    worker.ask(Expand("xa-mau", 7, (), 0.0, 1.0))
    assert inbox.take(10.0) == Expanded("xa-mau", 7, {}, 1.0)
    worker.stop()
