"""Vietnamese and English for people: gettext catalogues, and the words for what the machine calls by short names.

English is written in the code; `po/vi.po` translates it. Help texts are translated when the modules of the commands
are imported, so `use` comes first.
"""

from __future__ import annotations

import gettext
import os
from pathlib import Path

from agent.model.orders import Reason
from agent.model.problem import Text

LANGUAGES = ("vi", "en")
LOCALE = Path(__file__).parent / "locale"
DOMAIN = "tram"

_ = gettext.gettext


def asked(args: list[str]) -> str | None:
    """The language named on a command line, so that help and click's own words follow it too.

    Behind `add`, `--lang` is the language of the bulletin.
    """
    found = None
    for i, arg in enumerate(args):
        if arg == "add":
            break
        if arg.startswith("--lang="):
            found = arg.removeprefix("--lang=")
        elif arg == "--lang" and i + 1 < len(args):
            found = args[i + 1]
    return found if found in LANGUAGES else None


def use(language: str | None) -> None:
    """Speak `language` from now on; None: what LANGUAGE, LC_ALL, LC_MESSAGES or LANG say, else English.

    Children that are started inherit it.
    """
    if language is not None:
        os.environ["LANGUAGE"] = language
    gettext.bindtextdomain(DOMAIN, str(LOCALE))
    gettext.textdomain(DOMAIN)


def say(text: Text) -> str:
    """The sentence in the language in use."""
    if not text.args:
        return _(text.id)
    return _(text.id).format(**{k: say(v) if isinstance(v, Text) else v for k, v in text.args.items()})


REASONS: dict[str, Text] = {
    Reason.TOO_LARGE: Text("the order is too large"),
    Reason.MALFORMED: Text("the order is not well formed"),
    Reason.UNKNOWN_AUTHORITY: Text("the signing authority is not known here"),
    Reason.BAD_SIGNATURE: Text("the signature is wrong"),
    Reason.NOT_FOR_THIS_DEVICE: Text("the order is meant for another device"),
    Reason.EXPIRED: Text("the order has expired"),
    Reason.NOT_YET_VALID: Text("the order is not valid yet; check the clock"),
    Reason.REPLAYED: Text("the order was already used"),
    Reason.UNKNOWN_OP: Text("this kind of order is not known here"),
    Reason.BAD_ARGS: Text("the order contains values that are not allowed"),
    Reason.NOT_AUTHORISED: Text("the authority may not do this"),
    Reason.CONTENT_UNAVAILABLE: Text("a recording, programme or file is not available"),
    Reason.NO_SUCH_ZONE: Text("there is no such zone"),
    Reason.NO_VOICE: Text("there is no voice for this language; record it instead"),
    Reason.SILENCED: Text("the station is silenced"),
    Reason.QUIET_HOURS: Text("it falls into the quiet hours"),
    Reason.REQUISITION_HOURS: Text("it falls outside the hours in which this board may be taken over"),
    Reason.CLOCK_UNTRUSTED: Text("the station does not know the time for certain"),
    Reason.OUTRANKED: Text("something more important has the zone"),
    Reason.SUPERSEDED: Text("a newer bulletin took its place"),
    Reason.CANCELLED: Text("it was cancelled"),
    Reason.DECLINED: Text("the commune declined it"),
    Reason.STALE_VERSION: Text("a newer version is already in force"),
    Reason.VERSION_CONFLICT: Text("another text with the same version is in force"),
    Reason.STORAGE: Text("the memory of the station does not work or is full"),
    Reason.RATE_LIMITED: Text("too many at once; try again later"),
    "not-offered": Text("no bulletin with this id waits for a decision; see “tram inbox”"),
    "not-found": Text("there is no such bulletin; see “tram inbox” or “tram today”"),
}
"""Why something was refused, for people: the contract's reasons and those of the station's own commands."""

WORDS: dict[str, Text] = {
    "normal": Text("normal"),
    "priority": Text("priority"),
    "emergency": Text("emergency"),
    "offered": Text("offered"),
    "received": Text("received"),
    "accepted": Text("accepted"),
    "planned": Text("planned"),
    "scheduled": Text("scheduled"),
    "preparing": Text("preparing"),
    "waiting": Text("waiting"),
    "running": Text("on air"),
    "playing": Text("on air"),
    "suspended": Text("interrupted"),
    "interrupted": Text("interrupted"),
    "paused": Text("interrupted"),
    "opened": Text("preparing"),
    "ended": Text("done"),
    "done": Text("done"),
    "completed": Text("completed"),
    "skipped": Text("skipped"),
    "failed": Text("failed"),
    "rejected": Text("refused"),
    "declined": Text("declined"),
    "idle": Text("idle"),
    "silent": Text("silent"),
    "external": Text("external source"),
    "silenced": Text("silenced"),
    "off": Text("off"),
    "on": Text("on"),
    "warming": Text("warming up"),
    "cooling": Text("cooling down"),
    "sound": Text("sound"),
    "screen": Text("screen"),
    "fault": Text("fault"),
    "ok": Text("good"),
    "howl": Text("it howls"),
    "not-played": Text("not played"),
    "unknown": Text("unknown"),
    "line-normal": Text("in order"),
    "line-open": Text("broken"),
    "line-short": Text("shorted"),
    "line-unknown": Text("unknown"),
    "open": Text("line broken"),
    "short": Text("line shorted"),
    "relay-fault": Text("a relay of its power chain failed"),
    "interlocked": Text("another zone uses what cannot be on together with it"),
}
"""States, classes and results as people read them."""


def reason(name: str) -> str:
    """A reason's short name in words; a name from elsewhere stays as it is."""
    return say(REASONS[name]) if name in REASONS else name


def word(name: object) -> str:
    """A state, class or result in words; what has none stays as it is."""
    text = str(name)
    if text in WORDS:
        return say(WORDS[text])
    return reason(text)


def titled(title: object, drill: object) -> str:
    """A programme's title; that of an exercise is never seen without its mark."""
    return _("DRILL · {title}").format(title=title) if drill else str(title)


def yes_no(value: object) -> str:
    """Yes or no."""
    return _("yes") if value else _("no")
