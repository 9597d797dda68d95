"""Trusted time under any sequence of readings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.trust.time import AGREE_S, NEAR_S, TrustedTime

START = 1_800_000_000.0
READING = st.tuples(
    st.sampled_from(["free", "ntp", "signed"]),
    st.floats(0, 100_000),
    st.one_of(st.floats(-10, 10), st.floats(-1e6, 1e6), st.floats(-1.8e9, 1e9)),
)


@given(st.lists(READING, max_size=40), st.floats(0, START))
def test_time_never_falls_below_the_floor_and_the_floor_never_falls(
    readings: list[tuple[str, float, float]], image: float
) -> None:
    time = TrustedTime(image, START)
    mono, floor = 0.0, START
    for kind, pause, offset in readings:
        mono += pause
        at, wall = round(mono * 1e9), START + mono + offset
        if kind == "signed":
            time.signed(wall, at)
        else:
            time.observe(at, wall, synchronised=kind == "ntp")
        now = time.now(at)
        assert time.floor >= floor - 1e-3
        assert now.wall >= time.floor - 1e-3
        assert now.earliest is not None
        assert now.surely >= now.earliest - 1e-3
        floor = time.floor


@given(st.lists(READING, max_size=40))
def test_no_clock_is_trusted_without_ntp(readings: list[tuple[str, float, float]]) -> None:
    time = TrustedTime(0, START)
    mono = 0.0
    for kind, pause, offset in readings:
        mono += pause
        if kind == "signed":
            time.signed(START + mono + offset, round(mono * 1e9))
        else:
            time.observe(round(mono * 1e9), START + mono + offset, synchronised=False)
        assert not time.trusted


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-1e9, 1e9)), max_size=40))
def test_no_sequence_of_ntp_readings_alone_leads_far_from_the_floor(readings: list[tuple[float, float]]) -> None:
    time = TrustedTime(0, START)
    mono = 0.0
    for pause, offset in readings:
        mono += pause
        time.observe(round(mono * 1e9), START + mono + offset, synchronised=True)
        ahead = time.now(round(mono * 1e9)).wall - (START + mono)
        assert ahead <= NEAR_S + AGREE_S + mono * 1e-3
