"""A whole station without hardware: the real owner, with a world that carries out its commands on a clock we turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from agent.core import commands as do
from agent.core import recurrence
from agent.core.catalogue import Catalogue
from agent.core.intake import Intake
from agent.core.ledger import Ledger
from agent.core.outbox import Outbox
from agent.core.report import Reporter
from agent.core.station import Station
from agent.link import topics
from agent.model import events as ev
from agent.model import screen
from agent.model import voice as vo
from agent.model.config import Station as Config
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
from agent.trust.authorities import Trusted
from agent.trust.keys import PrivateKey, generate
from agent.trust.replay import ReplayMemory
from agent.trust.signer import Signer, sign_authorities

T0 = 1_795_410_000.0  # 2026-11-23 12:00 in Việt Nam
DEVICE = "tram-xa-mau"
RATE = vo.RATE

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
    open: vo.Open
    begin: float
    zones: set[str]
    segments: list[int] = []
    closed: bool = False
    started: bool = False


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
        self.link_up = True
        self.disk_full = False
        self.acknowledged: list[int] = []
        self.on: dict[str, Sounding] = {}
        self.pipes: dict[tuple[str, int], int] = {}
        self.heard: list[tuple[float, str, str, str]] = []
        """(wall, zone, play, "begin" | "end")"""
        self.boards: dict[str, screen.ScreenCommand] = {}
        self.replies: dict[int, dict[str, Any]] = {}
        self.locked: list[str] = []
        self._queue: list[Struct] = []
        self.boot()

    # the machine

    def boot(self) -> None:
        """Start (again) from what is in the store."""
        snapshot = Snapshot(
            orders=list(self.orders.values()),
            states=list(self.states.values()),
            programmes=dict(self.docs),
            outbox=list(self.rows.values()),
            values=dict(self.values),
            log_n=len(self.log),
            log_hash=self.log[-1]["hash"] if self.log else "0" * 64,
            empty=not self.orders,
        )
        trusted = self.province.trusted()
        for order in snapshot.orders:
            if order.ctr is not None:
                snapshot.ctr_highest[order.kid] = max(order.ctr, snapshot.ctr_highest.get(order.kid, 0))
        chimes = {
            name: ev.Sound(f"/chimes/{name}.wav", name.encode().hex().ljust(64, "0"), int(1.5 * RATE), f"chime:{name}")
            for name in ("gong", "siren", "drill")
        }
        catalogue = Catalogue(self.config, chimes, self._path, lambda lang: lang == "vi")
        intake = Intake(self.config, trusted, ReplayMemory.load(snapshot, T0 - 5000), recurrence.check)
        from zoneinfo import ZoneInfo

        ledger = Ledger(ZoneInfo(self.config.timezone), snapshot, Outbox.load(snapshot))
        reporter = Reporter(self.config, "0", "none", dict, self.now)
        self.on.clear()
        self.boards.clear()
        self.station = Station(self.config, snapshot, intake, ledger, catalogue, reporter, self.now)
        self.station.sign = self._sign
        self._carry_out(self.station.begin(self.now))
        self.post(
            vo.Hello(version="0", pid=1, armed_ns=self.mono, zones=["loa", "loa-2"], pinned=[], relays={}),
            ev.LinkUp(1),
        )

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.wall, self.trusted_clock)

    def post(self, *events: Struct) -> None:
        """Events into the inbox, handled at once, with all that follows from them."""
        self._queue.extend(events)
        while self._queue:
            self._carry_out(self.station.handle(self._queue.pop(0), self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass; everything due happens at its moment."""
        end = self.wall + seconds
        while True:
            due = [s.begin if not s.started else self._end_of(s) for s in self.on.values()]
            at = min([self.wall + self.station.next_wake(self.now), *(t for t in due if t is not None), end])
            step = max(0.0, at - self.wall)
            self.wall += step
            self.mono += round(step * 1e9)
            self._sound()
            self.post(ev.Tick())
            if self.wall >= end - 1e-9:
                return

    def crash(self) -> None:
        """Power off and on: what was not committed is gone."""
        self._queue.clear()
        self.boot()

    # orders

    def order(self, op: str, args: dict[str, Any], iss: str = "tinh", **claims: Any) -> str:
        """Sign and deliver a command order; returns its jti."""
        self.province.ctr[iss] += 1
        claims.setdefault("jti", f"{op}-{iss}-{self.province.ctr[iss]}")
        claims.setdefault("ttl", 3600.0)
        raw = self.province.signer(iss).order(op, args, [DEVICE], now=self.wall, ctr=self.province.ctr[iss], **claims)
        self.post(ev.OrderArrived(topics.order(DEVICE), raw.encode(), False, len(self.acknowledged) + 1))
        return str(claims["jti"])

    def state_order(self, op: str, args: dict[str, Any], iss: str = "tinh") -> None:
        """Sign and deliver a state order."""
        raw = self.province.signer(iss).order(op, {"scope": DEVICE, **args}, [DEVICE], now=self.wall)
        self.post(ev.OrderArrived(topics.desired(DEVICE, op, iss), raw.encode(), True, 0))

    def ask(self, what: str, **args: Any) -> dict[str, Any]:
        """A person's command."""
        token = len(self.replies) + 1
        self.post(ev.Asked(what, args, token))
        return self.replies[token]

    def press(self, button: str, seconds: float = 6.0) -> str:
        """Voice puts an emergency button on the air on its own account."""
        play = f"local:{button}:{int(self.wall)}"
        zones = ["loa", "loa-2"]
        ended = []
        for running in list(self.on.values()):
            for zone in sorted(running.zones):
                ended.append(self._ended(running, zone, "local"))
        self.on[play] = Sounding(
            open=vo.Open(play=play, zones=zones),
            begin=self.wall,
            zones=set(zones),
            segments=[int(seconds * RATE)],
            closed=True,
            started=True,
        )
        started = vo.LocalStarted(
            play=play,
            button=button,
            message="bao-dong",
            zones=zones,
            pressed_ns=self.mono,
            at_ns=self.mono,
            submitted_ns=self.mono,
        )
        self.post(started, *ended)
        return play

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
                return s.open.play.split("#")[0].partition("/")[2] or s.open.play
        return None

    def outcomes(self, zone: str = "loa") -> list[tuple[str, str, str | None]]:
        return [(e["bulletin"], e["result"], e["reason"]) for e in self.log if e["zone"] == zone]

    def shows(self) -> str:
        command = self.boards["bang"]
        return command.pages[0].title if isinstance(command, screen.Show) else "nghỉ"

    def _sent(self) -> list[tuple[str, dict[str, Any]]]:
        return [(row.topic, msgspec.json.decode(row.body)) for row in self._outbox]

    # carrying out

    def _carry_out(self, commands: list[do.Command]) -> None:
        for command in commands:
            handler: Callable[[Any], None] = getattr(self, f"_{type(command).__name__.lower()}", lambda c: None)
            handler(command)

    _outbox: list[PutOut] = []

    def _persist(self, c: do.Persist) -> None:
        if self.disk_full:
            self._queue.append(ev.CommitFailed(c.batch, "no space left on the card"))
            return
        for write in c.writes:
            self._write(write)
        self._queue.append(ev.Committed(c.batch))

    def _write(self, write: Write) -> None:
        match write:
            case PutOrder():
                self.orders[write.iss, write.jti] = write
            case PutState():
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
        self._outbox = [*self._outbox, *c.rows]
        if self.link_up:
            self._queue.extend(ev.OutTaken(row.seq) for row in c.rows)

    def _acknowledge(self, c: do.Acknowledge) -> None:
        self.acknowledged.append(c.token)

    def _speak(self, c: do.Speak) -> None:
        self._queue.append(ev.SpeechReady(c.key, f"/speech/{c.key}.wav", c.key.encode().hex()[:64].ljust(64, "0"), 3.0))

    def _expand(self, c: do.Expand) -> None:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(self.config.timezone)
        starts = {e.id: recurrence.expand(e, zone, c.after, c.before) for e in c.entries}
        self._queue.append(ev.Expanded(c.issuer, c.generation, starts, c.before))

    def _startfeed(self, c: do.StartFeed) -> None:
        total = 0
        for piece in c.pieces:
            samples = self._length(piece)
            total += samples
            self._queue.append(ev.FeedMark(c.play, c.segment, piece.item, "ended", samples))
        self.pipes[c.play, c.segment] = max(0, total - c.skip_samples)
        self._queue.append(ev.FeedMark(c.play, c.segment, c.pieces[0].item, "ready"))
        self._queue.append(ev.FeedMark(c.play, c.segment, c.pieces[-1].item, "done"))

    def _length(self, piece: Any) -> int:
        if piece.url is not None:
            return int((piece.seconds or 0.0) * RATE)
        if "/chimes/" in piece.path:
            return int(1.5 * RATE)
        if "/speech/" in piece.path:
            return 3 * RATE
        return int(self.media[piece.path.rpartition("/")[2]] * RATE)

    def _handfeed(self, c: do.HandFeed) -> None:
        if c.play in self.on:
            self.on[c.play].segments.append(self.pipes.pop((c.play, c.segment)))

    def _toscreen(self, c: do.ToScreen) -> None:
        self.boards[c.zone] = c.command
        play = c.command.play if isinstance(c.command, screen.Show) else None
        self._queue.append(screen.Shown(at_ns=self.mono, sha256="0" * 64, play=play))

    def _reply(self, c: do.Reply) -> None:
        self.replies[c.token] = c.body

    def _tovoice(self, c: do.ToVoice) -> None:
        match c.command:
            case vo.Open() as command:
                begin = self.wall if command.at_ns is None else self.now.wall_of(command.at_ns)
                self.on[command.play] = Sounding(open=command, begin=begin, zones=set(command.zones))
                self.on[command.play].segments = [int(1.5 * RATE)] * len(command.pinned)
                self._queue.append(_Sound())
            case vo.Close(play=play):
                if play in self.on:
                    self.on[play].closed = True
            case vo.Stop(play=play, zones=zones, reason=reason):
                if play in self.on:
                    for zone in zones or sorted(self.on[play].zones):
                        self._queue.append(self._ended(self.on[play], zone, reason))
            case vo.EndLocal():
                for running in [s for s in self.on.values() if s.open.play.startswith("local:")]:
                    for zone in sorted(running.zones):
                        self._queue.append(self._ended(running, zone, "stopped"))
            case vo.Lock(zones=zones):
                self.locked = zones
            case _:
                pass

    def _sound(self) -> None:
        for running in list(self.on.values()):
            if not running.started and running.begin <= self.wall + 1e-9:
                running.started = True
                for zone in sorted(running.zones):
                    self._check_alone(zone, running)
                    self.heard.append((self.wall, zone, running.open.play, "begin"))
                    self._queue.append(
                        vo.Started(
                            play=running.open.play, zone=zone, at_ns=self.mono, submitted_ns=self.mono, error_ms=0.0
                        )
                    )
            end = self._end_of(running)
            if running.started and end is not None and end <= self.wall + 1e-9:
                for zone in sorted(running.zones):
                    self._queue.append(self._ended(running, zone, "completed"))

    def _check_alone(self, zone: str, running: Sounding) -> None:
        others = [s for s in self.on.values() if s is not running and s.started and zone in s.zones]
        assert not others, f"{zone} has two owners: {running.open.play} and {others[0].open.play}"

    def _end_of(self, running: Sounding) -> float | None:
        return running.begin + sum(running.segments) / RATE if running.closed else None

    def _ended(self, running: Sounding, zone: str, reason: str) -> Struct:
        running.zones.discard(zone)
        left = max(0, round((self.wall - running.begin) * RATE)) if running.started else 0
        sent: list[int] = []
        for samples in running.segments:
            sent.append(min(samples, left))
            left -= sent[-1]
        if not running.zones:
            del self.on[running.open.play]
        self.heard.append((self.wall, zone, running.open.play, "end"))
        if running.open.play.startswith("local:"):
            return vo.LocalEnded(
                play=running.open.play, zone=zone, at_ns=self.mono, samples=sum(sent), level_dbfs=-20.0, reason=reason
            )
        return vo.Ended(
            play=running.open.play,
            zone=zone,
            at_ns=self.mono,
            samples=sum(sent),
            level_dbfs=-20.0,
            reason=reason,
            segments=sent,
        )

    def _path(self, sha256: str) -> str | None:
        return f"/media/{sha256}" if sha256 in self.media else None

    def _sign(self, op: str, args: dict[str, Any], now: Instant) -> tuple[str, bytes]:
        iss = "xa-mau"
        command = op == "broadcast"
        ctr = None
        if command:
            self.province.ctr[iss] += 1
            ctr = self.province.ctr[iss]
        raw = self.province.signer(iss).order(
            op, args, [DEVICE], now=now.wall, ttl=3600.0 if command else None, ctr=ctr
        )
        return topics.order(DEVICE) if command else topics.desired(DEVICE, op, iss), raw.encode()


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
