"""The power chains of zones: relays on in order with warm-up, off in reverse after cool-down. Pure; time is given.

`TRANSITIONS` is the whole state machine of a zone; a missing pair is a programming error (KeyError). Beside the state a
chain knows its `level`: how many of its steps it holds, always the first ones. A relay is on while at least one chain
holds it, so that one shared by two zones goes off only when neither needs it, and a zone that finds a shared relay
already warm does not wait for it again. What a single relay does, with its feedback contact, is in `relay`.

The next step is taken when every relay below it has warmed up and its contact has confirmed it. A relay that
`requires` others is on only while those are confirmed: when one drops out it is cut at once. Two relays that exclude
each other are never on together: the second waits until the first is off, confirmed where it has a contact. A chain
with a failed relay is in fault: it goes off in order like one that cools, until it is released.

Cool-down counts from the end of the sound: step i goes off `cool` after it, not before its shortest time on, and never
before a later step of the same chain. The change-over relay of an external idle source is the first step of its chain
(see `chain_of`): first on, last off, so that the external source is never heard through an amplifier of ours that is
only warming up or cooling down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from agent.core.relay import Place, RelayState, Stand, Switch, Told, Wiring
from agent.model.config import PowerStep, Relay, Zone

__all__ = [
    "Changed",
    "PowerPlan",
    "State",
    "Step",
    "Switch",
    "Told",
    "chain_of",
    "chains_of",
    "idle_chain",
    "lead_s",
    "rivals",
    "sharers",
]


class State(StrEnum):
    """Of a zone's power chain."""

    OFF = "off"
    WARMING = "warming"
    ON = "on"
    COOLING = "cooling"
    FAULT = "fault"
    """A relay failed; it cools, and can be tried again once it was released."""


class Cue(StrEnum):
    """What moves a chain."""

    WANT = "want"
    WARM = "warm"
    RELEASE = "release"
    COLD = "cold"
    FAIL = "fail"


TRANSITIONS: dict[tuple[State, Cue], State] = {
    (State.OFF, Cue.WANT): State.WARMING,
    (State.WARMING, Cue.WARM): State.ON,
    (State.WARMING, Cue.RELEASE): State.COOLING,
    (State.ON, Cue.RELEASE): State.COOLING,
    (State.COOLING, Cue.WANT): State.WARMING,
    (State.COOLING, Cue.COLD): State.OFF,
    (State.WARMING, Cue.FAIL): State.FAULT,
    (State.ON, Cue.FAIL): State.FAULT,
    (State.FAULT, Cue.RELEASE): State.COOLING,
}


class Step(Struct, frozen=True):
    """One relay of a chain, times in nanoseconds."""

    relay: str
    warm_ns: int = 0
    cool_ns: int = 0


class Changed(Struct, frozen=True):
    """A zone's chain is in another state than at the last report."""

    zone: str
    state: State


def chain_of(zone: Zone) -> list[Step]:
    """The chain that a zone's configuration describes."""
    steps = _steps(zone.power)
    if zone.idle.source == "external" and zone.idle.relay:
        return [Step(zone.idle.relay), *steps]
    return steps


def _steps(power: Iterable[PowerStep]) -> list[Step]:
    return [Step(s.relay, round(s.warm_up_s * 1e9), round(s.cool_down_s * 1e9)) for s in power]


def idle_chain(zone: str) -> str:
    """The name of the chain that lets a zone's external source be heard."""
    return f"idle:{zone}"


def chains_of(zones: Iterable[Zone]) -> dict[str, list[Step]]:
    """Every chain of these zones: their own, and those of their external sources."""
    chains = {z.id: chain_of(z) for z in zones}
    for zone in zones:
        if zone.idle.power:
            chains[idle_chain(zone.id)] = _steps(zone.idle.power)
    return chains


def lead_s(zone: Zone, relays: Iterable[Relay]) -> float:
    """The longest that a zone's chain takes from the wish to the sound, when every relay follows: seconds."""
    names = {s.relay for s in chain_of(zone)}
    rest = max((r.min_off_s for r in relays if r.id in names), default=0.0)
    return sum(s.warm_up_s for s in zone.power) + rest


def rivals(zones: Iterable[Zone], relays: Iterable[Relay]) -> dict[str, frozenset[str]]:
    """Which zones cannot be on together, because relays of theirs exclude each other."""
    pairs = {frozenset((r.id, other)) for r in relays for other in r.excludes}
    chains = {z.id: {s.relay for s in chain_of(z)} for z in zones}
    return {
        zone: frozenset(
            other
            for other, theirs in chains.items()
            if other != zone and any(frozenset((a, b)) in pairs for a in mine for b in theirs)
        )
        for zone, mine in chains.items()
    }


