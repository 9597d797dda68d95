"""`station.yaml` → `Station`, or every mistake in it at once.

The file is walked along the types of `agent.model.config`, value by value, so that one mistake does not hide the
next; then what one value says about another is checked (references, pins, times); then the types themselves have the
last word. Sentences are `Text`s: the commands translate them, voice and agent print them as they are.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from agent.model.config import (
    MEDIA_ADDRESS,
    Board,
    ClusterLink,
    Content,
    Hardware,
    HdmiOutput,
    HourRange,
    Microphone,
    Monitor,
    Mqtt,
    Parent,
    PngOutput,
    RtpOutput,
    Station,
    Trust,
    Unit,
    WavOutput,
)
from agent.model.orders import AuthorityId, Sha256
from agent.model.problem import MISSING, SEE_EXAMPLES, ConfigError, Problem, Text, listed, nearest
from agent.model.relations import Relations
from agent.model.yaml_tree import MAX_BYTES, Mapping, Node, Scalar, Sequence, join, read

__all__ = ["ConfigError", "Problem", "Text", "examine", "load"]

PATHS: dict[type, frozenset[str]] = {
    Mqtt: frozenset({"ca", "cert", "key"}),
    Parent: frozenset({"ca", "cert", "key"}),
    ClusterLink: frozenset({"ca", "cert", "key"}),
    Trust: frozenset({"root_keys", "authorities", "station_key"}),
    Content: frozenset({"ca"}),
    Hardware: frozenset({"control"}),
    Station: frozenset({"data_dir", "run_dir"}),
    WavOutput: frozenset({"path"}),
    RtpOutput: frozenset({"sdp"}),
    PngOutput: frozenset({"dir"}),
    HdmiOutput: frozenset({"device", "backlight"}),
    Board: frozenset({"slide"}),
    Microphone: frozenset({"path"}),
    Monitor: frozenset({"path"}),
}
"""Which members are paths: read relative to the file's folder and made absolute."""

SECRETS = frozenset({("mqtt", "key"), ("parent", "key"), ("cluster_link", "key"), ("trust", "station_key")})
"""Files that nobody but their owner should read."""

_KEY_MATERIAL = re.compile(r"-----BEGIN|\"(kty|d)\"\s*:|\n")
_SECRET_NAMES = re.compile(r"passw|secret|token|private|psk|\Akty\Z|\Ad\Z", re.IGNORECASE)
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


def load(path: str | os.PathLike[str]) -> Station:
    """The configuration in the file at `path`, its own paths made absolute.

    ConfigError with every mistake when it cannot be used. Warnings (a certificate that is not there yet) do not
    stop it: a station must arm its buttons without them. Use `examine` to see them.
    """
    station, problems, _ = _parse(Path(path))
    errors = [p for p in problems if p.level == "error"]
    if station is None or errors:
        raise ConfigError(errors)
    return station


def examine(path: str | os.PathLike[str]) -> tuple[Station | None, list[Problem]]:
    """The configuration (None if it cannot be used) and all that is wrong with it, warnings included.

    Beside the file itself it looks at the files that it names: whether they are there and who may read the secrets.
    """
    try:
        station, problems, lines = _parse(Path(path))
    except ConfigError as error:
        return None, error.problems
    if station is not None:
        problems += sorted(_missing_files(station, lines.get), key=lambda p: p.line or 0)
    return station, problems


def _parse(path: Path) -> tuple[Station | None, list[Problem], dict[str, int]]:
    problems: list[Problem] = []
    tree = read(_bytes(path), problems)
    walk = _Walk(problems, Path(os.path.abspath(path)).parent)
    values = walk.struct(tree, types.type_info(Station), "")
    Relations(walk.wrong, values).check()
    problems.sort(key=lambda p: p.line or 0)
    if any(p.level == "error" for p in problems):
        return None, problems, walk.lines
    try:
        return msgspec.convert(values, Station), problems, walk.lines
    except msgspec.ValidationError as error:
        problem = Problem("", Text("The configuration does not fit: {detail}.", detail=error), SEE_EXAMPLES)
        return None, [*problems, problem], walk.lines


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        reason = Text("There is no file {path}.", path=path)
        remedy = Text("Give the right path with --config, or copy one of the examples in the folder config/ there.")
    except PermissionError:
        reason = Text("The file {path} may not be read by this user.", path=path)
        remedy = Text("Run the command as the user tram or as root, or correct the file's permissions.")
    except IsADirectoryError:
        reason = Text("{path} is a folder.", path=path)
        remedy = Text("Give the path of the file in it, for example {path}/station.yaml.", path=path)
    except (OSError, ValueError) as error:
        reason = Text("The file {path} cannot be read: {detail}.", path=path, detail=error)
        remedy = Text("Check the path and the disk.")
    raise ConfigError([Problem("", reason, remedy)])


