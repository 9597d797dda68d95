from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from agent.core.intake import (
    AUTHORITIES_KEY,
    Admitted,
    Ignored,
    Intake,
    RefusalEvent,
    RefusalMeter,
    Refused,
    Rejected,
    Repeated,
)
from agent.model.orders import Broadcast, Reason
from agent.model.records import PutOrder, PutState, PutValue, Snapshot
from agent.model.time import Instant
from agent.trust import keys
from agent.trust.replay import ReplayMemory
from agent.trust.signer import Signer
from tests.unit.trust import world
from tests.unit.trust.world import (
    ALIAS,
    DEVICE,
    GROUP_ORDER,
    NOW,
    ORDER,
    ROOTS,
    STRANGER,
    admit,
    at,
    broadcast,
    claims,
    desired,
    document,
    entry,
    intake,
    sign,
    state,
    word,
)


def test_a_good_order_is_admitted_with_its_zones() -> None:
    verdict = intake().check(ORDER, sign(claims()), False, at())
    assert isinstance(verdict, Admitted)
    assert isinstance(verdict.args, Broadcast)
    assert verdict.zones == ("ap-1", "ap-2", "bang")
    assert verdict.order.authority is not None
    assert verdict.order.authority.rank == 80


# The order of the checks: a message with two faults is refused for the earlier one.


class Message(Struct):
    claims: dict[str, Any]
    key: keys.PrivateKey
    now: float = 0.0
    post: list[Callable[[bytes], bytes]] = []
    before: list[bytes] = []

    def verdict(self, topic: str = ORDER) -> str:
        door = intake()
        for order in self.before:
            assert word(admit(door, topic, order)) in {"admitted", "rejected not-authorised"}
        payload = Signer(self.key.to_jwk(), "x").sign(world.dump(self.claims)).encode()
        for change in self.post:
            payload = change(payload)
        return word(door.check(topic, payload, False, at(self.now)))


def large(m: Message) -> None:
    m.post.append(lambda payload: payload + b"A" * 16_384)


def no_jws(m: Message) -> None:
    m.post.append(lambda payload: payload + b"\n")


def unknown_kid(m: Message) -> None:
    m.key = STRANGER


def altered(m: Message) -> None:
    m.post.append(lambda payload: payload[:-86] + b"A" * 86)


def unknown_claim(m: Message) -> None:
    m.claims["sub"] = "x"


def long_emergency(m: Message) -> None:
    m.claims["args"] = {**m.claims["args"], "class": "emergency", "title": "x" * 5000}


def endless(m: Message) -> None:
    m.claims["exp"] = m.claims["iat"] + 31 * 86_400


def other_issuer(m: Message) -> None:
    m.claims["iss"] = "bao-tinh"


def other_device(m: Message) -> None:
    m.claims["aud"] = ["xa-khac-01", "group:nui"]


def expired(m: Message) -> None:
    m.now = 3600 + 121


def too_early(m: Message) -> None:
    m.claims["nbf"] = int(NOW) + 7200


def used_ctr(m: Message) -> None:
    who = m.claims["iss"]
    m.before.append(sign(claims(iss=who, jti="other"), who))


def unknown_op(m: Message) -> None:
    m.claims["op"] = "sing"


def bad_args(m: Message) -> None:
    m.claims["args"] = {**m.claims["args"], "volume_db": 12.5}


def no_right(m: Message) -> None:
    m.claims["iss"], m.key = "khac", world.KEYS["khac"]


def nowhere(m: Message) -> None:
    m.claims["args"] = {**m.claims["args"], "zones": ["ap-77"]}


LADDER = [
    (large, "refused too-large"),
    (no_jws, "refused malformed"),
    (unknown_kid, "refused unknown-authority"),
    (altered, "refused bad-signature"),
    (unknown_claim, "refused malformed"),
    (long_emergency, "refused too-large"),
    (endless, "refused malformed"),
    (other_issuer, "refused unknown-authority"),
    (other_device, "rejected not-for-this-device"),
    (expired, "rejected expired"),
    (too_early, "rejected not-yet-valid"),
    (used_ctr, "rejected replayed"),
    (unknown_op, "rejected unknown-op"),
    (bad_args, "rejected bad-args"),
    (no_right, "rejected not-authorised"),
    (nowhere, "rejected no-such-zone"),
]
# Faults that cannot be had together: an unknown op has no class, and the other way round.
APART = {frozenset(pair) for pair in [(long_emergency, unknown_op), (altered, unknown_kid)]}


@pytest.mark.parametrize(("fault", "expected"), LADDER, ids=[f.__name__ for f, _ in LADDER])
def test_each_fault_alone_gives_its_reason(fault: Callable[[Message], None], expected: str) -> None:
    message = Message(claims(), world.KEYS["vinh-long"])
    fault(message)
    assert message.verdict() == expected


