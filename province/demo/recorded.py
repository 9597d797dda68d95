"""What a run leaves in its folder (CONTRACT section 9), read back as values.

Read by the proof, the pictures and the page. Nothing here believes the folder: what does not fit is a `RunError` that
names the file and the place.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.model.playlog import Checkpoint, LogEntry

Pcm = NDArray[np.int16]


class RunError(Exception):
    """A file of the run is missing, damaged or not what the contract says."""


class Station(Struct, frozen=True, kw_only=True):
    """`station.json`. `t0`: wall time (epoch seconds) of sample 0; `zones`: sound zone of each channel, in order."""

    t0: float
    rate: int
    zones: list[str]


BOARDS = ("board", "board-qc")
"""Folders of the commune's board and of the advertiser's one that is requisitioned."""


class Frame(Struct, frozen=True, kw_only=True):
    """A picture that the board showed, and when (RFC 3339; `to` null: until the end)."""

    file: str
    from_: str = msgspec.field(name="from")
    to: str | None = None
    folder: str = BOARDS[0]


class Happening(Struct, frozen=True, kw_only=True):
    """A line of `events.jsonl`. `what` words that the pictures know:

    `relay` (`relay`, `on`), `link` (`up`), `attack` (`on`), `refused` (`reason` in `text`), `press`, `order`,
    `accept`, `silence`. Any other word is a line of the list only.
    """

    at: float
    what: str
    text: str = ""
    figure: str = ""
    relay: str | None = None
    on: bool | None = None
    up: bool | None = None


class Expected(Struct, frozen=True, kw_only=True):
    """What the province meant to happen, in `expect.json`: the measure that does not come from the station itself.

    All optional. Keys are zone ids or bulletin ids; times are epoch seconds.
    """

    gain_db: dict[str, float] = {}
    """Gain of a zone."""
    volume_db: dict[str, float] = {}
    """`volume_db` of a bulletin, on top of the zone's gain."""
    delay_ms: dict[str, float] = {}
    """Configured delay of a zone."""
    warm_up_s: dict[str, float] = {}
    """Warm-up of a zone's power chain: what a takeover of a cold zone may cost more."""
    due: dict[str, float] = {}
    """When a scheduled bulletin was due."""
    triggers: dict[str, float] = {}
    """When an emergency's order was handed over or its button pressed; else its `received` ack, else `planned`."""
    takeover_limit_ms: float = 100.0
    live: dict[str, str] = {}
    """Bulletins with live sound, which the log cannot list by hash: name of its reference in `sent/live/`, or ""."""
    heard: list[str] = []
    """Bulletins that must have sounded."""
    resume: dict[str, str] = {}
    """`resume` of a bulletin: "continue" must not come back from the start."""
    silent: list[tuple[float, float]] = []
    """Stretches in which nothing may sound whatever the log says, in every zone."""
    bounded: list[str] = []
    """Bulletins with a duration or an `until`: their last sound may be cut although they are completed."""


class Run(Struct, frozen=True, kw_only=True):
    """A whole run. `sound`: int16, shape (samples, zones). `log`: the entries as they stand, for their hashes."""

    out: Path
    station: Station
    sound: Pcm
    entries: list[LogEntry]
    log: list[dict[str, Any]]
    checkpoint: Checkpoint | None
    province: dict[str, list[dict[str, Any]]]
    happenings: list[Happening]
    frames: list[Frame]
    requisitioned: list[Frame]
    """What the advertiser's board was given to show."""
    expected: Expected

    def sounding(self) -> Iterator[LogEntry]:
        """Entries of sound zones in which something is said to have sounded, in the order of the log."""
        for entry in self.entries:
            if entry.zone in self.station.zones and entry.started is not None and entry.ended is not None:
                yield entry

    def sample(self, at: str | float) -> int:
        """The sample at that moment (RFC 3339 or epoch seconds); may lie outside the recording."""
        moment = epoch(at) if isinstance(at, str) else at
        return round((moment - self.station.t0) * self.station.rate)

    def wall(self, sample: int) -> float:
        """The wall time (epoch seconds) of a sample."""
        return self.station.t0 + sample / self.station.rate

    def channel(self, zone: str) -> Pcm:
        """The samples of one zone."""
        channel: Pcm = self.sound[:, self.station.zones.index(zone)]
        return channel

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return len(self.sound) / self.station.rate