class _Walk:
    """Converts the tree along the types. A value that cannot be converted becomes `MISSING` and a problem."""

    def __init__(self, problems: list[Problem], folder: Path) -> None:
        self.problems = problems
        self.folder = folder
        self.lines: dict[str, int] = {}

    def wrong(self, path: str, reason: Text, remedy: Text, line: int | None = None) -> None:
        """Note a mistake; its line is that of the value, or of the nearest thing around it that is in the file."""
        around = path
        while line is None and around:
            line = self.lines.get(around)
            around = re.sub(r"(\.|\A)[^.\[]*\Z|\[\d+\]\Z", "", around)
        self.problems.append(Problem(path, reason, remedy, line))

    def value(self, node: Node, kind: types.Type, path: str) -> Any:
        """One value of any type."""
        self.lines.setdefault(path, node.line)
        if isinstance(kind, types.UnionType):
            return self.union(node, kind, path)
        if isinstance(kind, types.StructType):
            return self.struct(node, kind, path)
        if isinstance(kind, types.ListType):
            return self.sequence(node, kind, path)
        if not isinstance(node, Scalar):
            return self.not_scalar(node, path)
        if node.null:
            self.wrong(
                path, Text("There is no value here."), Text("Write a value after the colon, or delete the line.")
            )
            return MISSING
        return self.scalar(node, kind, path)

    def not_scalar(self, node: Node, path: str) -> Any:
        if isinstance(node, Mapping) and {"kty", "d", "k", "n"} & node.items.keys():
            return self.inline_secret(path)
        what = Text("A list stands here, but one value is expected.")
        if isinstance(node, Mapping):
            what = Text("A group of values stands here, but one value is expected.")
        self.wrong(path, what, Text("Write the value on the same line, after the colon."))
        return MISSING

    def inline_secret(self, path: str) -> Any:
        self.wrong(
            path,
            Text("A key or certificate itself stands in the configuration."),
            Text(
                "Put it into a file of its own that only the user tram can read, and give the path of that file here."
            ),
        )
        return MISSING

    def union(self, node: Node, kind: types.UnionType, path: str) -> Any:
        options = [t for t in kind.types if not isinstance(t, types.NoneType)]
        if len(options) < len(kind.types) and isinstance(node, Scalar) and node.null:
            return None
        structs = [t for t in options if isinstance(t, types.StructType)]
        if len(structs) > 1:
            return self.tagged(node, structs, path)
        if isinstance(node, Scalar):  # a pin, or the id of something
            whole = node.plain and node.text.isdecimal()
            options.sort(key=lambda t: isinstance(t, types.IntType) != whole)
        for option in options:
            if isinstance(option, types.ListType) == isinstance(node, Sequence):
                return self.value(node, option, path)
        return self.value(node, options[0], path)

    def tagged(self, node: Node, options: list[types.StructType], path: str) -> Any:
        field = str(options[0].tag_field)
        if not isinstance(node, Mapping):
            return self.struct(node, options[0], path)
        by_tag = {str(o.tag): o for o in options}
        tag = node.items.get(field)
        if tag is None:
            self.wrong(
                path,
                Text("“{key}” is missing.", key=field),
                Text("Add a line “{key}: …” with one of: {known}.", key=field, known=listed(sorted(by_tag))),
            )
            return MISSING
        self.lines[join(path, field)] = node.lines[field]
        if not isinstance(tag, Scalar) or tag.text not in by_tag:
            self.not_one_of(join(path, field), tag.text if isinstance(tag, Scalar) else "…", sorted(by_tag))
            return MISSING
        return self.struct(node, by_tag[tag.text], path)

    def struct(self, node: Node, kind: types.Type, path: str) -> Any:
        """The members that could be read, as a dict by their names in the file."""
        assert isinstance(kind, types.StructType)  # noqa: S101 - for the type checker
        if not isinstance(node, Mapping):
            if isinstance(node, Scalar) and _KEY_MATERIAL.search(node.text):
                return self.inline_secret(path)
            self.wrong(
                path,
                Text("A group of values is expected here."),
                Text("Write them on indented lines below: {known}.", known=listed(f.encode_name for f in kind.fields)),
            )
            return MISSING
        fields = {f.encode_name: f for f in kind.fields}
        found: dict[str, Any] = {}
        meant: set[str] = set()
        for key, member in node.items.items():
            self.lines[join(path, key)] = node.lines.get(key, node.line)
            if key in fields:
                value = self.value(member, fields[key].type, join(path, key))
                if isinstance(value, str) and key in PATHS.get(kind.cls, ()):
                    value = self.path(value, join(path, key))
                found[key] = value
            elif key == kind.tag_field:
                found[key] = kind.tag
            elif not key.startswith("\0"):
                meant.add(self.unknown_key(node, key, path, [n for n in fields if n not in node.items], list(fields)))
        for name, field in fields.items():
            if field.required and name not in node.items and name not in meant:
                self.wrong(
                    path,
                    Text("“{key}” is missing.", key=name),
                    Text("Add a line “{key}: …”: {expected}.", key=name, expected=_expected(field.type)),
                )
        return found

    def unknown_key(self, node: Mapping, key: str, path: str, free: list[str], known: list[str]) -> str:
        """Refuse a key; returns the missing one that was probably meant, or ""."""
        guess = nearest(key, free) or nearest(key, known)
        if guess:
            remedy = Text("Did you mean “{guess}”?", guess=guess)
        elif _SECRET_NAMES.search(key):
            remedy = Text("Secrets do not belong in this file: give the path of a file where one is expected.")
        else:
            remedy = Text("Known here: {known}.", known=listed(known))
        self.wrong(join(path, key), Text("“{key}” is not known here.", key=key), remedy, node.lines[key])
        return guess or ""

    def sequence(self, node: Node, kind: types.ListType, path: str) -> Any:
        if not isinstance(node, Sequence):
            self.wrong(
                path,
                Text("A list is expected here."),
                Text("Put each entry on a line of its own that begins with “- ”; an empty list is []."),
            )
            return MISSING
        values = [self.value(n, kind.item_type, f"{path}[{i}]") for i, n in enumerate(node.items)]
        low, high = kind.min_length or 0, kind.max_length or math.inf
        if not low <= len(values) <= high:
            reason = Text("The list has {count} entries.", count=len(values))
            self.wrong(path, reason, Text("Give at least {low} and at most {high}.", low=low, high=high))
        return values

    def scalar(self, node: Scalar, kind: types.Type, path: str) -> Any:
        if isinstance(kind, types.StrType):
            return self.text(node, kind, path)
        if isinstance(kind, types.LiteralType | types.EnumType):
            words = kind.values if isinstance(kind, types.LiteralType) else tuple(e.value for e in kind.cls)
            if node.text not in words:
                return self.not_one_of(path, node.text, [str(w) for w in words])
            return node.text
        if isinstance(kind, types.BoolType):
            if node.plain and node.text.lower() in _TRUE | _FALSE:
                return node.text.lower() in _TRUE
        elif isinstance(kind, types.IntType | types.FloatType):
            return self.number(node, kind, path)
        return self.misfit(path, node.text, kind)

    def number(self, node: Scalar, kind: types.IntType | types.FloatType, path: str) -> Any:
        whole = isinstance(kind, types.IntType)
        shape = r"[-+]?\d{1,15}" if whole else r"[-+]?\d{1,15}(\.\d{0,15})?"
        if not node.plain or not re.fullmatch(shape, node.text, re.ASCII):
            return self.misfit(path, node.text, kind)
        number = int(node.text) if whole else float(node.text)
        low, above, high = kind.ge, kind.gt, kind.le
        if (
            (low is not None and number < low)
            or (above is not None and number <= above)
            or (high is not None and number > high)
        ):
            return self.misfit(path, node.text, kind)
        return number

    def text(self, node: Scalar, kind: types.StrType, path: str) -> Any:
        text = node.text
        if "-----BEGIN" in text:
            return self.inline_secret(path)
        low, high = kind.min_length or 0, kind.max_length or math.inf
        if not low <= len(text) <= high or (kind.pattern and not re.search(kind.pattern, text)):
            return self.misfit(path, text, kind)
        return text

    def path(self, text: str, path: str) -> Any:
        if _KEY_MATERIAL.search(text):
            return self.inline_secret(path)
        if not text.strip() or "\0" in text:
            self.wrong(path, Text("The path is empty."), Text("Give the path of a file."))
            return MISSING
        return os.path.normpath(self.folder / text)

    def misfit(self, path: str, text: str, kind: types.Type) -> Any:
        short = text if len(text) <= 40 else text[:39] + "…"
        self.wrong(
            path, Text("“{value}” does not fit here.", value=short), Text("Write {expected}.", expected=_expected(kind))
        )
        return MISSING

    def not_one_of(self, path: str, word: str, known: list[str]) -> Any:
        guess = nearest(word, known)
        remedy = Text("Write one of: {known}.", known=listed(known))
        if guess:
            remedy = Text("Did you mean “{guess}”? Possible are: {known}.", guess=guess, known=listed(known))
        self.wrong(path, Text("“{value}” is not possible here.", value=word[:40]), remedy)
        return MISSING