PAIRS = [
    (first, second, expected)
    for (first, expected), (second, _) in itertools.combinations(LADDER, 2)
    if frozenset((first, second)) not in APART
]


@pytest.mark.parametrize(
    ("first", "second", "expected"), PAIRS, ids=[f"{a.__name__} before {b.__name__}" for a, b, _ in PAIRS]
)
def test_of_two_faults_the_earlier_check_gives_the_reason(
    first: Callable[[Message], None], second: Callable[[Message], None], expected: str
) -> None:
    message = Message(claims(), world.KEYS["vinh-long"])
    second(message)
    first(message)
    message.post.sort(key=lambda change: change(b"x" * 100) != b"x" * 14 + b"A" * 86)
    assert message.verdict() == expected


# Topics, addresses, retained messages.

ADDRESSES = {
    "the device": (ORDER, [DEVICE], "admitted"),
    "an alias": (ORDER, [ALIAS], "admitted"),
    "among others": (ORDER, ["a-b-c", DEVICE], "admitted"),
    "everyone": (GROUP_ORDER, ["group:all"], "admitted"),
    "its group": ("tram/1/group/ven-bien/order", ["group:ven-bien"], "admitted"),
    "its group by its own topic": (ORDER, ["group:ven-bien"], "admitted"),
    "the device by a group's topic": (GROUP_ORDER, [DEVICE], "admitted"),
    "another device": (ORDER, ["xa-khac-01"], "rejected not-for-this-device"),
    "another group": (ORDER, ["group:nui"], "rejected not-for-this-device"),
    "a group's bare name": (ORDER, ["all"], "rejected not-for-this-device"),
    "another device by a group's topic": (GROUP_ORDER, ["xa-khac-01"], "ignored"),
    "a topic of another device": ("tram/1/dev/xa-khac-01/order", [DEVICE], "ignored"),
    "a topic of the alias": (f"tram/1/dev/{ALIAS}/order", [DEVICE], "ignored"),
    "a topic of another group": ("tram/1/group/nui/order", [DEVICE], "ignored"),
    "a topic of no kind": (f"tram/1/dev/{DEVICE}/order/x", [DEVICE], "ignored"),
    "an older topic": (f"tram/0/dev/{DEVICE}/order", [DEVICE], "ignored"),
}


