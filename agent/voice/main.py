"""The process `tram voice`: composition and the loop.

One thread does everything that sounds. Threads of the GPIO library date edges and post them; a thread reads the file of
a `Load`; a sink may have one that tries to open its device again. They all enter through `Doorbell`.

Leaving by SIGTERM or SIGINT fades out, switches the relays off, makes recordings whole and returns 0. After SIGKILL
the kernel lets go of the GPIO lines, and the hardware pull of the wiring holds the relays off.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from agent import __version__
from agent.model import apart
from agent.model import voice as v
from agent.model.config import Microphone, SoundOutput, Station, Zone
from agent.model.ear import EAR_HEAD, EAR_SOCKET
from agent.model.talk import TALK_SOCKET
from agent.voice import core, lock, pcm
from agent.voice.core import RefusedError, Voice
from agent.voice.mixer import Card, Channel, Sink, slots_of
from agent.voice.port import Port
from agent.voice.stream import Pipe

ASSETS = Path(__file__).parent / "assets"
RT_PRIORITY = 40
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
SWITCH_S = 0.0005
"""The loop waits no longer than this for another of our threads to let go of the interpreter (by default 5 ms)."""
TALK_BLOCK = 4 * v.PERIOD * v.BYTES_PER_SAMPLE
FAILURES = 100
"""Ticks in a row that may fail before the process gives up and is started anew."""


def load_station(path: str) -> Station:
    """The configuration; ConfigError when it cannot be used."""
    return apart.load(path)


def log(what: str, **more: object) -> None:
    """One line of the machine's log."""
    print(json.dumps({"who": "voice", "what": what, **more}, ensure_ascii=False), file=sys.stderr, flush=True)


def notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, contextlib.suppress(OSError):
        sock.setblocking(False)
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


class Doorbell:
    """The way into the loop for other threads and for signals."""

    def __init__(self) -> None:
        self.fd, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        self._calls: deque[Callable[[], None]] = deque()

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made by the loop; returns at once, from any thread."""
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def answer(self) -> None:
        """Make the calls."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        try:
            while self._calls:
                self._calls.popleft()()
        finally:
            if self._calls:  # one of them failed; the others are due all the same
                os.write(self._bell, b"!")


def plan_cards(zones: Sequence[Zone]) -> list[tuple[SoundOutput, list[tuple[Zone, bool]]]]:
    """Every output once, with its zones in configuration order and whether it is the zone's first (reporting) one."""
    cards: dict[tuple[type, str], tuple[SoundOutput, list[tuple[Zone, bool]]]] = {}
    for zone in zones:
        if zone.kind != "sound":
            continue
        queue, first = deque([zone.output]), True
        while queue:
            output = queue.popleft()
            if isinstance(output, SoundOutput):
                queue.extend(output.also)
                _, members = cards.setdefault((type(output), output.target), (output, []))
                if all(z is not zone for z, _ in members):
                    members.append((zone, first))
                    first = False
    return list(cards.values())


def open_card(output: SoundOutput, members: Sequence[tuple[Zone, bool]]) -> Card:
    """The card with its sink, which the driver NAME has in `drivers/NAME_sink.py`. OSError when it cannot write."""
    zones = [zone for zone, _ in members]
    names = ["+".join(zones[i].id for i in slot) for slot in slots_of(zones)]
    sink: Sink = importlib.import_module(f"drivers.{output.__struct_config__.tag}_sink").open_sink(output, names)
    return Card(output.target, sink, [Channel(zone, primary) for zone, primary in members])


def letterbox(path: str) -> Callable[[bytes], None]:
    """Sends datagrams to whoever listens at `path`, and waits for nobody: what is not taken is lost."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def send(datagram: bytes) -> None:
        with contextlib.suppress(OSError):
            sock.sendto(datagram, path)

    return send


def tap_of(path: str, number: int) -> Callable[[int, bytes], None]:
    """Sends what sounds in a zone to the ear, if it listens: a datagram a period."""
    send = letterbox(path)
    return lambda begin_ns, sound: send(struct.pack(EAR_HEAD, begin_ns, number) + sound)


def passing_on(path: str) -> Callable[[str, bytes], None]:
    """Sends what an officer says live to the station's library, if it listens (`agent.model.talk`).

    Several periods together: a socket holds ten datagrams, and whoever reads it may be late.
    """
    send = letterbox(path)
    held: dict[str, bytes] = {}

    def pass_on(play: str, sound: bytes) -> None:
        head = play.encode() + b"\0"
        begins = play not in held
        data = held.pop(play, b"") + sound
        if not sound:
            if data:
                send(head + data)
            send(head)
        elif begins or len(data) >= TALK_BLOCK:
            send(head + data)
            held[play] = b""
        else:
            held[play] = data

    return pass_on


def microphone_of(config: Microphone | None) -> core.Microphone | None:
    """The microphone that the configuration names. ImportError when its library is missing."""
    if config is None:
        return None
    microphone: core.Microphone = importlib.import_module("drivers.capture").open_capture(config)
    return microphone


def first_turn() -> str:
    """Ask for SCHED_FIFO, for this thread and those that it starts; "ok" or why not. Nothing depends on it.

    The first thing in `main`, so that a busy machine does not delay the start, and before the GPIO library starts its
    thread, which must be as quick as the loop.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(RT_PRIORITY))
    except OSError as error:
        return error.strerror or str(error)
    return "ok"


