"""Where a long text may be cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import sentences
from agent.core.sentences import FIRST, parts

LEAD = "Ủy ban nhân dân xã thông báo đến toàn thể bà con trong các ấp về việc phòng chống bão, đề nghị mọi người theo "
LEAD += "dõi tin tức, chằng chống nhà cửa và giúp đỡ các gia đình neo đơn"


@pytest.mark.parametrize(
    ("text", "second"),
    [
        (f"{LEAD}. Mời bà con.", "Mời bà con."),
        (f"{LEAD}! Khẩn trương!", "Khẩn trương!"),
        (f"{LEAD}… Còn nữa.", "Còn nữa."),
        (f"{LEAD}.” Hết lời.", "Hết lời."),
        (f"{LEAD}\nGió cấp 12.", "Gió cấp 12."),
        (f"{LEAD} lúc 19h30. Mời bà con.", "Mời bà con."),
        (f"{LEAD} tại TP. Trà Vinh.", None),
        (f"{LEAD} gặp ông A. Nguyễn.", None),
        (f"{LEAD} của Th.S. Lan.", None),
        (f"{LEAD} cao 3.000 m.", None),
        (f"{LEAD} theo mục 1. 2 và 3.", None),
        ("Ngắn. Rất ngắn. Vẫn ngắn.", None),
        ("", None),
    ],
)
def test_a_text_is_cut_where_a_sentence_ends_and_nowhere_else(text: str, second: str | None) -> None:
    assert parts(text)[1:] == ([] if second is None else [second])


def test_the_first_part_is_short_so_that_it_is_heard_soon() -> None:
    found = parts(" ".join(["Bà con chú ý."] * 200))
    assert FIRST <= len(found[0]) < FIRST + 20
    assert all(sentences.LATER <= len(p) < sentences.LATER + 20 for p in found[1:-1])


@given(st.text("aĐ1. \n!?", max_size=2000))
def test_nothing_of_a_text_is_lost(text: str) -> None:
    found = parts(text)
    assert " ".join(" ".join(found).split()) == " ".join(text.split())
    assert len(found) == 1 or all(p.strip() == p and p for p in found)
