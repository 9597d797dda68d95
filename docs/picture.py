"""The documents' pictures from a real run. `scripts/picture` runs it: DIR TARGET [--of NAME] [--anyway].

The picture says in its own PNG text which run it shows: how many of the run's checks held, and when it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def failed(run: Path) -> tuple[list[str], int]:
    """The names of the run's checks that did not hold, and how many there were. OSError, ValueError: no such run."""
    checks = json.loads((run / "summary.json").read_bytes())["checks"]
    return [str(check["name"]) for check in checks if not check["ok"]], len(checks)


def draw(run: Path, target: Path, says: str, name: str = "timeline.png") -> None:
    """Copy a picture of the run, saying of which run it is."""
    told = PngInfo()
    told.add_text("Source", "tram demo")
    told.add_text("Description", says)
    with Image.open(run / name) as drawn:
        picture = drawn
        if name != "timeline.png":  # large, and of photographs
            picture = drawn.reduce(2).quantize(128)
        picture.save(target, optimize=True, pnginfo=told)


def main() -> int:
    """Refuse a run whose checks did not all hold, unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--anyway", action="store_true", help="take a run whose checks did not all hold")
    parser.add_argument("--of", default="timeline.png", help="which of the run's pictures")
    given = parser.parse_args()
    try:
        missed, count = failed(given.run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{given.run} is not a finished run of tram demo: {error}", file=sys.stderr)
        return 1
    says = f"{count - len(missed)} of {count} checks held"
    if missed and not given.anyway:
        print(f"{says}; not: {', '.join(missed)}. No picture of such a run without --anyway.", file=sys.stderr)
        return 1
    draw(given.run, given.target, says, given.of)
    print(f"{given.target}: {says}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
