"""YAML text as a tree that remembers its lines.

Built from the parser's events without recursion, so neither depth nor size of a hostile file can exhaust anything.
Scalars keep their text: what `017`, `no` or `5:00` means is decided by the type the reader expects, not by YAML 1.1.
Anchors, aliases and tags are refused: no documented key needs them, and they are how a small file becomes a huge one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from msgspec import Struct

from agent.model.problem import ConfigError, Problem, Text

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 24
MAX_NODES = 50_000

LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser when this PyYAML has it: ten times as fast."""


class Scalar(Struct, frozen=True):
    """`text` as written; `plain` when it stood without quotes."""

    text: str
    plain: bool
    line: int

    @property
    def null(self) -> bool:
        """Whether this is YAML's "nothing"."""
        return self.plain and self.text in {"", "~", "null", "Null", "NULL"}


class Sequence(Struct):
    """A list and the line where it begins."""

    items: list[Node]
    line: int


class Mapping(Struct):
    """A mapping in file order; `lines` holds the line of each key."""

    items: dict[str, Node]
    lines: dict[str, int]
    line: int


Node = Scalar | Sequence | Mapping


class _Frame(Struct):
    """An open collection while reading; `key` is the key whose value comes next."""

    node: Sequence | Mapping
    path: str
    key: str | None = None

    def place(self) -> str:
        """The path of the value that comes next."""
        if isinstance(self.node, Sequence):
            return f"{self.path}[{len(self.node.items)}]"
        return self.path if self.key is None else join(self.path, self.key)


def join(path: str, key: str) -> str:
    """The path of a member."""
    return f"{path}.{key}" if path else key


def read(data: bytes, problems: list[Problem]) -> Mapping:
    """The tree of a whole file.

    Mistakes that leave the rest readable (a repeated key, an anchor) are added to `problems` and reading goes on.
    ConfigError when nothing useful can be read: too large, not UTF-8, not YAML, empty, not a mapping.
    """
    if len(data) > MAX_BYTES:
        raise _fatal(
            Text("The file is larger than {limit} KiB.", limit=MAX_BYTES // 1024),
            Text("Check that this is the station's configuration and not another file."),
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fatal(
            Text("The file is not UTF-8 text."),
            Text("Save it again with the encoding UTF-8."),
            data.count(b"\n", 0, error.start) + 1,
        ) from None
    try:
        root = _build(text, problems)
    except yaml.YAMLError as error:
        raise ConfigError([*problems, _explain(error, text)]) from None
    if root is None or (isinstance(root, Scalar) and root.null):
        raise _fatal(Text("The file is empty."), Text("Start from one of the examples in the folder config/."))
    if not isinstance(root, Mapping):
        raise _fatal(
            Text("The file does not consist of “key: value” lines."),
            Text("Start from one of the examples in the folder config/."),
            root.line,
        )
    return root


def _events(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=LOADER)


def _build(text: str, problems: list[Problem]) -> Node | None:
    root: Node | None = None
    stack: list[_Frame] = []
    nodes = documents = 0
    for event in _events(text):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        path = stack[-1].place() if stack else ""
        node: Node
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                problems.append(
                    Problem(
                        "",
                        Text("A second document begins here (“---”)."),
                        Text("Keep one document in the file: delete this line."),
                        line,
                    )
                )
                return root
            continue
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
            continue
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            if nodes > MAX_NODES:
                raise _fatal(
                    Text("The file has more than {limit} values.", limit=MAX_NODES),
                    Text("Check that this is the station's configuration and not another file."),
                    line,
                )
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(_clean(event.value, path, line, problems), not event.style, line)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Mapping({}, {}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence([], line)
        elif isinstance(event, yaml.AliasEvent):
            node = Scalar("", True, line)
        else:
            continue
        _refuse_machinery(event, path, line, problems)
        if not stack:
            root = node
        elif isinstance(parent := stack[-1].node, Sequence):
            parent.items.append(node)
        elif stack[-1].key is None:
            stack[-1].key = _key(node, stack[-1], problems)
        else:
            key, stack[-1].key = stack[-1].key, None
            parent.items.setdefault(key, node)
        if not isinstance(node, Scalar):
            if len(stack) >= MAX_DEPTH:
                raise _fatal(
                    Text("The values are nested more than {limit} deep.", limit=MAX_DEPTH),
                    Text("Check the indentation and the brackets from this line on."),
                    line,
                )
            stack.append(_Frame(node, path))
    return root


def _clean(text: str, path: str, line: int, problems: list[Problem]) -> str:
    """The text, without escaped characters that no name or sentence holds and no terminal should be sent."""
    bad = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
    if not bad.search(text):
        return text
    problems.append(
        Problem(
            path,
            Text("The value contains a character that does not belong in text."),
            Text("Delete the invisible character or the escape (\\…) that stands for it."),
            line,
        )
    )
    return bad.sub("\ufffd", text)


def _key(node: Node, frame: _Frame, problems: list[Problem]) -> str:
    mapping = frame.node
    assert isinstance(mapping, Mapping)  # noqa: S101 - only a mapping's frame has keys
    if not isinstance(node, Scalar):
        problems.append(
            Problem(
                frame.path,
                Text("A list or a group of values stands where a name is expected."),
                Text("Write “name: value”, and text that begins with a bracket in quotes."),
                node.line,
            )
        )
        return f"\0{node.line}"
    if node.text in mapping.items:
        problems.append(
            Problem(
                join(frame.path, node.text),
                Text(
                    "“{key}” is given twice; the first one is in line {line}.",
                    key=node.text,
                    line=mapping.lines[node.text],
                ),
                Text("Keep one of the two."),
                node.line,
            )
        )
    else:
        mapping.lines[node.text] = node.line
    return node.text


def _refuse_machinery(event: yaml.NodeEvent, path: str, line: int, problems: list[Problem]) -> None:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        problems.append(
            Problem(
                path,
                Text("Anchors and aliases (& and * before a name) are not read here."),
                Text('Write the value out; to name all zones, write "*" in quotes.'),
                line,
            )
        )
    elif getattr(event, "tag", None) not in {None, "!"}:
        problems.append(
            Problem(
                path,
                Text("A YAML tag (“!…”) is not read here."),
                Text("Delete the tag and write the plain value."),
                line,
            )
        )


def _explain(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else None
    lines = text.splitlines()
    here = lines[line - 1] if line is not None and line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "'\\t'" in str(error):
        return Problem(
            "",
            Text("A tab character is used for indentation."),
            Text("Indent with spaces; two for each level."),
            line,
        )
    if "alias" in str(error):
        return Problem(
            "", Text("A star stands here without quotes."), Text('Write "*" in quotes to name all zones.'), line
        )
    if isinstance(error, yaml.reader.ReaderError):
        position = error.position if isinstance(error.position, int) else 0
        return Problem(
            "",
            Text("The file contains a character that does not belong in a text file."),
            Text("Delete the invisible character; it often comes from copying out of another program."),
            text.count("\n", 0, position) + 1,
        )
    return Problem(
        "",
        Text("This is not valid YAML: {detail}.", detail=str(getattr(error, "problem", None) or "unreadable")),
        Text("Check the indentation, the colon after each name, and that quotes and brackets are closed."),
        line,
    )


def _fatal(reason: Text, remedy: Text, line: int | None = None) -> ConfigError:
    return ConfigError([Problem("", reason, remedy, line)])