def lock_memory() -> str:
    """Ask for memory that is not paged out; "ok" or why not. Pages are locked as they are touched, not in advance."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if os.geteuid() and limit != resource.RLIM_INFINITY:
        # Under a finite limit later allocations would fail instead of being paged.
        return f"not tried: RLIMIT_MEMLOCK is {limit}"
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    return os.strerror(ctypes.get_errno()) if failed else "ok"


class Loop:
    """The process's only loop."""

    def __init__(self, station: Station, fifo: str) -> None:
        self._fifo = fifo
        self._ended_by: deque[int] = deque()
        """Signals that came."""
        self._bell = Doorbell()
        self._poll = select.poll()
        self._pipes: dict[int, Pipe] = {}
        self._watchdog_ns = int(os.environ.get("WATCHDOG_USEC", "0")) * 1000 // 2
        self._fed_ns = 0
        self._armed_ns = 0
        self._cards = [open_card(output, members) for output, members in plan_cards(station.zones)]
        heard = {m.zone for m in station.monitors}
        numbers = {z.id: i for i, z in enumerate(station.zones)}
        for channel in (c for card in self._cards for c in card.channels if c.zone.id in heard):
            channel.tap = tap_of(os.path.join(station.run_dir, EAR_SOCKET), numbers[channel.zone.id])
        gpio = importlib.import_module("drivers.gpio")
        self._board, self._close_control = gpio.open_board(
            station.hardware,
            station.outputs(),
            station.buttons,
            station.run_dir,
            self._edge,
            [z.id for z in station.zones if z.kind == "sound"],
        )
        self._port: Port | None = None
        self._early: list[v.Event] = []
        self._voice = Voice(station, self._cards, self._board, clock=time.monotonic_ns, emit=self._emit)
        try:
            self._voice.microphone = microphone_of(station.microphone)
        except ImportError as error:
            self._voice.fault("microphone", str(error))
        if station.cluster_link is not None:
            self._voice.pass_on = passing_on(os.path.join(station.run_dir, TALK_SOCKET))
        self._voice.load_pinned(ASSETS)
        self._port = Port(
            os.path.join(station.run_dir, "voice.sock"), lambda: self._voice.hello(__version__, self._armed_ns)
        )
        for event in self._early:
            self._port.emit(event)

    def _edge(self, line: str, at_ns: int) -> None:
        self._bell.post(lambda: self._voice.edge(line, at_ns))

    def _emit(self, event: v.Event) -> None:
        if isinstance(event, v.Fault):
            log("fault", word=event.what, detail=event.detail, zone=event.zone)
        if self._port is None:
            self._early.append(event)
        else:
            self._port.emit(event)

    def run(self) -> int:
        """Until a signal ends it: 0. Raises what the loop could not survive; relays are off in any case."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            locked = lock_memory()
            sys.setswitchinterval(SWITCH_S)
            gc.collect()
            gc.freeze()
            self._armed_ns = time.monotonic_ns()
            assert self._port is not None  # noqa: S101 - for the type checker
            self._poll.register(self._bell.fd, select.POLLIN)
            self._poll.register(self._port.listener, select.POLLIN)
            notify("READY=1")
            log(
                "ready",
                cards=[c.name for c in self._cards],
                pinned=len(self._voice.sounds),
                mlockall=locked,
                fifo=self._fifo,
            )
            self._forever(self._port)
        finally:
            self._leave()
        log("stopped", signals=list(self._ended_by))
        return 0

    def _on_signal(self, number: int, _: object) -> None:
        self._ended_by.append(number)

    def _leave(self) -> None:
        now = time.monotonic_ns()
        try:
            self._voice.finish(now)
        finally:
            self._board.close()
            for detail in self._board.take_faults():
                log("fault", word="gpio", detail=detail)
            self._close_control()
            for card in self._cards:
                card.sink.close(time.monotonic_ns())
            if self._port is not None:
                self._port.close()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _forever(self, port: Port) -> None:
        failures = 0
        while not self._ended_by:
            try:
                wake = self._turn(port)
                failures = 0
            except Exception as error:
                failures += 1
                self._voice.fault("voice", f"{type(error).__name__}: {error}")
                if failures >= FAILURES:
                    raise
                wake = time.monotonic_ns() + 5_000_000
            if self._ended_by:
                return
            self._wait(port, wake)

    def _turn(self, port: Port) -> int | None:
        now = time.monotonic_ns()
        wake = self._voice.tick(now)
        if port.stuck:
            self._lost(port, now)
        if self._watchdog_ns:
            if now - self._fed_ns >= self._watchdog_ns // 2:
                notify("WATCHDOG=1")
                self._fed_ns = now
            wake = min(wake or 1 << 62, now + self._watchdog_ns)
        self._watch_pipes()
        return wake

    def _watch_pipes(self) -> None:
        wanted = {p.fd: p for p in self._voice.pipes() if p.wants_data}
        for fd in self._pipes.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd in wanted.keys() - self._pipes.keys():
            self._poll.register(fd, select.POLLIN)
        self._pipes = wanted

    def _wait(self, port: Port, wake: int | None) -> None:
        if port.connection is not None:
            self._poll.register(port.connection, port.mask)
        timeout = None if wake is None else max(0.0, (wake - time.monotonic_ns()) / 1e6)
        for fd, mask in self._poll.poll(timeout):
            try:
                self._ready(port, fd, mask)
            except Exception as error:  # noqa: BLE001 - one bad command or descriptor must not silence the station
                self._voice.fault("voice", f"{type(error).__name__}: {error}")

    def _ready(self, port: Port, fd: int, mask: int) -> None:
        if fd == self._bell.fd:
            self._bell.answer()
        elif fd == port.listener.fileno():
            if port.connection is not None:
                self._lost(port, time.monotonic_ns())
            port.accept()
        elif fd in self._pipes:
            self._pipes[fd].fill()
        elif port.connection is not None and fd == port.connection.fileno():
            self._commands(port, mask)

    def _commands(self, port: Port, mask: int) -> None:
        if mask & select.POLLOUT:
            port.flush()
        if not mask & ~select.POLLOUT:
            return
        taken = port.receive()
        now = time.monotonic_ns()
        if taken is None:
            self._lost(port, now)
            return
        for command, fd in taken:
            if isinstance(command, str):
                self._voice.fault("command", command)
                if fd is not None:
                    os.close(fd)
            elif isinstance(command, v.Load):
                self._load(command)
                if fd is not None:
                    os.close(fd)
            else:
                self._voice.handle(command, fd, now)

    def _lost(self, port: Port, now: int) -> None:
        if port.connection is not None:
            with contextlib.suppress(KeyError):  # accepted in this very turn, not polled yet
                self._poll.unregister(port.connection)
        port.drop()
        self._voice.disconnected(now)

    # -- pinned sounds -----------------------------------------------------------------------------------------------

    def _load(self, command: v.Load) -> None:
        """Read the file in a thread: a slow card must not hold the mixer."""
        try:
            path = self._voice.pinned_path(command)
        except RefusedError as refusal:
            self._voice.fault(refusal.what, str(refusal))
            return
        threading.Thread(target=self._read, args=(command.name, path), name="load", daemon=True).start()

    def _read(self, name: str, path: Path) -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        try:
            sound = pcm.read_wav(path)
        except (OSError, ValueError) as error:
            detail = f"{name}: {error}"
            self._bell.post(lambda: self._voice.fault("pinned", detail))
            return
        self._bell.post(lambda: self._voice.sounds.__setitem__(name, sound))


def main(config_path: str) -> int:
    """Run voice with the configuration at `config_path`: 0 after a signal, 1 when it cannot run."""
    from agent.model.problem import ConfigError

    fifo = first_turn()
    try:
        station = load_station(config_path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        os.makedirs(station.run_dir, exist_ok=True)
        if lock.hold(station.run_dir) is None:
            log("already running", run_dir=station.run_dir)
            return 1
        loop = Loop(station, fifo)
    except OSError as error:
        log("cannot start", detail=str(error))
        return 1
    return loop.run()


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m agent.voice`."""
    import argparse

    parser = argparse.ArgumentParser(prog="tram voice", description="The emergency core of a station.")
    parser.add_argument("--config", default="/etc/tram/station.yaml")
    return main(parser.parse_args(arguments).config)
