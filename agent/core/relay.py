"""One relay and its feedback contacts. Pure; time is given in nanoseconds.

`TRANSITIONS` is the whole state machine; a missing pair is a programming error (KeyError). A relay without a feedback
contact is believed at once. One with a contact is *on* only while the contact says so: until then it is energised and
not on. If it does not follow within its time it is switched off, and on again after a pause, as often as the
configuration says; then it has failed and is off. A chain that insists (an emergency) goes on with the relay energised
and unconfirmed, for the contact may be what is broken.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from agent.model import config

SETTLE_NS = 20_000_000
"""A contact must stand still for so long to count."""
PAUSE_NS = 500_000_000
"""A relay that did not follow rests at least so long before the next try."""


class Place(StrEnum):
    """Where a relay is, by its contacts."""

    ON = "on"
    OFF = "off"
    BETWEEN = "between"
    """Neither contact of a change-over is closed."""
    BOTH = "both"
    """Both are, which cannot be."""


def place(on: bool, rest: bool | None) -> Place:
    """From the contact of the switched position, and that of the rest position where there is one."""
    if rest is None:
        return Place.ON if on else Place.OFF
    if on == rest:
        return Place.BOTH if on else Place.BETWEEN
    return Place.ON if on else Place.OFF


class Stand(StrEnum):
    """Of a relay."""

    OFF = "off"
    CLOSING = "closing"
    """Energised, not confirmed yet."""
    ON = "on"
    PAUSED = "paused"
    """Off between two tries."""
    FORCED = "forced"
    """Energised without confirmation, because an emergency insists."""
    FAILED = "failed"
    """Off, because it did not follow or an interlock broke, though it is wanted."""
    OPENING = "opening"
    """Off, not confirmed yet."""
    STUCK = "stuck"
    """Off, and its contact says that it is not."""


class Cue(StrEnum):
    """What moves a relay."""

    WANT = "want"
    DROP = "drop"
    FOLLOWED = "followed"
    MOVED = "moved"
    """Its contact changed though nobody switched it."""
    AGAIN = "again"
    RETRY = "retry"
    FORCE = "force"
    FAIL = "fail"
    LATE = "late"


TRANSITIONS: dict[tuple[Stand, Cue], Stand] = {
    (Stand.OFF, Cue.WANT): Stand.CLOSING,
    (Stand.OPENING, Cue.WANT): Stand.CLOSING,
    (Stand.STUCK, Cue.WANT): Stand.CLOSING,
    (Stand.CLOSING, Cue.FOLLOWED): Stand.ON,
    (Stand.CLOSING, Cue.RETRY): Stand.PAUSED,
    (Stand.CLOSING, Cue.FORCE): Stand.FORCED,
    (Stand.CLOSING, Cue.FAIL): Stand.FAILED,
    (Stand.PAUSED, Cue.AGAIN): Stand.CLOSING,
    (Stand.FORCED, Cue.FOLLOWED): Stand.ON,
    (Stand.FORCED, Cue.FAIL): Stand.FAILED,
    (Stand.ON, Cue.MOVED): Stand.CLOSING,
    (Stand.ON, Cue.FAIL): Stand.FAILED,
    (Stand.CLOSING, Cue.DROP): Stand.OPENING,
    (Stand.ON, Cue.DROP): Stand.OPENING,
    (Stand.PAUSED, Cue.DROP): Stand.OPENING,
    (Stand.FORCED, Cue.DROP): Stand.OPENING,
    (Stand.FAILED, Cue.DROP): Stand.OPENING,
    (Stand.OPENING, Cue.FOLLOWED): Stand.OFF,
    (Stand.OPENING, Cue.LATE): Stand.STUCK,
    (Stand.STUCK, Cue.FOLLOWED): Stand.OFF,
    (Stand.OFF, Cue.MOVED): Stand.OPENING,
}
ENERGISED = frozenset({Stand.CLOSING, Stand.ON, Stand.FORCED})


class Wiring(Struct, frozen=True):
    """What holds for a relay in whatever chain it is. `within_ns` None: it has no feedback contact."""

    min_on_ns: int = 0
    min_off_ns: int = 0
    requires: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    within_ns: int | None = None
    retries: int = 0


def wiring_of(relay: config.Relay) -> Wiring:
    """As the configuration describes it."""
    feedback = relay.feedback
    return Wiring(
        min_on_ns=round(relay.min_on_s * 1e9),
        min_off_ns=round(relay.min_off_s * 1e9),
        requires=tuple(relay.requires),
        excludes=tuple(relay.excludes),
        within_ns=None if feedback is None else round(feedback.within_s * 1e9),
        retries=0 if feedback is None else feedback.retries,
    )


class Switch(Struct, frozen=True):
    """Switch this relay now."""

    relay: str
    on: bool


class Told(Struct, frozen=True):
    """What a relay is, as far as can be known: `on` is confirmed, `fault` a stable word or None."""

    relay: str
    on: bool
    fault: str | None = None


class RelayState:
    """`off_ns`: since when it has been off, at the latest since the process began. `since_ns`: since when energised."""

    def __init__(self, name: str, wiring: Wiring, now: int) -> None:
        self.name = name
        self.wiring = wiring
        self.stand = Stand.OFF
        self.off_ns = now
        self.since_ns = 0
        self.fault: str | None = None
        self._told = Told(name, False)
        self._tries = 0
        self._due_ns: int | None = None
        self._raw: Place | None = None
        self._raw_ns = 0
        self._unsettled = False

    @property
    def energised(self) -> bool:
        """Whether its coil has current."""
        return self.stand in ENERGISED

    @property
    def confirmed(self) -> bool:
        """Whether it is on, as far as can be known."""
        return self.stand is Stand.ON

    def warm(self, *, insist: bool) -> bool:
        """Whether a chain may go on beyond it once its warm-up is over."""
        return self.stand in (Stand.ON, Stand.FORCED) or (insist and self.stand is Stand.CLOSING)

    def see(self, where: Place, now: int) -> None:
        """What its contacts say."""
        if where is not self._raw:
            self._raw, self._raw_ns, self._unsettled = where, now, True

    def want(self, now: int) -> Switch:
        """Switch it on."""
        self.stand = TRANSITIONS[self.stand, Cue.WANT]
        self._tries = self.wiring.retries
        return self._energise(now)

    def drop(self, now: int) -> list[Switch]:
        """Switch it off; nothing where it is off already, between two tries or after a failure."""
        was = self.energised
        self.stand = TRANSITIONS[self.stand, Cue.DROP]
        self._await(now)
        return self._cut(now) if was else []

    def trip(self, now: int) -> list[Switch]:
        """An interlock broke: off at once, however long it was on."""
        self.stand = TRANSITIONS[self.stand, Cue.FAIL]
        self.fault = "interlock"
        self._due_ns = None
        return self._cut(now)

    def poll(self, now: int, *, insist: bool) -> list[Switch | Told]:
        """Everything that its contacts and the time ask for."""
        done: list[Switch | Told] = []
        while (cue := self._cue(now, insist=insist)) is not None:
            self.stand = TRANSITIONS[self.stand, cue]
            if cue is Cue.FOLLOWED:
                if self.stand is Stand.ON or self.fault in ("stuck", "contradiction"):
                    self.fault = None
                self._due_ns = None
            elif cue is Cue.AGAIN:
                done.append(self._energise(now))
            elif cue is Cue.MOVED:
                self._tries = self.wiring.retries
                self._await(now)
            else:
                self._late(cue, now, done)
        told = Told(self.name, self.confirmed or self.stand is Stand.STUCK, self.fault)
        if told != self._told:
            self._told = told
            done.append(told)
        return done

    def next_ns(self) -> int | None:
        """When `poll` has something to do by itself."""
        settled = self._raw_ns + SETTLE_NS if self._unsettled else None
        return min((t for t in (self._due_ns, settled) if t is not None), default=None)

    def _where(self, now: int) -> Place | None:
        """The place that has stood long enough to count; None: it moves, or nothing tells."""
        self._unsettled = self._unsettled and now < self._raw_ns + SETTLE_NS
        return None if self._unsettled else self._raw

    def _cue(self, now: int, *, insist: bool) -> Cue | None:
        blind = self.wiring.within_ns is None
        where = self._where(now)
        late = self._due_ns is not None and now >= self._due_ns
        match self.stand:
            case Stand.CLOSING | Stand.FORCED:
                if blind or where is Place.ON:
                    return Cue.FOLLOWED
                if self.stand is Stand.FORCED or not late:
                    return None
                return Cue.FORCE if insist else Cue.RETRY if self._tries else Cue.FAIL
            case Stand.PAUSED:
                return Cue.AGAIN if late else None
            case Stand.OPENING:
                if blind or where is Place.OFF:
                    return Cue.FOLLOWED
                return Cue.LATE if late and where is not None else None
            case Stand.STUCK:
                return Cue.FOLLOWED if where is Place.OFF else None
            case Stand.ON:
                return Cue.MOVED if not blind and where not in (Place.ON, None) else None
            case Stand.OFF:
                return Cue.MOVED if not blind and where not in (Place.OFF, None) else None
            case _:
                return None

    def _late(self, cue: Cue, now: int, done: list[Switch | Told]) -> None:
        both = self._raw is Place.BOTH
        self._due_ns = None
        if cue is Cue.LATE:
            self.fault = "contradiction" if both else "stuck"
            return
        if cue is not Cue.RETRY:
            self.fault = "contradiction" if both else "not-following"
        if cue is not Cue.FORCE:
            done.extend(self._cut(now))
        if cue is Cue.RETRY:
            self._tries -= 1
            self._due_ns = now + max(PAUSE_NS, self.wiring.min_off_ns)

    def _energise(self, now: int) -> Switch:
        self.since_ns = now
        self._await(now)
        return Switch(self.name, True)

    def _cut(self, now: int) -> list[Switch]:
        self.off_ns = now
        return [Switch(self.name, False)]

    def _await(self, now: int) -> None:
        within = self.wiring.within_ns
        self._due_ns = None if within is None else now + within
