"""Sheets and pictures to pixels. Runs in the painting child only: Pillow stays out of the board's process."""

from __future__ import annotations

from PIL import Image, ImageDraw, UnidentifiedImageError

from agent.screen.fonts import Fonts
from agent.screen.layout import Sheet

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS_JPEG = 24_000_000
MAX_PIXELS = 9_000_000
MAX_PIXELS_TRANSPARENT = 3_700_000
"""Largest pictures decoded, so that 80 MB are enough: a JPEG is scaled while decoding, transparency needs copies.
Beyond: refused before a pixel is decoded."""
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


class PictureError(Exception):
    """The picture cannot be shown; the message says why."""


def paint(sheet: Sheet, fonts: Fonts | None) -> Image.Image:
    """The sheet as an RGB picture. Without `fonts` its texts are left out (colours and signs remain)."""
    image = Image.new("RGB", (sheet.width, sheet.height), sheet.ground)
    if sheet.picture is not None:
        left, top, right, bottom = sheet.area
        fitted = fit(sheet.picture, right - left, bottom - top)
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
    if fonts is None:
        return image
    for text in sheet.texts:
        x = text.x
        for face, part in fonts.runs(text.text.replace("\u200b", "")):
            font = fonts.load(face, text.size, bold=text.bold)
            draw.text((x, text.y), part, font=font, fill=text.ink, anchor="ls")
            x += font.getlength(part)
    return image


def fit(path: str, width: int, height: int) -> Image.Image:
    """The picture file, upright, scaled to fit into `width` × `height`, as RGB. PictureError says what is wrong."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            transparent = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
            limit = MAX_PIXELS_TRANSPARENT if transparent else MAX_PIXELS
            limit = MAX_PIXELS_JPEG if image.format == "JPEG" else limit
            if image.width * image.height > limit:
                raise PictureError(f"{image.width}×{image.height} pixels are too many (at most {limit})")
            turn = image.getexif().get(0x0112, 1)
            box = (height, width) if turn in {5, 6, 7, 8} else (width, height)
            image.draft("RGB", box)
            scale = min(box[0] / image.width, box[1] / image.height)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            frame: Image.Image = image
            if transparent:
                image.load()
                frame = image if image.mode == "RGBA" else image.convert("RGBA")
                frame = frame.resize(size, Image.Resampling.LANCZOS, reducing_gap=2)
                ground = Image.new("RGB", size, (0, 0, 0))
                ground.paste(frame, mask=frame.getchannel("A"))
                frame = ground
            else:
                frame = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2)
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
