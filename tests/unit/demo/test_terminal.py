"""The terminal view: lines for everybody, a live picture for a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from province.demo.proof import Check
from province.demo.terminal import METER, Terminal, ZoneView, _meter

AT = 1_763_850_032.25
ZONES = [
    ZoneView(zone="loa-xa", owner="Bão số 5 [bold]x[/bold]", class_="emergency", level_dbfs=-12.3, power="bật"),
    ZoneView(zone="bang-tin"),
]


def shown(*, terminal: bool, language: str = "vi") -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    return Terminal(
        language, console=Console(file=out, force_terminal=terminal, width=110, highlight=False, _environ={})
    ), out


def test_without_a_terminal_there_are_only_the_lines() -> None:
    view, out = shown(terminal=False)
    with view:
        view.line(AT, "press", "Nhấn nút khẩn cấp", "9,8 ms")
        view.status(ZONES, {"nguon": True}, link=False)
        view.line(AT + 1, "relay", "Rơ-le nguồn tắt")
    assert out.getvalue() == "05:20:32.250  ● Nhấn nút khẩn cấp  9,8 ms\n05:20:33.250  ◉ Rơ-le nguồn tắt\n"


def test_a_long_line_is_not_broken_where_nobody_looks() -> None:
    view, out = shown(terminal=False)
    view.line(AT, "order", "x" * 300)
    assert out.getvalue().count("\n") == 1


def test_a_terminal_shows_owner_level_relays_and_link_below_the_lines() -> None:
    view, out = shown(terminal=True)
    with view:
        view.line(AT, "link", "Máy chủ bị tắt")
        view.status(ZONES, {"nguon": True, "loa": False}, link=False)
    text = out.getvalue()
    for part in ("Máy chủ bị tắt", "loa-xa", "Bão số 5 [bold]x[/bold]", "-12 dB", "nguon", "MẤT KẾT NỐI", "█"):
        assert part in text


def test_hostile_text_cannot_steer_the_terminal() -> None:
    view, out = shown(terminal=False)
    view.line(AT, "refused", "\x1b[2J\x07[red]đỏ[/red]\nxóa", "\x1b]0;x\x07")
    view.table([Check("clicks", False, "\x1b[2J", "\x1b[2J")])
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "[red]đỏ[/red] xóa" in out.getvalue()


def test_the_table_names_each_check_in_the_reader_s_language_and_counts() -> None:
    checks = [Check("level", True, "within 0.1 dB", "lệch 0,1 dB"), Check("clicks", False, "a click at 1 s", "")]
    for language, words in {
        "vi": ["Đúng mức âm lượng", "lệch 0,1 dB", "a click at 1 s", "1/2 phép kiểm đạt"],
        "en": ["The right level", "within 0.1 dB", "a click at 1 s", "1/2 checks held"],
    }.items():
        view, out = shown(terminal=False, language=language)
        view.table(checks)
        assert all(word in out.getvalue() for word in words)


def test_the_meter_is_empty_in_silence_and_full_at_full_scale() -> None:
    assert [_meter(level).plain.count("█") for level in (None, -90.0, -60.0, -30.0, 0.0, 3.0, float("nan"))] == [
        0, 0, 0, METER // 2, METER, METER, 0,
    ]  # fmt: skip
