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
    "programme": Text("programme"),
    "relay": Text("relayed programme"),
    "microphone": Text("microphone"),
    "none": Text("nothing"),
    "lan": Text("cable"),
    "wifi": Text("Wi-Fi"),
    "mobile": Text("mobile network"),
    "power-on": Text("switched on, or power came back"),
    "restart": Text("restarted, or the watchdog did it"),
    "debugger": Text("reset by a debugger"),
    "under-voltage": Text("the supply voltage was too low"),
    "over-voltage": Text("the supply voltage was too high"),
    "over-temperature": Text("it was too hot"),
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


FACTS: dict[str, Text] = {
    "device": Text("Device"),
    "name": Text("Name"),
    "unit": Text("Unit"),
    "at": Text("At"),
    "online": Text("Source connected"),
    "parent.online": Text("Station connected"),
    "since": Text("Running since"),
    "agent": Text("Version"),
    "image": Text("Image"),
    "clock.trusted": Text("Time certain"),
    "clock.offset_ms": Text("Clock offset, ms"),
    "drill": Text("Drill mode"),
    "outbox.rows": Text("Reports waiting"),
    "outbox.dropped": Text("Reports lost"),
    "disk.free_mb": Text("Disk free, MB"),
    "disk.total_mb": Text("Disk size, MB"),
    "disk.read_only": Text("Disk read-only"),
    "log": Text("Play log head"),
    "rev": Text("Revision"),
    "temperature_c": Text("Temperature, °C"),
    "uptime_s": Text("Machine on for"),
    "undervoltage": Text("Own supply too low"),
    "voice.version": Text("Version of the emergency core"),
    "voice.pid": Text("Process number of the emergency core"),
    "network.interface": Text("Network interface"),
    "network.type": Text("Kind of network"),
    "network.received_mb": Text("Received, MB"),
    "network.sent_mb": Text("Sent, MB"),
    "network.operator": Text("Mobile operator"),
    "network.technology": Text("Mobile technology"),
    "network.signal_percent": Text("Mobile signal, %"),
    "position.lat": Text("Latitude, °"),
    "position.lon": Text("Longitude, °"),
    "microphone.plugged": Text("Microphone plugged in"),
    "reset.reason": Text("Last start of the machine"),
    "reset.code": Text("Code of the last start"),
}
"""Members of the status (`a.b`: of a member) as people call them."""

FAULTS: dict[str, Text] = {
    "agent": Text("the agent is silent; the board is dark"),
    "air-dead": Text("the transmitter is silent: nothing of what is sent is on the air"),
    "air-foreign": Text("something foreign is on the air while nothing is sent"),
    "air-wrong": Text("something else is on the air than what is sent"),
    "button-refused": Text("a press of a button was refused"),
    "button-stuck": Text("a button does not come back"),
    "child-died": Text("a part of the software ended and was started again"),
    "clock-behind": Text("the clock is behind"),
    "clock-jump": Text("the clock has jumped"),
    "cluster-certificate": Text("a certificate for the clusters runs out"),
    "cluster-foreign": Text("a foreign device is on the clusters' link"),
    "cluster-garbage": Text("a cluster sends garbage"),
    "cluster-lies": Text("a cluster speaks in another's name"),
    "cluster-link": Text("the clusters' link does not work"),
    "cluster-lost": Text("a cluster does not report"),
    "cluster-media": Text("the clusters' library does not work"),
    "cluster-twin": Text("two devices use one cluster's certificate"),
    "content": Text("a file cannot be fetched"),
    "drill-mode": Text("drill mode"),
    "ear": Text("a receiver or microphone gives no sound"),
    "ear-lost": Text("the ear does not work: nothing is listened to or measured"),
    "hot": Text("too hot"),
    "howl": Text("a loudspeaker howls"),
    "internal": Text("a fault of the software"),
    "item-failed": Text("an item could not be played"),
    "line-open": Text("a loudspeaker line is broken"),
    "line-short": Text("a loudspeaker line is shorted"),
    "loudness": Text("a file's loudness could not be measured"),
    "parent-silent": Text("no connection to the station"),
    "relay-contradiction": Text("a relay's contacts contradict each other"),
    "relay-fallback": Text("a relayed programme is silent; its substitute plays"),
    "relay-gpio": Text("a relay's pin cannot be switched"),
    "relay-interlock": Text("a relay is held back by its interlock"),
    "relay-not-following": Text("a relay does not follow"),
    "relay-stuck": Text("a relay sticks"),
    "schedule": Text("a schedule cannot be worked out"),
    "screen-agent": Text("the agent is silent; the board is dark"),
    "screen-command": Text("the board was asked for what it cannot do"),
    "screen-cut": Text("a text is too long for the board"),
    "screen-display": Text("the board's screen does not work"),
    "screen-film": Text("a film cannot be shown"),
    "screen-font": Text("the board has no letters for a text"),
    "screen-output": Text("the board cannot be written to"),
    "screen-painter": Text("a page could not be painted"),
    "screen-picture": Text("a picture cannot be shown"),
    "screen-protocol": Text("the board's process says what is not understood"),
    "self-test": Text("a self-test has found a fault"),
    "sensor": Text("a sensor does not answer or reads nonsense"),
    "silence-key": Text("the key switch silences"),
    "source-silent": Text("no connection to the source system"),
    "speaker-silent": Text("a loudspeaker is silent though something is sent"),
    "speech": Text("a text cannot be spoken"),
    "station-key": Text("the station's own key cannot be used"),
    "storage": Text("the memory of the station does not work or is full"),
    "store-damaged": Text("the station's memory was damaged"),
    "supply-low": Text("the supply voltage is too low"),
    "voice-command": Text("the emergency core was asked for what it cannot do"),
    "voice-gpio": Text("relays and buttons do not work"),
    "voice-interlock": Text("two zones of a button cannot be on together"),
    "voice-lost": Text("the emergency core does not answer"),
    "voice-microphone": Text("the microphone does not work"),
    "voice-pinned": Text("a stored message is not there"),
    "voice-sink": Text("a sound output does not work"),
    "voice-voice": Text("a fault of the emergency core"),
    "voice-xrun": Text("the sound was interrupted for a moment"),
}
"""Faults and alarms as people read them, by the stable word that the status and the events carry."""


def fact(name: str) -> str:
    """What a member of the status is called; one that has no name here stays as it is."""
    return say(FACTS[name]) if name in FACTS else name


def fault_word(name: str) -> str:
    """What is wrong, in words; what has none stays as it is."""
    return say(FAULTS[name]) if name in FAULTS else name


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
