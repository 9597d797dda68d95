"""A whole station without hardware: the real owner, with a world that carries out its commands on a clock we turn."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core import recurrence
from agent.core.admission import REMOTE_KEYS
from agent.core.catalogue import Catalogue
from agent.core.intake import Intake
from agent.core.ledger import Ledger
from agent.core.outbox import Outbox
from agent.core.programme import encode
from agent.core.report import Reporter
from agent.core.station import Station
from agent.link import topics
from agent.link.own import OwnKey
from agent.model import events as ev
from agent.model import screen
from agent.model import voice as vo
from agent.model.config import Station as Config
from agent.model.ear import Check
from agent.model.playlog import Sounded, newest_day
from agent.model.records import (
    AppendLog,
    DropOut,
    DropProgramme,
    DropValue,
    PutOrder,
    PutOut,
    PutProgramme,
    PutState,
    PutValue,
    Snapshot,
    Write,
)
from agent.model.time import Instant
from agent.ports import Piece
from agent.store import playlog
from agent.trust.authorities import Trusted
from agent.trust.keys import PrivateKey, generate
from agent.trust.replay import ReplayMemory
from agent.trust.signer import Signer, sign_authorities

T0 = 1_795_410_000.0  # 2026-11-23 12:00 in Việt Nam
DEVICE = "tram-xa-mau"
RATE = vo.RATE
TALK_S = 3600

CONFIG: dict[str, Any] = {
    "device": {"id": DEVICE, "name": "Trạm xã Mẫu", "unit": "84/86/xa-mau", "groups": ["khu-a"]},
    "trust": {"root_keys": "r", "authorities": "a", "station_authority": "xa-mau"},
    "content": {"allowed_hosts": ["media.example"]},
    "zones": [
        {"id": "loa", "kind": "sound", "output": {"driver": "wav", "path": "s.wav"}, "tags": ["thon-1"]},
        {"id": "loa-2", "kind": "sound", "output": {"driver": "wav", "path": "s.wav"}, "tags": ["thon-2"]},
        {"id": "bang", "kind": "screen", "output": {"driver": "png", "dir": "b"}},
    ],
    "buttons": [
        {"id": "khan-cap", "pin": 5, "action": {"message": "bao-dong"}},
        {"id": "moi-hop", "pin": 6, "class": "normal", "action": {"message": "moi-hop"}, "zones": ["kind:sound"]},
        {"id": "dung", "pin": 7, "action": {"stop": True}},
    ],
    "messages": [
        {"id": "bao-dong", "title": "Báo động", "text": "Khẩn cấp, bà con chú ý."},
        {"id": "moi-hop", "title": "Mời họp", "text": "Mời bà con đến họp.", "chime": "gong"},
    ],
    "sources": [{"id": "voh", "url": "https://radio.example/live"}],
}


class Province:
    """Keys and a counter for each authority."""

    def __init__(self) -> None:
        self.root = generate()
        self.keys = {name: generate() for name in ("tinh", "xa-mau", "khan-cap-huyen")}
        ranks = {"tinh": ("province", 100), "xa-mau": ("commune", 10), "khan-cap-huyen": ("district", 50)}
        entries = [
            {
                "id": name,
                "level": ranks[name][0],
                "rank": ranks[name][1],
                "keys": [public(key)],
                "ops": ["*"],
                "max_class": "emergency",
                "units": ["84/86"],
                "zones": ["*"],
            }
            for name, key in self.keys.items()
        ]
        payload = {
            "version": 1,
            "iat": int(T0 - 1000),
            "roots": [public(self.root)],
            "threshold": 1,
            "authorities": entries,
        }
        self.document = sign_authorities(payload, [self.root])
        self.ctr = dict.fromkeys(self.keys, 0)

    def trusted(self) -> Trusted:
        roots = json.dumps({"threshold": 1, "roots": [public(self.root)]})
        return Trusted.first(roots, json.dumps(self.document))

    def signer(self, iss: str) -> Signer:
        return Signer(self.keys[iss].to_jwk(), iss)


def public(key: PrivateKey) -> dict[str, str]:
    return dict(key.public.jwk)


class Sounding(Struct, kw_only=True):
    """A play that voice has. `segments`: (when its first sample is due, samples), in order."""

    open: vo.Open
    begin: float
    zones: set[str]
    segments: list[tuple[float, int]] = []
    closed: bool = False
    started: bool = False
    told: int = 0
    """Segments whose beginning was told."""

    @property
    def local(self) -> bool:
        return self.open.play.startswith("local:")

    @property
    def alert(self) -> bool:
        return self.local or self.open.alert

    def append(self, samples: int, wall: float) -> None:
        """A segment; where the one before it is over already, the bridge fills what lies between."""
        self.segments.append((max(self.begin, wall if self.started else self.begin, self.finish), samples))

    @property
    def finish(self) -> float:
        return max((at + samples / RATE for at, samples in self.segments), default=self.begin)

    def sent(self, wall: float) -> list[int]:
        """Samples sent of each segment until `wall`."""
        if not self.started:
            return [0] * len(self.segments)
        return [min(samples, max(0, round((wall - at) * RATE))) for at, samples in self.segments]

    @property
    def sounds(self) -> bool:
        """Whether there is something to begin with: a sound, or a bridge while more is to come."""
        return any(samples for _, samples in self.segments) or (self.open.bridge is not None and not self.closed)


class Stretch(Struct, kw_only=True):
    """What was heard without a break in one zone. `why`: what ended it, as voice said; None: it goes on."""

    zone: str
    play: str
    programme: str
    bulletin: str
    begin: float
    end: float | None = None
    samples: int = 0
    why: str | None = None
    excused: bool = False
    """The power failed before its beginning was on the disk: an emergency's, for nothing else sounds before."""
    unseen: bool = False
    """It went on, or its end was not written yet, when the agent ended: the log does not know its end."""


