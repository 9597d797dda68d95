"""Configuration problems as lines for people. Imports nothing heavy: a daemon that cannot start uses it too."""

from __future__ import annotations

import gettext
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from agent.cli.language import _, say
from agent.model.problem import Problem


def lines(problems: Sequence[Problem], path: str) -> list[str]:
    """Per problem a line `file:line: place: reason` and one with the remedy; a count at the end."""
    found = []
    for problem in problems:
        name = Path(path).name + (f":{problem.line}" if problem.line else "")
        kind = _("warning: ") if problem.level == "warning" else ""
        place = f"{problem.path}: " if problem.path else ""
        found.append(f"{name}: {kind}{place}{say(problem.reason)}")
        found.append(f"    → {say(problem.remedy)}")
    errors = sum(p.level == "error" for p in problems)
    if errors:
        count = gettext.ngettext("{count} mistake in {path}", "{count} mistakes in {path}", errors)
        found.append(count.format(count=errors, path=path))
    return found


def show(problems: Sequence[Problem], path: str, out: TextIO) -> None:
    """Print them."""
    print("\n".join(lines(problems, path)), file=out)
