"""The composition root of `tram run`: builds every part, starts and stops them in one list, and turns the one loop.

Nothing else wires. The loop takes an event from the inbox, lets the owner decide, and carries out what it answers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import signal
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent import machine
from agent.core import commands as do
from agent.core import recurrence
from agent.core.admission import REMOTE_KEYS
from agent.core.catalogue import Catalogue
from agent.core.commune import Sign
from agent.core.examination import OrderExamined
from agent.core.intake import AUTHORITIES_KEY, Intake
from agent.core.ledger import Ledger
from agent.core.outbox import Outbox
from agent.core.report import Reporter
from agent.core.station import Station
from agent.ear.client import EarKeeper
from agent.link.birth import BirthFile
from agent.link.client import MqttLink
from agent.link.hub import Hub, NoHub
from agent.link.own import OwnKey
from agent.link.pair import Labelled, Links
from agent.link.settings import Settings
from agent.link.tls import CredentialError
from agent.model import apart
from agent.model import events as ev
from agent.model import voice as vo
from agent.model.config import Station as Config
from agent.model.records import PutValue, Snapshot
from agent.model.talk import TALK_SOCKET
from agent.model.time import Instant
from agent.modem import Modem
from agent.panel.desk import Desk
from agent.ports import Link
from agent.screen.client import Screens
from agent.sound import chimes, messages
from agent.sound.feeds import DecoderFeeds
from agent.sound.loudness import Loudness
from agent.sound.speech import OfflineSpeech
from agent.store.database import SqliteStore
from agent.store.library import ContentLibrary, adopt
from agent.store.serving import Serving
from agent.store.uploads import Uploads
from agent.trust.authorities import AuthoritiesError, Trusted
from agent.trust.keys import BadKeyError
from agent.trust.refusal import Refusal
from agent.trust.replay import ReplayMemory
from agent.trust.signer import Signer
from agent.trust.time import TrustedTime
from agent.voice.keeper import VoiceKeeper
from drivers.clock import KernelClock, VirtualClock

log = logging.getLogger("tram")
CLOCK_EVERY_S = 1.0
FLOOR_EVERY_S = 3600.0
FINISH_S = 1.0
"""Longest wait for voice to tell how far the programmes came."""
HOUSEKEEPING_EVERY_S = 24 * 3600.0
FLOOR = "clock-floor"
SWITCH_S = 0.0005
"""No thread waits longer than this for another to let go of the interpreter (by default 5 ms): an emergency needs it
some ten times between the network and voice."""
URGENT = ("MainThread", "link", "worker", "store")
"""Threads through which an emergency goes, and those that may hold the interpreter while it waits."""


class Inbox:
    """The owner's one door: urgent events first, otherwise in the order in which they came."""

    def __init__(self) -> None:
        self._urgent: deque[Struct] = deque()
        self._plain: deque[Struct] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self, event: Struct, *, urgent: bool = False) -> None:
        """Hand an event over; callable from any thread."""
        (self._urgent if urgent else self._plain).append(event)
        self._bell.put(None)

    def take(self, timeout_s: float) -> Struct | None:
        """The next event, or None when time is up."""
        try:
            self._bell.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        return self._urgent.popleft() if self._urgent else self._plain.popleft()


