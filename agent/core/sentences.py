"""Long texts in parts, so that the first words are heard while the rest is still being spoken."""

from __future__ import annotations

import re

FIRST, LATER = 80, 480
"""Letters from which on a part ends with its sentence: the first part soon, for somebody waits for it."""
_END = re.compile(r"(?<=[^\W\d_])[.!?…]+[\"”»)]*\s+(?=\S)|(?<=\d)[.!?…]+\s+(?=[^\W\d_])|\n\s*(?=\S)")
"""Where a sentence may end. Capitals before the stop are an abbreviation ("TP. Trà Vinh", "A. Nguyễn")."""


def parts(text: str) -> list[str]:
    """The text cut between sentences; joined by spaces it says the same. A text of some sentences is one part."""
    found: list[str] = []
    begun = 0
    for end in _END.finditer(text):
        least = LATER if found else FIRST
        word = text[: end.start()].rpartition(" ")[2]
        if end.end() - begun < least or _abbreviates(word, end[0]):
            continue
        found.append(text[begun : end.end()].strip())
        begun = end.end()
    rest = text[begun:].strip() if found else text
    return [*found, rest] if rest or not found else found


def _abbreviates(word: str, stop: str) -> bool:
    return "." in stop and (word.isupper() or "." in word)