def _pattern(annotated: Any) -> str:
    kind = types.type_info(annotated)
    assert isinstance(kind, types.StrType)  # noqa: S101 - for the type checker
    return kind.pattern or ""


_SHAPES: dict[str, Text] = {
    _pattern(HourRange): Text("two times of day, as “21:30-05:00”"),
    _pattern(Unit): Text("the administrative unit as a path of small letters, digits and hyphens, as “84/86/xa-mau”"),
    _pattern(AuthorityId): Text("small letters a–z, digits, dots and hyphens, at most 40"),
    MEDIA_ADDRESS: Text("the address of the station's library, as “https://10.20.0.5:8443/media”"),
    _pattern(Sha256): Text("a SHA-256: 64 characters 0–9 and a–f"),
}


def _expected(kind: types.Type) -> Text:
    """What a type wants, in words."""
    if isinstance(kind, types.UnionType):
        kind = kind.types[0]
    if isinstance(kind, types.StrType):
        slug = re.fullmatch(r"\\A\[a-z0-9-\]\{(\d+),(\d+)\}\\Z", kind.pattern or "")
        if slug:
            low, high = slug.groups()
            return Text(
                "{low} to {high} small letters a–z, digits and hyphens, without accents or spaces", low=low, high=high
            )
        if kind.pattern:
            return _SHAPES.get(kind.pattern, Text("text of another form"))
        if kind.max_length:
            return Text("text of {low} to {high} characters", low=kind.min_length or 0, high=kind.max_length)
        return Text("text")
    if isinstance(kind, types.BoolType):
        return Text("true or false, without quotes")
    if isinstance(kind, types.IntType | types.FloatType):
        low = kind.ge if kind.ge is not None else kind.gt
        whole = isinstance(kind, types.IntType)
        if low is None:
            return Text("a number without quotes")
        if kind.le is None:
            return Text("a number from {low} on, without quotes", low=low)
        if whole:
            return Text("a whole number from {low} to {high}, without quotes", low=low, high=kind.le)
        return Text("a number from {low} to {high}, without quotes", low=low, high=kind.le)
    if isinstance(kind, types.LiteralType):
        return Text("one of {known}", known=listed(kind.values))
    if isinstance(kind, types.ListType):
        return Text("a list")
    return Text("a group of values on indented lines")