class World:
    """Runs a `Station`. `lengths` gives the seconds of media files by SHA-256; what is in `media` is in the library."""

    def __init__(self, config: dict[str, Any] | None = None, province: Province | None = None, **changes: Any) -> None:
        self.config = msgspec.convert({**(config or CONFIG), **changes}, type=Config)
        self.province = province or Province()
        self.wall = T0
        self.mono = 10**12
        self.trusted_clock = True
        self.media: dict[str, float] = {}
        self.lost: set[str] = set()
        self.relay_seconds: float | None = None
        self.values: dict[str, bytes] = {}
        self.rows: dict[int, PutOut] = {}
        self.sent: list[dict[str, Any]] = []
        self.orders: dict[tuple[str, str], PutOrder] = {}
        self.states: dict[tuple[str, str, str], PutState] = {}
        self.docs: dict[str, bytes] = {}
        self.log: list[dict[str, Any]] = []
        self.checkpoint: playlog.Checkpoint | None = None
        self.link_up = True
        self.disk_full = False
        self.slow_disk = False
        """Batches wait in `uncommitted` until `commit`; a power cut loses them."""
        self.uncommitted: deque[do.Persist] = deque()
        self.earliest: float | None = None
        """What `Instant.earliest` says while the clock is not trusted."""
        self.acknowledged: list[int] = []
        self.unacknowledged: dict[int, tuple[str, bytes]] = {}
        """Command orders which the broker sends again at each connection."""
        self.retained: dict[str, bytes] = {}
        self.voice_up = False
        self.on: dict[str, Sounding] = {}
        self.pressed: list[tuple[str, float, list[str]]] = []
        """Buttons whose message waits for the one that is on, as voice keeps them."""
        self.pipes: dict[tuple[str, int], int] = {}
        self.fed: list[Piece] = []
        """All that decoders were given."""
        self.decoding: set[str] = set()
        """Plays whose decoders were started and not ended."""
        self.broken: dict[str, float] = {}
        """Media (SHA-256) whose decoder fails after so many seconds."""
        self.slow_decoders = False
        """Marks wait in `marks` until `decode`."""
        self.marks: list[ev.FeedMark] = []
        self.presses: dict[str, list[str]] = {}
        """Zones that voice took for each press, by its play."""
        self.dead_amplifiers: set[str] = set()
        """Zones in which a button's message fails before its first sample."""
        self.talks: dict[str, str] = {}
        """Everyday microphones on the air: button → play."""
        self.drill_until_ns = 0
        self.keys: dict[str, bool] = {}
        """Key switches that silence, and whether they are closed."""
        self.mute_speech = False
        self.heard: list[tuple[float, str, str, str]] = []
        """(wall, zone, play, "begin" | "end")"""
        self.stretches: list[Stretch] = []
        self.boards_paint = True
        """Boards show at once what they are told; False: they never say that they have shown it."""
        self.boards: dict[str, screen.ScreenCommand] = {}
        self.told: list[tuple[float, str, screen.ScreenCommand]] = []
        """All that boards were told, and when."""
        self.power: list[tuple[float, str, bool]] = []
        """When the power of which board was held or let go."""
        self.replies: dict[int, dict[str, Any]] = {}
        self.locked: list[str] = []
        self.checks: list[Check] = []
        """What the ear was asked."""
        self.uploads: list[do.Upload] = []
        self.idle: list[str] = []
        """Zones whose external source is heard."""
        self.meets: Callable[[Sounding, Sounding], None] = lambda new, old: None
        """Called when a play begins in a zone in which another still sounds: it takes over."""
        self.watch: Callable[[], None] = lambda: None
        """Called whenever all that follows from an event has been done."""
        self.forgotten: set[str] = set()
        """Orders answered on a failing disk and forgotten with the power: answered again from the beginning."""
        self._outbox: dict[tuple[int, int], PutOut] = {}
        self._with_link: dict[int, PutOut] = {}
        self._gone: list[vo.Ended] = []
        """What voice will tell the next agent: how far the plays of the last one came."""
        self._memory = 0
        """Counts the times it lost what it had told: then, and only then, numbers are used again."""
        self._tokens = 0
        self._presses = 0
        self._queue: deque[Struct] = deque()
        self._handling = 0
        self.boot()

    @property
    def stuck(self) -> bool:
        """Whether an event could not be handled to its end."""
        return self._handling > 0

    # the machine

    def boot(self) -> None:
        """Start the agent (again) from what is in the store."""
        snapshot = Snapshot(
            orders=list(self.orders.values()),
            states=list(self.states.values()),
            programmes=dict(self.docs),
            outbox=list(self.rows.values()),
            values=dict(self.values),
            log_n=self.log[-1]["n"] if self.log else 0,
            log_hash=self.log[-1]["hash"] if self.log else "0" * 64,
            played=newest_day(msgspec.convert(entry, Sounded) for entry in reversed(self.log)),
            empty=not self.orders,
        )
        trusted = self.province.trusted()
        for order in snapshot.orders:
            if order.ctr is not None:
                snapshot.ctr_highest[order.kid] = max(order.ctr, snapshot.ctr_highest.get(order.kid, 0))
        chimes = {
            name: ev.Sound(f"/chimes/{name}.wav", name.encode().hex().ljust(64, "0"), int(1.5 * RATE), f"chime:{name}")
            for name in ("gong", "siren", "test", "drill")
        }
        catalogue = Catalogue(self.config, chimes, self._path, lambda lang: lang == "vi")
        intake = Intake(
            self.config, trusted, ReplayMemory.load(snapshot, T0 - 5000), recurrence.check, REMOTE_KEYS.__contains__
        )
        ledger = Ledger(ZoneInfo(self.config.timezone), snapshot, Outbox.load(snapshot))
        reporter = Reporter(self.config, "0", "none", dict, self.now)
        self.pipes.clear()
        self.decoding.clear()
        self.marks.clear()
        self._with_link.clear()
        self.boards.clear()
        self.station = Station(self.config, snapshot, intake, ledger, catalogue, reporter, self.now)
        self.station.sign = self._sign
        self._carry_out(self.station.begin(self.now))
        self.voice_back()
        if self.link_up:
            self._connect()

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.wall, self.trusted_clock, None if self.trusted_clock else self.earliest)

    def post(self, *events: Struct) -> None:
        """Events into the inbox, handled at once, with all that follows from them."""
        self._queue.extend(events)
        if self._handling:
            return
        while self._queue:
            self._handling += 1
            assert self._handling < 5000, f"the owner and its world keep each other busy: {self._queue[0]}"
            event = self._queue.popleft()
            self._carry_out(self.station.handle(event, self.now))
            if isinstance(event, _Sound):
                self._sound()
        self._handling = 0
        self._check_alone()
        self.watch()

    def advance(self, seconds: float) -> None:
        """Let time pass; everything due happens at its moment."""
        end = self.wall + seconds
        idle = 0
        while True:
            wake = self.station.next_wake(self.now)
            assert 0 <= wake <= 1, f"next_wake says {wake}"
            due = [self._end_of(s) if s.started or not s.sounds else s.begin for s in self.on.values()]
            at = min([self.wall + wake, *(t for t in due if t is not None), end])
            step = max(1e-6 if idle > 9 else 0.0, at - self.wall)  # two clocks never agree on the last nanosecond
            idle = idle + 1 if step == 0 else 0
            assert idle < 100, "the owner wakes again and again without need"
            self.wall += step
            self.mono += round(step * 1e9)
            self._sound()
            self.post(ev.Tick())
            if self.wall >= end - 1e-9:
                return

    def leap(self, seconds: float) -> None:
        """Time passes, but what happens meanwhile has not been told yet: news that cross an order."""
        self.wall += seconds
        self.mono += round(seconds * 1e9)

    def crash(self, off_s: float = 0.1) -> None:
        """Power off and on after `off_s`: what was not committed is gone, and so is voice."""
        self._lose_memory()
        self._silence_voice("power")
        self._excuse()
        self.leap(off_s)
        self.boot()

    def restart(self, off_s: float = 0.1) -> None:
        """The agent alone is killed and started again: voice ends its plays, and goes on with the buttons'."""
        self._lose_memory()
        self._silence_voice("disconnected", keep_local=True)
        self._excuse()
        self.leap(off_s)
        self.boot()

    def quit(self, off_s: float = 0.1) -> None:
        """The agent is stopped in good order, and started again."""
        self._carry_out(self.station.finish(self.now))
        self.post()
        assert self.station.finished
        self.restart(off_s)

    def _lose_memory(self) -> None:
        self._queue.clear()
        self._handling = 0
        self.uncommitted.clear()

    def _silence_voice(self, why: str, *, keep_local: bool = False) -> None:
        if not keep_local:
            self.pressed.clear()
            self.locked = []
            self._gone.clear()
        for running in [s for s in self.on.values() if not (keep_local and s.local)]:
            for zone in sorted(running.zones):
                event = self._ended(running, zone, why)
                if isinstance(event, vo.Ended):
                    self._gone.append(event)

    def _excuse(self) -> None:
        """What sounded before its beginning was on the disk can have no entry, and what a failing disk did not take
        can be answered twice."""
        for topic, body in self._sent():
            if topic == "ack":
                known = self.orders.get((body["iss"], body["jti"]))
                if known is None or msgspec.json.decode(known.ack)["seq"] < body["seq"]:
                    self.forgotten.add(body["jti"])
        if self.disk_full or self.station.storage_bad is not None:
            self._memory += 1
        docs = [msgspec.json.decode(doc) for doc in self.docs.values()]
        begun = {
            (zone, doc["key"], part["stretch_started"])
            for doc in docs
            for zone, part in doc["parts"].items()
            if part.get("stretch_started") is not None
        }
        known = {doc["id"] for doc in docs} | {e["bulletin"] for e in self.log}
        self.presses = {play: zones for play, zones in self.presses.items() if play in known}
        logged = {(e["zone"], e["bulletin"], _epoch(e["started"])) for e in self.log if e["started"]}
        for stretch in self.stretches:
            if not self._is_among(stretch, stretch.bulletin, logged):
                stretch.excused = not self._is_among(stretch, self._programme_of(stretch), begun)
                stretch.unseen = stretch.end is not None or stretch.excused

    def _programme_of(self, stretch: Stretch) -> str:
        """Its key in the store."""
        own = self.config.trust.station_authority or self.config.device.id
        return f"{own}/{stretch.programme}" if stretch.play.startswith("local:") else stretch.programme

    @staticmethod
    def _is_among(stretch: Stretch, name: str, known: set[tuple[str, str, float]]) -> bool:
        mine = (at for zone, other, at in known if (zone, other) == (stretch.zone, name))
        return any(abs(at - stretch.begin) < 0.002 for at in mine)

    # voice and link

    def lose_voice(self) -> None:
        """Voice dies, with everything that sounds."""
        if self.voice_up:
            self.voice_up = False
            self._silence_voice("voice-lost")
            self.post(ev.VoiceLost("it was killed"))

    def voice_back(self) -> None:
        """Voice runs and is connected."""
        self.voice_up = True
        zones = [z.id for z in self.config.zones if z.kind == "sound"]
        ended, self._gone = self._gone, []
        keys = {b.id: self.keys.get(b.id, False) for b in self.config.buttons if b.action.silence}
        local = [s.open.play for s in self.on.values() if s.local]
        hello = vo.Hello(
            version="0",
            pid=1,
            armed_ns=self.mono,
            zones=zones,
            pinned=[],
            relays={},
            keys=keys,
            ended=ended,
            local=local,
        )
        self.post(hello)

    def set_link(self, up: bool) -> None:
        """The broker goes or comes back; it sends again what was not acknowledged, and all that is retained. `watch`
        looks when that has come: what a failing disk had not taken before a power cut is not known earlier."""
        if up == self.link_up:
            return
        self.link_up = up
        if up:
            self._connect()
        else:
            self.post(ev.LinkDown("the broker is gone"))

    def _connect(self) -> None:
        rows, self._with_link = self._with_link, {}
        for row in rows.values():
            self._publish(row)
        again = [ev.OrderArrived(topic, raw, True, 0) for topic, raw in self.retained.items()]
        waiting, self.unacknowledged = self.unacknowledged, {}
        self.post(ev.LinkUp(1), *again, *(self._arrival(topic, raw) for topic, raw in waiting.values()))

    def _arrival(self, topic: str, raw: bytes) -> ev.OrderArrived:
        self._tokens += 1
        self.unacknowledged[self._tokens] = (topic, raw)
        return ev.OrderArrived(topic, raw, False, self._tokens)

    def deliver(self, topic: str, raw: bytes) -> None:
        """Bytes on an order topic. While the link is down the broker keeps them."""
        arrival = self._arrival(topic, raw)
        if self.link_up:
            self.post(arrival)

    def commit(self, batches: int | None = None) -> None:
        """What waits for the slow disk is written, oldest first."""
        done = 0
        while self.uncommitted and done != batches:
            done += 1
            self._commit(self.uncommitted.popleft())
            self.post()

    def decode(self) -> None:
        """The decoders catch up."""
        marks, self.marks = self.marks, []
        self.post(*marks)

    def arrive(self, sha256: str, seconds: float) -> None:
        """A media file is complete."""
        self.media[sha256] = seconds
        self.post(ev.MediaReady(sha256, self._path(sha256) or ""))

    # orders

    def order(self, op: str, args: dict[str, Any], iss: str = "tinh", **claims: Any) -> str:
        """Sign and deliver a command order; returns its jti."""
        self.province.ctr[iss] += 1
        claims.setdefault("jti", f"{op}-{iss}-{self.province.ctr[iss]}")
        claims.setdefault("ttl", 3600.0)
        raw = self.province.signer(iss).order(op, args, [DEVICE], now=self.wall, ctr=self.province.ctr[iss], **claims)
        self.deliver(topics.order(DEVICE), raw.encode())
        return str(claims["jti"])

    def state_order(self, op: str, args: dict[str, Any], iss: str = "tinh") -> None:
        """Sign and deliver a state order."""
        raw = self.province.signer(iss).order(op, {"scope": DEVICE, **args}, [DEVICE], now=self.wall)
        topic = topics.desired(DEVICE, op, iss)
        self.retained[topic] = raw.encode()
        if self.link_up:
            self.post(ev.OrderArrived(topic, raw.encode(), True, 0))

    def ask(self, what: str, **args: Any) -> dict[str, Any]:
        """A person's command. The answer is empty while it waits for the disk."""
        self._tokens += 1
        token = self._tokens
        self.post(ev.Asked(what, args, token))
        return self.replies.get(token, {})

    def press(self, button: str, seconds: float = 6.0) -> str:
        """An emergency button. Voice puts it on the air on its own account; returns its play's name."""
        spec = next(b for b in self.config.buttons if b.id == button)
        playing = {s.open.play.split(":")[1] for s in self.on.values() if s.local}
        if self.voice_up and button not in playing and all(w[0] != button for w in self.pressed):
            zones = [z for z in self.config.match(spec.zones) if self._is_sound(z) and z not in self.locked]
            if zones:
                self.pressed.append((button, seconds, zones))
        self.post(vo.ButtonEvent(button=button, state="pressed", at_ns=self.mono))
        self._serve_pressed()
        self.post()
        return f"local:{button}:{self._presses}"

    def release(self, button: str) -> None:
        """An everyday button opens. Voice ends what was said at its microphone, whatever the agent does."""
        running = self.on.get(self.talks.pop(button, ""))
        zones = [] if running is None else sorted(running.zones)
        ended = [self._ended(running, zone, "completed") for zone in zones if running is not None]
        self.post(vo.ButtonEvent(button=button, state="released", at_ns=self.mono), *ended)

    def turn(self, button: str, closed: bool) -> None:
        """A key switch that silences. Voice ends what sounds there, whatever the agent does."""
        if closed == self.keys.get(button, False):
            return
        self.keys[button] = closed
        if not self.voice_up:
            return
        events: list[Struct] = []
        zones = set(self.config.match(next(b.zones for b in self.config.buttons if b.id == button)))
        if closed:
            self.pressed = [
                (b, s, left) for b, s, ours in self.pressed if (left := [z for z in ours if z not in zones])
            ]
            for running in list(self.on.values()):
                events += [self._ended(running, zone, "silenced") for zone in sorted(running.zones & zones)]
        else:
            self.locked = [z for z in self.locked if z not in zones]
        state = "pressed" if closed else "released"
        self.post(vo.ButtonEvent(button=button, state=state, at_ns=self.mono), *events)

    def _serve_pressed(self) -> None:
        """Messages that wait begin where no local play is; what sounded there ends."""
        waiting, self.pressed = self.pressed, []
        for button, seconds, wanted in waiting:
            busy = {z for s in self.on.values() if s.local for z in s.zones}
            zones = [z for z in wanted if z not in busy]
            if len(zones) < len(wanted):
                self.pressed.append((button, seconds, [z for z in wanted if z in busy]))
            if zones:
                self._begin_local(button, seconds, zones)

    def _begin_local(self, button: str, seconds: float, zones: list[str]) -> None:
        self._presses += 1
        play = f"local:{button}:{self._presses}"
        fading: list[Struct] = []
        for running in list(self.on.values()):
            for zone in sorted(running.zones & set(zones)):
                if self._ducks(zone, running):
                    continue
                ended = self._ended(running, zone, "local")
                # What is not heard yet ends at once, the rest with the first period of the message.
                (fading if running.started else self._queue).append(ended)
        running = Sounding(open=vo.Open(play=play, zones=zones), begin=self.wall, zones=set(zones), closed=True)
        running.append(round(seconds * RATE), self.wall)
        self.on[play] = running
        opened = vo.LocalOpened(
            play=play,
            button=button,
            message=next(
                vo.MICROPHONE if b.action.microphone else b.action.message or ""
                for b in self.config.buttons
                if b.id == button
            ),
            zones=zones,
            pressed_ns=self.mono,
            drill=self.mono < self.drill_until_ns,
        )
        self.presses[play] = zones
        self._queue.append(opened)
        for zone in self.dead_amplifiers & set(zones):
            self._queue.append(self._ended(running, zone, "relay-fault"))
        running.started = True
        for zone in sorted(running.zones):
            self._begin(zone, running)
        if running.zones:
            fields = msgspec.structs.asdict(opened) | {"zones": sorted(running.zones)}
            self._queue.append(vo.LocalStarted(at_ns=self.mono, submitted_ns=self.mono, **fields))
        self._queue.extend(fading)

    # what one sees

    def acks(self, jti: str) -> list[dict[str, Any]]:
        return [b for t, b in self._sent() if t == "ack" and b["jti"] == jti]

    def states_of(self, jti: str) -> list[str]:
        return [a["state"] + (f"/{a['reason']}" if "reason" in a else "") for a in self.acks(jti)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [b for t, b in self._sent() if t == "event" and b["kind"] == kind]

    def sounding(self, zone: str = "loa") -> str | None:
        """The bulletin that is heard in a zone."""
        for s in self.on.values():
            if zone in s.zones and s.started:
                return s.open.play.split("#")[0].partition("/")[2].partition("/")[0] or s.open.play
        return None

    def outcomes(self, zone: str = "loa") -> list[tuple[str, str, str | None]]:
        return [(e["bulletin"], e["result"], e["reason"]) for e in self.log if e["zone"] == zone]

    def shows(self) -> str:
        command = self.boards["bang"]
        return command.pages[0].title if isinstance(command, screen.Show) else "nghỉ"

    def _sent(self) -> list[tuple[str, dict[str, Any]]]:
        """What the province has: each row once, in the order in which it came."""
        return [(row.topic, msgspec.json.decode(row.body)) for row in self._outbox.values()]

    def _is_sound(self, zone: str) -> bool:
        return self.config.zone(zone).kind == "sound"

    # what must hold at all times

    def audit(self) -> list[str]:
        """What is wrong with the acks, the play log, the store and the decoders as they are now. All is said once."""
        found = [*self._audit_acks(), *self._audit_log(), *self._audit_decoders()]
        if not self.uncommitted and self.station.storage_bad is None:
            live = set(self.station.programmes)
            if live != set(self.docs):
                found.append(f"the store has {sorted(self.docs)}, alive are {sorted(live)}")
            for key, p in self.station.programmes.items():
                if self.docs.get(key, b"") != encode(p):
                    found.append(f"the store has {self.docs.get(key)!r}, alive is {encode(p)!r}")
        return found

    def _audit_acks(self) -> Iterator[str]:
        by_jti: dict[str, list[dict[str, Any]]] = {}
        for topic, body in self._sent():
            if topic == "ack":
                by_jti.setdefault(body["jti"], []).append(body)
        order = ["received", "offered", "accepted", "running"]
        for jti in by_jti.keys() - self.forgotten:
            acks = by_jti[jti]
            told: dict[int, dict[str, Any]] = {}
            for ack in acks:
                if told.setdefault(ack["seq"], ack) != ack:
                    yield f"{jti}: two different acks with seq {ack['seq']}: {told[ack['seq']]}, {ack}"
            states = [told[n]["state"] for n in sorted(told)]
            if sorted(told) != list(range(1, len(told) + 1)):
                yield f"{jti}: seq {sorted(told)}"
            ends = [s for s in states if s in ("done", "failed", "rejected")]
            if len(ends) > 1 or (ends and states[-1] != ends[0]):
                yield f"{jti}: {states}"
            steps = [order.index(s) for s in states if s in order]
            if steps != sorted(steps) or any(steps.count(n) > 1 for n in (0, 1, 2)):
                yield f"{jti}: {states}"

    def _audit_log(self) -> Iterator[str]:
        for problem in playlog.verify(self.log, self.checkpoint):
            yield f"the play log: {problem}"
        if self.uncommitted or self.station.storage_bad is not None:
            return
        for zone in [z.id for z in self.config.zones if z.kind == "sound"]:
            entries = [e for e in self.log if e["zone"] == zone and e["started"] is not None]
            stretches = [s for s in self.stretches if s.zone == zone and (s.unseen or s.end is not None)]
            for stretch in sorted(stretches, key=lambda s: s.excused):
                mine = [
                    e
                    for e in entries
                    if abs(_epoch(e["started"]) - stretch.begin) < 0.002 and e["bulletin"] == stretch.bulletin
                ]
                if stretch.excused and not mine:
                    continue
                if not mine:
                    yield f"no entry for {stretch}"
                    continue
                entries.remove(mine[0])
                yield from self._audit_entry(mine[0], stretch)
            yield from (f"an entry for what nobody heard: {e}" for e in entries)

    def unlogged(self) -> list[str]:
        """Presses that are over and left no entry for a zone that voice had taken for them."""
        logged = {(e["bulletin"], e["zone"]) for e in self.log}
        return [
            f"no entry for {play} in {zone}"
            for play, zones in self.presses.items()
            for zone in zones
            if (play, zone) not in logged
        ]

    @staticmethod
    def _audit_entry(entry: dict[str, Any], stretch: Stretch) -> Iterator[str]:
        end = stretch.end or stretch.begin
        ended = _epoch(entry["ended"])
        cut = stretch.unseen or stretch.why in ("power", "disconnected")
        if ended > end + 0.002 or (not cut and ended < end - 0.002):
            yield f"{entry} ends {ended - end:+.3f} s from what was heard: {stretch}"
        whole = stretch.why == "completed" and (stretch.samples > 0 or entry["result"] == "completed")
        if entry["result"] == "completed" if stretch.unseen else (entry["result"] == "completed") != whole:
            yield f"{entry} for {stretch}"

    def _audit_decoders(self) -> Iterator[str]:
        if self.uncommitted:
            return
        wanted = {p.id for p in [*self.station.plays.values(), *self.station._prepared.values()]}
        for play in self.decoding - wanted:
            yield f"decoders of {play} run for nothing"
        for play, segment in self.pipes:
            if play not in wanted:
                yield f"the pipe of {play}/{segment} is open for nothing"

    # carrying out

    def _carry_out(self, commands: list[do.Command]) -> None:
        for command in commands:
            handler: Callable[[Any], None] = getattr(self, f"_{type(command).__name__.lower()}", lambda c: None)
            handler(command)

    def _persist(self, c: do.Persist) -> None:
        if self.disk_full:
            self._queue.append(ev.CommitFailed(c.batch, "no space left on the card"))
            return
        if self.slow_disk or self.uncommitted:
            self.uncommitted.append(c)
        else:
            self._commit(c)

    def _commit(self, c: do.Persist) -> None:
        for write in c.writes:
            self._write(write)
        self._queue.append(ev.Committed(c.batch))

    def _write(self, write: Write) -> None:
        match write:
            case PutOrder():
                self.orders[write.iss, write.jti] = write
            case PutState():
                self.states.pop((write.iss, write.scope, write.op), None)  # a row replaced comes last
                self.states[write.iss, write.scope, write.op] = write
            case PutProgramme():
                self.docs[write.key] = write.doc
            case DropProgramme():
                self.docs.pop(write.key, None)
            case AppendLog():
                self.log.append(msgspec.json.decode(write.entry))
            case PutOut():
                self.rows[write.seq] = write
            case DropOut():
                self.rows.pop(write.seq, None)
            case PutValue():
                self.values[write.key] = write.value
            case DropValue():
                self.values.pop(write.key, None)

    def _offerrows(self, c: do.OfferRows) -> None:
        for row in c.rows:
            if self.link_up:
                self._publish(row)
            else:
                self._with_link[row.seq] = row

    def _publish(self, row: PutOut) -> None:
        """The province knows a row that comes again by its `seq`."""
        known = self._outbox.setdefault((self._memory, row.seq), row)
        assert known == row, f"outbox row {row.seq} in two forms: {known} {row}"
        self._queue.append(ev.OutTaken(row.seq))

    def _acknowledge(self, c: do.Acknowledge) -> None:
        self.acknowledged.append(c.token)
        self.unacknowledged.pop(c.token, None)

    def _speak(self, c: do.Speak) -> None:
        if self.mute_speech:
            self._queue.append(ev.SpeechFailed(c.key, "the engine died"))
            return
        self._queue.append(ev.SpeechReady(c.key, f"/speech/{c.key}.wav", c.key.encode().hex()[:64].ljust(64, "0"), 3.0))

    def _measure(self, c: do.Measure) -> None:
        self._queue.append(ev.Measured(c.sha256, -26.0, -12.0))

    def _expand(self, c: do.Expand) -> None:
        zone = ZoneInfo(self.config.timezone)
        starts = {e.id: recurrence.expand(e, zone, c.after, c.before) for e in c.entries}
        self._queue.append(ev.Expanded(c.issuer, c.generation, starts, c.before))

    def _toear(self, c: do.ToEar) -> None:
        self.checks.append(c.command)

    def _upload(self, c: do.Upload) -> None:
        self.uploads.append(c)

    def _startfeed(self, c: do.StartFeed) -> None:
        assert (c.play, c.segment) not in self.pipes, f"{c} twice"
        self.fed += c.pieces
        self.decoding.add(c.play)
        marks = [ev.FeedMark(c.play, c.segment, c.pieces[0].item, "ready")] if c.pieces else []
        total = 0
        for piece in c.pieces:
            samples = self._length(piece)
            sha = (piece.path or "").rpartition("/")[2]
            if sha in self.broken:
                samples = min(samples, round(self.broken[sha] * RATE))
                marks.append(ev.FeedMark(c.play, c.segment, piece.item, "failed", samples, "damaged"))
            else:
                marks.append(ev.FeedMark(c.play, c.segment, piece.item, "ended", samples))
            total += samples
        self.pipes[c.play, c.segment] = max(0, total - c.skip_samples)
        marks.append(ev.FeedMark(c.play, c.segment, -1, "done"))
        (self.marks if self.slow_decoders else self._queue).extend(marks)

    def _length(self, piece: Any) -> int:
        if piece.url is not None:
            seconds = piece.seconds or 0.0
            return int((seconds if self.relay_seconds is None else min(seconds, self.relay_seconds)) * RATE)
        if "/chimes/" in piece.path:
            return int(1.5 * RATE)
        if "/speech/" in piece.path:
            return 3 * RATE
        return int(self.media[piece.path.rpartition("/")[2]] * RATE)

    def _handfeed(self, c: do.HandFeed) -> None:
        samples = self.pipes.pop((c.play, c.segment), None)
        if samples is not None and c.play in self.on:
            self.on[c.play].append(samples, self.wall)

    def _dropfeeds(self, c: do.DropFeeds) -> None:
        self.decoding.discard(c.play)
        for key in [k for k in self.pipes if k[0] == c.play]:
            del self.pipes[key]

    def _toscreen(self, c: do.ToScreen) -> None:
        self.told.append((self.wall, c.zone, c.command))
        if not isinstance(c.command, screen.Show | screen.Rest):
            return
        self.boards[c.zone] = c.command
        play = c.command.play if isinstance(c.command, screen.Show) else None
        if self.boards_paint:
            self._queue.append(screen.Shown(at_ns=self.mono, sha256="0" * 64, play=play, zone=c.zone))

    def _reply(self, c: do.Reply) -> None:
        self.replies[c.token] = c.body

    def _tovoice(self, c: do.ToVoice) -> None:
        if not self.voice_up:
            return
        match c.command:
            case vo.Open() as command:
                self._open(command)
            case vo.Close(play=play):
                if play in self.on:
                    self.on[play].closed = True
            case vo.Stop(play=play, zones=zones, reason=reason):
                running = self.on.get(play)
                if running is not None and not running.local:
                    over = running.started and (self._end_of(running) or self.wall + 1) <= self.wall
                    for zone in zones or sorted(running.zones):
                        if zone in running.zones:
                            self._queue.append(self._ended(running, zone, "completed" if over else reason))
            case vo.Listen(play=play, button=button):
                if play in self.on:
                    self.on[play].append(TALK_S * RATE, self.wall)
                    self.talks[button] = play
            case vo.Drill(until_ns=until_ns):
                self.drill_until_ns = until_ns
            case vo.EndLocal(zones=zones):
                self._end_local(zones, "stopped")
            case vo.Hold(zone=zone, on=on):
                self.power.append((self.wall, zone, on))
                self._queue.append(vo.Power(zone=zone, state="on" if on else "off", at_ns=self.mono))
            case vo.Lock(zones=zones):
                self.locked = list(zones)
                self._end_local(zones, "silenced")
            case vo.Idle(zones=zones):
                self.idle = list(zones)
            case _:
                pass

    def _open(self, command: vo.Open) -> None:
        assert command.zones, command
        assert command.play not in self.on, f"{command.play} was opened before"
        local = {z for s in self.on.values() if s.local for z in s.zones}
        for zone in command.zones:
            if zone in local:
                self._queue.append(vo.Ended(play=command.play, zone=zone, at_ns=self.mono, samples=0, reason="local"))
        zones = set(command.zones) - local
        if zones:
            begin = self.wall if command.at_ns is None else max(self.wall, self.now.wall_of(command.at_ns))
            running = self.on[command.play] = Sounding(open=command, begin=begin, zones=zones)
            if command.pinned:
                running.append(int(1.5 * RATE) * len(command.pinned), self.wall)
            self._queue.append(_Sound())

    def _end_local(self, zones: list[str] | None, reason: str) -> None:
        chosen = set(self.config.match(["*"]) if zones is None else zones)
        waiting, self.pressed = self.pressed, []
        self.pressed = [(b, s, left) for b, s, zones in waiting if (left := [z for z in zones if z not in chosen])]
        for running in [s for s in self.on.values() if s.local]:
            for zone in sorted(running.zones & chosen):
                self._queue.append(self._ended(running, zone, reason))

    def _sound(self) -> None:
        for running in list(self.on.values()):
            if not running.started and running.begin <= self.wall + 1e-9 and running.sounds:
                if running.begin < self.wall:  # its first sound came later than it was due
                    late = self.wall - running.begin
                    running.begin = self.wall
                    running.segments = [(at + late, samples) for at, samples in running.segments]
                for other in [s for s in self.on.values() if s.started and s.zones & running.zones]:
                    over = self._end_of(other)
                    if over is None or over > self.wall + 1e-9:
                        self.meets(running, other)
                running.started = True
                for zone in sorted(running.zones):
                    self._begin(zone, running)
                    self._queue.append(
                        vo.Started(
                            play=running.open.play, zone=zone, at_ns=self.mono, submitted_ns=self.mono, error_ms=0.0
                        )
                    )
            while running.started and not running.local and running.told < len(running.segments):
                at, _ = running.segments[running.told]
                if at > self.wall + 1e-9:
                    break
                started = vo.SegmentStarted(play=running.open.play, segment=running.told, at_ns=self.now.mono_of(at))
                self._queue.append(started)
                running.told += 1
            end = self._end_of(running)
            if end is not None and end <= self.wall + 1e-9:
                for zone in sorted(running.zones):
                    self._queue.append(self._ended(running, zone, "completed"))
        self._serve_pressed()

    def _begin(self, zone: str, running: Sounding) -> None:
        play = running.open.play
        self.heard.append((self.wall, zone, play, "begin"))
        programme = play if running.local else self.station.plays[play].key
        bulletin = play if running.local else self.station.programmes[programme].id
        self.stretches.append(Stretch(zone=zone, play=play, programme=programme, bulletin=bulletin, begin=self.wall))

    def _check_alone(self) -> None:
        """One owner a zone: looked at when all that follows from an event is done."""
        for zone in self.config.zones:
            plays = [
                s.open.play
                for s in self.on.values()
                if s.started and zone.id in s.zones and not self.ducked(zone.id, s)
            ]
            assert len(plays) < 2, f"{zone.id} has several owners: {plays}"

    def _ducks(self, zone: str, running: Sounding) -> bool:
        """Whether it goes on, quieter, when an alert begins there."""
        talks = running.open.play in self.talks.values()
        return self.config.zone(zone).duck_db is not None and not (running.alert or talks) and running.started

    def ducked(self, zone: str, running: Sounding) -> bool:
        """Whether it goes on under an alert there."""
        alert = any(s.alert and s.started and zone in s.zones for s in self.on.values())
        return alert and self._ducks(zone, running)

    def _end_of(self, running: Sounding) -> float | None:
        return running.finish if running.closed else None

    def _ended(self, running: Sounding, zone: str, reason: str) -> Struct:
        """The end of a play in a zone, and the event that tells it."""
        running.zones.discard(zone)
        sent = running.sent(self.wall)
        if not running.zones:
            del self.on[running.open.play]
        if running.started:
            self.heard.append((self.wall, zone, running.open.play, "end"))
            stretch = next(s for s in self.stretches if s.end is None and (s.zone, s.play) == (zone, running.open.play))
            stretch.end, stretch.samples, stretch.why = self.wall, sum(sent), reason
        event = vo.LocalEnded if running.local else vo.Ended
        more: dict[str, Any] = {} if running.local else {"segments": sent}
        return event(
            play=running.open.play,
            zone=zone,
            at_ns=self.mono,
            samples=sum(sent),
            level_dbfs=-20.0 if sum(sent) else None,
            reason=reason,
            **more,
        )

    def _path(self, sha256: str) -> str | None:
        return f"/media/{sha256}" if sha256 in self.media else None

    def _sign(self, op: str, args: dict[str, Any], now: Instant, *, ctr: int | None, **more: Any) -> tuple[str, bytes]:
        iss = "xa-mau"
        if ctr is not None:  # one count for this key, whoever of this world signs with it
            self.province.ctr[iss] += 1
            ctr = self.province.ctr[iss]
        return OwnKey(self.province.signer(iss), DEVICE)(op, args, now, ctr=ctr, **more)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class _Sound(ev.Tick, frozen=True):
    """Look at once whether something begins to sound."""


def media(name: str, seconds: float, world: World | None = None, *, present: bool = True) -> dict[str, Any]:
    """An item of recorded sound; put into the world's library unless it is still to come."""
    sha = name.encode().hex().ljust(64, "0")[:64]
    if world is not None and present:
        world.media[sha] = seconds
    return {"media": {"sha256": sha, "size": 1000, "url": f"https://media.example/{name}.mp3", "type": "audio/mpeg"}}


def broadcast(bulletin: str, *items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Args of a broadcast: priority, now, everywhere, unless changed."""
    return {
        "id": bulletin,
        "title": bulletin,
        "class": "priority",
        "start": "now",
        "zones": ["*"],
        "items": list(items),
        "resume": "continue",
        **changes,
    }
