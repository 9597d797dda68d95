"""What is on the sheets: compared with the frame, with the law's colours and with the fonts."""

from __future__ import annotations

import itertools
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from agent.model.screen import Page, Rest
from agent.screen.fonts import Fonts, NoFontError
from agent.screen.layout import LOOKS, Design, Sheet, compose, rest
from agent.screen.painter import paint

TITLE = "KHẨN CẤP: BÃO SỐ 9 CẤP 12 – SƠ TÁN NGAY"
NOTICE = "Thông báo: mời bà con ấp 3 đến trạm y tế tiêm vắc-xin lúc 7h30"
COMMUNE = "Ủy ban nhân dân xã Mẫu"
SIZES = [(960, 540), (1920, 1080), (540, 960), (320, 160), (192, 96), (64, 32), (32, 32)]
PAGES = {
    "idle": Page(title=COMMUNE, body="Trạm truyền thanh"),
    "normal": Page(class_="normal", title=NOTICE, body="Mang theo sổ tiêm chủng.", issuer=COMMUNE),
    "priority": Page(class_="priority", title="Nước mặn xâm nhập", body=NOTICE * 2, issuer=COMMUNE),
    "emergency": Page(class_="emergency", title=TITLE, issuer="Ban Chỉ huy PCTT tỉnh"),
    "drill": Page(class_="emergency", title=TITLE, body=NOTICE, mark="DIỄN TẬP", issuer=COMMUNE),
    "title only": Page(class_="normal", title="Ế"),
    "nothing": Page(title=""),
    "one endless word": Page(class_="normal", title="Ặ" * 200, body="ỹ" * 500),
    "khmer": Page(class_="normal", title="សេចក្តីជូនដំណឹង", body="សូមអញ្ជើញបងប្អូនមកចាក់វ៉ាក់សាំងនៅម៉ោង៧និង៣០នាទី"),
    "long": Page(class_="normal", title=NOTICE, body=(NOTICE + ". ") * 60, issuer=COMMUNE * 6, mark="DIỄN TẬP"),
    "many lines": Page(class_="priority", title="Lịch phát", body="\n".join(f"{h} giờ: thời sự" for h in range(24))),
}
VOWELS = "aăâeêioôơuưy"
TONES = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")
LETTERS = [unicodedata.normalize("NFC", v + t) for v, t in itertools.product(VOWELS, TONES)] + list("bcdđghklmnpqrstvx")
ALPHABET = [*LETTERS, *(letter.upper() for letter in LETTERS)]


@cache
def fonts() -> Fonts:
    return Fonts()


def outside(sheet: Sheet) -> list[str]:
    """Texts whose ink leaves the frame."""
    wrong = []
    for text in sheet.texts:
        left, top, right, bottom = fonts().bounds(text.text, text.size, text.bold)
        box = (text.x + left, text.y + top, text.x + right, text.y + bottom)
        if box[0] < -1 or box[1] < -1 or box[2] > sheet.width + 1 or box[3] > sheet.height + 1:
            wrong.append(f"{text.text!r} {box}")
    return wrong


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """WCAG 2.2 contrast ratio."""

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_no_text_leaves_the_frame(page: Page, size: tuple[int, int]) -> None:
    sheets = compose(page, *size, fonts())
    assert sheets
    assert [w for sheet in sheets for w in outside(sheet)] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_no_line_lies_on_another(page: Page) -> None:
    for sheet in compose(page, 960, 540, fonts()):
        boxes = [
            (t.x, t.y + b[1], t.x + b[2], t.y + b[3])
            for t in sheet.texts
            for b in [fonts().bounds(t.text, t.size, t.bold)]
        ]
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] + 2 or other[3] <= one[1] + 2
            assert apart, (one, other)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_word_is_shown(page: Page) -> None:
    shown = "".join(t.text for sheet in compose(page, 960, 540, fonts()) for t in sheet.texts)
    squeezed = "".join(shown.replace("\u200b", "").split())
    for word in (page.title + " " + page.body).split():
        if len(word) < 20:
            assert word in squeezed


@pytest.mark.parametrize("name", LOOKS)
def test_contrast_is_at_least_seven(name: str) -> None:
    look = LOOKS[name]
    assert contrast(look.ink, look.ground) >= 7
    if look.label:
        assert contrast(look.strip_ink, look.strip) >= 7