def _missing_files(station: Station, line_of: Callable[[str], int | None]) -> Iterator[Problem]:
    """Warnings about files that the configuration names."""
    for name in ("mqtt", "parent", "cluster_link", "trust", "content"):
        group = getattr(station, name)
        for member in sorted(PATHS[type(group)]) if group is not None else ():
            file = getattr(group, member)
            if file is None:
                continue
            path = f"{name}.{member}"
            try:
                mode = os.stat(file).st_mode
            except FileNotFoundError:
                reason = Text("There is no file {path} yet.", path=file)
                remedy = Text("Put it there before the station is started; it comes with the station's enrolment.")
                yield Problem(path, reason, remedy, line_of(path), "warning")
                continue
            except OSError as error:
                reason = Text("The file {path} cannot be read: {detail}.", path=file, detail=error.strerror)
                yield Problem(path, reason, Text("Check the path and the disk."), line_of(path), "warning")
                continue
            if not stat.S_ISREG(mode):
                reason = Text("{path} is not a file.", path=file)
                yield Problem(path, reason, Text("Give the path of a file."), line_of(path), "warning")
            elif (name, member) in SECRETS and mode & 0o077:
                reason = Text("Others may read the secret key {path}.", path=file)
                remedy = Text("Run: chmod 600 {path}", path=file)
                yield Problem(path, reason, remedy, line_of(path), "warning")
