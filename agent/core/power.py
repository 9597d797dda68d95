"""The power chains of zones: relays on in order with warm-up, off in reverse after cool-down. Pure; time is given.

`TRANSITIONS` is the whole state machine of a zone; a missing pair is a programming error (KeyError). Beside the state a
chain knows its `level`: how many of its steps it holds, always the first ones. A relay is on while at least one chain
holds it, so that one shared by two zones goes off only when neither needs it, and a zone that finds a shared relay
already warm does not wait for it again.

Cool-down counts from the end of the sound: step i goes off `cool` after it, but never before a later step of the same
chain. The change-over relay of an external idle source is the first step of its chain (see `chain_of`): first on, last
off, so that the external source is never heard through an amplifier of ours that is only warming up or cooling down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from agent.model.config import Zone


class State(StrEnum):
    """Of a zone's power chain."""

    OFF = "off"
    WARMING = "warming"
    ON = "on"
    COOLING = "cooling"


class Cue(StrEnum):
    """What moves a chain."""

    WANT = "want"
    WARM = "warm"
    RELEASE = "release"
    COLD = "cold"


TRANSITIONS: dict[tuple[State, Cue], State] = {
    (State.OFF, Cue.WANT): State.WARMING,
    (State.WARMING, Cue.WARM): State.ON,
    (State.WARMING, Cue.RELEASE): State.COOLING,
    (State.ON, Cue.RELEASE): State.COOLING,
    (State.COOLING, Cue.WANT): State.WARMING,
    (State.COOLING, Cue.COLD): State.OFF,
}


class Step(Struct, frozen=True):
    """One relay of a chain, times in nanoseconds."""

    relay: str
    warm_ns: int = 0
    cool_ns: int = 0


class Switch(Struct, frozen=True):
    """Switch this relay now."""

    relay: str
    on: bool


class Changed(Struct, frozen=True):
    """A zone's chain is in another state than at the last report."""

    zone: str
    state: State


def chain_of(zone: Zone) -> list[Step]:
    """The chain that a zone's configuration describes."""
    steps = [Step(s.relay, round(s.warm_up_s * 1e9), round(s.cool_down_s * 1e9)) for s in zone.power]
    if zone.idle.source == "external" and zone.idle.relay:
        return [Step(zone.idle.relay), *steps]
    return steps


class _Chain:
    """State of one zone's chain. `due_ns`: when its next step is taken."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.state = State.OFF
        self.reported = State.OFF
        self.level = 0
        self.due_ns = 0
        self.end_ns = 0

    def cue(self, cue: Cue) -> None:
        self.state = TRANSITIONS[self.state, cue]


class PowerPlan:
    """All chains of a station. `want` and `release` change the aim, `advance` says what to switch."""

    def __init__(self, chains: Mapping[str, Sequence[Step]]) -> None:
        self._chains = {zone: _Chain(steps) for zone, steps in chains.items()}
        self._holders: dict[str, set[str]] = {s.relay: set() for steps in chains.values() for s in steps}
        self._since: dict[str, int] = {}
        """Relays that are on, and since when."""

    @property
    def relays(self) -> dict[str, bool]:
        """Every relay of a chain, and whether it should be on."""
        return {relay: relay in self._since for relay in self._holders}

    def state(self, zone: str) -> State:
        """The state of that zone's chain."""
        return self._chains[zone].state

    def lead_ns(self, zone: str) -> int:
        """The whole warm-up of that zone, from cold."""
        return sum(s.warm_ns for s in self._chains[zone].steps)

    def want(self, zone: str, now: int) -> None:
        """The zone is owned from now on. KeyError if it was wanted already."""
        chain = self._chains[zone]
        chain.cue(Cue.WANT)
        chain.due_ns = self._warm_at(chain, now)

    def release(self, zone: str, now: int) -> None:
        """The zone's sound is over at `now`. KeyError if it was not wanted."""
        chain = self._chains[zone]
        chain.cue(Cue.RELEASE)
        chain.end_ns = chain.due_ns = now

    def ready_ns(self, zone: str, now: int) -> int:
        """When the zone is (or would be, wanted now) on; `now` if it is."""
        chain = self._chains[zone]
        if chain.state is State.ON:
            return now
        at = chain.due_ns if chain.state is State.WARMING else self._warm_at(chain, now)
        for step in chain.steps[chain.level :]:
            at = max(at, self._since.get(step.relay, at) + step.warm_ns)
        return max(at, now)

    def next_ns(self) -> int | None:
        """When `advance` has something to do again, None if nothing is under way."""
        moving = [c.due_ns for c in self._chains.values() if c.state in {State.WARMING, State.COOLING}]
        return min(moving, default=None)

    def advance(self, now: int) -> list[Switch | Changed]:
        """Take every step that is due, in order."""
        done: list[Switch | Changed] = []
        for zone, chain in self._chains.items():
            if chain.state is State.WARMING:
                self._warm(zone, chain, now, done)
            elif chain.state is State.COOLING:
                self._cool(zone, chain, now, done)
            if chain.state is not chain.reported:
                chain.reported = chain.state
                done.append(Changed(zone, chain.state))
        return done

    def all_off(self) -> list[Switch]:
        """Switch every relay off, whatever its chain wants: the last act of a process."""
        return [Switch(relay, False) for relay in reversed(self._holders)]

    def _warm_at(self, chain: _Chain, now: int) -> int:
        held = chain.steps[: chain.level]
        return max([now, *(self._since[s.relay] + s.warm_ns for s in held)])

    def _warm(self, zone: str, chain: _Chain, now: int, done: list[Switch | Changed]) -> None:
        while chain.due_ns <= now:
            if chain.level == len(chain.steps):
                chain.cue(Cue.WARM)
                return
            step = chain.steps[chain.level]
            chain.level += 1
            self._holders[step.relay].add(zone)
            if step.relay not in self._since:
                self._since[step.relay] = now
                done.append(Switch(step.relay, True))
            chain.due_ns = max(now, self._since[step.relay] + step.warm_ns)

    def _cool(self, zone: str, chain: _Chain, now: int, done: list[Switch | Changed]) -> None:
        while chain.level:
            step = chain.steps[chain.level - 1]
            chain.due_ns = chain.end_ns + step.cool_ns
            if chain.due_ns > now:
                return
            chain.level -= 1
            holders = self._holders[step.relay]
            holders.discard(zone)
            if not holders:
                del self._since[step.relay]
                done.append(Switch(step.relay, False))
        chain.cue(Cue.COLD)
