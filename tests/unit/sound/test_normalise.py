"""Vietnamese text is written out as it is read aloud: a published table, and what holds for any text."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sound.normalise import digits, integer, number, spoken

TABLE = list(csv.DictReader(Path(__file__).with_name("normalise_vi.csv").open(encoding="utf-8", newline="")))


@pytest.mark.parametrize(("written", "expected"), [(r["written"], r["spoken"]) for r in TABLE])
def test_the_table(written: str, expected: str) -> None:
    assert spoken(written) == expected


def test_the_table_is_as_long_as_promised() -> None:
    assert len({r["written"] for r in TABLE}) == len(TABLE) >= 150


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_digit_is_left_in_any_text(text: str) -> None:
    assert not any(c.isascii() and c.isdigit() for c in spoken(text))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.,/-:hg%°CkmVXIUBNDQĐ ()ngày", max_size=60))
def test_what_looks_almost_like_a_number_does_not_hurt(text: str) -> None:
    once = spoken(text)
    assert not any(c.isdigit() and c.isascii() for c in once)


@settings(max_examples=200)
@given(st.integers(0, 10**15))
def test_every_number_has_words_and_none_is_empty(n: int) -> None:
    words = integer(n)
    assert words == " ".join(words.split())
    assert words


@given(st.integers(1, 999_999_999))
def test_different_numbers_sound_different(n: int) -> None:
    assert integer(n) != integer(n - 1)


def test_lines_stay_lines_and_empty_ones_go() -> None:
    assert spoken("Dòng một\n\n  \nDòng 2") == "Dòng một\nDòng hai"


def test_twenty_thousand_characters_without_a_space_take_no_minutes() -> None:
    for text in ("1" * 20_000, "a.b-" * 5_000, " " * 20_000, "A" * 20_000, "7h30-" * 4_000):
        assert not any(c.isdigit() for c in spoken(text))


def test_decomposed_letters_are_read_like_composed_ones() -> None:
    assert spoken("Quy\u0301 II") == "Quý hai"


def test_codes_are_said_digit_by_digit() -> None:
    assert digits("084-12") == "không tám bốn một hai"
    assert number("007") == "không không bảy"
