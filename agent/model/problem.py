"""What is wrong with a configuration, said so that a person can mend it, in whichever language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct


class Text:
    """A sentence for people: `id` is the English original with `{named}` places, and the catalogue's message id.

    `str()` gives the English sentence. Whoever shows it in another language translates `id` and fills in `args`.
    The message extraction knows this class's name: the first argument must be a literal.
    """

    __slots__ = ("args", "id")

    def __init__(self, text: str, /, **args: object) -> None:
        self.id = text
        self.args = args

    def __str__(self) -> str:
        return self.id.format(**self.args) if self.args else self.id

    def __repr__(self) -> str:
        return f"Text({str(self)!r})"


class Problem(Struct, frozen=True):
    """One mistake: where (`path` dotted, as `zones[1].power[0].relay`; "" for the whole file), why, and what to do.

    `line` counts from 1; None when there is no one line. A "warning" does not stop the station from starting.
    """

    path: str
    reason: Text
    remedy: Text
    line: int | None = None
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = ": ".join(p for p in (f"line {self.line}" if self.line else "", self.path) if p)
        return f"{place or 'file'}: {self.reason} {self.remedy}".strip()


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the configuration")
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


SEE_EXAMPLES = Text("See the commented examples in the folder config/.")

MISSING: Any = object()
"""Stands for a value that is in the file but could not be read."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    import difflib

    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def listed(words: Iterable[object]) -> str:
    """Words in a row for a sentence."""
    return ", ".join(str(w) for w in words)
