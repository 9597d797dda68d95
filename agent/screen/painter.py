"""Sheets and pictures to pixels. Runs in the painting child only: Pillow stays out of the board's process."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, UnidentifiedImageError

from agent.screen.fonts import Fonts
from agent.screen.layout import QUIET, Running, Sheet, Text

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
ROOM = 54_000_000
"""Bytes for decoding a picture, so that a painter needs 80 MB at most. What would take more is refused before a pixel
is decoded: a JPEG from 24 megapixels on, a PNG from 8.3, a WebP from 2.8, transparent ones earlier."""
PER_PIXEL = {"PNG": 6.5, "GIF": 7.0, "WEBP": 19.0, "JPEG": ROOM / 24_000_000}
"""Bytes that decoding took at most. libwebp keeps two canvases beside the picture; a JPEG is scaled while decoding."""
TRANSPARENCY = 6.5
"""Bytes a pixel for the copies that it needs."""
_SMOOTH = 3
"""Shapes are drawn that many times larger and scaled down: Pillow does not smooth edges."""
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
"""EXIF orientation → what puts the picture upright."""


MAX_STRIP = 60_000
"""Longest running line in pixels; what is beyond is not shown."""


class PictureError(Exception):
    """The picture cannot be shown; the message says why."""


def paint(sheet: Sheet, fonts: Fonts | None) -> Image.Image:
    """The sheet as an RGB picture. Without `fonts` its texts are left out (colours and signs remain)."""
    image = Image.new("RGB", (sheet.width, sheet.height), sheet.ground)
    if sheet.picture is not None:
        left, top, right, bottom = sheet.area
        fitted = fit(sheet.picture, right - left, bottom - top, fill=sheet.fit == "fill")
        image.paste(fitted, (left + (right - left - fitted.width) // 2, top + (bottom - top - fitted.height) // 2))
    draw = ImageDraw.Draw(image)
    for shape in sheet.shapes:
        xs, ys = [p[0] for p in shape.points], [p[1] for p in shape.points]
        if len(set(xs)) == 2 and len(set(ys)) == 2:
            draw.rectangle((min(xs), min(ys), max(xs) - 1, max(ys) - 1), fill=shape.fill)
            continue
        left, top = int(min(xs)) - 1, int(min(ys)) - 1
        size = (int(max(xs)) + 2 - left, int(max(ys)) + 2 - top)
        mask = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH))
        scaled = [((x - left) * _SMOOTH, (y - top) * _SMOOTH) for x, y in shape.points]
        ImageDraw.Draw(mask).polygon(scaled, fill=255)
        image.paste(shape.fill, (left, top), mask.resize(size, Image.Resampling.BOX))
    if sheet.code is not None:
        _code(draw, *sheet.code)
    if fonts is not None:
        for text in sheet.texts:
            _write(draw, text, text.x, fonts)
    return image


def strip(sheet: Sheet, running: Running, fonts: Fonts) -> Image.Image:
    """A running line as one long picture, which begins and ends beyond the board."""
    text = running.text
    length = math.ceil(fonts.width(text.text, text.size, text.bold))
    image = Image.new("RGB", (min(length + sheet.width, MAX_STRIP), running.rows), sheet.ground)
    _write(ImageDraw.Draw(image), text, sheet.width / 3, fonts)
    return image


def _write(draw: ImageDraw.ImageDraw, text: Text, x: float, fonts: Fonts) -> None:
    for face, part in fonts.runs(text.text.replace("\u200b", "")):
        font = fonts.load(face, text.size, bold=text.bold)
        draw.text((x, text.y), part, font=font, fill=text.ink, anchor="ls")
        x += font.getlength(part)


def _code(draw: ImageDraw.ImageDraw, address: str, left: int, top: int, side: int) -> None:
    """A QR code (ISO/IEC 18004) in whole pixels a module, black on white with its quiet zone. DataOverflowError."""
    import segno

    rows = segno.make(address, error="m", micro=False).matrix
    module = max(1, side // (len(rows) + 2 * QUIET))
    whole = module * (len(rows) + 2 * QUIET)
    left, top = left + (side - whole) // 2, top + (side - whole) // 2
    draw.rectangle((left, top, left + whole - 1, top + whole - 1), fill=(255, 255, 255))
    for y, row in enumerate(rows, QUIET):
        for x, dark in enumerate(row, QUIET):
            if dark:
                corner = (left + x * module, top + y * module)
                draw.rectangle((*corner, corner[0] + module - 1, corner[1] + module - 1), fill=(0, 0, 0))


def fit(path: str, width: int, height: int, *, fill: bool = False) -> Image.Image:
    """The picture file, upright, in sRGB, scaled to fit into `width` × `height`; PictureError says what is wrong.

    `fill`: scaled to fill it, and its edges are cut off.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            transparent = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
            limit = int(ROOM / (_per_pixel(image) + (TRANSPARENCY if transparent else 0.0)))
            if image.width * image.height > limit:
                raise PictureError(f"{image.width}×{image.height} pixels are too many (at most {limit})")
            turn = image.getexif().get(0x0112, 1)
            box = (height, width) if turn in {5, 6, 7, 8} else (width, height)
            profile = image.info.get("icc_profile")
            scale = (max if fill else min)(box[0] / image.width, box[1] / image.height)
            image.draft("RGB", (math.ceil(image.width * scale), math.ceil(image.height * scale)))
            scale = (max if fill else min)(box[0] / image.width, box[1] / image.height)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            frame: Image.Image = image
            if transparent:
                image.load()
                frame = image if image.mode == "RGBA" else image.convert("RGBA")
                frame = frame.resize(size, Image.Resampling.LANCZOS, reducing_gap=2)
                ground = Image.new("RGB", size, (0, 0, 0))
                ground.paste(frame, mask=frame.getchannel("A"))
                frame = ground
            elif profile and image.mode in {"RGB", "CMYK", "L"}:
                frame = _in_srgb(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2), profile)
            else:
                plain = image if image.mode == "RGB" else image.convert("RGB")
                frame = plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=2)
            if fill:
                edge_x, edge_y = max(0, (frame.width - box[0]) // 2), max(0, (frame.height - box[1]) // 2)
                frame = frame.crop(
                    (edge_x, edge_y, min(frame.width, edge_x + box[0]), min(frame.height, edge_y + box[1]))
                )
            for step in _TURNS.get(turn, ()):
                frame = frame.transpose(step)
            return frame
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        raise PictureError(str(error) or type(error).__name__) from error


def _per_pixel(image: Image.Image) -> float:
    """Bytes that decoding takes: for a progressive JPEG (ITU-T T.81 annex G) all its coefficients, 2 bytes each."""
    if image.format == "JPEG" and "progressive" in image.info:
        layers: list[tuple[int, int, int, int]] = vars(image)["layer"]  # of JpegImageFile, not loaded for texts
        samples = [h * v for _, h, v, _ in layers]
        return 2.0 * sum(samples) / max(samples) + 0.5
    return PER_PIXEL[image.format or "PNG"]


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours as the picture's profile means them; a profile that is of no use is passed over."""
    import io

    from PIL import ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        changed = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        changed = None
    return image.convert("RGB") if changed is None else changed
