"""Collects what is said to people, merges it into vi.po and compiles the catalogue. Run by scripts/translate."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "po" / "vi.po"
COMPILED = ROOT / "agent" / "cli" / "locale" / "vi" / "LC_MESSAGES" / "tram.mo"
HEADER = "# Vietnamese for Trạm. Changed a sentence in the code? Run scripts/translate, fill in here, run it again."

MessageId = str | tuple[str, ...]


def said() -> Iterator[MessageId]:
    """Every sentence for people in the code, each once; (singular, plural) where it counts something."""
    plain: dict[str, object] = {"_": None, "gettext": None, "ngettext": (1, 2)}
    own = plain | {"Text": None}
    files = [
        *((f, own) for f in sorted((ROOT / "agent").rglob("*.py"))),
        *((f, plain) for f in sorted((ROOT / "province").rglob("*.py"))),
        (ROOT / "po" / "of_click.py", plain),
    ]
    seen: set[MessageId] = set()
    for file, keywords in files:
        for _line, found, _comments, _context in extract_from_file("python", file, keywords=keywords):  # type: ignore[arg-type]
            if found and found not in seen:
                seen.add(found)
                yield found


def current() -> Catalog:
    """The translations as they are in vi.po."""
    with SOURCE.open("rb") as file:
        return read_po(file, locale="vi")


def merged(old: Catalog) -> Catalog:
    """The sentences of the code, with the translations that there are."""
    new = Catalog(
        locale="vi",
        project="tram",
        version="",
        msgid_bugs_address="",
        last_translator="",
        language_team="vi",
        charset="utf-8",
        fuzzy=False,
        header_comment=HEADER,
    )
    new.creation_date = old.creation_date
    new.revision_date = old.revision_date
    for sentence in sorted(said(), key=str):
        known = old.get(sentence if isinstance(sentence, str) else sentence[0])
        new.add(sentence, known.string if known is not None else "")
    return new


def untranslated(catalogue: Catalog) -> list[str]:
    """Sentences without a translation."""
    return [str(m.id) for m in catalogue if m.id and not any(m.string if isinstance(m.string, tuple) else (m.string,))]


def compiled(catalogue: Catalog) -> bytes:
    """What gettext reads."""
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def main() -> int:
    """Write vi.po and the compiled catalogue; 1 when something is not translated yet."""
    catalogue = merged(current())
    with SOURCE.open("wb") as file:
        write_po(file, catalogue, width=0, omit_header=False, sort_output=True, no_location=True)
    COMPILED.parent.mkdir(parents=True, exist_ok=True)
    COMPILED.write_bytes(compiled(catalogue))
    missing = untranslated(catalogue)
    for sentence in missing:
        print(f"not translated: {sentence!r}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
