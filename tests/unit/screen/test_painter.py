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


def test_a_picture_that_fills_the_board_loses_its_edges(tmp_path: Path) -> None:
    halves(400, 100).save(tmp_path / "a.png")
    image = fit(str(tmp_path / "a.png"), 100, 100, fill=True)
    assert image.size == (100, 100)
    assert near(image.getpixel((5, 50)), RED)
    assert near(image.getpixel((95, 50)), BLUE)


@pytest.mark.parametrize(("orientation", "size"), [(1, (90, 40)), (6, (90, 40)), (8, (40, 90))])
def test_a_photograph_on_its_side_fills_the_board_too(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves(400, 200).save(tmp_path / "a.jpg", exif=exif)
    assert fit(str(tmp_path / "a.jpg"), *size, fill=True).size == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_each_kind_of_picture_is_shown(tmp_path: Path, kind: str) -> None:
    halves(64, 32).save(tmp_path / "a", format=kind, quality=95)
    assert near(fit(str(tmp_path / "a"), 64, 32).getpixel((10, 16)), RED)


def test_colours_are_those_that_the_profile_means(tmp_path: Path) -> None:
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    halves(64, 32).save(tmp_path / "a.jpg", icc_profile=srgb, quality=95)
    assert near(fit(str(tmp_path / "a.jpg"), 64, 32).getpixel((10, 16)), RED)
    swapped = _swapped(srgb)
    halves(64, 32).save(tmp_path / "b.jpg", icc_profile=swapped, quality=95)
    # A profile whose red and blue are exchanged turns the red half blue.
    assert near(fit(str(tmp_path / "b.jpg"), 64, 32).getpixel((10, 16)), BLUE)
    for useless in (b"no profile", ImageCms.ImageCmsProfile(lab).tobytes(), srgb[:200]):
        halves(64, 32).save(tmp_path / "c.jpg", icc_profile=useless, quality=95)
        assert near(fit(str(tmp_path / "c.jpg"), 64, 32).getpixel((10, 16)), RED)


def _swapped(profile: bytes) -> bytes:
    """The profile with its red and blue colorants exchanged (ICC.1 section 7.3: the tag table)."""
    made = bytearray(profile)
    for at in range(132, 132 + 12 * int.from_bytes(made[128:132], "big"), 12):
        name = bytes(made[at : at + 4])
        made[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    made[84:100] = bytes(16)  # its own digest
    return bytes(made)


@pytest.mark.parametrize("size", [(20_000, 1_000), (1_000, 20_000)])
def test_a_picture_of_twenty_thousand_pixels_is_scaled_while_it_is_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "a.jpg")
    assert max(fit(str(tmp_path / "a.jpg"), 960, 540).size) <= 960


def test_a_picture_of_twenty_thousand_pixels_a_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_bomb(20_000, 20_000))
    with pytest.raises(PictureError):
        fit(str(tmp_path / "a.png"), 960, 540)
