"""CAP 1.2 (OASIS, 1 July 2010) as orders: bytes → `Alert` → `Plan`. No network, no signing; time is an argument.

What becomes what:

| CAP | order |
| --- | --- |
| msgType Alert | `broadcast` |
| Update | `broadcast` with `replaces`; afterwards `cancel` of the former for everyone: areas may have gone |
| Cancel | `cancel` of what `references` names, for everyone unless told otherwise: nobody else knows the ids |
| Ack, Error | nothing |
| status Exercise, Test | `drill` |
| status System, Draft; scope Restricted, Private | refused: loudspeakers are public |
| sender, identifier | the bulletin's id, `bulletin_id` |
| urgency, severity, certainty | the class, `CLASSES` |
| effective | `start`; one that has passed is "now". `onset` is no start: a warning comes before what it warns of |
| expires | `until`; what has expired is refused |
| headline, description, instruction | a text in the info's `language`, for boards and, where there is a voice, spoken |
| audio resource | takes the place of the spoken text, if the file is at hand: an order names a SHA-256, CAP a SHA-1 |
| geocode | who hears it, by `areas.yaml` (`Areas`); polygons and circles are not read |

When boards show something else than is heard (a language without a voice, a recording), there are two orders:
the bulletin's id for `kind:sound`, and the id with `.screen` for `kind:screen`; a `cancel` names both. The one for
boards lasts as long as it takes to read it, and has no `until` (its `exp` is the alert's): a board that showed an
alert until it expires would keep later ones of the same rank off. Only an endless repeat stays until `expires`.
Infos with the same urgency, severity, certainty, times and targets are one bulletin in several languages; others are
orders of their own with the same id, the least urgent first, so that no device keeps the lesser one.
Emergencies that do not fit into an order lose their descriptions first, then their instructions.

An XML signature inside the alert is not verified: whoever signs the orders vouches for the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

import msgspec
from msgspec import Meta, Struct

from agent.cli.language import _
from agent.link import topics
from agent.model.orders import Broadcast, Cancel, Class, Item, Media, Repeat, Resume
from province.store import ProvinceError

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
OTHER_VERSION = re.compile(r"urn:oasis:names:tc:emergency:cap:(.+)|http://www\.incident\.com/cap/(.+)")
FILE_LIMIT = 16 * 2**20
"""Bytes of a file; recordings may lie inside it."""
ELEMENT_LIMIT, DEPTH_LIMIT = 20_000, 16
ORDER_TTL_S = 24 * 3600.0
"""No broadcast is admitted later than this after it was signed …"""
CANCEL_TTL_S = ORDER_TTL_S + 3600.0
"""… so that whoever gets the broadcast late gets its cancel too."""
EVERYONE = "group:" + topics.EVERYONE

SOON, GRAVE, CERTAIN = {"Immediate", "Expected"}, {"Extreme", "Severe"}, {"Observed", "Likely"}
PAST, NEVER = {"Past"}, {"Unlikely"}
CLASSES: tuple[tuple[Class, set[str] | None, set[str] | None, set[str] | None], ...] = (
    (Class.EMERGENCY, SOON, GRAVE, CERTAIN),
    (Class.NORMAL, PAST, None, None),
    (Class.NORMAL, None, None, NEVER),
    (Class.PRIORITY, None, GRAVE | {"Moderate"}, None),
    (Class.NORMAL, None, None, None),
)
"""(class, urgency, severity, certainty): the first line that fits counts; None fits all."""

READING_CHARACTERS_S = 10.0
"""How many characters of a board people read in a second, pages turned included."""
CHIMES = {Class.EMERGENCY: "siren", Class.PRIORITY: "gong", Class.NORMAL: "gong"}
_VALUES = {
    "status": ("Actual", "Exercise", "System", "Test", "Draft"),
    "msgType": ("Alert", "Update", "Cancel", "Ack", "Error"),
    "scope": ("Public", "Restricted", "Private"),
    "urgency": ("Immediate", "Expected", "Future", "Past", "Unknown"),
    "severity": ("Extreme", "Severe", "Moderate", "Minor", "Unknown"),
    "certainty": ("Observed", "Likely", "Possible", "Unlikely", "Unknown"),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[-+]\d\d:\d\d)", re.ASCII)
_NAME = re.compile(r"[^\s,<&]{1,1000}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)


class CapError(ProvinceError):
    """The alert is refused; the message says why, in the language in use."""


class Resource(Struct, frozen=True):
    """A file that comes with an info. `inside` its bytes in base64, when the alert carries it itself."""

    mime: str
    uri: str | None = None
    inside: str | None = None
    digest: str | None = None
    """SHA-1, hexadecimal, lower case."""

    @property
    def name(self) -> str:
        """The file's name without folders, "" when it has none."""
        return PurePosixPath(unquote(urlsplit(self.uri or "").path)).name


