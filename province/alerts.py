"""Who has heard an alert and who has not: an emergency's receipts against the devices that it was sent to. Pure."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Collection, Iterable
from typing import Any

from msgspec import Struct

from agent.link import topics
from province.record import DeviceReceipt, Receipt

KEPT_S = 600.0
"""An alert is shown for so long after everything about it is known, or it has expired."""


class Alert(Struct):
    """An emergency that was seen on its way to devices. The devices check the signature; here it is only expected."""

    iss: str
    jti: str
    id: str
    title: str
    drill: bool
    sent_at: float
    exp: float
    targets: set[str]
    """Device ids and `group:<id>`."""


class Sounding(Struct):
    """How far an alert has come, each device in exactly one of these."""

    sounded: list[str] = []
    """First sound or picture, in each zone that takes it; or finished with something heard or shown."""
    partly: list[str] = []
    """In some of its zones."""
    received: list[str] = []
    """Received and verified, nothing heard yet."""
    refused: dict[str, str] = {}
    """It will not sound: the reason."""
    unheard: list[str] = []
    """No answer at all."""

    @property
    def waiting(self) -> list[str]:
        """Those that may still sound and have not, or not everywhere."""
        return [*self.unheard, *self.received, *self.partly]

    @property
    def total(self) -> int:
        """All devices."""
        return len(self.sounded) + len(self.refused) + len(self.waiting)


def alert_of(topic: str, payload: bytes, at: float) -> Alert | None:
    """The emergency in a message on an order topic; None for anything else, whatever it is."""
    where = topics.parse(topic)
    if where is None or where.leaf != "order":
        return None
    try:
        body = payload.split(b".")[1]
        claims = json.loads(urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        args: dict[str, Any] = claims["args"]
        if claims["op"] != "broadcast" or args["class"] != "emergency":
            return None
        return Alert(
            iss=str(claims["iss"]),
            jti=str(claims["jti"]),
            id=str(args["id"]),
            title=str(args["title"]),
            drill=bool(args.get("drill")),
            sent_at=at,
            exp=float(claims["exp"]),
            targets={where.target},
        )
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return None


def expected(targets: Iterable[str], known: Collection[str]) -> set[str]:
    """The devices that targets mean, as far as that is known here: who belongs to a group, only its devices know."""
    named = set(targets)
    everyone = set(known) if f"group:{topics.EVERYONE}" in named else set()
    return everyone | {t for t in named if not t.startswith("group:")}


def sounding(receipt: Receipt, devices: Collection[str]) -> Sounding:
    """Where it has sounded, and where not."""
    found = Sounding()
    for name in sorted({*devices, *receipt.devices}):
        device = receipt.devices.get(name)
        if device is None:
            found.unheard.append(name)
            continue
        heard = [z for z in device.zones.values() if z.first_sample_at is not None]
        if device.state == "done" or (heard and all(z.first_sample_at or z.reason for z in device.zones.values())):
            found.sounded.append(name)
        elif device.final:
            found.refused[name] = why(device)
        elif heard:
            found.partly.append(name)
        else:
            found.received.append(name)
    return found


def why(device: DeviceReceipt) -> str:
    """The reason why nothing was heard, as the device told it."""
    reasons = [device.reason, *(z.reason for z in device.zones.values())]
    return next((r for r in reasons if r), device.state)


class Alerts:
    """The emergencies of late, newest last; the same one sent again, or to further devices, is one."""

    def __init__(self) -> None:
        self._alerts: dict[tuple[str, str], Alert] = {}

    def take(self, alert: Alert) -> None:
        """One was seen."""
        known = self._alerts.setdefault((alert.iss, alert.jti), alert)
        known.targets |= alert.targets

    def current(self, now: float) -> list[Alert]:
        """Those that are not long over."""
        self._alerts = {k: a for k, a in self._alerts.items() if now < a.exp + KEPT_S}
        return list(self._alerts.values())