def sharers(zones: Iterable[Zone]) -> dict[str, frozenset[str]]:
    """Which zones are lines of the same amplifier: they can only carry the same programme."""
    zones = list(zones)
    return {
        z.id: frozenset(o.id for o in zones if o is not z and z.amplifier is not None and o.amplifier == z.amplifier)
        for z in zones
    }


class _Chain:
    """State of one zone's chain. `due_ns`: when it is looked at again; None: when a relay has moved."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.state = State.OFF
        self.reported = State.OFF
        self.level = 0
        self.due_ns: int | None = 0
        self.end_ns = 0
        self.insist = False

    @property
    def held(self) -> list[Step]:
        return self.steps[: self.level]

    def cue(self, cue: Cue) -> None:
        self.state = TRANSITIONS[self.state, cue]


Done = Switch | Told | Changed


class PowerPlan:
    """All chains of a station. `want` and `release` change the aim, `see` says where a relay is, `advance` what to do.

    `now` is when the process began: nothing is known to have been off for longer.
    """

    def __init__(
        self, chains: Mapping[str, Sequence[Step]], wirings: Mapping[str, Wiring] | None = None, now: int = 0
    ) -> None:
        wirings = wirings or {}
        self._chains = {zone: _Chain(steps) for zone, steps in chains.items()}
        self._holders: dict[str, set[str]] = {s.relay: set() for steps in chains.values() for s in steps}
        self._relays = {name: RelayState(name, wirings.get(name, Wiring()), now) for name in self._holders}
        self._excluded: dict[str, set[str]] = {name: set() for name in self._relays}
        for name, relay in self._relays.items():
            for other in relay.wiring.excludes:
                if other in self._relays:
                    self._excluded[name].add(other)
                    self._excluded[other].add(name)

    @property
    def relays(self) -> dict[str, bool]:
        """Every relay of a chain, and whether its coil has current."""
        return {name: relay.energised for name, relay in self._relays.items()}

    def state(self, zone: str) -> State:
        """The state of that zone's chain."""
        return self._chains[zone].state

    def lead_ns(self, zone: str) -> int:
        """The whole warm-up of that zone, from cold."""
        return sum(s.warm_ns for s in self._chains[zone].steps)

    def due(self, zone: str, at_ns: int, now: int) -> bool:
        """Whether the chain must be wanted now for a sound at `at_ns`: to be warm in time, or because it could not be
        again if it went off now."""
        return now >= self.due_ns(zone, at_ns) or self.ready_ns(zone, now) >= at_ns

    def due_ns(self, zone: str, at_ns: int) -> int:
        """When `due` becomes true at the latest, as the chain stands now."""
        chain = self._chains[zone]
        rest = 0
        if chain.state is not State.OFF:
            rest = max((self._relays[s.relay].wiring.min_off_ns for s in chain.steps), default=0)
        return at_ns - self.lead_ns(zone) - rest

    def want(self, zone: str, now: int, *, insist: bool = False) -> None:
        """The zone is owned from now on. KeyError if it was wanted already."""
        chain = self._chains[zone]
        chain.cue(Cue.WANT)
        chain.insist = insist
        chain.due_ns = now

    def insist(self, zone: str, insist: bool) -> None:
        """Whether what owns the zone goes on through a relay that is not confirmed."""
        self._chains[zone].insist = insist

    def release(self, zone: str, now: int) -> None:
        """The zone's sound is over at `now`. KeyError if it was not wanted."""
        chain = self._chains[zone]
        if chain.state is not State.FAULT:
            chain.end_ns = now
        chain.cue(Cue.RELEASE)
        chain.due_ns = now

    def see(self, relay: str, where: Place, now: int) -> None:
        """What the contacts of a relay say; call it whenever they may have moved."""
        if relay in self._relays:
            self._relays[relay].see(where, now)

    def ready_ns(self, zone: str, now: int) -> int:
        """When the zone is (or would be, wanted now) on, if every relay follows; `now` if it is."""
        chain = self._chains[zone]
        if chain.state is State.ON:
            return now
        at = now
        for step in chain.steps:
            relay = self._relays[step.relay]
            begun = relay.since_ns if relay.energised else max(at, relay.off_ns + relay.wiring.min_off_ns)
            at = max(at, begun + step.warm_ns)
        return at

    def waits(self, zone: str) -> bool:
        """Whether the chain waits for something other than time: a contact, another zone's relay, a new try."""
        chain = self._chains[zone]
        return chain.state is State.FAULT or (chain.state is State.WARMING and chain.due_ns is None)

    def blockers(self, zone: str) -> set[str]:
        """The zones that use a relay for which the chain waits."""
        chain = self._chains[zone]
        if chain.state is not State.WARMING or chain.due_ns is not None or chain.level == len(chain.steps):
            return set()
        return {zone for name in self._excluded[chain.steps[chain.level].relay] for zone in self._holders[name]}

    def next_ns(self) -> int | None:
        """When `advance` has something to do again, None if nothing is under way."""
        moving = [c.due_ns for c in self._chains.values() if c.state not in (State.OFF, State.ON)]
        times = [*moving, *(r.next_ns() for r in self._relays.values())]
        return min((t for t in times if t is not None), default=None)

    def advance(self, now: int) -> list[Done]:
        """Take every step that is due, in order."""
        done: list[Done] = []
        while True:
            before = len(done)
            self._tend_relays(now, done)
            for zone, chain in self._chains.items():
                if chain.state in (State.WARMING, State.ON) and self._failed(chain):
                    chain.cue(Cue.FAIL)
                    chain.end_ns = now
                if chain.state is State.WARMING:
                    self._warm(zone, chain, now, done)
                elif chain.state in (State.COOLING, State.FAULT):
                    self._cool(zone, chain, now, done)
                if chain.state is not chain.reported:
                    chain.reported = chain.state
                    done.append(Changed(zone, chain.state))
            if len(done) == before:
                return done

    def all_off(self) -> list[Switch]:
        """Switch every relay off, whatever its chain wants: the last act of a process. Those that need others first."""
        order: list[str] = []

        def add(name: str) -> None:
            for other, relay in self._relays.items():
                if name in relay.wiring.requires and other not in order and other != name:
                    add(other)
            if name not in order:
                order.append(name)

        for name in reversed(self._relays):
            add(name)
        return [Switch(name, False) for name in order]

    def _tend_relays(self, now: int, done: list[Done]) -> None:
        for name, relay in self._relays.items():
            insist = any(self._chains[zone].insist for zone in self._holders[name])
            done.extend(relay.poll(now, insist=insist))
        for name, relay in self._relays.items():
            if relay.energised and not all(self._relays[r].confirmed for r in self._needed(name)):
                done.extend(relay.trip(now))
                done.extend(relay.poll(now, insist=False))

    def _needed(self, name: str) -> list[str]:
        return [r for r in self._relays[name].wiring.requires if r in self._relays]

    def _failed(self, chain: _Chain) -> bool:
        return any(self._relays[s.relay].stand is Stand.FAILED for s in chain.held)

    def _warm(self, zone: str, chain: _Chain, now: int, done: list[Done]) -> None:
        while True:
            held = [self._relays[s.relay] for s in chain.held]
            if not all(r.warm(insist=chain.insist) for r in held):
                chain.due_ns = None
                return
            chain.due_ns = max((r.since_ns + s.warm_ns for r, s in zip(held, chain.held, strict=True)), default=now)
            if chain.due_ns > now:
                return
            if chain.level == len(chain.steps):
                chain.cue(Cue.WARM)
                return
            relay = self._relays[chain.steps[chain.level].relay]
            if not relay.energised:
                if self._barred(relay.name):
                    relay.fault = "interlock"
                    chain.cue(Cue.FAIL)
                    chain.end_ns = chain.due_ns = now
                    return
                if not self._free(relay.name):
                    chain.due_ns = None
                    return
                chain.due_ns = relay.off_ns + relay.wiring.min_off_ns
                if relay.stand not in (Stand.PAUSED, Stand.FAILED):
                    if chain.due_ns > now:
                        return
                    done.append(relay.want(now))
                    done.extend(relay.poll(now, insist=chain.insist))
            chain.level += 1
            self._holders[relay.name].add(zone)

    def _free(self, name: str) -> bool:
        """Whether its interlocks let it be switched on now."""
        return all(self._relays[r].confirmed for r in self._needed(name)) and all(
            self._relays[r].stand is Stand.OFF for r in self._excluded[name]
        )

    def _barred(self, name: str) -> bool:
        """Whether they will not, however long one waits."""
        return any(self._relays[r].stand in (Stand.FORCED, Stand.FAILED) for r in self._needed(name)) or any(
            self._relays[r].stand is Stand.STUCK for r in self._excluded[name]
        )

    def _cool(self, zone: str, chain: _Chain, now: int, done: list[Done]) -> None:
        while chain.level:
            step = chain.steps[chain.level - 1]
            relay = self._relays[step.relay]
            chain.due_ns = now  # what failed has nothing to cool: it is free to be tried again
            if relay.energised:
                last = len(self._holders[step.relay]) == 1
                least = relay.since_ns + relay.wiring.min_on_ns if last else now
                chain.due_ns = max(chain.end_ns + step.cool_ns, least)
            if chain.due_ns > now:
                return
            chain.level -= 1
            self._holders[step.relay].discard(zone)
            if not self._holders[step.relay]:
                done.extend(relay.drop(now))
                done.extend(relay.poll(now, insist=False))
        if chain.state is State.COOLING:
            chain.cue(Cue.COLD)
            chain.insist = False
        else:
            chain.due_ns = None
