"""The order path of CONTRACT section 4, all eight steps in the contract's order; the first failure is the reason.

`Intake.check` only judges. What is to be remembered is a separate step, `Intake.consume`, whose writes the owner
persists before it acts (an emergency sounds meanwhile).

Which verdicts consume `jti` and `ctr`: everything that passed step 7, admitted or rejected, so that a repeat of the
same bytes gets the same ack. Not consumed: an `authorities` order whose own envelope did not verify, because its
`iss` and `jti` are a stranger's to choose. Where the clock is not trusted, expiry is judged by the time that has
passed for certain (`Instant.surely`), and nothing is `not-yet-valid`: a late emergency gets through rather than not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from msgspec import Struct

from agent.core.examination import Examination, Route, moment
from agent.model.config import Station
from agent.model.orders import (
    STATE_OPS,
    Args,
    Authorities,
    Broadcast,
    Cancel,
    Class,
    Configure,
    Reason,
    Schedule,
    Silence,
    Test,
    Update,
)
from agent.model.records import PutOrder, PutState, PutValue, Write
from agent.model.time import Instant
from agent.trust.authorities import Authority, Trusted
from agent.trust.refusal import Refusal
from agent.trust.replay import ReplayMemory
from agent.trust.verify import AUTHORITIES_OP, VerifiedOrder

LEEWAY_S = 120.0
LONGEST_LOCAL_SILENCE_S = 24 * 3600.0
AUTHORITIES_KEY = "authorities"
"""The named value that holds the chain of authorities documents (`Trusted.encode_chain`)."""


class Admitted(Struct, frozen=True):
    """All steps passed. `zones`: the station's zones it reaches, in configuration order (none for ops without).

    For a schedule `zones` is the union; an entry that reaches no zone here has nothing to do here (`Intake.zones`).
    `trusted` is what an `authorities` order makes us believe, None for every other op.
    """

    order: VerifiedOrder
    zones: tuple[str, ...] = ()
    trusted: Trusted | None = None

    @property
    def args(self) -> Args:
        """The typed args."""
        if self.order.args is None:
            raise TypeError("an admitted order is always decoded")
        return self.order.args

    @property
    def signed_time(self) -> float:
        """A time that an authority or the roots have signed (epoch seconds), for `TrustedTime.signed`.

        Not `order.iat` where the envelope of an `authorities` order did not verify: any stranger could then push the
        clock floor into the future for good.
        """
        if self.order.authentic or self.trusted is None:
            return self.order.iat
        return self.trusted.iat

    def rejected(self, reason: Reason, detail: str) -> Rejected:
        """The same order as rejected by the owner for a later reason: consumed, but never a state in force."""
        return Rejected(self.order, reason, detail, consumes=self.order.authentic)


class Refused(Struct, frozen=True):
    """Failed before step 4 was passed: no ack, a metered `refused` event (see RefusalMeter). `detail` is for logs."""

    reason: Reason
    sha256: str
    topic: str
    detail: str


class Rejected(Struct, frozen=True):
    """Failed at step 5 or later: acked `rejected` with `reason`.

    `consumes`: hand it to `Intake.consume` with its ack. Where it does not consume, the same bytes may be sent again
    and again by anyone who can write to the topic: meter those acks. Where the order is not `authentic` a stranger
    can also vary the bytes: meter those by reason, as refused events are.
    """

    order: VerifiedOrder
    reason: Reason
    detail: str
    consumes: bool


class Repeated(Struct, frozen=True):
    """The same order as before: send the recorded `ack` again, nothing else."""

    ack: bytes
    iss: str
    jti: str


class Ignored(Struct, frozen=True):
    """Nothing is to be done and nothing to be said; `why` is for logs."""

    why: str


Verdict = Admitted | Refused | Rejected | Repeated | Ignored


class Intake:
    """Judges what arrives on order and desired topics. Owns `trusted` and `replay`; changes them in `consume` only.

    `check_rrule(rule, dtstart)` raises ValueError for a rule that is not allowed. `remote(key)` says whether a dotted
    configuration key may be set from afar; the default is none.
    """

    def __init__(
        self,
        station: Station,
        trusted: Trusted,
        replay: ReplayMemory,
        check_rrule: Callable[[str, str], None],
        remote: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        self.station = station
        self.trusted = trusted
        self.replay = replay
        self._check_rrule = check_rrule
        self._remote = remote
        device = station.device
        self._names = {device.id, *device.aliases}
        self._groups = {"all", *device.groups}
        self._addresses = self._names | {f"group:{g}" for g in self._groups}

    def examine(self, topic: str, payload: bytes, retain: bool) -> Examination | None:
        """For `check`, from any thread: what can be found out beforehand. None for a topic that no order comes on."""
        route = Route.of(topic)
        return None if route is None else self._examination(route, payload, retain)

    def _examination(self, route: Route, payload: bytes, retain: bool) -> Examination:
        return Examination(route, payload, self.trusted, self._check_rrule, retain=retain)

    def check(
        self, topic: str, payload: bytes, retain: bool, now: Instant, examination: Examination | None = None
    ) -> Verdict:
        """The verdict on one message. Never raises, whatever the bytes; changes nothing.

        `examination` is this message's; without one, or after `trusted` has changed, it is made here.
        """
        route = self._route(topic)
        if route is None:
            return Ignored("not a topic of this device")
        if not payload and (retain or not route.command):
            return Ignored("an empty retained message lifts nothing")
        if examination is None or examination.trusted is not self.trusted:
            examination = self._examination(route, payload, retain)
        try:
            order = examination.verified()
        except Refusal as refusal:
            return Refused(refusal.reason, hashlib.sha256(payload).hexdigest(), topic, refusal.detail)
        if self._addresses.isdisjoint(order.aud):
            if route.group:
                return Ignored("a group's message for other devices")
            return Rejected(order, Reason.NOT_FOR_THIS_DEVICE, "aud does not name this device", consumes=False)
        if self._is_in_force(order):
            return Ignored("the same state order is in force")
        known = self.replay.find(order.iss, order.jti) if order.authentic else None
        if known is not None and known.sha256 == order.sha256:
            return Repeated(known.ack, order.iss, order.jti)
        try:
            self._check_time(order, now)
            self._check_replay(order, known)
        except Refusal as refusal:
            return Rejected(order, refusal.reason, refusal.detail, consumes=False)
        try:
            order = examination.typed()
            return self._admit(order, examination)
        except Refusal as refusal:
            return Rejected(order, refusal.reason, refusal.detail, consumes=order.authentic)

    def consume(self, verdict: Admitted | Rejected, ack: bytes) -> list[Write]:
        """Remember an order with its first ack; the writes are one transaction, to be committed before acting.

        Applies `trusted` of an admitted `authorities` order. A Rejected that does not consume gives no writes.
        """
        order = verdict.order
        writes: list[Write] = []
        if verdict.consumes if isinstance(verdict, Rejected) else order.authentic:
            seen = PutOrder(
                iss=order.iss,
                jti=order.jti,
                sha256=order.sha256,
                kid=order.kid,
                ctr=order.ctr,
                exp=order.exp,
                ack=ack,
            )
            self.replay.put(seen)
            writes.append(seen)
        if isinstance(verdict, Admitted):
            writes.extend(self._consume_state(verdict))
        return writes

    def record_ack(self, iss: str, jti: str, ack: bytes) -> list[Write]:
        """Replace the recorded ack by a newer one; none when the order is not remembered (any more)."""
        known = self.replay.find(iss, jti)
        if known is None:
            return []
        newer = PutOrder(iss=iss, jti=jti, sha256=known.sha256, kid=known.kid, ctr=known.ctr, exp=known.exp, ack=ack)
        self.replay.put(newer)
        return [newer]

    def zones(self, iss: str, selectors: list[str]) -> list[str]:
        """The zones that selectors of that issuer mean here, as for an order; Refusal `not-authorised`."""
        authority = self.trusted.authorities.get(iss)
        if authority is None:
            raise Refusal(Reason.UNKNOWN_AUTHORITY, f"{iss} is no authority")
        return authority.resolve(self.station, selectors)

    # Step 1 and what precedes it.

    def _route(self, topic: str) -> Route | None:
        route = Route.of(topic)
        if route is None or (route.name not in self._groups if route.group else route.name != self.station.device.id):
            return None
        return route

    # Steps 6 and 7.

    def _is_in_force(self, order: VerifiedOrder) -> bool:
        """Retained state orders come again at each connection, long after their exp and their jti were forgotten."""
        scope = order.members.get("scope")
        if order.op not in STATE_OPS or not isinstance(scope, str):
            return False
        held = self.replay.in_force(order.iss, scope, order.op)
        return held is not None and held.sha256 == order.sha256

    def _check_time(self, order: VerifiedOrder, now: Instant) -> None:
        if order.exp is not None and now.surely > order.exp + LEEWAY_S:
            raise Refusal(Reason.EXPIRED, f"expired at {order.exp:.0f}, now {now.surely:.0f}")
        if not now.trusted:
            return
        for name, at in (("nbf", order.nbf), ("iat", order.iat)):
            if at is not None and at > now.wall + LEEWAY_S:
                raise Refusal(Reason.NOT_YET_VALID, f"{name} is {at:.0f}, now {now.wall:.0f}")

    def _check_replay(self, order: VerifiedOrder, known: PutOrder | None) -> None:
        if order.op != AUTHORITIES_OP:
            self.replay.check_floor(order.iat)
        if known is not None:
            raise Refusal(Reason.REPLAYED, f"jti {order.jti} was used for another order")
        if order.ctr is not None:
            self.replay.check_ctr(order.kid, order.ctr)

    # Step 8.

    def _admit(self, order: VerifiedOrder, examination: Examination) -> Admitted:
        args = order.args
        self._check_agreement(order, examination.route)
        examination.check_args()
        if isinstance(args, Silence):
            self._check_silence(order, args)
        if isinstance(args, Authorities):
            return Admitted(order, trusted=self.trusted.advance(args.documents))
        if order.authority is None:
            raise Refusal(Reason.NOT_AUTHORISED, f"{order.iss} is no authority")
        order.authority.may(order.op, _classes(args), self.station.device.unit)
        wanted = _selectors(args)
        zones = {zone for selectors in wanted for zone in order.authority.resolve(self.station, selectors)}
        if isinstance(args, Cancel):
            self._check_cancel(order.authority, args)
        if isinstance(args, Configure):
            for key in args.set:
                if not self._remote(key):
                    raise Refusal(Reason.NOT_AUTHORISED, f"args.set: {key!r} may not be set from afar")
        if isinstance(args, Schedule | Silence | Configure | Update):
            self.replay.check_version(order.iss, args.scope, order.op, args.version)
        if wanted and not zones:
            raise Refusal(Reason.NO_SUCH_ZONE, "args: no zone of this device is meant")
        return Admitted(order, zones=tuple(zone.id for zone in self.station.zones if zone.id in zones))

    def _check_agreement(self, order: VerifiedOrder, route: Route) -> None:
        """Topic, op, iss and scope say the same."""
        if route.command != (order.op not in STATE_OPS):
            raise Refusal(Reason.BAD_ARGS, f"{order.op} came on {'an order' if route.command else 'a desired'} topic")
        if route.command:
            return
        if route.op != order.op:
            raise Refusal(Reason.BAD_ARGS, f"the topic says {route.op}, the order {order.op}")
        if route.iss != order.iss:
            raise Refusal(Reason.BAD_ARGS, f"the topic is that of {route.iss}, the order of {order.iss}")
        scope = order.members["scope"]
        here = {f"group:{route.name}"} if route.group else self._names
        if scope not in here or scope not in order.aud:
            raise Refusal(Reason.BAD_ARGS, f"args.scope: {scope!r} is not the topic's target, or not in aud")

    def _check_silence(self, order: VerifiedOrder, args: Silence) -> None:
        until = moment("until", args.until)
        if not (args.on and args.include_local):
            return
        if order.authority is None or order.authority.rank < self.trusted.province_rank:
            raise Refusal(Reason.BAD_ARGS, "args.include_local: needs the rank of a province")
        if until is None or until.timestamp() > order.iat + LONGEST_LOCAL_SILENCE_S + LEEWAY_S:
            raise Refusal(Reason.BAD_ARGS, "args.include_local: needs an until within 24 h")

    def _check_cancel(self, authority: Authority, args: Cancel) -> None:
        other = self.trusted.authorities.get(args.iss) if args.iss is not None else None
        if other is not None and other.id != authority.id and other.rank >= authority.rank:
            raise Refusal(Reason.NOT_AUTHORISED, f"{other.id} is not of lower rank than {authority.id}")

    def _consume_state(self, verdict: Admitted) -> Iterable[Write]:
        order, args = verdict.order, verdict.args
        if isinstance(args, Schedule | Silence | Configure | Update | Authorities):
            state = PutState(
                iss=order.iss,
                scope=args.scope,
                op=order.op,
                version=args.version,
                sha256=order.sha256,
                raw=order.raw,
            )
            self.replay.put_state(state)
            yield state
        if verdict.trusted is not None:
            self.trusted = verdict.trusted
            yield PutValue(key=AUTHORITIES_KEY, value=verdict.trusted.encode_chain())


def _classes(args: Args | None) -> list[Class]:
    if isinstance(args, Broadcast):
        return [args.class_]
    return [entry.class_ for entry in args.entries] if isinstance(args, Schedule) else []


def _selectors(args: Args | None) -> list[list[str]]:
    if isinstance(args, Broadcast | Silence | Test):
        return [args.zones]
    return [entry.zones for entry in args.entries] if isinstance(args, Schedule) else []


class RefusalEvent(Struct, frozen=True):
    """The body of a `refused` event: the newest refusal of that reason, and how many there were since the last."""

    reason: Reason
    sha256: str
    topic: str
    count: int


class _Tally(Struct):
    said_ns: int
    newest: Refused
    count: int = 0


class RefusalMeter:
    """At most one `refused` event a minute for each reason, so that forgeries fill neither the card nor the SIM.

    The first is told at once; the others are counted and told by `due` when their minute is over.
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self._every_ns = round(every_s * 1e9)
        self._tallies: dict[Reason, _Tally] = {}

    def refused(self, refusal: Refused, now: Instant) -> RefusalEvent | None:
        """Count a refusal; the event to publish now, if one may be."""
        tally = self._tallies.get(refusal.reason)
        if tally is None:
            tally = self._tallies[refusal.reason] = _Tally(now.mono_ns - self._every_ns, refusal)
        tally.newest = refusal
        tally.count += 1
        return self._tell(tally, now)

    def due(self, now: Instant) -> list[RefusalEvent]:
        """The events of counted refusals whose minute is over. Call it now and then; `next_ns` says when."""
        return [event for tally in self._tallies.values() if (event := self._tell(tally, now)) is not None]

    @property
    def next_ns(self) -> int | None:
        """The monotonic nanosecond at which `due` will have something; None: nothing is waiting."""
        return min((t.said_ns + self._every_ns for t in self._tallies.values() if t.count), default=None)

    def _tell(self, tally: _Tally, now: Instant) -> RefusalEvent | None:
        if not tally.count or now.mono_ns - tally.said_ns < self._every_ns:
            return None
        event = RefusalEvent(tally.newest.reason, tally.newest.sha256, tally.newest.topic, tally.count)
        tally.said_ns, tally.count = now.mono_ns, 0
        return event