def test_the_painted_ground_and_ink_of_an_emergency_have_the_contrast() -> None:
    [sheet] = compose(PAGES["emergency"], 960, 540, fonts())
    colours = paint(sheet, fonts()).getcolors(1 << 20) or []
    most = [colour for _, colour in sorted(colours, reverse=True)[:2]]
    assert most[0] == LOOKS["emergency"].ground
    assert contrast(LOOKS["emergency"].ink, most[0]) >= 7


def test_classes_are_told_apart_by_more_than_colour() -> None:
    labels = {
        n: compose(Page(class_=n, title="x"), 960, 540, fonts())[0].texts for n in ("normal", "priority", "emergency")
    }
    assert [any(t.text == LOOKS[n].label for t in texts) for n, texts in labels.items()] == [True] * 3


def test_the_sign_of_an_emergency_is_a_shape() -> None:
    [sheet] = compose(PAGES["emergency"], 960, 540, fonts())
    assert sum(len(shape.points) == 3 for shape in sheet.shapes) == 2


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_drill_says_so_on_every_sheet(size: tuple[int, int]) -> None:
    for sheet in compose(PAGES["long"], *size, fonts()):
        assert any(t.text == "DIỄN TẬP" for t in sheet.texts)


def test_long_text_is_paged_at_a_readable_size_and_numbered() -> None:
    sheets = compose(PAGES["long"], 960, 540, fonts())
    assert len(sheets) > 1
    for number, sheet in enumerate(sheets):
        assert any(t.text == f"{number + 1}/{len(sheets)}" for t in sheet.texts)
        assert any(t.size >= 540 / 15 - 1 for t in sheet.texts)


def test_a_hundred_kilobytes_of_text_are_bounded() -> None:
    sheets = compose(Page(title="x", body="mời bà con " * 10_000), 192, 96, fonts())
    assert 1 < len(sheets) <= 60
    assert sheets[-1].texts[-1].text.endswith("…") or any(t.text.endswith("…") for t in sheets[-1].texts)


@pytest.mark.parametrize("bold", [False, True])
def test_every_vietnamese_letter_has_its_own_glyph(bold: bool) -> None:
    font = fonts().load(0, 40, bold=bold)
    notdef = bytes(font.getmask("\uffff"))
    drawn = {letter: bytes(font.getmask(letter)) for letter in ALPHABET}
    assert len(ALPHABET) == 2 * (12 * 6 + 17)
    assert [letter for letter, mask in drawn.items() if mask == notdef or not any(mask)] == []
    assert len(set(drawn.values())) == len(drawn)


def test_letters_that_no_font_has_are_left_out() -> None:
    assert "".join(part for _, part in fonts().runs("a\U00050000b")) == "ab"


def test_a_machine_without_fonts_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(NoFontError, match="fonts-noto-core"):
        Fonts(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("", "", "f", "idle", (32, 379))
@example("0\n0", "0", "0", "idle", (32, 32))
@example("", "", "f", "normal", (32, 379))
@example("", "", "f", "priority", (32, 379))
@example("", "", "f", "emergency", (32, 379))
@given(
    st.text(max_size=60),
    st.text(alphabet=st.characters(), max_size=400),
    st.text(max_size=20),
    st.sampled_from(["idle", "normal", "priority", "emergency"]),
    st.tuples(st.integers(32, 1000), st.integers(32, 1000)),
)
def test_no_foreign_text_leaves_the_frame(title: str, body: str, mark: str, name: str, size: tuple[int, int]) -> None:
    width, height = size
    page = Page(title=title, body=body, mark=mark, issuer=mark, class_=name)  # type: ignore[arg-type]
    for sheet in compose(page, width, height, fonts()):
        for text in sheet.texts:
            left, _, right, _ = fonts().bounds(text.text, text.size, text.bold)
            assert text.x + left >= -2
            assert text.x + right <= width + 2
            assert 0 < text.y <= height


KHMER = [
    "សេចក្តីជូនដំណឹង",
    "សូមអញ្ជើញបងប្អូនមកចាក់វ៉ាក់សាំងនៅម៉ោង៧និង៣០នាទី",
    "ព្យុះលេខ ៩ ខ្លាំង សូមជម្លៀសជាបន្ទាន់",
    "ក្រុមប្រឹក្សាឃុំ ស្រុក ខេត្ត ខ្មែរ ត្រា វិញ",
]


@pytest.mark.parametrize("text", [*KHMER, "Ủy ban nhân dân xã Mẫu: ỂỆỖỮỰẶẨ ểệỗữựặẩ"])
def test_letters_are_shaped_as_harfbuzz_shapes_them(text: str) -> None:
    import uharfbuzz

    for face, part in fonts().runs(text):
        font = fonts().load(face, 64, bold=False)
        shaper = uharfbuzz.Font(uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(font.path))))
        buffer = uharfbuzz.Buffer()
        buffer.add_str(part)
        buffer.guess_segment_properties()
        uharfbuzz.shape(shaper, buffer)
        units = sum(position.x_advance for position in buffer.glyph_positions)
        assert font.getlength(part) == pytest.approx(units * font.size / shaper.face.upem, rel=0.02)


