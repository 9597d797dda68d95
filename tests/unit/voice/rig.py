"""A Voice on a fake sink, a fake board and a clock that is advanced: every sample and event can be asserted."""

from __future__ import annotations

import os
from array import array
from typing import Any

import msgspec

from agent.model import voice as v
from agent.model.config import Station
from agent.voice.core import Voice
from agent.voice.fakes import FakeBoard, FakeSink, ManualClock
from agent.voice.mixer import Card, Channel

MS = 1_000_000
PERIOD_NS = 5 * MS


def station(zones: list[dict[str, Any]] | None = None, **more: Any) -> Station:
    """A station of sound zones on one card."""
    zones = zones or [{"id": "a"}]
    output = {"driver": "wav", "path": "station.wav"}
    return msgspec.convert(
        {
            "device": {"id": "tram-thu", "name": "Trạm thử", "unit": "84"},
            "trust": {"root_keys": "r", "authorities": "a"},
            "zones": [{"kind": "sound", "output": output, **z} for z in zones],
            **more,
        },
        Station,
    )


def pcm_of(value: int, samples: int) -> bytes:
    """A constant."""
    return array("h", [value] * samples).tobytes()


def rising(samples: int, first: int = 1) -> list[int]:
    """Sample values that tell their own position."""
    return [first + i % 300 for i in range(samples)]


def packed(values: list[int]) -> bytes:
    return array("h", values).tobytes()


class Rig:
    """Send commands, advance time, look at samples and events."""

    def __init__(self, config: Station | None = None, *, cards: list[list[str]] | None = None) -> None:
        self.config = config or station()
        self.clock = ManualClock()
        self.board = FakeBoard()
        self.events: list[v.Event] = []
        zones = {z.id: z for z in self.config.zones}
        plan = cards or [list(zones)]
        self.sinks = [FakeSink(self.clock, len(members)) for members in plan]
        seen: set[str] = set()
        self.cards = []
        for i, members in enumerate(plan):
            channels = [Channel(zones[m], m not in seen) for m in members]
            seen.update(members)
            self.cards.append(Card(f"card{i}", self.sinks[i], channels))
        self.voice = Voice(self.config, self.cards, self.board, clock=self.clock, emit=self.events.append)
        # Quiet, because a sound that begins loudly is faded in.
        self.voice.sounds.update(
            {"chime:siren": pcm_of(250, 480), "chime:gong": pcm_of(300, 240), "message:fire": pcm_of(310, 4800)}
        )
        self.wake: int | None = self.voice.tick(self.clock.now)

    @property
    def sink(self) -> FakeSink:
        return self.sinks[0]

    def do(self, *commands: v.Command, fd: int | None = None) -> None:
        """Commands that arrive together, then one turn of the loop."""
        for command in commands:
            self.voice.handle(command, fd, self.clock.now)  # type: ignore[arg-type]
            fd = None
        self.wake = self.voice.tick(self.clock.now)

    def pipe(self, play: str, segment: int, **more: Any) -> int:
        """Feed a pipe; its write end."""
        read, write = os.pipe()
        self.do(v.Feed(play=play, segment=segment, **more), fd=read)
        return write

    def run(self, ms: float) -> None:
        """Let time pass as the loop would: from wake to wake, reading pipes before each turn."""
        end = self.clock.now + round(ms * MS)
        while self.wake is not None and self.wake <= end:
            self.clock.now = max(self.clock.now, self.wake)
            self.turn()
        self.clock.now = end
        self.turn()

    def turn(self) -> None:
        for pipe in self.voice.pipes():
            if pipe.wants_data:
                pipe.fill()
        self.wake = self.voice.tick(self.clock.now)

    def press(self, button: str, hold_ms: float = 100) -> None:
        """Press and release; 10 ms pass, the release comes later."""
        self.board.pressed.add(button)
        self.voice.edge(button, self.clock.now)
        self.wake = self.clock.now
        self.run(10)
        self.run(hold_ms - 10)
        self.board.pressed.discard(button)
        self.voice.edge(button, self.clock.now)
        self.wake = self.clock.now
        self.run(10)

    def of(self, kind: type[Any], **fields: Any) -> list[Any]:
        """The events of a kind whose fields have these values."""
        return [e for e in self.events if isinstance(e, kind) and all(getattr(e, k) == x for k, x in fields.items())]

    def one(self, kind: type[Any], **fields: Any) -> Any:
        (event,) = self.of(kind, **fields)
        return event

    def at(self, ns: int) -> int:
        """Index of the sample that is played at that moment."""
        return round((ns - self.sink.origin_ns) * 48 / MS)

    def sound(self, first_ns: int, samples: int, channel: int = 0) -> list[int]:
        """What was played from that moment on, in channel 0 of the first card."""
        begin = self.at(first_ns)
        return self.sink.channel(channel)[begin : begin + samples]