class App:
    """One running agent."""

    def __init__(self, config_path: str) -> None:
        self.config: Config = apart.load(config_path)
        config = self.config
        data, run = Path(config.data_dir), Path(config.run_dir)
        for folder in (data, run):
            folder.mkdir(parents=True, exist_ok=True)
        self.inbox = Inbox()
        self.stopping = threading.Event()
        self.store = SqliteStore(data / "tram.db", self.inbox)
        snapshot = self.store.load()
        trusted, earliest = believed(config, snapshot, self.inbox)
        self.clock = (
            KernelClock() if config.hardware.clock == "kernel" else VirtualClock(f"{config.hardware.control}.clock")
        )
        earliest = max(machine.image_time(), earliest)
        self.time = TrustedTime(earliest, _floor(snapshot))
        self._watch_clock(first=True)
        now = self.now()
        self.library = ContentLibrary(data, config.content, self.inbox, parent=config.parent)
        self.speech = OfflineSpeech(self.inbox, data / "speech")
        supervised = machine.supervised()
        self.feeds = DecoderFeeds(
            self.inbox,
            fetcher=_fetcher(config),
            plugins=run / "vlc",
            unit=run / "decoder.sock" if supervised else None,
        )
        self.loudness = Loudness(self.inbox, self.feeds)
        catalogue = Catalogue(config, _chimes(), self._media_path, self.speech.speaks)
        self.modem = Modem()
        replay = ReplayMemory.load(snapshot, earliest)
        catalogue.messages.update(messages.recorded(data, [m.id for m in config.stored]))
        intake = Intake(config, trusted, replay, recurrence.check, REMOTE_KEYS.__contains__)
        tz = ZoneInfo(config.timezone)
        self.owner = Station(
            config,
            snapshot,
            intake,
            Ledger(tz, snapshot, Outbox.load(snapshot)),
            catalogue,
            Reporter(config, machine.version(), machine.image(), self._facts, now),
            now,
        )
        self.owner.sign = self._signing(config)
        self.worker = Worker(self.inbox, intake, tz)
        self.hub, self.link = self._make_links(config, data, now)
        below = config.cluster_link
        self.serving = (
            None
            if below is None
            else Serving(self.library.folder, run / TALK_SOCKET, below, config.fleet(), self.inbox)
        )
        self.voice = VoiceKeeper(config_path, config, self.inbox, elsewhere=supervised)
        self.ear = EarKeeper(config_path, config, self.inbox, unit=run / "ear-control.sock" if supervised else None)
        self.screens = Screens(config.zones, self.inbox, run)
        self.uploads = Uploads(data / "tram.db", config.content, self.inbox)
        self.desk = Desk(run / "agent.sock", self._asked)
        self._pipes: dict[tuple[str, int], int] = {}
        self._do: dict[type[Struct], Callable[[Any], None]] = {
            do.ToVoice: lambda c: self.voice.send(c.command),
            do.ToEar: lambda c: self.ear.send(c.command),
            do.StartFeed: self._start_feed,
            do.HandFeed: self._hand_feed,
            do.ExtendFeed: lambda c: self.feeds.extend(c.play, c.segment, c.seconds),
            do.DropFeeds: self._drop_feeds,
            do.ToScreen: lambda c: self.screens.send(c.zone, c.command),
            do.Speak: lambda c: self.speech.render(c.key, c.text, c.lang, urgency=c.urgency),
            do.PinMessage: self._pin,
            do.Measure: lambda c: self.loudness.ask(c.sha256, c.path),
            do.Want: lambda c: self.library.want(c.needs),
            do.Expand: self.worker.ask,
            do.Persist: lambda c: self.store.submit(c.batch, c.writes),
            do.PassOn: self.hub.pass_on,
            do.Acknowledge: lambda c: self.link.acknowledge(c.token),
            do.OfferRows: lambda c: self.link.offer(c.rows),
            do.PublishState: lambda c: self.link.publish_state(msgspec.json.encode(c.body)),
            do.PublishStatus: lambda c: self.link.publish_status(msgspec.json.encode(c.body)),
            do.PublishBeat: lambda c: self.link.publish_beat(msgspec.json.encode(c.body)),
            do.SignedTime: lambda c: self._time_alarms(self.time.signed(c.iat, self.now().mono_ns)),
            do.Upload: self.uploads.send,
            do.Reply: lambda c: self.desk.reply(c.token, c.body),
        }
        self._next_clock = self._next_floor = self._next_keeping = now.mono_ns / 1e9
        self._was_trusted = now.trusted
        if snapshot.detail:
            self.inbox(ev.Alarm("store-damaged", snapshot.detail))
        if snapshot.empty:
            self.store.submit(0, [replay.floor_write()])

    def run(self) -> int:
        """Start every part in order, decide until told to stop, stop them in reverse."""
        parts: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
            ("voice", self.voice.start, self.voice.stop),
            ("ear", self.ear.start, self.ear.stop),
            ("modem", self.modem.start, self.modem.stop),
            ("desk", self.desk.start, self.desk.stop),
            ("library", self.library.start, self.library.stop),
            ("feeds", self._prepare_feeds, self.feeds.stop),
            ("screens", self.screens.start, self.screens.stop),
            ("uploads", self.uploads.start, self.uploads.stop),
            ("worker", self.worker.start, self.worker.stop),
            ("hub", self.hub.start, self.hub.stop),
            *([("serving", self.serving.start, self.serving.stop)] if self.serving is not None else []),
            ("link", self.link.start, self.link.stop),
        ]
        with contextlib.ExitStack() as stack:
            stack.callback(self.store.close)
            for name, start, stop in parts:
                start()
                stack.callback(_quietly, name, stop)
            machine.go_first(URGENT)
            self._carry_out(self.owner.begin(self.now()))
            machine.notify("READY=1")
            gc.collect()
            gc.freeze()
            while not self.stopping.is_set():
                self._turn()
            machine.notify("STOPPING=1")
            self._carry_out(self.owner.finish(self.now()))
            give_up = time.monotonic() + FINISH_S
            while not self.owner.finished and time.monotonic() < give_up:
                self._turn()
            self._persist_floor()
        return 0

    def _facts(self) -> dict[str, Any]:
        """What this machine tells of itself; what a modem tells stands beside its network."""
        device = None if self.config.microphone is None else self.config.microphone.device
        found = machine.facts(Path(self.config.data_dir), device)
        if modem := self.modem.facts():
            found["network"] = found.get("network", {}) | modem
        return found

    def _turn(self) -> None:
        now = self.now()
        event = self.inbox.take(self.owner.next_wake(now))
        self._housekeeping()
        now = self.now()
        try:
            commands = self.owner.handle(event if event is not None else ev.Tick(), now)
        except Exception:
            # A fault of ours in one event must not end the station; it is told, and the rest goes on.
            log.exception("an event could not be handled: %s", type(event).__name__)
            if not isinstance(event, ev.Alarm):
                self.inbox(ev.Alarm("internal", f"{type(event).__name__} could not be handled; see the machine log"))
            return
        self._carry_out(commands)

    def _carry_out(self, commands: list[do.Command]) -> None:
        for command in commands:
            try:
                self._do[type(command)](command)
            except Exception:
                log.exception("a command could not be carried out: %s", type(command).__name__)
                self.inbox(ev.Alarm("internal", f"{type(command).__name__} failed; see the machine log"))

    def _asked(self, event: Struct, *, urgent: bool = False) -> None:
        """A question from the desk, in its thread; what needs a file read is read here, not by the owner."""
        if isinstance(event, ev.Asked) and event.what == "recorded":
            name = str(event.args.get("message", ""))
            sound = messages.recorded(Path(self.config.data_dir), [m.id for m in self.config.stored if m.id == name])
            if name not in sound:
                detail = f"no recording of a stored message {name!r} in the form 48 000 Hz, one channel, 16 bit"
                self.desk.reply(event.token, {"ok": False, "reason": "content-unavailable", "detail": detail})
                return
            self.inbox(ev.MessageRecorded(name, sound[name]))
            self.desk.reply(event.token, {"ok": True, "result": {"message": name}})
            return
        self.inbox(event, urgent=urgent)

    # time

    def now(self) -> Instant:
        """This moment, as far as it may be believed."""
        return self.time.now(time.monotonic_ns())

    def _housekeeping(self) -> None:
        t = time.monotonic_ns() / 1e9
        if t >= self._next_clock:
            self._next_clock = t + CLOCK_EVERY_S
            self._watch_clock()
            machine.notify("WATCHDOG=1")
            self.screens.alive()
        if t >= self._next_floor:
            self._next_floor = t + FLOOR_EVERY_S
            self._persist_floor()
        if t >= self._next_keeping:
            self._next_keeping = t + HOUSEKEEPING_EVERY_S
            self.store.prune(0, self.now().surely)
            self.owner.intake.replay.prune(self.now().surely)

    def _watch_clock(self, *, first: bool = False) -> None:
        reading = self.clock.read()
        self._time_alarms(self.time.observe(reading.mono_ns, reading.wall, reading.synchronised))
        trusted = self.time.trusted
        if not first and trusted != self._was_trusted:
            self._was_trusted = trusted
            self.link.set_clock_trusted(trusted)
            self.inbox(ev.Tick())

    def _time_alarms(self, alarms: list[Any]) -> None:
        for alarm in alarms:
            self.inbox(ev.Alarm(alarm.what, alarm.detail))

    def _persist_floor(self) -> None:
        self.store.submit(0, [PutValue(key=FLOOR, value=b"%.0f" % self.time.floor)])

    # commands that need more than one port

    def _start_feed(self, command: do.StartFeed) -> None:
        fd = self.feeds.open(command.play, command.segment, command.pieces, command.skip_samples)
        self._pipes[command.play, command.segment] = fd

    def _hand_feed(self, command: do.HandFeed) -> None:
        fd = self._pipes.pop((command.play, command.segment), None)
        if fd is not None:
            self.voice.send(
                vo.Feed(play=command.play, segment=command.segment, live=command.live, spoken=command.spoken), fd
            )

    def _drop_feeds(self, command: do.DropFeeds) -> None:
        for key in [k for k in self._pipes if k[0] == command.play]:
            os.close(self._pipes.pop(key))
        self.feeds.close(command.play)

    def _prepare_feeds(self) -> None:
        threading.Thread(target=self.feeds.prepare, name="feeds-prepare", daemon=True).start()

    def _pin(self, command: do.PinMessage) -> None:
        target = messages.pin(Path(self.config.data_dir), command.message, Path(command.path))
        self.voice.send(vo.Load(name=f"message:{command.message}", path=str(target)))
        if self.config.cluster_link is not None:
            media = adopt(self.library.folder, target, "audio/wav")
            self.inbox(ev.MessageShared(command.message, media))

    def _media_path(self, sha256: str) -> str | None:
        path = self.library.path(sha256)
        return None if path is None else str(path)

    # parts

    def _make_links(self, config: Config, data: Path, now: Instant) -> tuple[Hub | NoHub, Links]:
        """The link to the clusters, and those upwards: to the source, to the parent station, to both or to nobody."""
        ways: list[tuple[str, Settings]] = []
        if config.mqtt is not None:
            ways.append(("source", Settings.of(config)))
        if config.parent is not None:
            ways.append(("parent", Settings.to_parent(config)))
        count = len(ways) + 1
        hub = (
            NoHub() if config.cluster_link is None else Hub(config, Labelled(self.inbox, "clusters", count - 1, count))
        )
        links: list[Link] = []
        for number, (name, settings) in enumerate(ways):
            births = BirthFile(data / ("birth" if name == "source" else f"birth-{name}"))
            inbox = Labelled(self.worker.from_link, name, number, count)
            links.append(MqttLink(settings, inbox, births, clock_trusted=now.trusted))
        return hub, Links(links, hub)

    def _signing(self, config: Config) -> Sign | None:
        key, iss = config.trust.station_key, config.trust.station_authority
        if key is None or iss is None:
            return None
        try:
            signer = Signer(Path(key).read_bytes(), iss)
        except (OSError, BadKeyError) as error:
            self.inbox(ev.Alarm("station-key", f"{key}: {error}; the commune's own programmes cannot be signed"))
            return None
        return OwnKey(signer, config.device.id)


