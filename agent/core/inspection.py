"""What the source asked to see (`report`): status, play log, and what the boards show, uploaded as one document.

An inspection is kept until it has its last ack: after a restart it begins anew. Only the boards over which the asking
authority has a right are pictured; one that does not answer is named with the reason, and the rest goes up all the
same.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core.recurrence import parse_time
from agent.model.events import Uploaded
from agent.model.orders import Reason, Report
from agent.model.records import DropValue, PutValue
from agent.model.screen import Capture, Captured
from agent.model.time import Instant
from agent.trust.refusal import Refusal
from agent.trust.verify import VerifiedOrder

if TYPE_CHECKING:
    from agent.core.outcomes import Outcomes
    from agent.core.station import Station

KEY = "report/"
WAITING = 4
"""So many inspections at most at a time; one more is `rate-limited`."""
CAPTURE_NS = 20 * 10**9
"""A board that has not answered by then is left out."""


class _Inspection(Struct):
    """One order. `pictures`: zone → what came of it, None while the board has not answered."""

    iss: str
    jti: str
    args: Report
    exp: float
    begun_ns: int | None = None
    token: int = 0
    pictures: dict[str, dict[str, Any] | None] = {}
    sent: bool = False

    @property
    def key(self) -> str:
        return f"{KEY}{self.iss}/{self.jti}"


class _Kept(Struct, frozen=True):
    """What is written of one."""

    iss: str
    jti: str
    args: Report
    exp: float


class Inspections:
    """All inspections of a station, one after the other."""

    def __init__(self) -> None:
        self._all: list[_Inspection] = []
        self._tokens = 0

    @property
    def full(self) -> bool:
        """Whether there are as many as may be."""
        return len(self._all) >= WAITING

    def ask(self, station: Outcomes, order: VerifiedOrder, args: Report) -> None:
        """Begin with it when its turn comes."""
        asked = _Inspection(order.iss, order.jti, args, order.exp or 0.0)
        kept = _Kept(asked.iss, asked.jti, args, asked.exp)
        station.ledger.write(PutValue(key=KEY + f"{asked.iss}/{asked.jti}", value=msgspec.json.encode(kept)))
        self._all.append(asked)

    def restore(self, station: Outcomes, values: dict[str, bytes]) -> None:
        """What a restart interrupted begins anew."""
        for key, value in values.items():
            if not key.startswith(KEY):
                continue
            try:
                kept = msgspec.json.decode(value, type=_Kept)
            except msgspec.DecodeError:
                station.ledger.write(DropValue(key=key))
                continue
            self._all.append(_Inspection(kept.iss, kept.jti, kept.args, kept.exp))

    def settle(self, station: Station, now: Instant) -> None:
        """Go on with the first."""
        if not self._all:
            return
        first = self._all[0]
        if first.begun_ns is None and now.surely > first.exp:
            self._over(station, first, {"state": "failed", "reason": Reason.EXPIRED.value}, now)
            return
        if first.begun_ns is None:
            first.begun_ns = now.mono_ns
            self._tokens -= 1  # people's questions have tokens above 0
            first.token = self._tokens
            first.pictures = dict.fromkeys(self._boards(station, first))
            station._act.extend(do.ToScreen(zone, Capture(first.token)) for zone in first.pictures)
        late = now.mono_ns - first.begun_ns > CAPTURE_NS
        if not first.sent and (late or None not in first.pictures.values()):
            first.sent = True
            document = msgspec.json.encode(dict(self._document(station, first, now)))
            period = None
            if first.args.what != "health":
                period = (parse_time(first.args.from_).timestamp(), parse_time(first.args.to).timestamp())
            station._act.append(do.Upload(first.key, first.args.upload, document, period))

    def captured(self, station: Outcomes, event: Captured, now: Instant) -> None:
        """A board has answered."""
        for asked in self._all:
            if asked.token == event.token and event.zone in asked.pictures:
                picture: dict[str, Any] = {"at": station.ledger.time(now.wall)}
                if event.png:
                    picture |= {"sha256": hashlib.sha256(binascii.a2b_base64(event.png)).hexdigest(), "png": event.png}
                else:
                    picture["detail"] = event.detail
                asked.pictures[event.zone] = picture

    def uploaded(self, station: Outcomes, event: Uploaded, now: Instant) -> None:
        """It is there, or it cannot be: the order's last ack."""
        asked = next((a for a in self._all if a.key == event.key), None)
        if asked is None:
            return
        if event.sha256:
            self._over(station, asked, {"state": "done", "report": {"sha256": event.sha256, "size": event.size}}, now)
        else:
            told = {"state": "failed", "reason": Reason.CONTENT_UNAVAILABLE.value, "detail": event.detail}
            self._over(station, asked, told, now)

    def _over(self, station: Outcomes, asked: _Inspection, told: dict[str, Any], now: Instant) -> None:
        self._all.remove(asked)
        body: dict[str, Any] = {"jti": asked.jti, "iss": asked.iss, "seq": 2, **told}
        body["at"] = station.ledger.time(now.wall)
        body["zones"] = {
            zone: {"state": "done", "picture": picture["sha256"]}
            if picture and "sha256" in picture
            else {"state": "failed", "reason": Reason.CONTENT_UNAVAILABLE.value}
            for zone, picture in asked.pictures.items()
        }
        station._remember_ack(asked.iss, asked.jti, station.ledger.ack(body, 1))
        station.ledger.write(DropValue(key=asked.key))

    @staticmethod
    def _boards(station: Outcomes, asked: _Inspection) -> list[str]:
        if asked.args.what != "diagnostics":
            return []
        try:
            zones = station.intake.zones(asked.iss, ["*"])
        except Refusal:  # it has lost its rights since
            return []
        return [zone for zone in zones if station._zones[zone].kind == "screen"]

    @staticmethod
    def _document(station: Station, asked: _Inspection, now: Instant) -> Iterator[tuple[str, Any]]:
        yield "device", station.config.device.id
        yield "at", station.ledger.time(now.wall)
        yield "what", asked.args.what
        if asked.args.what == "playlog":
            return
        yield "status", station.reporter.status(station, now)
        if asked.args.what == "diagnostics":
            silent = {"at": station.ledger.time(now.wall), "detail": "the board does not answer"}
            yield "boards", {zone: picture or silent for zone, picture in asked.pictures.items()}