def test_a_khmer_syllable_is_one_shape_and_not_its_letters_in_a_row() -> None:
    syllable = "ខ្មែ"
    [(face, part)] = fonts().runs(syllable)
    font = fonts().load(face, 64, bold=False)
    # The coeng puts the second letter beneath the first: drawn one by one they would be much wider.
    assert font.getlength(part) < 0.75 * sum(font.getlength(letter) for letter in part if letter != "\u17d2")


@pytest.mark.parametrize("size", [*SIZES, (1920, 960), (192, 32)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_the_default_slide_stays_in_the_frame_and_keeps_its_contrast(size: tuple[int, int]) -> None:
    told = Rest(title=COMMUNE, body=NOTICE, clock="16:42", date="Thứ ba, 24/11/2026", playing="Đang phát: " + NOTICE)
    for look in (Design(), Design(qr="https://xa-mau.example.vn/phan-anh", qr_label="Quét mã để gửi phản ánh")):
        sheet = rest(told, *size, fonts(), look)
        assert outside(sheet) == []
        assert all(contrast(text.ink, text.ground) >= 7 for text in sheet.texts)
        if sheet.code is not None:
            _, left, top, side = sheet.code
            assert left >= 0
            assert top >= 0
            assert left + side <= size[0]
            assert top + side <= size[1]


def test_the_code_of_the_default_slide_leads_to_the_address() -> None:
    import segno

    address = "https://xa-mau.example.vn/phan-anh"
    image = paint(rest(Rest(title=COMMUNE, clock="16:42"), 960, 540, fonts(), Design(qr=address)), fonts())
    assert _modules(image) == [list(row) for row in segno.make(address, error="m", micro=False).matrix]


def _modules(image: Image.Image) -> list[list[int]]:
    """The QR code on a picture with nothing else that is white, read by its pixels alone: 1 for a dark module."""
    white = image.convert("L").point(lambda v: 255 if v > 252 else 0)
    box = white.crop((image.width // 2, 0, image.width, image.height)).getbbox()
    assert box is not None
    code = white.crop((box[0] + image.width // 2, box[1], box[2] + image.width // 2, box[3]))
    # The finder pattern's upper edge is seven modules long, after four white ones.
    quiet = next(x for x in range(code.width) if code.getpixel((x, x)) == 0)
    step = quiet // 4
    count = code.width // step - 8
    middle = [step * (k + 4) + step // 2 for k in range(count)]
    return [[0 if code.getpixel((x, y)) else 1 for x in middle] for y in middle]


@pytest.mark.parametrize(
    ("pitch_mm", "viewing_m", "size"), [(4, 40, (1920, 960)), (10, 30, (192, 96)), (3, 25, (1280, 720))]
)
def test_letters_are_as_high_as_the_distance_asks(pitch_mm: float, viewing_m: float, size: tuple[int, int]) -> None:
    import math

    design = Design(pitch_mm=pitch_mm, viewing_m=viewing_m)
    for page in (PAGES["long"], PAGES["normal"], PAGES["emergency"]):
        for sheet in compose(page, *size, fonts(), design):
            body = [t.size for t in sheet.texts if t.ink == LOOKS[page.class_].ink]
            capital_mm = min(body, default=1000) * 0.714 * pitch_mm
            minutes = math.degrees(math.atan(capital_mm / 1000 / viewing_m)) * 60
            assert minutes >= 15.5


def test_a_board_as_low_as_a_strip_lets_its_text_run() -> None:
    design = Design(pitch_mm=10, viewing_m=30)
    [sheet] = compose(PAGES["long"], 192, 32, fonts(), design)
    assert sheet.running is not None
    assert "tiêm vắc-xin" in sheet.running.text.text
    assert sheet.running.top + sheet.running.rows <= 32


def test_an_emergency_has_its_sign_on_small_boards_too() -> None:
    [sheet] = compose(Page(class_="emergency", title="BÃO"), 192, 96, fonts())
    assert sheet.texts[0].text.startswith("⚠")