class Area(Struct, frozen=True):
    """A place: its description, its (valueName, value) codes, and whether it has a shape."""

    description: str
    geocodes: tuple[tuple[str, str], ...] = ()
    shapes: bool = False


class Info(Struct, frozen=True):
    """One language's or one area's part of an alert. Times are aware."""

    language: str
    event: str
    urgency: str
    severity: str
    certainty: str
    effective: datetime | None = None
    expires: datetime | None = None
    headline: str = ""
    description: str = ""
    instruction: str = ""
    resources: tuple[Resource, ...] = ()
    areas: tuple[Area, ...] = ()

    @property
    def class_(self) -> Class:
        """The class by `CLASSES`."""
        given = (self.urgency, self.severity, self.certainty)
        return next(
            line[0] for line in CLASSES if all(c is None or v in c for v, c in zip(given, line[1:], strict=True))
        )

    def text(self, brevity: int) -> str:
        """What is said and shown: 0 everything, 1 without the description, 2 the headline alone."""
        parts = [self.headline or self.event, self.description, self.instruction]
        chosen = ([0, 1, 2], [0, 2], [0])[brevity]
        return " ".join(p if p[-1] in ".!?:;…。" else p + "." for p in (parts[n] for n in chosen) if p)


class Alert(Struct, frozen=True):
    """A CAP 1.2 message as read by `parse`. `references` are the bulletin ids of what it is about, oldest first."""

    identifier: str
    sender: str
    status: str
    kind: str
    scope: str
    references: tuple[str, ...] = ()
    infos: tuple[Info, ...] = ()

    @property
    def id(self) -> str:
        """The bulletin's id."""
        return bulletin_id(self.sender, self.identifier)


def bulletin_id(sender: str, identifier: str) -> str:
    """The same for the same alert, everywhere and always: a readable part, and a hash of the whole."""
    readable = re.sub(r"[^A-Za-z0-9._:-]+", "-", identifier, flags=re.ASCII)[-28:]
    return f"cap-{readable}-{hashlib.sha256(f'{sender},{identifier}'.encode()).hexdigest()[:20]}"


# Reading


