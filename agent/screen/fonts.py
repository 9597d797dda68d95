"""Fonts of the machine: found, tried in turn for each letter, and measured. Needs Pillow; used in the painter only."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont

_TRUETYPE = Path("/usr/share/fonts/truetype")
_CHAIN: tuple[tuple[str, str, str, float], ...] = (
    # regular, bold, fontconfig's name (of those that have Vietnamese), scale: Khmer stacks higher and deeper
    ("noto/NotoSans-Regular.ttf", "noto/NotoSans-Bold.ttf", "Noto Sans", 1.0),
    ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSans-Bold.ttf", "DejaVu Sans", 1.0),
    ("noto/NotoSansKhmer-Regular.ttf", "noto/NotoSansKhmer-Bold.ttf", "", 0.8),
    ("noto/NotoSansSymbols2-Regular.ttf", "noto/NotoSansSymbols2-Regular.ttf", "", 1.0),
)
_NOTDEF = "\uffff"
_PROBE_PX = 24
_JOINERS = "\u200b\u200c\u200d"
_MARKS = frozenset({"Mn", "Mc", "Me"})
_Face = tuple[str, str, float]


class NoFontError(Exception):
    """No font with Vietnamese letters is installed; the message names the remedy."""


class Fonts:
    """The fonts of one painter. Letters that no font has are left out, never shown as boxes.

    `folder` replaces the machine's font folder (tests).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._faces = _find(folder)
        self.load = lru_cache(maxsize=64)(self._load)
        self.width = lru_cache(maxsize=20_000)(self._width)
        self._face_of = lru_cache(maxsize=4096)(self._find_face)
        self._notdef = [self._shape(self.load(i, _PROBE_PX, bold=False), _NOTDEF) for i in range(len(self._faces))]

    def _load(self, face: int, size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
        regular, strong, scale = self._faces[face]
        return ImageFont.truetype(strong if bold else regular, max(1, round(size * scale)))

    @staticmethod
    def _shape(font: ImageFont.FreeTypeFont, text: str) -> bytes:
        mask = font.getmask(text)
        return bytes(mask) + repr(mask.size).encode()

    def has(self, char: str) -> bool:
        """Whether any font draws this letter as itself."""
        return self._face_of(char) >= 0

    def _find_face(self, char: str) -> int:
        for face, notdef in enumerate(self._notdef):
            if self._shape(self.load(face, _PROBE_PX, bold=False), char) != notdef:
                return face
        return -1

    def runs(self, text: str) -> list[tuple[int, str]]:
        """The text as stretches of one font each, without unknown letters. Blanks and marks follow what is before."""
        faces: list[tuple[int, str]] = []
        last = 0
        for char in text:
            if not (char.isspace() or char in _JOINERS or unicodedata.category(char) in _MARKS):
                own = self._face_of(char)
                if own < 0:
                    continue
                last = own
            faces.append((last, char))
        return [(face, "".join(c for _, c in group)) for face, group in groupby(faces, key=lambda f: f[0])]

    def _width(self, text: str, size: int, bold: bool) -> float:
        return sum(
            self.load(face, size, bold=bold).getlength(part) for face, part in self.runs(text.replace("\u200b", ""))
        )

    def bounds(self, text: str, size: int, bold: bool) -> tuple[float, float, float, float]:
        """The ink's box, left, top, right, bottom, relative to the start of the base line."""
        x, boxes = 0.0, []
        for face, part in self.runs(text.replace("\u200b", "")):
            font = self.load(face, size, bold=bold)
            left, top, right, bottom = font.getbbox(part, anchor="ls")
            boxes.append((x + left, top, x + right, bottom))
            x += font.getlength(part)
        if not boxes:
            return (0.0, 0.0, 0.0, 0.0)
        return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def _find(folder: Path | None) -> list[_Face]:
    root = folder or _TRUETYPE
    there: list[_Face] = []
    vietnamese = False
    for regular, bold, name, scale in _CHAIN:
        pair: tuple[str, str] | None = None
        if (root / regular).is_file() and (root / bold).is_file():
            pair = str(root / regular), str(root / bold)
        elif name and folder is None:
            pair = _match(name)
        if pair:
            there.append((*pair, scale))
            vietnamese = vietnamese or bool(name)
    if not vietnamese:
        raise NoFontError("no font with Vietnamese letters: install fonts-noto-core or fonts-dejavu-core")
    return there


def _match(name: str) -> tuple[str, str] | None:
    """Ask fontconfig; None when it is not there or offers another family."""
    import subprocess

    pair: list[str] = []
    for style in ("Regular", "Bold"):
        try:
            done = subprocess.run(
                ["fc-match", "--format=%{family}\t%{file}", f"{name}:style={style}"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        family, _, file = done.stdout.partition("\t")
        if name not in family:
            return None
        pair.append(file)
    return pair[0], pair[1]
