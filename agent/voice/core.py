"""What voice does with commands and buttons. No I/O of its own: sinks, board and `emit` are given, time is an argument.

Rules, beside those of the mixer:

- A pressed emergency button takes its zones at once. Plays of the agent in them, scheduled ones included, end with
  reason "local"; those opened while a local play owns the zone end so at once, with 0 samples. In a zone with `duck_db`
  what is heard already goes on, quieter, unless it is an alert or a microphone.
- The same button pressed again while its message plays or waits is ignored: the message goes on.
- Another button: its message begins at once in zones without a local play, and follows in the others.
- A microphone button of another class is the agent's to put on the air (`Listen`); voice ends what it says, whatever
  the agent does.
- A microphone button (emergency) puts the officer on the air: relays, chime, then live, in all its zones together.
  She neither waits for a message nor makes one wait: the later press takes the zones, the earlier play ends with
  reason "local". What followed a message that she took over still follows, after her. It ends when the button opens
  (hold), is pressed again (latch), or after `longest_s`.
- A button with `hold_s` acts when it was held for so long (a stop button at once: `hold_s` is what makes it more).
- What is said live is given to `pass_on` as it is heard, and its end, for the clusters; nobody is waited for.
- `Lock` refuses the buttons in its zones and ends local plays there. It outlives the agent's connection (a crashed
  agent must not lift a silence) but not `LOCK_NS`, the longest that the contract allows.
- A key switch that silences ends all that sounds in its zones when it closes, and lifts the lock there when it opens.
  What may begin meanwhile is the agent's decision; buttons work.
- When the agent goes away its plays end (reason "disconnected"), and so does the power of its boards; local plays and
  the lock stay.
- A button whose key switch is open does nothing: its press is "locked" instead of "pressed", and never "held".
- All `pinned` of an `Open` are segment 0, all names of a `Pin` are the segment that it gives.
- Every zone named in an `Open` gets exactly one `Ended`; an unknown one at once, with reason "no-such-zone".
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from agent.core.power import rivals, sharers
from agent.core.relay import Told, place
from agent.model import voice as v
from agent.model.config import Button, Station
from agent.model.orders import Class
from agent.voice import pcm
from agent.voice.contact import Contact
from agent.voice.lamp import Show, lit
from agent.voice.live import Live
from agent.voice.mixer import Card, Local, Mixer, Play
from agent.voice.stream import Pinned, Pipe, Stream

LOCK_NS = 24 * 3600 * 1_000_000_000
LIVE_MS_LIMIT = 10_000
MAX_SEGMENTS = 10_000
DRILL = "chime:drill"
REMEMBERED = 512
"""Plays whose names are kept: late commands for one that has ended are not worth a fault, and none is opened twice."""


class Board(Protocol):
    """Relays, lamps, buttons and key switches."""

    def switch(self, relay: str, on: bool) -> None:
        """Switch a relay or a lamp. OSError or ValueError when it cannot."""

    def closed(self, line: str) -> bool:
        """Whether the contact of this button or key switch is closed."""

    def works(self, line: str) -> bool:
        """Whether the line of this button or key switch could be had."""

    def take_faults(self) -> list[str]:
        """What went wrong since the last call, for people."""

    def close(self) -> None:
        """Relays off, then give the lines back. May be called twice."""


class Microphone(Protocol):
    """What the officer speaks into."""

    def open(self) -> int:
        """Begin to capture: the read end of a pipe of samples. Closing it ends the capture; at EOF the device failed.

        Returns at once, whatever the device does.
        """

    def take_faults(self) -> list[str]:
        """What went wrong since the last call, for people."""


class RefusedError(ValueError):
    """A command that cannot be carried out; becomes a Fault."""

    def __init__(self, detail: str, what: str = "command", zone: str | None = None) -> None:
        super().__init__(detail)
        self.what = what
        self.zone = zone


class _Waiting:
    """A pressed button's message and the zones in which it has not begun yet."""

    def __init__(self, button: Button, zones: list[str], pressed_ns: int) -> None:
        self.button = button
        self.zones = zones
        self.pressed_ns = pressed_ns


class _Talk:
    """A live microphone on the air by this button, at the latest until `until_ns`."""

    def __init__(self, play: Play, button: Button, live: Live | None, until_ns: int) -> None:
        self.play = play
        self.button = button
        self.live = live
        self.until_ns = until_ns