class _Node:
    """An element of CAP's namespace; others are not kept."""

    __slots__ = ("children", "name", "parts")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[str] = []
        self.children: list[_Node] = []

    def all(self, name: str) -> list[_Node]:
        return [child for child in self.children if child.name == name]

    def text(self) -> str:
        return "".join(self.parts).strip()

    def get(self, name: str) -> str | None:
        """The text of the one child of that name; None when there is none or it is empty."""
        found = self.all(name)
        if len(found) > 1:
            raise CapError(_("{element} occurs more than once in {parent}.").format(element=name, parent=self.name))
        return (found[0].text() or None) if found else None

    def need(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise CapError(_("{element} is missing in {parent}.").format(element=name, parent=self.name))
        if name in _VALUES and value not in _VALUES[name]:
            raise CapError(
                _("{element} is {value}; CAP 1.2 knows {known}.").format(
                    element=name, value=repr(value[:100]), known=", ".join(_VALUES[name])
                )
            )
        return value

    def words(self, name: str) -> str:
        return " ".join((self.get(name) or "").split())

    def time(self, name: str) -> datetime | None:
        value = self.get(name)
        if value is None:
            return None
        try:
            # Without an offset a time means something else in each place.
            found = datetime.fromisoformat(value) if _TIME.fullmatch(value) else None
        except ValueError:
            found = None
        if found is None:
            raise CapError(
                _("{element} is {value}: not a time like 2026-11-03T19:30:00+07:00.").format(
                    element=name, value=repr(value[:100])
                )
            )
        return found


class _Reader:
    """Builds the tree. A document type is refused when it begins: no entity is ever declared, let alone fetched."""

    def __init__(self) -> None:
        self.root: _Node | None = None
        self._stack: list[_Node | None] = []
        self._count = 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self._parser = parser

    def read(self, data: bytes) -> _Node:
        try:
            self._parser.Parse(data, True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise CapError(_("This is not well-formed XML: {detail}.").format(detail=error)) from error
        assert self.root is not None  # noqa: S101 - a document without an element is not well-formed
        return self.root

    def _doctype(self, *_declared: object) -> None:
        raise CapError(_("The file has a document type (DTD); CAP has none, and entities are not read."))

    def _start(self, name: str, _attributes: Mapping[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENT_LIMIT or len(self._stack) >= DEPTH_LIMIT:
            raise CapError(_("The file has too many elements, or they are nested too deeply."))
        namespace, _space, local = name.rpartition(" ")
        if self.root is None:
            self.root = self._top(namespace, local)
            self._stack.append(self.root)
            return
        parent = self._stack[-1]
        node = _Node(local) if parent is not None and namespace == NAMESPACE else None
        if parent is not None and node is not None:
            parent.children.append(node)
        self._stack.append(node)

    @staticmethod
    def _top(namespace: str, local: str) -> _Node:
        other = OTHER_VERSION.fullmatch(namespace)
        if local == "alert" and namespace == NAMESPACE:
            return _Node(local)
        if other:
            raise CapError(_("This is CAP {version}; only 1.2 is read.").format(version=other[1] or other[2]))
        raise CapError(
            _("This is not a CAP 1.2 alert but {element} of the namespace {namespace}.").format(
                element=repr(local[:100]), namespace=repr(namespace[:200])
            )
        )

    def _end(self, _name: str) -> None:
        self._stack.pop()

    def _characters(self, text: str) -> None:
        node = self._stack[-1]
        if node is not None:
            node.parts.append(text)


def parse(data: bytes) -> Alert:
    """Read an alert. CapError: too large, no XML, a DTD, another version, members that are missing or wrong."""
    if len(data) > FILE_LIMIT:
        raise CapError(_("The file is larger than {mb} MB.").format(mb=FILE_LIMIT // 2**20))
    top = _Reader().read(data)
    identifier, sender = top.need("identifier"), top.need("sender")
    for name, value in (("identifier", identifier), ("sender", sender)):
        if not _NAME.fullmatch(value):
            raise CapError(_("{element} has spaces, commas, < or & in it, or is too long.").format(element=name))
    if top.time("sent") is None:
        top.need("sent")
    return Alert(
        identifier=identifier,
        sender=sender,
        status=top.need("status"),
        kind=top.need("msgType"),
        scope=top.need("scope"),
        references=tuple(dict.fromkeys(_reference(r) for r in (top.get("references") or "").split())),
        infos=tuple(_info(node) for node in top.all("info")),
    )


def _reference(text: str) -> str:
    """`sender,identifier,sent` as a bulletin's id."""
    parts = text.split(",")
    if len(parts) != 3 or not all(parts):
        raise CapError(_("references has {value}, not sender,identifier,sent.").format(value=repr(text[:200])))
    return bulletin_id(parts[0], parts[1])


def _info(node: _Node) -> Info:
    language = node.get("language") or "en-US"  # the standard's default
    if not _LANGUAGE.fullmatch(language) or len(language) > 35:
        raise CapError(_("language is {value}: not a code like vi or vi-VN.").format(value=repr(language[:100])))
    certainty = node.get("certainty")
    return Info(
        language=language,
        event=" ".join(node.need("event").split()),
        urgency=node.need("urgency"),
        severity=node.need("severity"),
        # CAP 1.0's word, which the standard tells 1.2 to read like this.
        certainty="Likely" if certainty == "Very Likely" else node.need("certainty"),
        effective=node.time("effective"),
        expires=node.time("expires"),
        headline=node.words("headline"),
        description=node.words("description"),
        instruction=node.words("instruction"),
        resources=tuple(
            Resource(r.get("mimeType") or "", r.get("uri"), r.get("derefUri"), (r.get("digest") or "").lower() or None)
            for r in node.all("resource")
        ),
        areas=tuple(
            Area(
                a.words("areaDesc"),
                tuple((g.need("valueName"), g.need("value")) for g in a.all("geocode")),
                bool(a.all("polygon") or a.all("circle")),
            )
            for a in node.all("area")
        ),
    )


# Areas


class Geocode(Struct, frozen=True, forbid_unknown_fields=True):
    """One geocode and who hears it: the devices of a unit and what lies below it, and targets named one by one."""

    value_name: str = msgspec.field(name="valueName")
    value: str
    unit: str | None = None
    to: list[Annotated[str, Meta(max_length=64)]] = []

    def __post_init__(self) -> None:
        """Refuse a line that leads nowhere, or to what has no topic."""
        if self.unit is None and not self.to:
            raise ValueError("needs unit or to")
        for target in self.to:
            topics.order(target)


class Areas(Struct, frozen=True, forbid_unknown_fields=True):
    """`areas.yaml` of the province's folder.

    ```yaml
    areas:
      - {valueName: VN-DVHC, value: "29302", unit: 84/86/xa-mau}
      - {valueName: VN-DVHC, value: "86", to: ["group:ven-bien", xa-mau-2]}
    devices:            # where each device is; needed for `unit`
      xa-mau-1: 84/86/xa-mau/ap-1
    ```
    Values are compared as they are written; numbers need quotation marks.
    """

    areas: list[Geocode] = []
    devices: dict[str, str] = {}

    @classmethod
    def load(cls, folder: Path) -> Areas:
        """The folder's mapping, empty without a file; a training station's devices are known. CapError."""
        import json

        import yaml

        path = folder / "areas.yaml"
        try:
            given = yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
            found = msgspec.convert({} if given is None else given, cls)
            connection = folder / "connection.json"
            if connection.exists() and not found.devices:
                told = json.loads(connection.read_bytes())["devices"]
                found = msgspec.structs.replace(found, devices={str(d["id"]): str(d["unit"]) for d in told})
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise CapError(_("{path} cannot be used: {detail}").format(path=path, detail=error)) from error
        return found

    def targets(self, area: Area) -> list[str]:
        """Who hears what is said for the area; empty when no code of it leads to anyone."""
        found: list[str] = []
        for line in self.areas:
            if (line.value_name, line.value) in area.geocodes:
                found += line.to
                if line.unit is not None:
                    found += [d for d, u in self.devices.items() if f"{u}/".startswith(f"{line.unit.rstrip('/')}/")]
        return list(dict.fromkeys(found))


# Recordings


class Recordings:
    """Finds audio resources as files, and gives them to `keep`, which says what an order says of them.

    A file comes from inside the alert, or from `folders` by the name in its uri. Nothing is downloaded.
    """

    def __init__(self, folders: Sequence[Path], keep: Callable[[Path], Media]) -> None:
        self._folders, self._keep = folders, keep

    def __call__(self, resource: Resource) -> Media:
        """The media; CapError says why there is none."""
        if resource.inside is not None:
            try:
                data = base64.b64decode("".join(resource.inside.split()), validate=True)
            except (binascii.Error, ValueError):
                raise CapError(_("the recording inside the alert is not base64")) from None
            self._check(resource, data)
            with tempfile.TemporaryDirectory() as scratch:
                inside = Path(scratch) / f"cap{_suffix(resource)}"
                inside.write_bytes(data)
                return self._keep(inside)
        name = resource.name
        for folder in self._folders if name not in {"", ".", ".."} else ():
            file = folder / name
            if file.is_file():
                self._check(resource, file.read_bytes())
                return self._keep(file)
        raise CapError(
            _("{uri} is not at hand: download it and give its folder with --media-dir").format(
                uri=repr((resource.uri or "")[:300])
            )
        )

    @staticmethod
    def _check(resource: Resource, data: bytes) -> None:
        if resource.digest and hashlib.sha1(data, usedforsecurity=False).hexdigest() != resource.digest:
            raise CapError(_("the recording is another one than the alert means: its SHA-1 differs"))


def _suffix(resource: Resource) -> str:
    kinds = {"mpeg": ".mp3", "mp3": ".mp3", "ogg": ".ogg", "opus": ".opus", "flac": ".flac", "mp4": ".m4a"}
    kinds |= {"aac": ".aac", "wav": ".wav", "x-wav": ".wav", "wave": ".wav", "vnd.wave": ".wav"}
    return kinds.get(resource.mime.partition("/")[2].partition(";")[0].strip().lower(), "")


# Planning


class Order(Struct, frozen=True):
    """An order to sign. `afterwards`: only once the others are on, or cannot be: see `plan`."""

    op: str
    args: dict[str, Any]
    aud: list[str]
    ttl_s: float
    class_: Class | None = None
    afterwards: bool = False


class Plan(Struct, frozen=True):
    """What an alert comes to: orders in the order of sending, and sentences about what was left out or decided."""

    id: str
    orders: list[Order]
    notes: list[str]


class Choices(Struct, frozen=True, kw_only=True):
    """What the person at the province decides. Defaults: what the alert itself says."""

    voices: frozenset[str]
    """Languages (lower case) that the stations can speak."""
    limits: Mapping[Class, int]
    """How many bytes a signed order of each class may have."""
    to: tuple[str, ...] = ()
    """Instead of the alert's areas."""
    class_: Class | None = None
    zones: tuple[str, ...] = ()
    """Instead of all zones."""
    chime: str | None = None
    """Instead of `CHIMES`; "none": none."""
    repeat: Repeat | None = None
    minutes: float = 60.0
    """How long an alert without `expires` is valid."""


class _Bulletin(Struct):
    """Infos that are one bulletin."""

    class_: Class
    start: datetime
    until: datetime
    infos: list[Info]
    targets: list[str]


def plan(alert: Alert, choices: Choices, areas: Areas, recordings: Callable[[Resource], Media], now: datetime) -> Plan:
    """The orders for an alert. CapError: it must not, or cannot, be broadcast."""
    notes: list[str] = []
    if alert.kind in {"Ack", "Error"}:
        notes.append(_("msgType {kind} is for other systems: there is nothing to broadcast.").format(kind=alert.kind))
        return Plan(alert.id, [], notes)
    if alert.status in {"System", "Draft"}:
        raise CapError(_("Its status is {status}: it is not meant for the public.").format(status=alert.status))
    former = [name for r in alert.references if r != alert.id for name in (r, f"{r}.screen")]
    if alert.kind in {"Update", "Cancel"} and not former:
        raise CapError(_("{kind} without references: it does not say what it is about.").format(kind=alert.kind))
    if alert.kind == "Cancel":
        return Plan(alert.id, _cancels(former, list(choices.to) or [EVERYONE]), notes)
    if alert.scope != "Public":
        raise CapError(_("Its scope is {scope}: loudspeakers and boards are public.").format(scope=alert.scope))
    if not alert.infos:
        raise CapError(_("It has no info: there is nothing to say."))
    bulletins = _bulletins(alert, choices, areas, now, notes)
    drill = alert.status != "Actual"
    if drill:
        notes.append(_("status {status}: it is marked as a drill (diễn tập).").format(status=alert.status))
    replaces = former[-64:] if alert.kind == "Update" else []
    orders: list[Order] = []
    for bulletin in bulletins:
        orders += _broadcasts(alert.id, bulletin, choices, recordings, now, notes, drill=drill, replaces=replaces)
    if alert.kind == "Update":
        orders += [msgspec.structs.replace(o, afterwards=True) for o in _cancels(former, [EVERYONE])]
    return Plan(alert.id, orders, notes)


def _cancels(ids: list[str], aud: list[str]) -> list[Order]:
    parts = [ids[n : n + 64] for n in range(0, len(ids), 64)]
    return [Order("cancel", msgspec.to_builtins(Cancel(ids=part)), aud, CANCEL_TTL_S) for part in parts]


def _bulletins(alert: Alert, choices: Choices, areas: Areas, now: datetime, notes: list[str]) -> list[_Bulletin]:
    """Infos put together, expired and unreachable ones left out; the least urgent first."""
    fitting = [info for info in alert.infos if info.expires is None or info.expires > now]
    if not fitting:
        raise CapError(_("It has expired."))
    if len(fitting) < len(alert.infos):
        notes.append(_("What has expired of it is left out."))
    reached = [list(choices.to) or _targets(info, areas, notes) for info in fitting]
    everyone = [target for targets in reached for target in targets]
    found: dict[object, _Bulletin] = {}
    for info, own in zip(fitting, reached, strict=True):
        targets = list(dict.fromkeys(own if info.areas or own else everyone))
        if not targets:
            continue
        start = info.effective if info.effective is not None and info.effective > now else now
        if info.expires is None:
            notes.append(
                _("It does not say when it expires: {minutes} minutes.").format(minutes=f"{choices.minutes:g}")
            )
        try:
            until = info.expires or start + timedelta(minutes=choices.minutes)
        except OverflowError:
            until = start
        if until <= start:
            raise CapError(_("It expires before it becomes effective."))
        key = (info.urgency, info.severity, info.certainty, start, info.expires, tuple(sorted(targets)))
        made = found.setdefault(key, _Bulletin(choices.class_ or info.class_, start, until, [], targets))
        made.infos.append(info)
    taken: set[str] = set()
    for bulletin in sorted(found.values(), key=lambda b: -b.class_.weight):
        bulletin.targets = [t for t in bulletin.targets if t not in taken]
        taken.update(bulletin.targets)
    if not taken:
        raise CapError(_("None of its areas leads to a station: say who hears it with --to, or in areas.yaml."))
    return sorted((b for b in found.values() if b.targets), key=lambda b: b.class_.weight)


def _targets(info: Info, areas: Areas, notes: list[str]) -> list[str]:
    found: list[str] = []
    for area in info.areas:
        here = areas.targets(area)
        found += here
        codes = ", ".join(f"{name}={value}" for name, value in area.geocodes)
        note = None
        if not here and codes:
            note = _("The area “{area}” ({codes}) leads to no station; enter its code in areas.yaml.")
        elif not here:
            note = _("The area “{area}” has no geocode; polygons and circles are not read: use --to.")
        if note is not None and (text := note.format(area=area.description[:100], codes=codes[:200])) not in notes:
            notes.append(text)
    return found


def _broadcasts(
    id_: str,
    bulletin: _Bulletin,
    choices: Choices,
    recordings: Callable[[Resource], Media],
    now: datetime,
    notes: list[str],
    *,
    drill: bool,
    replaces: list[str],
) -> list[Order]:
    """One order, or one for what is heard and one for what is shown."""
    recorded = {n: media for n, info in enumerate(bulletin.infos) if (media := _recording(info, recordings, notes))}
    spoken = {n for n, info in enumerate(bulletin.infos) if info.language.lower() in choices.voices}
    chime = choices.chime or CHIMES[bulletin.class_]
    front = [] if chime == "none" else [Item(chime=chime)]

    def heard(brevity: int) -> list[Item]:
        items = [
            Item(media=recorded[n]) if n in recorded else Item(text=info.text(brevity), lang=info.language)
            for n, info in enumerate(bulletin.infos)
            if n in recorded or n in spoken
        ]
        return [*front, *items] if items else []

    def shown(brevity: int) -> list[Item]:
        texts = [(info.text(brevity), info.language) for info in bulletin.infos]
        return [Item(text=t, lang=lang, dwell_s=max(10.0, round(len(t) / READING_CHARACTERS_S))) for t, lang in texts]

    boards = set(choices.zones) == {"kind:screen"}
    mute = {info.language for n, info in enumerate(bulletin.infos) if n not in recorded and n not in spoken}
    if mute and not boards:
        shows = _("No voice and no recording for {languages}: shown on boards, not heard.")
        drops = _("No voice and no recording for {languages}: left out, because zones are named.")
        notes.append((drops if choices.zones else shows).format(languages=", ".join(sorted(mute))))
    parts: list[tuple[str, tuple[str, ...], Callable[[int], list[Item]]]]
    if choices.zones:
        parts = [(f"{id_}.screen" if boards else id_, choices.zones, shown if boards else heard)]
    elif mute or recorded:
        parts = [(id_, ("kind:sound",), heard), (f"{id_}.screen", ("kind:screen",), shown)]
    else:
        parts = [(id_, ("*",), heard)]
    made = [
        _fitting(name, zones, items, bulletin, choices, now, notes, drill=drill, replaces=replaces)
        for name, zones, items in parts
        if items(0)
    ]
    if not made:
        raise CapError(_("Nothing of it can be heard: there is neither a voice nor a recording for its languages."))
    return made


def _fitting(
    id_: str,
    zones: Sequence[str],
    items: Callable[[int], list[Item]],
    bulletin: _Bulletin,
    choices: Choices,
    now: datetime,
    notes: list[str],
    *,
    drill: bool,
    replaces: list[str],
) -> Order:
    """The order with as much text as its class allows."""
    first = bulletin.infos[0]
    lasting = set(zones) != {"kind:screen"} or (choices.repeat is not None and choices.repeat.count is None)
    for brevity in range(3):
        try:
            args = Broadcast(
                id=id_,
                title=(first.headline or first.event)[:200],
                class_=bulletin.class_,
                start="now" if bulletin.start <= now else bulletin.start.isoformat(),
                until=bulletin.until.isoformat() if lasting else None,
                zones=list(zones),
                items=items(brevity),
                resume=Resume.RESTART,
                repeat=choices.repeat,
                replaces=replaces,
                drill=drill,
            )
        except ValueError as error:
            raise CapError(_("Devices would refuse this: {detail}").format(detail=error)) from error
        given = msgspec.to_builtins(args)
        if _signed_size(given, bulletin.targets) > choices.limits[bulletin.class_]:
            continue
        try:
            msgspec.convert(given, Broadcast)
        except msgspec.ValidationError as error:
            raise CapError(_("Devices would refuse this: {detail}").format(detail=error)) from error
        if brevity:
            left = _("its description"), _("its description and instruction")
            notes.append(
                _("An order of this class has at most {limit} bytes: {parts} left out.").format(
                    limit=choices.limits[bulletin.class_], parts=left[brevity - 1]
                )
            )
        ttl = min((bulletin.until - now).total_seconds(), ORDER_TTL_S)
        return Order("broadcast", given, bulletin.targets, max(1.0, ttl), bulletin.class_)
    raise CapError(
        _("Even its headlines do not fit into {limit} bytes: name a group instead of {n} targets.").format(
            limit=choices.limits[bulletin.class_], n=len(bulletin.targets)
        )
    )


def _recording(info: Info, recordings: Callable[[Resource], Media], notes: list[str]) -> Media | None:
    """The info's first audio resource that can be had."""
    for resource in info.resources:
        if not resource.mime.lower().startswith("audio/"):
            notes.append(
                _("{name} ({type}) is left out: only sound is taken.").format(
                    name=repr(resource.name[:100]), type=resource.mime[:100]
                )
            )
            continue
        try:
            return recordings(resource)
        except ProvinceError as error:
            notes.append(
                _("No recording in {language}: {why}.").format(language=info.language, why=str(error).rstrip("."))
            )
    return None


def _signed_size(args: Mapping[str, Any], aud: Sequence[str]) -> int:
    """Bytes of the compact JWS at most: the claims that are not known yet are counted at their longest."""
    unknown = {"iss": "x" * 40, "jti": "x" * 32, "iat": 10**10, "exp": 10**10 + 0.125, "ctr": 2**53 - 1}
    body = len(msgspec.json.encode({**unknown, "op": "broadcast", "aud": aud, "args": args}))
    header = len('{"alg":"Ed25519","kid":"","typ":"tram-order+jws"}') + 43
    return sum((4 * size + 2) // 3 for size in (header, body, 64)) + 2
