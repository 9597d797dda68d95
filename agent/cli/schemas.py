"""The JSON Schemas of what goes in and out, generated from the types."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from agent.model.config import Station
from agent.model.orders import ARGS_OF
from agent.model.status import Status


def documents() -> dict[str, str]:
    """File name → schema text: the configuration, the status, and the arguments of each order."""
    kinds: dict[str, Any] = {"station": Station, "status": Status} | {
        f"order-{op}": kind for op, kind in ARGS_OF.items()
    }
    return {f"{name}.json": _schema(name, kind) for name, kind in sorted(kinds.items())}


def _schema(name: str, kind: Any) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name} | msgspec.json.schema(kind)
    return json.dumps(_portable(schema), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _portable(value: Any, key: str = "") -> Any:
    r"""Patterns in ECMA 262, which has no \A and \Z; descriptions without the indent Python before 3.13 leaves."""
    if isinstance(value, dict):
        return {k: _portable(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_portable(v) for v in value]
    if isinstance(value, str) and key == "pattern":
        return value.replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(value, str) and key == "description":
        return inspect.cleandoc(value)
    return value
