"""The order path under any bytes: it never raises, and nothing but the signed bytes themselves is ever admitted."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.intake import Admitted, RefusalMeter, Refused, Rejected
from agent.model.orders import ARGS_OF, Reason
from agent.model.records import PutOrder, Snapshot
from agent.trust.keys import BadKeyError, load_private, load_public
from agent.trust.refusal import Refusal
from agent.trust.replay import WINDOW, ReplayMemory
from agent.trust.signer import sign_authorities
from agent.trust.strict import MAX_DEPTH, StrictError, from_base64url, load_json, to_base64url
from tests.unit.trust import world
from tests.unit.trust.world import GROUP_ORDER, ORDER, at, claims, desired, entry, sign, state, word

GOOD = sign(claims())
GOOD_STATE = sign(state("schedule", {"entries": [entry()]}))
CHAIN = sign(state("authorities", {"version": 2, "documents": [world.document(2)]}))
DOOR = world.intake()  # `check` changes nothing, so all examples may share it
TOPICS = st.sampled_from(
    [ORDER, GROUP_ORDER, *(desired(op) for op in ("schedule", "silence", "configure", "authorities", "update", "x"))]
)
MOMENTS = st.builds(at, st.floats(-1e9, 1e9), trusted=st.booleans())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(topic=TOPICS | st.text(), payload=st.binary(max_size=300), retain=st.booleans(), now=MOMENTS)
def test_any_bytes_on_any_topic_get_a_verdict_and_are_not_admitted(
    topic: str, payload: bytes, retain: bool, now: Any
) -> None:
    assert not isinstance(DOOR.check(topic, payload, retain, now), Admitted)


@given(topic=TOPICS, body=st.binary(max_size=300), now=MOMENTS)
def test_any_signed_bytes_get_a_verdict(topic: str, body: bytes, now: Any) -> None:
    assert isinstance(DOOR.check(topic, sign(body), False, now), Refused)


def changed(good: bytes) -> st.SearchStrategy[bytes]:
    """The same order with one place cut out and something else put in."""
    place = st.integers(0, len(good))
    return st.builds(
        lambda a, b, new: good[: min(a, b)] + new + good[max(a, b) :],
        place,
        place,
        st.binary(max_size=4) | st.sampled_from([b"=", b".", b"\n", b" ", b"A", b"_", b"\0", b"%2E"]),
    )


@settings(max_examples=400)
@given(st.data())
def test_no_order_but_the_signed_bytes_themselves_is_admitted(data: st.DataObject) -> None:
    topic, good = data.draw(st.sampled_from([(ORDER, GOOD), (desired("schedule"), GOOD_STATE)]))
    order = data.draw(changed(good))
    verdict = DOOR.check(topic, order, False, at())
    assert isinstance(verdict, Admitted) == (order == good)
    if order != good and order:
        assert isinstance(verdict, Refused)


@settings(max_examples=200)
@given(changed(CHAIN))
def test_a_changed_authorities_order_brings_no_other_authorities(order: bytes) -> None:
    verdict = DOOR.check(desired("authorities"), order, False, at())
    if isinstance(verdict, Admitted):
        assert verdict.trusted is not None
        assert verdict.trusted.version == 2
        assert verdict.order.authentic == (order == CHAIN)


@given(st.data(), TOPICS, MOMENTS, st.booleans())
def test_an_order_examined_beforehand_gets_the_same_verdict(
    data: st.DataObject, topic: str, now: Any, retain: bool
) -> None:
    order = data.draw(changed(GOOD) | changed(GOOD_STATE) | changed(CHAIN) | st.sampled_from([GOOD, GOOD_STATE, CHAIN]))
    examination = DOOR.examine(topic, order, retain)
    assert examination is not None
    examination.finish()
    assert DOOR.check(topic, order, retain, now, examination) == DOOR.check(topic, order, retain, now)


@given(flip=st.integers(0, len(GOOD) * 8 - 1))
def test_every_flipped_bit_is_found(flip: int) -> None:
    order = bytearray(GOOD)
    order[flip // 8] ^= 1 << flip % 8
    assert isinstance(DOOR.check(ORDER, bytes(order), False, at()), Refused)


@settings(max_examples=300)
@given(
    op=st.sampled_from([*ARGS_OF, "sing"]),
    member=st.sampled_from(["id", "class", "start", "zones", "items", "until", "repeat", "entries", "rrule", "scope"]),
    value=JSON,
    now=MOMENTS,
    command=st.booleans(),
)
def test_any_value_in_any_member_gets_a_verdict(op: str, member: str, value: Any, now: Any, command: bool) -> None:
    bases: dict[str, dict[str, Any]] = {
        "broadcast": world.broadcast(),
        "schedule": {"scope": world.DEVICE, "version": 1, "entries": [entry()]},
        "silence": {"scope": world.DEVICE, "version": 1, "on": True, "zones": ["*"]},
    }
    args = {**bases.get(op, {"scope": world.DEVICE, "version": 1}), member: value}
    inner = {**args, "entries": [{**entry(), member: value}]} if op == "schedule" else args
    for members in (args, inner):
        body = json.dumps(claims(op=op, args=members) if command else state(op, members)).encode()
        verdict = DOOR.check(ORDER if command else desired(op), sign(body), False, now)
        assert word(verdict)
        if isinstance(verdict, Refused | Rejected):
            assert verdict.reason in set(Reason)
            assert 0 < len(verdict.detail) <= 300


@settings(max_examples=200)
@given(rule=st.text("FREQ=DAILYWKMNTHU;BS0123456789-+,", max_size=60))
@example(rule="FREQ=DAILY;COUNT=99999999999999999999")
@example(rule="FREQ=DAILY;INTERVAL=0")
@example(rule="FREQ=YEARLY;BYEASTER=1")
@example(rule="FREQ=DAILY;BYSETPOS=0")
@example(rule="FREQ=DAILY;UNTIL=99991231T235959Z")
@example(rule="FREQ=DAILY\nFREQ=DAILY")
def test_any_rule_gets_a_verdict(rule: str) -> None:
    order = sign(state("schedule", {"entries": [entry(rrule=rule)]}))
    assert word(DOOR.check(desired("schedule"), order, False, at())) in {"admitted", "rejected bad-args"}


@given(JSON)
def test_the_strict_reader_reads_what_it_accepts_like_the_standard_library(value: Any) -> None:
    data = json.dumps(value).encode()
    try:
        read = load_json(data)
    except StrictError:
        return
    assert read == value or json.dumps(read) == json.dumps(value)


@given(st.binary(max_size=60) | st.text('{}[]",:\\ud8e019.-+NaInfty \ufeff', max_size=60).map(str.encode))
def test_the_strict_reader_never_raises_anything_else_and_accepts_less(data: bytes) -> None:
    try:
        read = load_json(data)
    except StrictError:
        return
    assert read == json.loads(data)
    json.dumps(read, allow_nan=False, ensure_ascii=False).encode()


@given(st.integers(1, 80), st.sampled_from(["[]", '{"a":}']))
def test_the_depth_counts_from_the_outermost(depth: int, shape: str) -> None:
    half = len(shape) - 1
    data = (shape[:half] * depth + ("1" if half > 1 else "") + shape[half:] * depth).encode()
    try:
        load_json(data)
    except StrictError:
        assert depth > MAX_DEPTH
    else:
        assert depth <= MAX_DEPTH


@given(st.text(max_size=12) | st.text("ABCDwxyz0189-_=", max_size=12))
def test_base64url_has_one_spelling(text: str) -> None:
    try:
        data = from_base64url(text)
    except StrictError:
        return
    assert to_base64url(data) == text


@given(JSON)
def test_a_jwk_of_any_shape_is_a_key_or_explained(value: Any) -> None:
    for load in (load_public, load_private):
        with contextlib.suppress(BadKeyError):
            load(json.dumps(value))


@given(st.dictionaries(st.sampled_from(["version", "iat", "roots", "threshold", "authorities"]), JSON), st.booleans())
def test_a_payload_of_any_shape_signed_by_the_roots_is_followed_or_refused(changes: Any, whole: bool) -> None:
    document = sign_authorities({**world.payload(2), **changes} if whole else changes, world.ROOTS[:2])
    with contextlib.suppress(Refusal):
        assert world.trusted().advance([document]).version > 1


@given(st.lists(st.integers(1, 3 * WINDOW) | st.integers(1, 2**53 - 1), max_size=60), st.integers(0, 60))
def test_a_counter_passes_once_and_a_restart_changes_nothing(counters: list[int], restart: int) -> None:
    memory = ReplayMemory()
    rows: list[PutOrder] = []
    passed: set[int] = set()
    for n, ctr in enumerate(counters):
        if n == restart:
            memory = ReplayMemory.load(
                Snapshot(orders=rows[::-1], ctr_highest={"k": max(passed)} if passed else {}, empty=False), 0
            )
        highest = max(passed, default=0)
        free = ctr not in passed and (not passed or ctr > highest - WINDOW)
        try:
            memory.check_ctr("k", ctr)
        except Refusal:
            assert not free
            continue
        assert free
        row = PutOrder(iss="i", jti=str(n), sha256="", kid="k", ctr=ctr, exp=1.0, ack=b"")
        memory.put(row)
        rows.append(row)
        passed.add(ctr)


@given(st.lists(st.tuples(st.sampled_from(list(Reason)), st.floats(0, 90)), max_size=60))
def test_the_meter_counts_every_refusal_once_and_tells_each_reason_once_a_minute(
    refusals: list[tuple[Reason, float]],
) -> None:
    meter, now, told = RefusalMeter(), 0.0, []
    for reason, pause in refusals:
        now += pause
        told += [(now, event) for event in meter.due(at(now))]
        event = meter.refused(Refused(reason, "", "", ""), at(now))
        told += [(now, event)] if event else []
    told += [(now + 60, event) for event in meter.due(at(now + 60))]
    assert sum(event.count for _, event in told) == len(refusals)
    for reason in Reason:
        times = [when for when, event in told if event.reason is reason]
        assert all(b - a >= 60 - 1e-6 for a, b in itertools.pairwise(times))