def epoch(text: str) -> float:
    """Epoch seconds of an RFC 3339 time; RunError when it is none or has no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RunError(f"{text!r} is not a time of RFC 3339") from error
    if moment.tzinfo is None:
        raise RunError(f"{text!r} has no offset")
    return moment.timestamp()


def read_wav(path: Path) -> tuple[int, Pcm]:
    """Rate and samples (int16, shape (samples, channels)) of a PCM WAV file."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise RunError(f"{path.name}: {8 * file.getsampwidth()} bit, expected 16")
            channels = file.getnchannels()
            data = file.readframes(file.getnframes())
            whole = len(data) // (2 * channels) * channels
            return file.getframerate(), np.frombuffer(data, dtype="<i2", count=whole).reshape(-1, channels)
    except (OSError, EOFError, wave.Error) as error:
        raise RunError(f"{path.name}: {error}") from error


def read_run(out: Path) -> Run:
    """Read the folder; RunError says which file is wrong and where. Board, events and `expect.json` may be absent."""
    station = _read(out / "station.json", Station)
    rate, sound = read_wav(out / "station.wav")
    if rate != station.rate or sound.shape[1] != len(station.zones):
        raise RunError(
            f"station.wav has {sound.shape[1]} channels at {rate} Hz, station.json says {len(station.zones)} zones at"
            f" {station.rate} Hz"
        )
    playlog = _read(out / "playlog.json", dict[str, Any])
    log = _convert(out / "playlog.json", playlog.get("entries", []), list[dict[str, Any]])
    province = _read(out / "province.json", dict[str, Any]) if (out / "province.json").exists() else {}
    frames = [frame for folder in BOARDS for frame in _frames(out, folder)]
    expect = out / "expect.json"
    return Run(
        out=out,
        station=station,
        sound=sound,
        entries=_convert(out / "playlog.json", log, list[LogEntry]),
        log=log,
        checkpoint=_convert(out / "playlog.json", playlog.get("checkpoint"), Checkpoint | None),
        province={
            kind: _convert(out / "province.json", province.get(kind, []), list[dict[str, Any]])
            for kind in ("events", "acks", "receipts")
        },
        happenings=_read_lines(out / "events.jsonl"),
        frames=[frame for frame in frames if frame.folder == BOARDS[0]],
        requisitioned=[frame for frame in frames if frame.folder == BOARDS[1]],
        expected=_read(expect, Expected) if expect.exists() else Expected(),
    )


def _frames(out: Path, folder: str) -> list[Frame]:
    index = out / folder / "index.json"
    found: list[Frame] = _read(index, list[Frame]) if index.exists() else []
    return [msgspec.structs.replace(frame, folder=folder) for frame in found]


def body(record: dict[str, Any]) -> dict[str, Any]:
    """What a device said in a record of the province: the record's `body`, or the record when it has no envelope."""
    inner = record.get("body")
    return inner if isinstance(inner, dict) else record


def _read(path: Path, kind: Any) -> Any:
    try:
        return _convert(path, json.loads(path.read_bytes()), kind)
    except (OSError, ValueError) as error:
        raise RunError(f"{path.name}: {error}") from error


def _read_lines(path: Path) -> list[Happening]:
    if not path.exists():
        return []
    happenings = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            happenings.append(msgspec.json.decode(line, type=Happening))
        except msgspec.DecodeError as error:
            raise RunError(f"{path.name}, line {number}: {error}") from error
    return happenings


def _convert(path: Path, value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RunError(f"{path.name}: {error}") from error
