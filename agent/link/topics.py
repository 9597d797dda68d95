"""Topic names of the link, built and taken apart in one place (CONTRACT section 3). The province uses it too.

A *target* is written as in an order's `aud`: a device id, or `group:<id>`.
"""

from __future__ import annotations

import re

from msgspec import Struct

ROOT = "tram/1"
UP = ("state", "beat", "status", "event", "ack")
"""What a device writes; nothing else."""
EVERYONE = "all"
"""The group every device belongs to."""

_DEVICE = re.compile(r"[a-z0-9-]{3,40}")
_NAME = re.compile(r"[a-z0-9.-]{1,40}")
_OP = re.compile(r"[a-z]{1,40}")


class Topic(Struct, frozen=True):
    """A topic taken apart. `leaf` is one of UP, "order" or "desired"; `op` and `iss` belong to desired only."""

    target: str
    leaf: str
    op: str | None = None
    iss: str | None = None


def up(device: str, leaf: str) -> str:
    """`tram/1/dev/{device}/{leaf}` for a leaf of UP; ValueError for any other leaf or a malformed id."""
    if leaf not in UP:
        raise ValueError(f"a device does not write {leaf!r}: one of {', '.join(UP)}")
    return f"{_base(device)}/{leaf}"


def order(target: str) -> str:
    """The topic of command orders for a target."""
    return f"{_base(target)}/order"


def desired(target: str, op: str, iss: str) -> str:
    """The topic of a retained state order for a target."""
    if not _OP.fullmatch(op) or not _NAME.fullmatch(iss):
        raise ValueError(f"no topic for op {op!r} of {iss!r}")
    return f"{_base(target)}/desired/{op}/{iss}"


def inbound(target: str) -> tuple[str, str]:
    """The two subscription filters by which a target's orders arrive: command orders, state orders."""
    return f"{_base(target)}/order", f"{_base(target)}/desired/+/+"


def targets(device: str, groups: list[str]) -> list[str]:
    """All targets a device listens to: itself, everyone, its own groups; each once."""
    return list(dict.fromkeys([device, f"group:{EVERYONE}", *(f"group:{g}" for g in groups)]))


def parse(topic: str) -> Topic | None:
    """Take a topic apart; None when it is not one of the contract's."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[:2] != ROOT.split("/"):
        return None
    kind, name, leaf, *rest = parts[2:]
    if kind == "dev" and _DEVICE.fullmatch(name):
        target, leaves = name, {*UP, "order"}
    elif kind == "group" and _NAME.fullmatch(name):
        target, leaves = f"group:{name}", {"order"}
    else:
        return None
    if not rest and leaf in leaves:
        return Topic(target, leaf)
    if leaf == "desired" and len(rest) == 2 and _OP.fullmatch(rest[0]) and _NAME.fullmatch(rest[1]):
        return Topic(target, leaf, *rest)
    return None


def _base(target: str) -> str:
    prefix, colon, group = target.partition(":")
    if colon and prefix == "group" and _NAME.fullmatch(group):
        return f"{ROOT}/group/{group}"
    if _DEVICE.fullmatch(target):
        return f"{ROOT}/dev/{target}"
    raise ValueError(f"{target!r} is neither a device id nor group:<id>")
