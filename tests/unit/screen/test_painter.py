"""Foreign pictures: fitted, upright, or refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from agent.model.screen import Page
from agent.screen.layout import compose
from agent.screen.painter import PictureError, fit, paint
from tests.unit.screen.test_layout import fonts

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def near(one: object, other: tuple[int, int, int]) -> bool:
    return isinstance(one, tuple) and all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [(100, 400), (4000, 1000), (960, 540), (3, 2)])
def test_a_picture_is_fitted_whole_with_black_beside_it(tmp_path: Path, size: tuple[int, int]) -> None:
    halves(*size).save(tmp_path / "a.png")
    [sheet] = compose(Page(title="", image=str(tmp_path / "a.png")), 960, 540, fonts())
    image = paint(sheet, fonts())
    box = image.point(lambda v: 255 if v > 100 else 0).convert("L").getbbox()
    assert image.size == (960, 540)
    assert box is not None
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(size[0] / size[1], rel=0.03)
    assert box[2] - box[0] == 960 or box[3] - box[1] == 540


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "left"), (2, "right"), (3, "right"), (4, "left"), (5, "top"), (6, "top"), (7, "bottom"), (8, "bottom")],
)
def test_a_photograph_is_turned_upright(tmp_path: Path, orientation: int, corner: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves(400, 200).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = fit(str(tmp_path / "a.jpg"), 100, 100)
    width, height = image.size
    where = {
        "left": (5, height // 2),
        "right": (width - 5, height // 2),
        "top": (width // 2, 5),
        "bottom": (width // 2, height - 5),
    }[corner]
    assert near(image.getpixel(where), RED)
    assert (width > height) == (orientation < 5)


def _bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def _half(tmp_path: Path) -> bytes:
    halves(800, 600).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize("case", ["bomb", "short bomb", "half", "empty", "text", "missing", "svg", "folder"])
def test_a_damaged_or_hostile_picture_is_refused(tmp_path: Path, case: str) -> None:
    data = {
        "bomb": _bomb(50_000, 50_000),
        "short bomb": _bomb(2000, 2000),
        "half": _half(tmp_path),
        "empty": b"",
        "text": b"no picture",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    path = tmp_path / "x"
    if case in data:
        path.write_bytes(data[case])
    elif case == "folder":
        path.mkdir()
    with pytest.raises(PictureError):
        fit(str(path), 960, 540)


def test_a_transparent_picture_lies_on_black(tmp_path: Path) -> None:
    Image.new("RGBA", (100, 100), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert near(fit(str(tmp_path / "a.png"), 50, 50).getpixel((25, 25)), (0, 0, 0))


def test_without_fonts_the_class_still_shows() -> None:
    [sheet] = compose(Page(class_="emergency", title="x"), 960, 540, fonts())
    assert paint(sheet, None).getpixel((480, 400)) == sheet.ground
