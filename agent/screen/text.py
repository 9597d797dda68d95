"""Text made fit for a board: nothing invisible, nothing that turns or piles up, bounded. Pure."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 20_000
"""Longest text of one page of an order; what is beyond is cut and marked with an ellipsis."""

_JOINERS = "\u200b\u200c\u200d"
"""Zero-width space and joiners: Khmer needs them to break and shape words."""
_MARKS_PER_LETTER = 2
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_KHMER = range(0x1780, 0x1800)
_NUMBER_AFTER_WORD = re.compile(r"(?<=\w) (?=\d)")
_UNIT_AFTER_NUMBER = re.compile(r"(?<=\d) (?=[°%‰]|(?:km|cm|mm|m|kg|ha|đ)\b)")
_DASH_AFTER_WORD = re.compile(r"(?<=\S) (?=[–—-] )")


def clean(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` in NFC without control, direction and private characters, at most `limit` characters long.

    Line breaks stay (at most two in a row), other white space becomes one space. A letter keeps at most two further
    combining marks (Khmer its own), so that no pile of accents leaves its line. A number stays with the word
    before it ("cấp 12"), a unit with its number ("38,5 °C"), a dash with the word it follows.
    """
    cut = len(text) > 2 * limit
    text = unicodedata.normalize("NFC", text[: 2 * limit].replace("\r\n", "\n").replace("\r", "\n").expandtabs(1))
    out: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        if category in {"Zl", "Zp"}:
            char = "\n"  # noqa: PLW2901 - the separators are line breaks under another name
        elif category in _DROPPED and char != "\n" and char not in _JOINERS:
            continue
        marks = marks + 1 if category in {"Mn", "Me"} and ord(char) not in _KHMER else 0
        if marks <= _MARKS_PER_LETTER:
            out.append(char)
    lines = [" ".join(line.split()) for line in "".join(out).split("\n")]
    result = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    for bound in (_NUMBER_AFTER_WORD, _UNIT_AFTER_NUMBER, _DASH_AFTER_WORD):
        result = bound.sub("\u00a0", result)
    if len(result) > limit or cut:
        result = result[: limit - 1].rstrip() + "…"
    return result


def words(line: str) -> list[str]:
    """A line as the pieces between which it may be broken; joined again they are the line.

    The blank before a break belongs to the piece before it. No-break spaces hold. Khmer, written without blanks,
    may be broken between any two of its letters.
    """
    pieces = re.findall(r"[^ \u200b]*[ \u200b]+|[^ \u200b]+", line) or [""]
    return [part for piece in pieces for part in (clusters(piece) if _is_khmer(piece) else [piece])]


def _is_khmer(text: str) -> bool:
    return any(ord(char) in _KHMER for char in text)


def clusters(word: str) -> list[str]:
    """A word as the letters between which it may be broken in need: marks stay with their letter."""
    out: list[str] = []
    glue = False
    for char in word:
        if out and (glue or unicodedata.category(char) in {"Mn", "Mc", "Me"} or char in _JOINERS):
            out[-1] += char
        else:
            out.append(char)
        glue = char in "\u17d2\u200d"  # Khmer coeng and the joiner bind the next letter
    return out
