"""What agent and voice say to each other over voice's command socket.

The socket is `{run_dir}/voice.sock`, `SOCK_SEQPACKET`: one message a packet, JSON of a tagged Struct of this module.
Sound travels beside it: a `Feed` carries the read end of a pipe as SCM_RIGHTS ancillary data, and the pipe carries
raw PCM, signed 16 bit little endian, one channel, 48 000 Hz.

A *play* is one stretch of one programme in one or several zones that run in lockstep. Its sound is a queue of
segments, each either a pinned sound (in voice's memory) or a pipe; they follow each other without a gap. Voice never
decides who may play: the agent opens and stops plays. The one exception is an emergency button, which takes its zones
at once; what played there ends with reason "local" and the agent opens it again later.

All `*_ns` are CLOCK_MONOTONIC nanoseconds of this machine. Levels are dBFS, a full-scale sine being −3.01.
"""

from __future__ import annotations

from msgspec import Struct

RATE = 48_000
BYTES_PER_SAMPLE = 2
MICROPHONE = "microphone"
"""What a `LocalStarted` of the live microphone has instead of a message's id; no message has this one."""
PERIOD = 240
"""Samples of a mixer period: 5 ms."""


class Command(Struct, frozen=True, tag_field="do", tag=str.lower, kw_only=True, omit_defaults=True):
    """Agent → voice."""


class Open(Command, frozen=True):
    """Begin a play. The power chains of `zones` start so early that the sound's first sample falls on `at_ns`.

    `at_ns` None: as soon as possible: at once where the chain is on, else when it is warm (`bridge` sounds meanwhile).
    `pinned` together are segment 0, if there are any. `bridge` names a pinned chime to loop while the chain warms up or
    while the next segment is not there yet and the play is not closed; None: silence. `gain_db` comes on top of the
    zone's own gain. `alert`: in a zone with `duck_db` what is no alert goes on under it, quieter, a button's message
    included; in other zones the difference is the agent's, who stops what an alert takes over.
    """

    play: str
    zones: list[str]
    at_ns: int | None = None
    gain_db: float = 0.0
    pinned: list[str] = []
    bridge: str | None = None
    alert: bool = False


class Gain(Command, frozen=True):
    """Change the gain of a play in these zones (None: all of its zones), within some periods and without a click."""

    play: str
    gain_db: float
    zones: list[str] | None = None


class Feed(Command, frozen=True):
    """Append a pipe (its read end rides along as a file descriptor). EOF ends the segment.

    `live`: while the segment waits for its turn, only the newest `live_ms` are kept: a stream joins at its live edge.
    `spoken`: somebody speaks; once it has begun, what it is late with is silence, and not the play's `bridge`.
    """

    play: str
    segment: int
    live: bool = False
    live_ms: int = 500
    spoken: bool = False


class Pin(Command, frozen=True):
    """Append pinned sounds by name; all of them together are the segment."""

    play: str
    segment: int
    names: list[str]


class Listen(Command, frozen=True):
    """Append the live microphone, for an everyday button: who speaks is the agent's decision, who stops is not.

    Voice ends the play when the button opens (hold), is pressed again (latch) or its `longest_s` is over, with reason
    "completed" or "longest"; at once ("stopped") when a held button has opened before this command came.
    """

    play: str
    segment: int
    button: str


class Close(Command, frozen=True):
    """No more segments will come: the play ends with its last one."""

    play: str


class Stop(Command, frozen=True):
    """End a play now, in all its zones or only in `zones`, with a short fade. Power follows after cool-down."""

    play: str
    zones: list[str] | None = None
    reason: str = "stopped"


class Load(Command, frozen=True):
    """(Re)load a pinned sound from a WAV file of 48 000 Hz, one channel, 16 bit; path under data_dir."""

    name: str
    path: str


class Lock(Command, frozen=True):
    """Refuse emergency buttons too in these zones (a silence with include_local); empty list lifts it."""

    zones: list[str]


class Drill(Command, frozen=True):
    """Until then a press is an exercise, marked before and after. It ends with the agent's connection."""

    until_ns: int


class EndLocal(Command, frozen=True):
    """Stop what voice plays on its own account (a stop command from the agent's side)."""

    zones: list[str] | None = None


class Idle(Command, frozen=True):
    """The zones whose external source may be heard now (`idle.hours`). When the agent goes away none may."""

    zones: list[str]


class Hold(Command, frozen=True):
    """Keep the power chain of a screen zone on, or no longer. It ends when the agent goes away.

    A chain that had failed is tried again; `insist`: an alert, for which it is on even if a relay does not follow.
    """

    zone: str
    on: bool
    insist: bool = False


class Levels(Command, frozen=True):
    """Send `Level` events every `every_ms` (0: none)."""

    every_ms: int