@pytest.mark.parametrize(("topic", "aud", "expected"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_addresses(topic: str, aud: list[str], expected: str) -> None:
    assert word(intake().check(topic, sign(claims(aud=aud)), False, at())) == expected


def test_an_empty_retained_message_is_ignored_and_an_empty_command_is_malformed() -> None:
    door = intake()
    assert word(door.check(ORDER, b"", True, at())) == "ignored"
    assert word(door.check(desired("silence"), b"", False, at())) == "ignored"
    assert word(door.check(ORDER, b"", False, at())) == "refused malformed"


def test_a_retained_command_is_refused_and_consumes_nothing() -> None:
    door = intake()
    order = sign(claims())
    assert word(door.check(ORDER, order, True, at())) == "refused malformed"
    assert word(door.check(ORDER, order, False, at())) == "admitted"


def test_sizes_by_topic() -> None:
    door = intake()
    assert word(door.check(ORDER, b"x" * 16_384, False, at())) == "refused malformed"
    assert word(door.check(ORDER, b"x" * 16_385, False, at())) == "refused too-large"
    assert word(door.check(desired("schedule"), b"x" * 262_144, True, at())) == "refused malformed"
    assert word(door.check(desired("schedule"), b"x" * 262_145, True, at())) == "refused too-large"


# Time.

TIMES: dict[str, tuple[dict[str, Any], Instant, str]] = {
    "within the leeway after exp": ({}, at(3600 + 120), "admitted"),
    "beyond it": ({}, at(3600 + 121), "rejected expired"),
    "iat 120 s ahead": ({}, at(-120), "admitted"),
    "iat 121 s ahead": ({}, at(-121), "rejected not-yet-valid"),
    "nbf within the leeway": ({"nbf": int(NOW) + 120}, at(), "admitted"),
    "nbf beyond it": ({"nbf": int(NOW) + 121}, at(), "rejected not-yet-valid"),
    "no trusted clock, long ago": ({}, at(-1e9, trusted=False), "admitted"),
    "no trusted clock, exp before the floor": ({}, at(3600 + 121, trusted=False), "rejected expired"),
    "no trusted clock, a guess that is ahead": ({}, Instant(1, NOW + 1e8, False, NOW - 1e6), "admitted"),
    "no trusted clock, a floor that is ahead": ({}, Instant(1, NOW, False, NOW + 4000), "rejected expired"),
}


@pytest.mark.parametrize(("changes", "now", "expected"), TIMES.values(), ids=TIMES.keys())
def test_times(changes: dict[str, Any], now: Instant, expected: str) -> None:
    assert word(intake().check(ORDER, sign(claims(**changes)), False, now)) == expected


# Replay.


def test_the_same_bytes_get_the_newest_recorded_ack_again_even_after_exp() -> None:
    door = intake()
    order = sign(claims())
    admit(door, ORDER, order, ack=b"received")
    for now in (at(1), at(3600 + 86_000)):
        verdict = door.check(ORDER, order, False, now)
        assert isinstance(verdict, Repeated)
        assert verdict.ack == b"received"
    assert door.record_ack("vinh-long", "j-1", b"done")[0].ack == b"done"  # type: ignore[union-attr]
    assert door.check(GROUP_ORDER, order, False, at(2)) == Repeated(b"done", "vinh-long", "j-1")


def test_a_newer_ack_for_an_order_nobody_remembers_is_not_recorded() -> None:
    assert intake().record_ack("vinh-long", "j-1", b"done") == []


def test_the_same_jti_in_other_bytes_is_replayed_and_in_another_issuers_mouth_is_not() -> None:
    door = intake()
    admit(door, ORDER, sign(claims()))
    again = door.check(ORDER, sign(claims(ctr=2, args=broadcast(title="khác"))), False, at())
    assert word(again) == "rejected replayed"
    assert word(door.check(ORDER, sign(claims(iss="bao-tinh"), "bao-tinh"), False, at())) == "admitted"


def test_a_used_counter_is_replayed_and_a_late_one_is_not() -> None:
    door = intake()
    admit(door, ORDER, sign(claims(jti="a", ctr=2000)))
    for ctr, expected in (
        (2000, "rejected replayed"),
        (976, "rejected replayed"),
        (977, "admitted"),
        (3000, "admitted"),
    ):
        assert word(door.check(ORDER, sign(claims(jti=f"b{ctr}", ctr=ctr)), False, at())) == expected


def test_what_passed_step_7_consumes_jti_and_ctr_and_a_repeat_gets_the_rejection_again() -> None:
    door = intake()
    bad = sign(claims(args=broadcast(volume_db=40)))
    verdict = door.check(ORDER, bad, False, at())
    assert isinstance(verdict, Rejected)
    assert verdict.consumes
    assert len(door.consume(verdict, b"rejected")) == 1
    assert door.check(ORDER, bad, False, at()) == Repeated(b"rejected", "vinh-long", "j-1")
    assert word(door.check(ORDER, sign(claims(jti="j-2")), False, at())) == "rejected replayed"


@pytest.mark.parametrize("now", [at(4000), at(-4000)], ids=["expired", "too early"])
def test_what_failed_before_consumes_nothing(now: Instant) -> None:
    door = intake()
    order = sign(claims())
    verdict = door.check(ORDER, order, False, now)
    assert isinstance(verdict, Rejected)
    assert not verdict.consumes
    assert door.consume(verdict, b"rejected") == []
    assert word(door.check(ORDER, order, False, at())) == "admitted"


def test_a_check_alone_remembers_nothing() -> None:
    door = intake()
    assert [word(door.check(ORDER, sign(claims()), False, at())) for _ in range(2)] == ["admitted"] * 2


def test_an_empty_memory_refuses_what_was_issued_before_it_began() -> None:
    door = intake(replay=ReplayMemory.load(Snapshot(empty=True), NOW + 1))
    assert word(door.check(ORDER, sign(claims()), False, at())) == "rejected replayed"
    assert word(door.check(ORDER, sign(claims(iat=int(NOW) + 1)), False, at())) == "admitted"
    chain = state("authorities", {"version": 2, "documents": [document(2)]})
    assert word(door.check(desired("authorities"), sign(chain), True, at())) == "admitted"


def test_the_writes_of_a_command_and_of_a_state_order() -> None:
    door = intake()
    order, silence = sign(claims()), sign(state("silence", {"on": True, "zones": ["*"]}))
    kinds = []
    for topic, payload in ((ORDER, order), (desired("silence"), silence)):
        verdict = door.check(topic, payload, False, at())
        assert isinstance(verdict, Admitted)
        kinds.append(door.consume(verdict, b"ack"))
    [command], [receipt, in_force] = kinds
    assert isinstance(command, PutOrder)
    assert (command.jti, command.ctr, command.exp, command.ack) == ("j-1", 1, NOW + 3600, b"ack")
    assert isinstance(receipt, PutOrder)
    assert (receipt.ctr, receipt.exp) == (None, None)
    assert isinstance(in_force, PutState)
    assert (in_force.scope, in_force.version, in_force.raw) == (DEVICE, 1, silence)


# Args.

Changes = dict[str, Any]
BAD_BROADCASTS: dict[str, tuple[Changes, str]] = {
    "an unknown member": ({"loud": True}, "loud"),
    "no title": ({"title": None}, "title"),
    "an id that is none": ({"id": "a b"}, "$.id"),
    "an unknown class": ({"class": "urgent"}, "$.class"),
    "no zones": ({"zones": []}, "$.zones"),
    "too loud": ({"volume_db": 12.01}, "$.volume_db"),
    "too soft": ({"volume_db": -60.01}, "$.volume_db"),
    "no repeats": ({"repeat": {"count": 0}}, "$.repeat.count"),
    "too many repeats": ({"repeat": {"count": 10_001}}, "$.repeat.count"),
    "an item of two kinds": ({"items": [{"chime": "gong", "local": "x"}]}, "$.items[0]"),
    "an item of no kind": ({"items": [{"chime": "gong"}, {}]}, "$.items[1]"),
    "text without lang": ({"items": [{"text": "a"}]}, "$.items[0]"),
    "a start without offset": ({"start": "2027-01-15T17:00:00"}, "args.start"),
    "a start that is a day": ({"start": "2027-01-15"}, "args.start"),
    "a start without seconds": ({"start": "2027-01-15T17:00+07:00"}, "args.start"),
    "a start in a week": ({"start": "2027-W02-5T17:00:00+07:00"}, "args.start"),
    "a start on 30 February": ({"start": "2027-02-30T17:00:00Z"}, "args.start"),
    "a start in the year 1": ({"start": "0001-01-01T00:00:00+07:00"}, "args.start"),
    "a start in the year 9999": ({"start": "9999-12-31T23:59:59-12:00"}, "args.start"),
    "a start in other digits": ({"start": "２０27-01-15T17:00:00Z"}, "args.start"),
    "an until that is no time": ({"until": "later"}, "args.until"),
    "an until before the start": (
        {"start": "2027-01-15T17:00:00+07:00", "until": "2027-01-15T09:59:59Z"},
        "args.until",
    ),
}


@pytest.mark.parametrize(("changes", "place"), BAD_BROADCASTS.values(), ids=BAD_BROADCASTS.keys())
def test_a_broadcast_with_bad_args_is_rejected_and_the_place_named(changes: Changes, place: str) -> None:
    verdict = intake().check(ORDER, sign(claims(args=broadcast(**changes))), False, at())
    assert word(verdict) == "rejected bad-args"
    assert isinstance(verdict, Rejected)
    assert place in verdict.detail


GOOD_BROADCASTS: dict[str, Changes] = {
    "the edges": {"volume_db": -60, "repeat": {"count": 10_000, "interval_s": 0}},
    "a start with a fraction": {"start": "2027-01-15T17:00:00.250+07:00", "until": "2027-01-15t10:00:01z"},
    "a fallback": {"items": [{"relay": "voh", "duration_s": 60, "fallback": [{"chime": "gong"}]}]},
}


@pytest.mark.parametrize("changes", GOOD_BROADCASTS.values(), ids=GOOD_BROADCASTS.keys())
def test_a_broadcast_at_the_edges_is_admitted(changes: Changes) -> None:
    assert word(intake().check(ORDER, sign(claims(args=broadcast(**changes))), False, at())) == "admitted"


def test_an_entry_id_that_stands_twice_in_a_schedule_is_bad_args_for_one_would_be_lost() -> None:
    order = sign(state("schedule", {"entries": [entry(), entry()]}))
    verdict = intake().check(desired("schedule"), order, True, at())
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, verdict.detail) == ("bad-args", f"args.entries[1].id: {entry()['id']!r} stands twice")


BAD_ENTRIES: dict[str, tuple[Changes, str]] = {
    "a dtstart without offset": ({"dtstart": "2026-11-03T05:00:00"}, "args.entries[0].dtstart"),
    "an exdate that is none": ({"exdate": ["2026-11-04T05:00:00+07:00", "x"]}, "args.entries[0].exdate[1]"),
    "367 exdates": ({"exdate": ["2026-11-04T05:00:00+07:00"] * 367}, "exdate"),
    "every hour": ({"rrule": "FREQ=HOURLY"}, "args.entries[0].rrule"),
    "hours in a day": ({"rrule": "FREQ=DAILY;BYHOUR=3,5"}, "args.entries[0].rrule"),
    "30 February": ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "args.entries[0].rrule"),
    "no rule at all": ({"rrule": "x"}, "args.entries[0].rrule"),
}


