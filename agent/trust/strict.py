"""JSON and base64url read so strictly that one value has one meaning and one spelling (CONTRACT section 4)."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, NoReturn

from agent.model.orders import MAX_SAFE_INTEGER

MAX_DEPTH = 32
_LONGEST_INTEGER = len(str(-MAX_SAFE_INTEGER))
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class StrictError(ValueError):
    """The bytes are not the strict JSON or base64url that was asked for; the message says why."""


def load_json(data: bytes) -> Any:
    """Decode UTF-8 JSON, or raise StrictError.

    Refused beyond plain JSON errors: a BOM, repeated names, NaN and infinities (also by overflow, "1e999"), numbers
    of magnitude ≥ 2^53 (every such double is an integer), lone surrogates, and more than 32 levels of arrays and
    objects (the outermost is level 1).
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text) if not text.startswith("\ufeff") else _refuse("a byte order mark")
    except UnicodeDecodeError as error:
        raise StrictError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise StrictError(f"nested deeper than {MAX_DEPTH}") from error
    except json.JSONDecodeError as error:
        raise StrictError(f"not JSON: {error.msg} at character {error.pos}") from error
    _walk(value, surrogates_possible=_SURROGATE_ESCAPE.search(text) is not None)
    return value


def _refuse(what: str) -> NoReturn:
    raise StrictError(what)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        _refuse(f"the name {next(n for n in names if names.count(n) > 1)!r} is repeated")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or abs(int(text)) > MAX_SAFE_INTEGER:
        _refuse("an integer of 2^53 or more")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > MAX_SAFE_INTEGER:
        _refuse("a number of 2^53 or more")
    return value


def _constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _walk(value: Any, *, surrogates_possible: bool) -> None:
    """Depth and lone surrogates, without recursion."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        nested = False
        for node in level:
            if isinstance(node, dict):
                nested = True
                below.extend(node.values())
                if surrogates_possible:
                    below.extend(node)
            elif isinstance(node, list):
                nested = True
                below.extend(node)
            elif surrogates_possible and isinstance(node, str):
                try:
                    node.encode()
                except UnicodeEncodeError as error:
                    raise StrictError("a lone surrogate") from error
        depth += nested
        if depth > MAX_DEPTH:
            _refuse(f"nested deeper than {MAX_DEPTH}")
        level = below


def from_base64url(text: str) -> bytes:
    """Decode canonical unpadded base64url (RFC 7515), or raise StrictError.

    Padding, line ends, the other alphabet and set bits behind the last byte are refused: two texts never decode to
    the same bytes.
    """
    if not _BASE64URL.fullmatch(text):
        _refuse("not unpadded base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise StrictError("not unpadded base64url") from error
    if to_base64url(data) != text:
        _refuse("base64url with stray bits at its end")
    return data


def to_base64url(data: bytes) -> str:
    """Encode as unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