class Worker:
    """Works out what takes too long for the owner, one thing after the other: occurrences of schedules, and what can be
    said of an order before the owner sees it. Orders keep their order, but for urgent ones, which never come here."""

    def __init__(self, inbox: Inbox, intake: Intake, tz: ZoneInfo) -> None:
        self._inbox = inbox
        self._intake = intake
        self._tz = tz
        self._asked: queue.SimpleQueue[do.Expand | ev.OrderArrived | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def stop(self) -> None:
        """No more."""
        self._asked.put(None)

    def ask(self, what: do.Expand | ev.OrderArrived) -> None:
        """Queue a piece of work; its outcome comes as an event."""
        self._asked.put(what)

    def from_link(self, event: Struct, *, urgent: bool = False) -> None:
        """The links' inbox."""
        if isinstance(event, ev.OrderArrived) and not urgent:
            self.ask(event)
        else:
            self._inbox(event, urgent=urgent)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if isinstance(asked, ev.OrderArrived):
                self._inbox(self._examine(asked))
            else:
                self._expand(asked)

    def _examine(self, arrived: ev.OrderArrived) -> Struct:
        try:
            examination = self._intake.examine(arrived.topic, arrived.payload, arrived.retain)
            if examination is None:
                return arrived
            examination.finish()
        except Exception:
            log.exception("an order could not be examined")
            return arrived  # the owner will tell
        return OrderExamined(arrived, examination)

    def _expand(self, command: do.Expand) -> None:
        starts: dict[str, list[float]] = {}
        for entry in command.entries:
            try:
                starts[entry.id] = recurrence.expand(entry, self._tz, command.after, command.before)
            except (ValueError, OverflowError) as error:
                self._inbox(ev.Alarm("schedule", f"{command.issuer}/{entry.id}: {error}"))
        self._inbox(ev.Expanded(command.issuer, command.generation, starts, command.before))


def believed(config: Config, snapshot: Snapshot, inbox: Inbox) -> tuple[Trusted, float]:
    """The authorities in force at boot, and a time that has passed for certain by the papers this station holds.

    AuthoritiesError or OSError when the local trust files cannot be used: without them nothing may be believed.
    """
    roots = Path(config.trust.root_keys).read_bytes()
    trusted = Trusted.first(roots, Path(config.trust.authorities).read_bytes())
    stored = snapshot.values.get(AUTHORITIES_KEY)
    if stored is not None:
        try:
            trusted = trusted.resume(stored)
        except Refusal as refusal:
            inbox(ev.Alarm("store-damaged", f"stored authorities: {refusal.detail}"))
    earliest = trusted.iat
    if config.mqtt is not None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            # cryptography.x509 would cost 3 MB of memory for this one date.
            decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
            earliest = max(earliest, float(ssl.cert_time_to_seconds(decode(config.mqtt.cert)["notBefore"])))
    return trusted, earliest


def _floor(snapshot: Snapshot) -> float:
    try:
        return float(snapshot.values.get(FLOOR, b"0"))
    except ValueError:
        return 0.0


def _chimes() -> dict[str, ev.Sound]:
    found: dict[str, ev.Sound] = {}
    for name in chimes.names():
        sound = messages.describe(chimes.path(name), f"chime:{name}")
        if sound is not None:
            found[name] = sound
    return found


def _fetcher(config: Config) -> list[str]:
    """The command that reads a live stream; only what the configuration names as a source is the station's own."""
    command = [sys.executable, "-m", "agent.store.fetcher"]
    for host in config.content.allowed_hosts:
        command += ["--allow", host]
    if config.content.ca is not None:
        command += ["--ca", config.content.ca]
    if (parent := config.parent) is not None and parent.media is not None:
        command += ["--parent", parent.media, parent.ca, parent.cert, parent.key]
    return [*command, *(f"--source={source.url}" for source in config.sources), "--stream"]


def _quietly(name: str, stop: Callable[[], object]) -> None:
    try:
        stop()
    except Exception:
        log.exception("%s did not stop cleanly", name)


def main(config_path: str) -> int:
    """`tram run`. Returns the exit code."""
    machine.log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    try:
        app = App(config_path)
    except (OSError, AuthoritiesError, BadKeyError, CredentialError) as error:
        # Without its papers the station may believe nobody; its buttons belong to voice, which does not need them.
        print(f"{config_path}: {error}", file=sys.stderr)
        print("tram check, tram doctor: what is missing and what helps", file=sys.stderr)
        return 1

    def end(*_: object) -> None:
        app.stopping.set()
        app.inbox(ev.Tick(), urgent=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return app.run()