class Voice:
    """The emergency core. `clock` gives CLOCK_MONOTONIC nanoseconds, `emit` takes events for the agent."""

    def __init__(
        self,
        station: Station,
        cards: list[Card],
        board: Board,
        *,
        clock: Callable[[], int],
        emit: Callable[[v.Event], None],
        microphone: Microphone | None = None,
    ) -> None:
        self.station = station
        self.board = board
        self.microphone = microphone
        self.sounds: dict[str, bytes] = {}
        """Pinned sounds by name."""
        self.pass_on: Callable[[str, bytes], None] | None = None
        """Takes what is said live, by play, for the clusters (`agent.model.talk`); must not wait."""
        self._clock = clock
        self._emit = emit
        zones = [z for z in station.zones if z.kind == "sound"]
        self.zones = [z.id for z in zones]
        boards = [z for z in station.zones if z.kind == "screen"]
        self.mixer = Mixer(
            zones,
            cards,
            boards=boards,
            clock=clock,
            emit=emit,
            switch=self._switch,
            fault=self.fault,
            relays=station.relays,
            told=self._relay_told,
        )
        self._watched = [r for r in station.relays if r.feedback is not None]
        self._rivals = rivals(zones, station.relays)
        lines = sharers(zones)
        self._apart = {z: self._rivals[z] | lines[z] for z in self.zones}
        """The zones in which nothing else may be on than in this one."""
        self._zones_of = {b.id: [z for z in station.match(b.zones) if z in self.mixer.zones] for b in station.buttons}
        lamps = {b.id: b.lamp_line for b in station.buttons}
        self.relays = {r.id: False for r in station.relays if r.id not in lamps.values()}
        self._lamps = {button: (line, False) for button, line in lamps.items() if line is not None}
        self.contacts = {b.id: Contact(b, board.closed(b.id), clock()) for b in station.buttons}
        self._messages = {m.id: m for m in station.stored}
        self._waiting: list[_Waiting] = []
        self._talks: list[_Talk] = []
        self._deaf = False
        """The microphone failed when it was last used."""
        self._drill_until = 0
        self._locked: set[str] = set()
        self._locked_until = 0
        self._presses = 0
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._told: dict[tuple[str, str, str | None], int] = {}
        self._unswitched: set[str] = set()
        """Relays and lamps that could not be switched."""
        self.relay_faults: dict[str, str] = {}

    # -- facts -------------------------------------------------------------------------------------------------------

    def fault(self, what: str, detail: str, zone: str | None = None) -> None:
        """Tell that something is wrong; the same thing at most once a second."""
        now = self._clock()
        key = (what, detail[:40], zone)
        if now - self._told.get(key, -(10**10)) < 1_000_000_000:
            return
        if len(self._told) > 256:
            self._told.clear()
        self._told[key] = now
        self._emit(v.Fault(what=what, detail=detail, at_ns=now, zone=zone))

    def hello(self, version: str, armed_ns: int) -> v.Hello:
        """The first packet of a connection."""
        return v.Hello(
            version=version,
            pid=os.getpid(),
            armed_ns=armed_ns,
            zones=self.zones,
            pinned=sorted(self.sounds),
            relays=dict(self.relays),
            keys={name: c.closed for name, c in self.contacts.items() if c.button.action.silence},
            relay_faults=dict(self.relay_faults),
            local=[play.name for play in self.mixer.plays.values() if play.local is not None],
        )

    # -- pinned sounds -----------------------------------------------------------------------------------------------

    def load_pinned(self, assets: Path) -> None:
        """Load `chime:<stem>` from `assets` and `message:<id>` of every configured message from data_dir/pinned."""
        for path in sorted(assets.glob("*.wav")):
            self._load(f"chime:{path.stem}", path)
        for message in self.station.stored:
            self._load(f"message:{message.id}", Path(self.station.data_dir) / "pinned" / f"{message.id}.wav")

    def _load(self, name: str, path: Path) -> None:
        try:
            self.sounds[name] = pcm.read_wav(path)
        except (OSError, ValueError) as error:
            self.fault("pinned", f"{name}: {error}")

    def pinned_path(self, command: v.Load) -> Path:
        """The file of a Load command. RefusedError when it is not under data_dir."""
        root = Path(self.station.data_dir).resolve()
        path = (root / command.path).resolve()
        if not path.is_relative_to(root):
            raise RefusedError(f"load {command.name}: {command.path} is not under {root}", "pinned")
        return path

    # -- the loop's calls --------------------------------------------------------------------------------------------

    def tick(self, now: int) -> int | None:
        """Do all that is due; returns when to come again (CLOCK_MONOTONIC), None: when something happens."""
        for detail in self.board.take_faults():
            self.fault("gpio", detail)
        self._look_at_relays(now)
        times = [self._poll(contact, now) for contact in self.contacts.values()]
        if self._locked and now >= self._locked_until:
            self._locked.clear()
        self._serve_waiting(now)
        times.append(self._tend_talks(now))
        times.append(self.mixer.tick(now))
        if any(True for _ in self._served()):
            times.append(now)  # a local play ended within this tick: its follower is due
        times.append(self._light(now))
        return min((t for t in times if t is not None), default=None)

    def edge(self, line: str, at_ns: int) -> None:
        """The contact of this button moved; or of a key switch, which is looked at when it matters."""
        if line in self.contacts:
            self.contacts[line].edge(at_ns)

    def pipes(self) -> Iterator[Pipe]:
        """The pipes of all plays."""
        for play in self.mixer.plays.values():
            yield from play.stream.pipes()

    def disconnected(self, now: int) -> None:
        """The agent went away."""
        for play in list(self.mixer.plays.values()):
            if play.local is None:
                self._stop(play, None, "disconnected", now)
        self.mixer.held.clear()
        self.mixer.level_every_ns = 0
        self._drill_until = 0
        self.mixer.let_through((), now)

    def finish(self, now: int) -> None:
        """The process ends: fade out, relays off."""
        self._waiting.clear()
        self.mixer.finish(now)

    # -- commands ----------------------------------------------------------------------------------------------------

    def handle(self, command: v.VoiceCommand, fd: int | None, now: int) -> None:
        """Carry out one command; takes over `fd`. A wrong command becomes a Fault. Load is the caller's (see main)."""
        try:
            if isinstance(command, v.Feed):
                fd = self._feed(command, fd)
            elif isinstance(command, v.Open):
                self._open(command, now)
            elif isinstance(command, v.Listen):
                if (play := self._play(command.play)) is not None:
                    self._listen_for(play, command, now)
            elif isinstance(command, v.Stop):
                self._stop(self._play(command.play), command.zones, command.reason, now)
            elif isinstance(command, v.Gain):
                if (play := self._play(command.play)) is not None:
                    self.mixer.set_gain(play, command.zones, command.gain_db)
            elif isinstance(command, v.Close):
                if (play := self._play(command.play)) is not None:
                    play.stream.closed = True
            elif isinstance(command, v.Pin):
                if (play := self._play(command.play)) is not None:
                    self._pin(play, _number(command), command.names)
            elif isinstance(command, v.Lock):
                self._lock(command.zones, now)
            elif isinstance(command, v.Drill):
                self._drill(command.until_ns)
            elif isinstance(command, v.EndLocal):
                self._end_local(command.zones, "stopped", now)
            elif isinstance(command, v.Idle):
                self.mixer.let_through(command.zones, now)
            elif isinstance(command, v.Hold):
                self._hold(command, now)
            elif isinstance(command, v.Levels):
                self.mixer.level_every_ns = max(0, command.every_ms) * 1_000_000
        except RefusedError as refusal:
            self.fault(refusal.what, str(refusal), refusal.zone)
        finally:
            if fd is not None:
                os.close(fd)

    def _play(self, name: str) -> Play | None:
        """The agent's play of that name; None when it has just ended (its commands may have crossed the news)."""
        play = self.mixer.plays.get(name)
        if play is not None and play.local is None:
            return play
        if name in self._seen:
            return None
        raise RefusedError(f"no play {name!r}")

    def _open(self, command: v.Open, now: int) -> None:
        if command.play in self.mixer.plays or command.play in self._seen:
            raise RefusedError(f"play {command.play!r} was opened before")
        self._seen.append(command.play)
        zones = list(dict.fromkeys(command.zones))
        known = [z for z in zones if z in self.mixer.zones]
        mine = [z for z in known if not self._has_local(z)]
        for zone in zones:
            if zone not in known:
                self.fault("command", f"open {command.play}: no zone {zone!r}", zone)
                self._end_unheard(command.play, zone, "no-such-zone", now)
            elif zone not in mine:
                self._end_unheard(command.play, zone, "local", now)
        if not mine:
            return
        bridge = self._bridge(command.bridge)
        play = Play(
            command.play,
            arrived_ns=now,
            at_ns=command.at_ns,
            gain_db=command.gain_db,
            stream=Stream(bridge),
            alert=command.alert,
        )
        self.mixer.open(play, mine)
        self._pin(play, 0, command.pinned)

    def _hold(self, command: v.Hold, now: int) -> None:
        if command.zone not in self.mixer.boards:
            raise RefusedError(f"no board {command.zone!r}", zone=command.zone)
        self.mixer.hold(command.zone, now, on=command.on, insist=command.insist)

    def _end_unheard(self, play: str, zone: str, reason: str, now: int) -> None:
        self._emit(v.Ended(play=play, zone=zone, at_ns=now, samples=0, reason=reason))

    def _bridge(self, name: str | None) -> bytes | None:
        if name is None:
            return None
        sound = self.sounds.get(name) or self.sounds.get(f"chime:{name}")
        if sound is None:
            self.fault("pinned", f"no bridge {name!r}")
        return sound

    def _pin(self, play: Play, segment: int, names: list[str]) -> None:
        """Sounds that together are one segment; an unknown one is left out."""
        for name in names:
            sound = self.sounds.get(name)
            if sound is None:
                self.fault("pinned", f"{play.name}: no sound {name!r}")
            else:
                play.stream.append(Pinned(segment, name, sound))

    def _drill(self, until_ns: int) -> None:
        if DRILL not in self.sounds:
            raise RefusedError(f"no drill without its mark, {DRILL}", "pinned")
        self._drill_until = until_ns

    def _feed(self, command: v.Feed, fd: int | None) -> int | None:
        """Returns the fd that is left for the caller to close."""
        if fd is None:
            raise RefusedError(f"feed {command.play}: no file descriptor came with it")
        play = self._play(command.play)
        if play is None:
            return fd
        number = _number(command)
        live = None
        if command.live:
            live = max(20, min(command.live_ms, LIVE_MS_LIMIT)) * v.RATE // 1000
        play.stream.append(Pipe(number, fd, live, spoken=command.spoken))
        return None

    def _stop(self, play: Play | None, zones: list[str] | None, reason: str, now: int) -> None:
        if play is not None:
            self.mixer.stop(play, zones, reason, now)

    # -- local plays -------------------------------------------------------------------------------------------------

    def _poll(self, contact: Contact, now: int) -> int | None:
        button = contact.button
        for state, at_ns in contact.poll(now, lambda: self.board.closed(button.id)):
            if state == "pressed" and not self._unlocked(button):
                contact.forget_hold()
                self._emit(v.ButtonEvent(button=button.id, state="locked", at_ns=at_ns))
                continue
            if button.action.silence:
                self._turn(button, state, now)
            elif state == ("held" if button.hold_s and not button.action.stop else "pressed"):
                self._act(button, at_ns, now)
            elif state == "released" and button.action.microphone and button.action.mode == "hold":
                self._hang_up(button, now)
            self._emit(v.ButtonEvent(button=button.id, state=state, at_ns=at_ns))
        return contact.next_ns()

    def _act(self, button: Button, at_ns: int, now: int) -> None:
        if button.action.stop:
            self._end_local(self.station.match(button.zones), "stopped", now)
        elif button.action.microphone:
            if button.class_ is Class.EMERGENCY:
                self._talk(button, at_ns, now)
            else:
                self._hang_up(button, now)  # to put it on the air is the agent's
        elif button.class_ is Class.EMERGENCY and button.message is not None:
            self._fire(button, at_ns, now)

    def _turn(self, button: Button, state: str, now: int) -> None:
        """A key switch that silences: closed, all that sounds there ends; opened, no lock is left."""
        zones = self._zones_of[button.id]
        if state == "pressed":
            self._end_local(zones, "silenced", now)
            for play in list(self.mixer.plays.values()):
                self._stop(play, zones, "silenced", now)
        elif state == "released":
            self._locked -= set(zones)

    def _unlocked(self, button: Button) -> bool:
        return button.key_line is None or self.board.closed(button.key_line)

    def _fire(self, button: Button, pressed_ns: int, now: int) -> None:
        active = any(p.local is not None and p.local.button == button.id for p in self.mixer.plays.values())
        if active or any(w.button.id == button.id for w in self._waiting):
            return
        zones = [z for z in self._zones_of[button.id] if z not in self._locked]
        if zones:
            for talk in self._talks:
                self._stop(talk.play, self._with_rivals(zones), "local", now)
            self._waiting.append(_Waiting(button, zones, pressed_ns))
            self._serve_waiting(now)

    def _talk(self, button: Button, pressed_ns: int, now: int) -> None:
        if self._hang_up(button, now):
            return
        zones = [z for z in self._zones_of[button.id] if z not in self._locked]
        together = self._compatible(zones)
        for zone in [z for z in zones if z not in together]:
            self.fault("interlock", f"{button.id}: {zone} cannot be on together with {', '.join(together)}", zone)
        zones = together
        if zones:
            for play in self._own():
                self._stop(play, self._with_rivals(zones), "local", now)
            self._waiting.insert(0, _Waiting(button, zones, pressed_ns))
            self._serve_waiting(now)

    def _hang_up(self, button: Button, now: int) -> bool:
        """End what this microphone button has on the air; whether there was anything."""
        before = len(self._waiting) + len(self._talks)
        self._waiting = [w for w in self._waiting if w.button is not button]
        for talk in [t for t in self._talks if t.button is button]:
            self._talks.remove(talk)
            self._end_talk(talk, "completed", now)
        return len(self._waiting) + len(self._talks) < before

    def _end_talk(self, talk: _Talk, reason: str, now: int) -> None:
        """The officer has spoken; of an exercise the mark is still to come."""
        if talk.live is None or not talk.live.running or not talk.play.stream.pinned:
            self._stop(talk.play, None, reason, now)
        else:
            talk.play.reason = reason
            talk.live.close()

    def _tend_talks(self, now: int) -> int | None:
        """End the microphones that were on for their longest time; returns when the next one is due."""
        for talk in [t for t in self._talks if t.play.name in self.mixer.plays]:
            if talk.live is not None and talk.live.running:
                self._deaf = talk.live.lost
            if now >= talk.until_ns:
                self._end_talk(talk, "longest", now)
        self._talks = [t for t in self._talks if t.play.name in self.mixer.plays and now < t.until_ns]
        if self.microphone is not None:
            for detail in self.microphone.take_faults():
                self._deaf = True
                self.fault("microphone", detail)
        return min((t.until_ns for t in self._talks), default=None)

    def _has_local(self, zone: str, *, leaving: bool = False) -> bool:
        """Whether a local play has the zone, or one that cannot be on together with it."""
        return any(
            play.local is not None
            for place in (zone, *self._apart[zone])
            for play in self.mixer.in_zone(place, leaving=leaving)
        )

    def _with_rivals(self, zones: list[str]) -> list[str]:
        return list(dict.fromkeys([*zones, *(rival for zone in zones for rival in sorted(self._apart[zone]))]))

    def _compatible(self, zones: list[str]) -> list[str]:
        """The first of these zones, and those of the others that can be on together with them."""
        together: list[str] = []
        for zone in zones:
            if self._rivals[zone].isdisjoint(together):
                together.append(zone)
        return together

    def _served(self) -> Iterator[tuple[_Waiting, list[str]]]:
        """What waits and can begin now, in which zones. A microphone begins in all of its zones or in none."""
        kept: set[str] = set()
        for waiting in list(self._waiting):
            free = [z for z in waiting.zones if z not in kept and not self._has_local(z, leaving=True)]
            free = self._compatible(free)
            if waiting.button.action.microphone and len(free) < len(waiting.zones):
                kept.update(free)
            elif free:
                yield waiting, free

    def _serve_waiting(self, now: int) -> None:
        for waiting, free in self._served():
            waiting.zones = [z for z in waiting.zones if z not in free]
            self._begin_local(waiting, free, now)
        self._waiting = [w for w in self._waiting if w.zones]

    def _begin_local(self, waiting: _Waiting, zones: list[str], now: int) -> None:
        for zone in self._with_rivals(zones):
            for play in list(self.mixer.in_zone(zone)):
                if zone not in zones or not self.mixer.ducks(zone, play):
                    self._stop(play, [zone], "local", now)
        self._presses += 1
        button = waiting.button
        drill = now < self._drill_until
        live = None
        stream = Stream()
        if drill:
            self._mark(stream)
        if button.action.microphone:
            live = self._talk_stream(stream, button)
        else:
            self._message_stream(stream, button)
        if drill:
            self._mark(stream)
        stream.closed = True
        message = v.MICROPHONE if button.action.microphone else button.message or ""
        local = Local(button.id, message, waiting.pressed_ns, drill=drill)
        name = f"local:{button.id}:{self._presses}"
        play = Play(name, arrived_ns=now, at_ns=None, gain_db=0.0, stream=stream, local=local)
        self._emit(
            v.LocalOpened(
                play=name,
                button=button.id,
                message=message,
                zones=zones,
                pressed_ns=waiting.pressed_ns,
                drill=drill,
            )
        )
        if button.action.microphone:
            self._on_air(play, button, live, zones, now)
        self.mixer.open(play, zones)

    def _on_air(self, play: Play, button: Button, live: Live | None, zones: list[str], now: int) -> None:
        play.reason = "microphone"  # it has no end of its own: it can only fail
        if live is not None and self.pass_on is not None:
            live.pass_on(partial(self.pass_on, play.name))
        warm_ns = max(self.mixer.power.ready_ns(zone, now) for zone in zones)
        longest_ns = round(button.action.longest_s * 1e9)
        self._talks.append(_Talk(play, button, live, warm_ns + pcm.ns_of(play.stream.pinned) + longest_ns))

    def _listen_for(self, play: Play, command: v.Listen, now: int) -> None:
        """The agent puts an everyday microphone on the air, if its button still asks for it."""
        contact = self.contacts.get(command.button)
        if contact is None or not contact.button.action.microphone:
            raise RefusedError(f"listen {play.name}: no microphone button {command.button!r}")
        button = contact.button
        if button.action.mode == "hold" and not contact.closed:
            self._stop(play, None, "stopped", now)
            return
        live = self._listen(_number(command))
        zones = [b.channel.zone.id for b in play.branches if b.channel.primary]
        if live is not None:
            play.stream.append(live)
        if zones:
            self._on_air(play, button, live, zones, now)

    def _listen(self, number: int) -> Live | None:
        config = self.station.microphone
        detail = "there is none"
        if config is not None and self.microphone is not None:
            try:
                return Live(number, self.microphone.open(), config.gain_db)
            except OSError as error:
                detail = str(error)
        self._deaf = True
        self.fault("microphone", detail)
        return None

    def _mark(self, stream: Stream) -> None:
        """An exercise says so, before and after, and while relays warm up."""
        stream.append(Pinned(len(stream.names), DRILL, self.sounds[DRILL]))
        stream.bridge = self.sounds[DRILL]

    def _talk_stream(self, stream: Stream, button: Button) -> Live | None:
        name = f"chime:{button.action.chime}"
        chime = self.sounds.get(name)
        if chime is None and button.action.chime is not None:
            self.fault("pinned", f"{name} is missing, the microphone begins without it")
        stream.bridge = stream.bridge or chime
        if chime is not None:
            stream.append(Pinned(len(stream.names), name, chime))
        live = self._listen(len(stream.names))
        if live is not None:
            stream.append(live)
        return live

    def _message_stream(self, stream: Stream, button: Button) -> None:
        message = self._messages.get(button.message or "")
        names, chime = self._sounds_of(button)
        stream.bridge = stream.bridge or chime
        for name, sound in names * (message.repeat if message else 1):
            stream.append(Pinned(len(stream.names), name, sound))

    def _sounds_of(self, button: Button) -> tuple[list[tuple[str, bytes]], bytes]:
        """What the button's message consists of, and its chime. There is always something that sounds."""
        message = self._messages.get(button.message or "")
        chime_name = f"chime:{message.chime}" if message and message.chime else "chime:siren"
        chime, words_name = self.sounds.get(chime_name), f"message:{button.message}"
        words = self.sounds.get(words_name)
        if words is None:
            self.fault("pinned", f"{words_name} is missing, its chime alone is played")
        names = [(chime_name, chime)] if chime and (words is None or (message and message.chime)) else []
        if words is not None:
            names.append((words_name, words))
        if not names:
            self.fault("pinned", f"{chime_name} is missing, a tone is played")
            names = [("chime:tone", pcm.alarm_tone() * 5)]
        return names, chime or names[0][1]

    def _end_local(self, zones: list[str] | None, reason: str, now: int) -> None:
        chosen = self.zones if zones is None else zones
        for waiting in self._waiting:
            waiting.zones = [z for z in waiting.zones if z not in chosen]
        self._waiting = [w for w in self._waiting if w.zones]
        for play in self._own():
            self._stop(play, list(chosen), reason, now)

    def _own(self) -> list[Play]:
        """What is voice's to end: messages, and microphones of every class."""
        talks = [t.play for t in self._talks]
        return [play for play in self.mixer.plays.values() if play.local is not None or play in talks]

    def _lock(self, zones: list[str], now: int) -> None:
        unknown = set(zones) - {z.id for z in self.station.zones}
        self._locked = set(zones) & set(self.zones)
        self._locked_until = now + LOCK_NS
        if self._locked:
            self._end_local(sorted(self._locked), "silenced", now)
        if unknown:
            raise RefusedError(f"lock: no zone {', '.join(sorted(unknown))}", zone=min(unknown))

    # -- lamps -------------------------------------------------------------------------------------------------------

    def _light(self, now: int) -> int | None:
        """Switch the lamps that are to change; returns when the next one is due."""
        times: list[int] = []
        for name, (line, is_lit) in list(self._lamps.items()):
            want, due = lit(self._show(self.contacts[name]), now)
            if due is not None:
                times.append(due)
            if want == is_lit:
                continue
            try:
                self.board.switch(line, want)
                self._lamps[name] = (line, want)
            except (OSError, ValueError, KeyError) as error:
                self.fault("gpio", f"lamp of {name}: {error}; it stays dark")
                del self._lamps[name]
        return min(times, default=None)

    def _show(self, contact: Contact) -> Show:
        button = contact.button
        zones = self._zones_of[button.id]
        if self._broken(contact, zones):
            return Show.FAULT
        if button.action.silence:
            return Show.PLAYING if contact.closed else Show.ARMED
        if self._playing(button, zones):
            return Show.PLAYING
        silenced = bool(zones) and self._locked.issuperset(zones)
        return Show.DARK if contact.never_open or silenced or not self._unlocked(button) else Show.ARMED

    def _broken(self, contact: Contact, zones: list[str]) -> bool:
        button = contact.button
        lines = [button.id, *([button.key_line] if button.key_line else [])]
        message = button.message
        return (
            contact.stuck
            or not all(self.board.works(line) for line in lines)
            or (button.action.microphone and self._deaf)
            or (message is not None and f"message:{message}" not in self.sounds)
            or any(self.mixer.away(zone) for zone in zones)
        )

    def _playing(self, button: Button, zones: list[str]) -> bool:
        """Its message is on; a stop button's: anything that it would stop."""
        if button.action.stop:
            return any(self._has_local(zone) for zone in zones)
        if any(w.button.id == button.id for w in self._waiting) or any(t.button is button for t in self._talks):
            return True
        name = f"message:{button.message}"
        return any(
            p.local.button == button.id if p.local is not None else name in p.stream.names.values()
            for p in self.mixer.plays.values()
        )

    # -- hardware ----------------------------------------------------------------------------------------------------

    def _look_at_relays(self, now: int) -> None:
        for relay in self._watched:
            if self.board.works(relay.contact_line):
                rest = self.board.closed(relay.rest_line) if relay.rest_line else None
                self.mixer.power.see(relay.id, place(self.board.closed(relay.contact_line), rest), now)

    def _switch(self, relay: str, on: bool, now: int) -> None:
        try:
            self.board.switch(relay, on)
        except (OSError, ValueError, KeyError) as error:
            self._unswitched.add(relay)
            self.fault("gpio", f"relay {relay}: {error}")
            return
        self._unswitched.discard(relay)

    def _relay_told(self, told: Told, now: int) -> None:
        """What a relay is: never on where its line could not be switched."""
        fault = "gpio" if told.relay in self._unswitched else told.fault
        on = told.on and fault != "gpio"
        if (self.relays.get(told.relay), self.relay_faults.get(told.relay)) == (on, fault):
            return
        self.relays[told.relay] = on
        if fault is None:
            self.relay_faults.pop(told.relay, None)
        else:
            self.relay_faults[told.relay] = fault
        self._emit(v.RelayEvent(relay=told.relay, on=on, at_ns=now, fault=fault))


def _number(command: v.Feed | v.Pin | v.Listen) -> int:
    """The segment's number: `Ended.segments` has a place for each, so it must be sane."""
    if not 0 <= command.segment < MAX_SEGMENTS:
        raise RefusedError(f"{command.play}: segment {command.segment}")
    return command.segment
