"""CAP: whatever the file holds, either a sentence says why not, or orders come out that devices accept."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.model.orders import ARGS_OF, Broadcast, Class
from drivers.espeak import VOICES
from province import cap
from province.publish import EMERGENCY_LIMIT, ORDER_LIMIT
from tests.unit.province.test_cap import AREAS, NOW, SAMPLES, keep

BASES = [p.read_bytes() for p in sorted(SAMPLES.rglob("*.xml"))]
WHOLE = [p.read_bytes() for p in sorted(SAMPLES.glob("*.xml"))]
CHOICES = cap.Choices(
    voices=frozenset(VOICES), limits={c: EMERGENCY_LIMIT if c is Class.EMERGENCY else ORDER_LIMIT for c in Class}
)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)


def outcome(data: bytes) -> cap.Plan | None:
    """The plan, checked as a device checks it; None when the file was refused with a sentence."""
    try:
        made = cap.plan(cap.parse(data), CHOICES, AREAS, cap.Recordings([], keep), NOW)
    except cap.CapError:
        return None
    for order in made.orders:
        args = msgspec.convert(order.args, ARGS_OF[order.op])
        assert order.aud
        if isinstance(args, Broadcast):
            assert 0 < order.ttl_s <= cap.ORDER_TTL_S < cap.CANCEL_TTL_S
            if args.until is None:
                assert args.zones == ["kind:screen"]
                continue
            begin = NOW if args.start == "now" else datetime.fromisoformat(args.start)
            assert datetime.fromisoformat(args.until) > begin >= NOW
    return made


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    assert outcome(data) is None


@given(st.sampled_from(BASES), st.data())
def test_a_file_with_damaged_bytes(base: bytes, data: st.DataObject) -> None:
    damaged = bytearray(base)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        damaged[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    outcome(bytes(damaged))


@given(st.sampled_from(WHOLE), st.data())
def test_elements_with_any_text(base: bytes, data: st.DataObject) -> None:
    text = base.decode()
    names = sorted(set(re.findall(r"<([\w:]+)>[^<]+</", text))) or ["alert"]
    name = data.draw(st.sampled_from(names))
    value = data.draw(
        st.one_of(
            WORDS,
            st.datetimes(timezones=st.timezones()).map(lambda d: d.replace(microsecond=0).isoformat()),
            st.from_regex(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d[-+][0-2]\d:[0-5]\d", fullmatch=True),
        )
    )
    outcome(re.sub(rf"<{name}>[^<]*</{name}>", lambda _: f"<{name}>{escape(value)}</{name}>", text).encode())


@given(WORDS, WORDS, WORDS, WORDS)
def test_ids_depend_on_both_names_and_fit(a: str, b: str, c: str, d: str) -> None:
    one, two = cap.bulletin_id(a, b), cap.bulletin_id(c, d)
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,57}", one)
    assert (one == two) == (f"{a},{b}" == f"{c},{d}")


VALUES: dict[str, Any] = {name: st.sampled_from(cap._VALUES[name]) for name in ("urgency", "severity", "certainty")}
ORDER = ["Unknown", "Minor", "Moderate", "Severe", "Extreme"]


@given(VALUES["urgency"], VALUES["severity"], VALUES["severity"], VALUES["certainty"])
def test_what_is_graver_is_never_of_a_lower_class(urgency: str, one: str, other: str, certainty: str) -> None:
    lesser, graver = sorted((one, other), key=ORDER.index)
    classes = [cap.Info("vi", "x", urgency, severity, certainty).class_.weight for severity in (lesser, graver)]
    assert classes[0] <= classes[1]