class Event(Struct, frozen=True, tag_field="ev", tag=str.lower, kw_only=True, omit_defaults=True):
    """Voice → agent. Facts."""


class Hello(Event, frozen=True):
    """First packet of each connection."""

    version: str
    pid: int
    armed_ns: int
    zones: list[str]
    pinned: list[str]
    relays: dict[str, bool]
    keys: dict[str, bool] = {}
    """Key switches that silence, and whether they are closed."""
    relay_faults: dict[str, str] = {}
    ended: list[Ended] = []
    """Plays of an agent that went away: how far they came."""
    local: list[str] = []
    """Plays of voice's own that are on, or whose end is told right after this."""


class Started(Event, frozen=True):
    """The first sample of a play in a zone. `at_ns`: when it is at the converter; `submitted_ns`: handed to the sink.

    Of a scheduled play it is the first of its own sound; of one opened with `at_ns` None the first that sounds, its
    bridge included.

    `error_ms`: `at_ns` minus the due time plus the zone's delay; 0-based on the command's arrival when at_ns was None.
    """

    play: str
    zone: str
    at_ns: int
    submitted_ns: int
    error_ms: float


class SegmentStarted(Event, frozen=True):
    """A segment's first sample was submitted (same for all zones of the play). `pinned` names a pinned sound."""

    play: str
    segment: int
    at_ns: int
    pinned: str | None = None


class Ended(Event, frozen=True):
    """A play ended in a zone. `samples` of the play's own sound were sent there (bridge not counted).

    `level_dbfs` is the RMS over the sounding part of what was sent; None if nothing sounded. `reason`: "completed",
    "stopped" or the reason of Stop, "local" (a button took the zone), "disconnected" (the agent went away),
    "relay-fault" (a relay of the zone's chain failed), "interlocked" (another zone uses what excludes a relay of it).
    """

    play: str
    zone: str
    at_ns: int
    samples: int
    level_dbfs: float | None = None
    reason: str = "completed"
    underrun_samples: int = 0
    segments: list[int] = []
    """Samples sent of each segment, in order."""


class LocalPlay(Event, frozen=True, kw_only=True):
    """A button's message that voice plays on its own account. `play` is "local:<button>:<n>".

    `message` is "microphone" (`MICROPHONE`) when the officer speaks.
    """

    play: str
    button: str
    message: str
    zones: list[str]
    pressed_ns: int
    drill: bool = False


class LocalOpened(LocalPlay, frozen=True):
    """Voice takes these zones for it. Each of them gets one `LocalEnded`."""


class LocalStarted(LocalPlay, frozen=True):
    """Its first sample. `zones`: those in which it is still on."""

    at_ns: int
    submitted_ns: int


class LocalEnded(Event, frozen=True):
    """The end of such a play in one zone.

    `reason`: "completed", "stopped", "silenced"; "local" when the microphone and a message took turns; of a microphone
    also "longest" (its `longest_s` is over) and "microphone" (it failed).
    """

    play: str
    zone: str
    at_ns: int
    samples: int
    level_dbfs: float | None = None
    reason: str = "completed"


class ButtonEvent(Event, frozen=True):
    """A debounced change of a button: "pressed", "released", "held" (its hold_s is over), "stuck" (or it chatters).

    "locked": pressed while its key switch is open; it comes instead of "pressed", and nothing happens.
    """

    button: str
    state: str
    at_ns: int


class RelayEvent(Event, frozen=True):
    """What a relay is, as far as can be known: `on` is confirmed by its feedback contact, where it has one.

    `fault`: "not-following", "stuck" (on though switched off), "contradiction" (both contacts closed), "interlock" (a
    relay that it requires is not on, or one that it excludes does not let go), "gpio" (no line); None: nothing wrong.
    """

    relay: str
    on: bool
    at_ns: int
    fault: str | None = None


class Power(Event, frozen=True):
    """A zone's power chain changed: "off", "warming", "on", "cooling", "fault"."""

    zone: str
    state: str
    at_ns: int


class Level(Event, frozen=True):
    """RMS of the last period sent to each zone, for meters."""

    at_ns: int
    zones: dict[str, float | None]


class Fault(Event, frozen=True):
    """Something is wrong: `what` is a stable word (sink, xrun, pinned, gpio, command, voice, microphone).

    `detail` is for people.
    """

    what: str
    detail: str
    at_ns: int
    zone: str | None = None
    device: str | None = None
    """Which card, by its device, file or group."""
    on: bool = True
    """False: it is over."""


VoiceCommand = Open | Gain | Listen | Drill | Feed | Pin | Close | Stop | Load | Lock | EndLocal | Idle | Hold | Levels
VoiceEvent = (
    Hello
    | Started
    | SegmentStarted
    | Ended
    | LocalOpened
    | LocalStarted
    | LocalEnded
    | ButtonEvent
    | RelayEvent
    | Power
    | Level
    | Fault
)