@pytest.mark.parametrize(("changes", "place"), BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_schedule_with_bad_args_is_rejected_and_the_place_named(changes: Changes, place: str) -> None:
    order = sign(state("schedule", {"entries": [entry(**changes)]}))
    verdict = intake().check(desired("schedule"), order, True, at())
    assert word(verdict) == "rejected bad-args"
    assert isinstance(verdict, Rejected)
    assert place in verdict.detail


OTHER_COMMANDS: dict[str, tuple[str, Changes, str]] = {
    "cancel by ids": ("cancel", {"ids": ["bt-1"]}, "admitted"),
    "cancel one of lower rank": (
        "cancel",
        {"iss": "xa-mau", "id": "a", "occurrence": "2026-11-03T05:00:00+07:00"},
        "admitted",
    ),
    "cancel one of its own": ("cancel", {"iss": "vinh-long", "id": "a"}, "admitted"),
    "cancel one of an issuer long gone": ("cancel", {"iss": "huyen", "id": "a"}, "admitted"),
    "cancel one of higher rank": ("cancel", {"iss": "anh-huong", "id": "a"}, "rejected not-authorised"),
    "cancel in both forms": ("cancel", {"ids": ["a"], "iss": "xa-mau", "id": "a"}, "rejected bad-args"),
    "cancel a bad occurrence": ("cancel", {"iss": "xa-mau", "id": "a", "occurrence": "x"}, "rejected bad-args"),
    "test": ("test", {"zones": ["kind:sound"]}, "admitted"),
    "test nowhere": ("test", {"zones": ["ap-77"]}, "rejected no-such-zone"),
    "report": (
        "report",
        {"what": "playlog", "from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z", "upload": "https://x/y"},
        "admitted",
    ),
    "report backwards": (
        "report",
        {"what": "playlog", "from": "2027-01-02T00:00:00Z", "to": "2027-01-01T00:00:00Z", "upload": "https://x/y"},
        "rejected bad-args",
    ),
    "report of another thing": (
        "report",
        {"what": "keys", "from": "2027-01-02T00:00:00Z", "to": "2027-01-03T00:00:00Z", "upload": "https://x/y"},
        "rejected bad-args",
    ),
    "reboot": ("reboot", {}, "admitted"),
    "reboot hard": ("reboot", {"hard": True}, "rejected bad-args"),
    "no op": ("", {}, "refused malformed"),
    "another op": ("volume", {}, "rejected unknown-op"),
}


@pytest.mark.parametrize(("op", "args", "expected"), OTHER_COMMANDS.values(), ids=OTHER_COMMANDS.keys())
def test_other_commands(op: str, args: Changes, expected: str) -> None:
    assert word(intake().check(ORDER, sign(claims(op=op, args=args)), False, at())) == expected


# Rights.

RIGHTS: dict[str, tuple[str, Changes, str]] = {
    "a class too high": ("xa-mau", {"class": "emergency", "zones": ["ap-1"]}, "rejected not-authorised"),
    "a zone outside": ("xa-mau", {"zones": ["ap-1", "bang"]}, "rejected not-authorised"),
    "a zone outside beside one that is not here": ("xa-mau", {"zones": ["x", "bang"]}, "rejected not-authorised"),
    "all it may": ("xa-mau", {"zones": ["*"]}, "admitted"),
    "another unit": ("khac", {}, "rejected not-authorised"),
    "no right over any zone here": ("anh-huong", {}, "rejected no-such-zone"),
}


@pytest.mark.parametrize(("who", "changes", "expected"), RIGHTS.values(), ids=RIGHTS.keys())
def test_rights(who: str, changes: Changes, expected: str) -> None:
    order = sign(claims(iss=who, args=broadcast(**changes)), who)
    assert word(intake().check(ORDER, order, False, at())) == expected


def test_an_op_outside_the_right_is_not_authorised() -> None:
    order = sign(claims(iss="bao-tinh", op="reboot", args={}), "bao-tinh")
    assert word(intake().check(ORDER, order, False, at())) == "rejected not-authorised"


def test_a_schedule_reaches_the_zones_of_its_entries_and_ignores_entries_of_other_places() -> None:
    door = intake()
    entries = [entry(zones=["ap-2"]), entry(id="khac", zones=["ap-77"]), entry(id="bang", zones=["bang"])]
    verdict = door.check(desired("schedule"), sign(state("schedule", {"entries": entries})), True, at())
    assert isinstance(verdict, Admitted)
    assert verdict.zones == ("ap-2", "bang")
    nowhere = sign(state("schedule", {"entries": entries[1:2]}))
    assert word(door.check(desired("schedule"), nowhere, True, at())) == "rejected no-such-zone"
    empty = sign(state("schedule", {"entries": []}))
    assert word(door.check(desired("schedule"), empty, True, at())) == "admitted"
    outside = sign(state("schedule", {"entries": [entry(), entry(id="b", zones=["bang"])]}, iss="xa-mau"), "xa-mau")
    assert word(door.check(desired("schedule", "xa-mau"), outside, True, at())) == "rejected not-authorised"
    emergency = sign(
        state("schedule", {"entries": [entry(), entry(id="b", **{"class": "emergency"})]}, iss="xa-mau"), "xa-mau"
    )
    assert word(door.check(desired("schedule", "xa-mau"), emergency, True, at())) == "rejected not-authorised"


# State orders.

ON = {"on": True, "zones": ["*"]}
AGREEMENT: dict[str, tuple[str, dict[str, Any], str]] = {
    "all agree": (desired("silence"), state("silence", ON), "admitted"),
    "a state order on an order topic": (ORDER, state("silence", ON, exp=int(NOW) + 60), "rejected bad-args"),
    "the same with a ctr": (ORDER, state("silence", ON, exp=int(NOW) + 60, ctr=5), "rejected bad-args"),
    "a command on a desired topic": (desired("broadcast"), claims(), "rejected bad-args"),
    "the same without ctr": (desired("broadcast"), claims(ctr=None), "rejected bad-args"),
    "another op in the topic": (desired("schedule"), state("silence", ON), "rejected bad-args"),
    "another issuer in the topic": (desired("silence", "bao-tinh"), state("silence", ON), "rejected bad-args"),
    "an unknown op": (desired("sing"), state("sing", {}), "rejected unknown-op"),
    "a scope not in aud": (
        desired("silence"),
        state("silence", {**ON, "scope": ALIAS}),
        "rejected bad-args",
    ),
    "the alias as scope": (desired("silence"), state("silence", {**ON, "scope": ALIAS}, aud=[ALIAS]), "admitted"),
    "a group's scope on the device's topic": (
        desired("silence"),
        state("silence", {**ON, "scope": "group:all"}, aud=["group:all"]),
        "rejected bad-args",
    ),
    "a group's scope on its topic": (
        desired("silence", target="group/all"),
        state("silence", {**ON, "scope": "group:all"}, aud=["group:all"]),
        "admitted",
    ),
    "another group's scope on a group's topic": (
        desired("silence", target="group/ven-bien"),
        state("silence", {**ON, "scope": "group:all"}, aud=["group:all"]),
        "rejected bad-args",
    ),
    "the device's scope on a group's topic": (
        desired("silence", target="group/all"),
        state("silence", ON),
        "rejected bad-args",
    ),
    "a scope that is a number": (desired("silence"), state("silence", {**ON, "scope": 1}), "rejected bad-args"),
    "a version that is a text": (desired("silence"), state("silence", {**ON, "version": "1"}), "rejected bad-args"),
}


@pytest.mark.parametrize(("topic", "body", "expected"), AGREEMENT.values(), ids=AGREEMENT.keys())
def test_topic_op_issuer_and_scope_agree(topic: str, body: dict[str, Any], expected: str) -> None:
    assert word(intake().check(topic, sign(body), False, at())) == expected


def test_versions_of_state_orders() -> None:
    door = intake()
    first = sign(state("silence", {**ON, "version": 5}, exp=int(NOW) + 60))
    topic = desired("silence")
    assert word(admit(door, topic, first)) == "admitted"
    assert word(door.check(topic, first, True, at())) == "ignored"
    assert word(door.check(topic, first, True, at(86_400 * 99))) == "ignored", "exp limits the first admission only"
    older = sign(state("silence", {**ON, "version": 4}, jti="o"))
    assert word(door.check(topic, older, True, at())) == "rejected stale-version"
    other = sign(state("silence", {**ON, "version": 5}, jti="p"))
    assert word(door.check(topic, other, True, at())) == "rejected version-conflict"
    newer = sign(state("silence", {**ON, "version": 6}, jti="q"))
    assert word(admit(door, topic, newer)) == "admitted"
    assert word(door.check(topic, first, True, at())) == "repeated"
    others = sign(state("silence", {**ON, "version": 1}, iss="bao-tinh"), "bao-tinh")
    assert word(door.check(desired("silence", "bao-tinh"), others, True, at())) == "admitted"


def test_a_right_that_is_missing_comes_before_the_version() -> None:
    door = intake()
    topic = desired("silence", "xa-mau")
    admit(door, topic, sign(state("silence", {"on": True, "zones": ["*"], "version": 5}, iss="xa-mau"), "xa-mau"))
    wrong = state("silence", {"on": True, "zones": ["bang"], "version": 4}, iss="xa-mau", jti="w")
    assert word(door.check(topic, sign(wrong, "xa-mau"), True, at())) == "rejected not-authorised"
    stale = state("silence", {"on": True, "zones": ["ap-77"], "version": 4}, iss="xa-mau", jti="v")
    assert word(door.check(topic, sign(stale, "xa-mau"), True, at())) == "rejected stale-version"


def until(hours: float) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(NOW + hours * 3600, dt.UTC).isoformat()


LOCAL: dict[str, tuple[str, Changes, str]] = {
    "for 24 hours": ("vinh-long", {"until": until(24)}, "admitted"),
    "for 25 hours": ("vinh-long", {"until": until(25)}, "rejected bad-args"),
    "without an end": ("vinh-long", {}, "rejected bad-args"),
    "from below the province": ("bao-tinh", {"until": until(1)}, "rejected bad-args"),
    "lifted without an end": ("vinh-long", {"on": False}, "admitted"),
    "until no time": ("vinh-long", {"until": "soon"}, "rejected bad-args"),
}


@pytest.mark.parametrize(("who", "changes", "expected"), LOCAL.values(), ids=LOCAL.keys())
def test_silence_that_includes_local_programmes(who: str, changes: Changes, expected: str) -> None:
    order = state("silence", {**ON, "include_local": True, **changes}, iss=who)
    assert word(intake().check(desired("silence", who), sign(order, who), True, at())) == expected


CONFIGURES: dict[str, tuple[Changes, str]] = {
    "a remote key": ({"zones.ap-1.gain_db": -6}, "admitted"),
    "one key that is not": ({"zones.ap-1.gain_db": -6, "trust.root_keys": "x"}, "rejected not-authorised"),
    "the unit": ({"device.unit": "86"}, "rejected not-authorised"),
}


@pytest.mark.parametrize(("values", "expected"), CONFIGURES.values(), ids=CONFIGURES.keys())
def test_configure_sets_remote_keys_only(values: Changes, expected: str) -> None:
    order = sign(state("configure", {"set": values}))
    assert word(intake().check(desired("configure"), order, True, at())) == expected


def test_no_key_is_remote_unless_told() -> None:
    door = Intake(world.STATION, world.trusted(), ReplayMemory(), lambda _rule, _start: None)
    order = sign(state("configure", {"set": {"zones.ap-1.gain_db": 1}}))
    assert word(door.check(desired("configure"), order, True, at())) == "rejected not-authorised"


def test_an_update_names_its_times_well() -> None:
    door = intake()
    good = state("update", {"target": "tram-0.2", "not_before": "2027-01-15T17:00:00+07:00"})
    assert word(door.check(desired("update"), sign(good), True, at())) == "admitted"
    bad = state("update", {"target": "tram-0.2", "deadline": "tonight"})
    assert word(door.check(desired("update"), sign(bad), True, at())) == "rejected bad-args"


# Authorities.


def chain(version: int = 2, *documents: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return state("authorities", {"version": version, "documents": list(documents or [document(version)])}, **changes)


def stranger(body: dict[str, Any]) -> bytes:
    return Signer(STRANGER.to_jwk(), "x").sign(world.dump(body)).encode()


TOPIC = desired("authorities")


def test_authorities_change_who_may_speak() -> None:
    door = intake()
    only = [world.authority("bao-tinh")]
    verdict = door.check(TOPIC, sign(chain(2, document(2, authorities=only))), True, at())
    assert isinstance(verdict, Admitted)
    assert door.trusted.version == 1, "not before it is consumed"
    writes = door.consume(verdict, b"ack")
    assert [type(w) for w in writes] == [PutOrder, PutState, PutValue]
    assert door.trusted.version == 2
    assert word(door.check(ORDER, sign(claims(jti="n")), False, at())) == "refused unknown-authority"
    stored = writes[-1]
    assert isinstance(stored, PutValue)
    assert stored.key == AUTHORITIES_KEY
    assert world.trusted().resume(stored.value).version == 2


AUTHORITIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a known signer": (lambda: sign(chain()), "admitted"),
    "a signer without that right": (lambda: sign(chain(iss="vinh-long"), "khac"), "admitted"),
    "an unknown kid": (lambda: stranger(chain()), "admitted"),
    "a bad envelope signature": (lambda: sign(chain())[:-86] + b"A" * 86, "admitted"),
    "an unknown issuer": (lambda: stranger(chain(iss="bo-thong-tin")), "rejected bad-args"),
    "roots that did not sign": (lambda: sign(chain(2, document(2, [STRANGER]))), "rejected not-authorised"),
    "the same from a stranger": (lambda: stranger(chain(2, document(2, ROOTS[:1]))), "rejected not-authorised"),
    "the held version": (lambda: sign(chain(1)), "rejected stale-version"),
    "another version than the last document's": (lambda: sign(chain(3, document(2))), "rejected bad-args"),
    "a document that is none": (lambda: sign(chain(2, {"payload": "x"})), "rejected not-authorised"),
    "no documents": (
        lambda: sign(chain(2) | {"args": {"scope": DEVICE, "version": 2, "documents": []}}),
        "rejected bad-args",
    ),
    "another op by a stranger on this topic": (
        lambda: stranger(state("silence", ON)),
        "refused unknown-authority",
    ),
    "another op badly signed on this topic": (
        lambda: sign(state("silence", ON))[:-86] + b"A" * 86,
        "refused bad-signature",
    ),
    "malformed claims of a stranger": (lambda: stranger(chain(sub="x")), "refused unknown-authority"),
    "malformed claims of a known signer": (lambda: sign(chain(sub="x")), "refused malformed"),
    "no JWS": (lambda: b"x", "refused malformed"),
}


@pytest.mark.parametrize(("order", "expected"), AUTHORITIES.values(), ids=AUTHORITIES.keys())
def test_authorities_count_by_the_roots_signatures_alone(order: Callable[[], bytes], expected: str) -> None:
    assert word(intake().check(TOPIC, order(), True, at())) == expected


def test_a_strangers_envelope_takes_nobodys_jti() -> None:
    door = intake()
    for order in (stranger(chain(2, document(2), jti="j-1")), stranger(chain(3, document(3, ROOTS[:1]), jti="j-1"))):
        verdict = door.check(TOPIC, order, True, at())
        assert isinstance(verdict, Admitted | Rejected)
        assert not any(isinstance(w, PutOrder) for w in door.consume(verdict, b"ack"))
    assert word(door.check(ORDER, sign(claims(jti="j-1")), False, at())) == "admitted"


def test_a_strangers_envelope_tells_no_time() -> None:
    future = int(NOW) + 10**8
    verdict = intake().check(TOPIC, stranger(chain(2, iat=future)), True, at(trusted=False))
    assert isinstance(verdict, Admitted)
    assert verdict.signed_time == world.payload(2)["iat"]
    order = intake().check(ORDER, sign(claims()), False, at())
    assert isinstance(order, Admitted)
    assert order.signed_time == NOW


def test_a_state_order_the_owner_rejects_is_answered_again_but_never_in_force() -> None:
    door = intake()
    order, topic = sign(state("schedule", {"entries": []})), desired("schedule")
    verdict = door.check(topic, order, True, at())
    assert isinstance(verdict, Admitted)
    writes = door.consume(verdict.rejected(Reason.BAD_ARGS, "too many entries"), b"rejected")
    assert [type(w) for w in writes] == [PutOrder]
    assert door.check(topic, order, True, at()) == Repeated(b"rejected", "vinh-long", "s-schedule")


def test_a_strangers_envelope_is_not_answered_for_somebody_elses_jti() -> None:
    door = intake()
    admit(door, ORDER, sign(claims(jti="j-1")))
    assert word(door.check(TOPIC, stranger(chain(jti="j-1")), True, at())) == "admitted"


def test_authorities_come_again_at_each_connection_and_are_ignored() -> None:
    door = intake()
    order = stranger(chain())
    admit(door, TOPIC, order)
    assert word(door.check(TOPIC, order, True, at(1e6))) == "ignored"
    assert word(door.check(TOPIC, sign(chain(jti="again")), True, at())) == "rejected stale-version"


def test_selectors_of_an_issuer_can_be_resolved_again_later() -> None:
    assert intake().zones("xa-mau", ["*"]) == ["ap-1", "ap-2"]


# Refused events.


def refused(reason: Reason, n: int = 0) -> Refused:
    return Refused(reason, f"{n:064}", ORDER, "detail")


def test_the_first_refusal_is_told_at_once_and_the_rest_of_the_minute_is_counted() -> None:
    meter = RefusalMeter()
    assert meter.refused(refused(Reason.MALFORMED), at(0)) == RefusalEvent(Reason.MALFORMED, "0" * 64, ORDER, 1)
    for second in range(1, 60):
        assert meter.refused(refused(Reason.MALFORMED, second), at(second)) is None
    assert meter.next_ns == at(60).mono_ns
    assert meter.due(at(59.9)) == []
    assert meter.due(at(60)) == [RefusalEvent(Reason.MALFORMED, f"{59:064}", ORDER, 59)]
    assert meter.next_ns is None
    assert meter.due(at(1000)) == []


def test_reasons_are_counted_apart() -> None:
    meter = RefusalMeter()
    assert meter.refused(refused(Reason.MALFORMED), at(0))
    assert meter.refused(refused(Reason.BAD_SIGNATURE), at(1))
    assert meter.refused(refused(Reason.MALFORMED), at(60))


def test_a_flood_of_forgeries_gives_one_event_a_minute() -> None:
    meter, door, told = RefusalMeter(), intake(), []
    for n in range(600):
        verdict = door.check(ORDER, b"x" * n, False, at(n))
        assert isinstance(verdict, Refused)
        event = meter.refused(verdict, at(n))
        told += [event] if event else []
    assert [event.count for event in told] == [1, *[60] * 9]
    assert json.loads(json.dumps(told[0].reason)) == "malformed"


def test_a_group_message_for_others_says_nothing() -> None:
    assert isinstance(intake().check(GROUP_ORDER, sign(claims(aud=["group:nui"])), False, at()), Ignored)
