"""How far neighbouring clusters are apart while their sound cards drift: the shipped mixer, an hour of virtual time."""

from __future__ import annotations

from array import array
from pathlib import Path

from agent.model.config import WavOutput, Zone
from agent.model.voice import RATE
from agent.voice.fakes import FakeSink, ManualClock
from agent.voice.mixer import Card, Channel, Mixer, Play
from agent.voice.stream import Stream
from province.bench.rows import Row, row

DRIFT_PPM = 100
"""Of one card; the other is as slow. Cheap oscillators are within ±50 ppm."""
CYCLE = RATE // 2
AT_NS = 2_000_000_000


class _Telling:
    """A segment without end whose samples tell their own position."""

    number, name, exhausted = 0, None, False

    def __init__(self) -> None:
        self._at = 0
        self._values = array("h", range(CYCLE)) * 2

    def ready(self) -> bool:
        """It may begin."""
        return True

    def take(self, samples: int) -> bytes:
        """The next samples."""
        start = self._at % CYCLE
        self._at += samples
        return self._values[start : start + samples].tobytes()

    def close(self) -> None:
        """Nothing to close."""


class _Tape(FakeSink):
    """A card of which only the newest period is kept."""

    last = 0

    def write(self, frames: bytes, now: int) -> None:
        """Remember the last sample."""
        self._position += len(frames) // 2
        self.last = memoryview(frames).cast("h")[-1]


class _Cluster:
    """A mixer with one zone on a card that drifts."""

    def __init__(self, drift_ppm: int) -> None:
        self.clock = ManualClock()
        self.sink = _Tape(self.clock, drift_ppm=drift_ppm)
        zone = Zone(id="loa", kind="sound", output=WavOutput(path="virtual"))
        card = Card("card", self.sink, [Channel(zone, True)])
        self.mixer = Mixer(
            [zone], [card], clock=self.clock, emit=lambda _: None, switch=lambda *_: None, fault=lambda *_: None
        )
        stream = Stream(None)
        stream.append(_Telling())  # type: ignore[arg-type]
        self.mixer.open(Play("p", arrived_ns=self.clock.now, at_ns=AT_NS, gain_db=0.0, stream=stream), ["loa"])

    def until(self, end_ns: int) -> float:
        """Let time pass; how many ms late the programme then is."""
        while self.clock.now < end_ns:
            wake = self.mixer.tick(self.clock.now)
            self.clock.now = min(end_ns, max(self.clock.now + 1, wake or end_ns))
        due = (self.sink.next_ns(self.clock.now) - AT_NS) * RATE / 1e9 - 1
        ahead = (self.sink.last - due + CYCLE / 2) % CYCLE - CYCLE / 2
        return -ahead / RATE * 1000


def start_skew(_folder: Path, minutes: int) -> list[Row]:
    """`start_skew_ms`: two clusters, one fast and one slow, a second after the start and then every minute."""
    fast, slow = _Cluster(DRIFT_PPM), _Cluster(-DRIFT_PPM)
    found: list[float] = []
    for minute in range(minutes + 1):
        at = AT_NS + 1_000_000_000 + minute * 60_000_000_000
        found.append(abs(fast.until(at) - slow.until(at)))
    uncorrected = 2 * DRIFT_PPM * 1e-6 * minutes * 60_000
    note = (
        f"the shipped mixer on cards of +{DRIFT_PPM} and −{DRIFT_PPM} ppm, {minutes} min of virtual time, clocks "
        f"synchronised; uncorrected {uncorrected:.0f} ms at the end; at the end {found[-1]:.3f}"
    )
    return [row("start_skew_ms", found, note)]
