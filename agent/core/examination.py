"""What an order says by itself: those of the contract's checks that need neither memory nor clock, which are nearly all
of their cost.

A schedule of 250 KB takes a tenth of a second, in which the owner would be deaf for an emergency. So another thread
may `finish` an examination before the owner sees the order; each part is found once, whoever asks first. `Intake.check`
asks for the parts in the contract's order, so that the reason is the same either way.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from msgspec import Struct

from agent.core.recurrence import parse_time
from agent.model.events import OrderArrived
from agent.model.orders import Args, Authorities, Broadcast, Cancel, Reason, Report, Schedule, Silence, Update
from agent.trust.authorities import Trusted, version_of
from agent.trust.refusal import Refusal
from agent.trust.verify import AUTHORITIES_OP, VerifiedOrder, decoded, verify

COMMAND_BYTES = 16 * 1024
STATE_BYTES = 256 * 1024

Found = TypeVar("Found")

_TOPIC = re.compile(r"tram/1/(dev|group)/([^/]+)/(?:order|desired/([a-z0-9._-]{1,40})/([a-z0-9._-]{1,40}))")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_YEARS = range(1971, 9999)
"""Years that every later conversion to seconds and to any zone survives."""


class Route(Struct, frozen=True):
    """A topic taken apart. `op` and `iss` are those of a desired topic; None on an order topic."""

    group: bool
    name: str
    op: str | None = None
    iss: str | None = None

    @property
    def command(self) -> bool:
        """Whether it is an order topic."""
        return self.op is None

    @property
    def target(self) -> str:
        """As in an order's `aud`."""
        return f"group:{self.name}" if self.group else self.name

    @classmethod
    def of(cls, topic: str) -> Route | None:
        """The route of an order or desired topic, whoever's it is; None for any other topic."""
        match = _TOPIC.fullmatch(topic)
        if match is None:
            return None
        kind, name, op, iss = match.groups()
        return cls(kind == "group", name, op, iss)


class Examination:
    """Of one message, by the authorities in force when it was made (`trusted`). Its methods raise Refusal."""

    def __init__(
        self,
        route: Route,
        payload: bytes,
        trusted: Trusted,
        check_rrule: Callable[[str, str], None],
        *,
        retain: bool,
    ) -> None:
        self.route = route
        self.trusted = trusted
        self._payload = payload
        self._retain = retain
        self._check_rrule = check_rrule
        self._found: dict[str, object] = {}

    def verified(self) -> VerifiedOrder:
        """Steps 1 to 4."""
        return self._once("verified", self._verify)

    def typed(self) -> VerifiedOrder:
        """Of step 8: `unknown-op`, and `bad-args` by the types."""
        return self._once("typed", lambda: decoded(self.verified()))

    def check_args(self) -> None:
        """Of step 8: `bad-args` by what the types cannot say."""
        self._once("args", lambda: _check(self.typed().args, self._check_rrule))

    def finish(self) -> None:
        """Find all of it now; nothing is raised."""
        with contextlib.suppress(Refusal):
            self.check_args()

    def _verify(self) -> VerifiedOrder:
        route, size = self.route, len(self._payload)
        most = COMMAND_BYTES if route.command else STATE_BYTES
        if size > most:
            raise Refusal(Reason.TOO_LARGE, f"{size} bytes; at most {most} on this topic")
        if self._retain and route.command:
            raise Refusal(Reason.MALFORMED, "a command must not be retained")
        unsigned = route.op == AUTHORITIES_OP
        return verify(self._payload, self.trusted, command=route.command, unsigned_authorities=unsigned)

    def _once(self, part: str, find: Callable[[], Found]) -> Found:
        if part not in self._found:
            try:
                self._found[part] = find()
            except Refusal as refusal:
                self._found[part] = refusal
        found = self._found[part]
        if isinstance(found, Refusal):
            raise found
        return found  # type: ignore[return-value] # it is what this part's `find` gave


class OrderExamined(Struct, frozen=True):
    """An order that arrived, with what has been found out about it on the way to the owner."""

    arrived: OrderArrived
    examination: Examination


def _check(args: Args | None, check_rrule: Callable[[str, str], None]) -> None:
    if isinstance(args, Broadcast):
        start = None if args.start == "now" else moment("start", args.start)
        until = moment("until", args.until)
        if start is not None and until is not None and until <= start:
            raise Refusal(Reason.BAD_ARGS, "args.until: not after start")
    elif isinstance(args, Schedule):
        known: set[str] = set()
        for n, entry in enumerate(args.entries):
            if entry.id in known:
                raise Refusal(Reason.BAD_ARGS, f"args.entries[{n}].id: {entry.id!r} stands twice")
            known.add(entry.id)
            moment(f"entries[{n}].dtstart", entry.dtstart)
            for m, text in enumerate(entry.exdate):
                moment(f"entries[{n}].exdate[{m}]", text)
            if entry.rrule is not None:
                try:
                    check_rrule(entry.rrule, entry.dtstart)
                except ValueError as error:
                    raise Refusal(Reason.BAD_ARGS, f"args.entries[{n}].rrule: {error}") from error
    elif isinstance(args, Cancel):
        moment("occurrence", args.occurrence)
    elif isinstance(args, Silence):
        moment("until", args.until)
    elif isinstance(args, Update):
        moment("not_before", args.not_before)
        moment("deadline", args.deadline)
    elif isinstance(args, Report):
        begin, end = moment("from", args.from_), moment("to", args.to)
        if begin is not None and end is not None and end < begin:
            raise Refusal(Reason.BAD_ARGS, "args.to: before from")
    elif isinstance(args, Authorities):
        last = version_of(args.documents[-1])
        if last is not None and last != args.version:
            raise Refusal(Reason.BAD_ARGS, f"args.version: {args.version}, but the last document's is {last}")


def moment(where: str, text: str | None) -> datetime | None:
    """An optional RFC 3339 time, or `bad-args` with its place."""
    if text is None:
        return None
    try:
        if _RFC3339.fullmatch(text) and int(text[:4]) in _YEARS:
            return parse_time(text)
    except ValueError as error:
        raise Refusal(Reason.BAD_ARGS, f"args.{where}: {error}") from error
    raise Refusal(Reason.BAD_ARGS, f"args.{where}: not an RFC 3339 time with offset: {text[:40]!r}")
