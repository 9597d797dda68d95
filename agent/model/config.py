"""The station's configuration as types (CONTRACT section 2). `agent.cli.configuration` loads and explains it.

All paths in a file are read relative to the file's own folder. Secrets are only ever paths.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent.model.loudness import TARGET_LUFS
from agent.model.orders import AuthorityId, Class, Item

Slug = Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,40}\Z")]
DeviceId = Annotated[str, Meta(pattern=r"\A[a-z0-9-]{3,40}\Z")]
Unit = Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,40}(/[a-z0-9-]{1,40})*\Z")]
Pin = Annotated[int, Meta(ge=0, le=53)]
HourRange = Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]\Z")]
Decibel = Annotated[float, Meta(ge=-60, le=12)]
MEDIA_ADDRESS = r"\Ahttps://[A-Za-z0-9.:\[\]-]+/media\Z"
Seconds = Annotated[float, Meta(ge=0, le=3600)]


class Position(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the device stands (WGS 84), for the province's map."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this device is. `id` is the certificate's CN and the MQTT client id, for life."""

    id: DeviceId
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    unit: Unit
    aliases: list[Annotated[str, Meta(min_length=1, max_length=64)]] = []
    groups: list[AuthorityId] = []
    role: Literal["station", "cluster", "board"] = "station"
    position: Position | None = None


class Mqtt(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The broker of the source system; TLS always, a certificate per device."""

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    ca: str
    cert: str
    key: str
    source_silent_alarm_s: Annotated[float, Meta(ge=5, le=30 * 86400)] = 3600.0
    """Alarm `source-silent` after this long without a connection to the source."""
    reconnect_max_s: Annotated[float, Meta(ge=1, le=3600)] = 120.0
    """Longest wait between two attempts to connect; waits grow up to it and are jittered."""


class ClusterLink(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a station offers its clusters and boards on the local network: a broker and its library, by mutual TLS.

    `cert` names this station's LAN name or address; clients are let in by certificates of `ca`, those of `clusters`.
    """

    host: str
    """Address to listen on: one of this machine's, or 0.0.0.0 for all of them."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8884
    media_port: Annotated[int, Meta(ge=1, le=65535)] = 8443
    ca: str
    cert: str
    key: str
    group: AuthorityId
    """The group of the commune's clusters and boards: whom the station's own orders are addressed to."""


class Parent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The station of a cluster or board, on the local network (its `cluster_link`); mutual TLS."""

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 8884
    ca: str
    cert: str
    key: str
    media: Annotated[str, Meta(pattern=MEDIA_ADDRESS)] | None = None
    """Where its library is, "https://…/media": asked before an order's own address. None: not asked."""


class Enrolment(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the province registers devices (`tram province enrol-server`); its certificate is of `mqtt.ca`.

    The device makes its keys itself and puts what it makes and gets where `mqtt.key`, `mqtt.cert` and
    `trust.station_key` say: in the folder `identity` of `data_dir`.
    """

    url: Annotated[str, Meta(pattern=r"\Ahttps://[A-Za-z0-9.:\[\]-]{1,255}/?\Z")]


class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What people call an authority; merged and renamed bodies change it, orders do not depend on it."""

    id: AuthorityId
    name: Annotated[str, Meta(min_length=1, max_length=120)]


class Trust(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`root_keys`: a JSON file `{"threshold": n, "roots": [JWK]}`; `authorities`: the first signed document."""

    root_keys: str
    authorities: str
    station_key: str | None = None
    """Private JWK of this station, which signs what its own officers start."""
    station_authority: AuthorityId | None = None
    """The authority (`iss`) whose key `station_key` is: the commune."""
    names: list[Body] = []
    """How authorities are called on boards and in lists; without an entry the id is shown."""

    def called(self, iss: str) -> str:
        """The name people know an authority by."""
        return next((body.name for body in self.names if body.id == iss), iss)


class Content(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where media may come from. `allowed_hosts`: host or host:port, exact. `ca`: PEM file for private CAs."""

    allowed_hosts: list[str] = []
    loudness_lufs: Annotated[float, Meta(ge=-40, le=-10)] | None = TARGET_LUFS
    """Media is brought to this loudness (EBU R128), without clipping, and live relays towards it, slowly; null: both
    are played as loud as they came. What the station speaks and what is recorded with `tram record` is at −20 LUFS in
    any case, and so are its chimes (the siren at −17)."""
    ca: str | None = None
    max_mb: Annotated[int, Meta(ge=16)] = 4096


class Hardware(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which hardware stands behind pins and clock. `control`: Unix socket of the virtual hardware (gpio: virtual)."""

    gpio: Literal["lgpio", "virtual"] = "lgpio"
    clock: Literal["kernel", "virtual"] = "kernel"
    control: str | None = None


class Feedback(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A contact to ground that tells whether a relay really switched: an auxiliary contact, a carrier detector."""

    pin: Pin
    active_low: bool = True
    rest_pin: Pin | None = None
    """A second contact, closed in the rest position: of a change-over that must be known to be at one side."""
    within_s: Annotated[float, Meta(ge=0.05, le=120)] = 1.0
    """The relay must follow within so long."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 1
    """How often it is switched off and on again before it counts as failed."""


class Relay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A relay on a GPIO pin. Without power, at boot and in every exit it is off (de-energised)."""

    id: Slug
    pin: Pin
    active_high: bool = True
    de_energised: str = ""
    """What the wiring does while the relay is off, for the technician: "amplifier without mains"."""
    switches: Literal["amplifier", "exciter", "transmitter", "line", "source", "picture", "lamp", "other"] = "other"
    """What it switches, for the status: with a feedback contact "amplifier on/off" is told of its zones."""
    min_on_s: Seconds = 0.0
    """Once on it stays on for so long."""
    min_off_s: Seconds = 0.0
    """Once off it stays off for so long, after the device's start too; a scheduled programme's chain starts earlier."""
    requires: list[Slug] = []
    """It is on only while all of these are confirmed to be on, and cut at once when one drops out."""
    excludes: list[Slug] = []
    """It is never on together with any of these."""
    feedback: Feedback | None = None

    @property
    def contact_line(self) -> str:
        """The input of its feedback contact, "feedback:<id>"."""
        return f"feedback:{self.id}"

    @property
    def rest_line(self) -> str | None:
        """The input of its rest position's contact, "rest:<id>"."""
        return None if self.feedback is None or self.feedback.rest_pin is None else f"rest:{self.id}"


class PowerStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One relay of a power chain: on in order with `warm_up_s` after it, off in reverse after `cool_down_s`."""

    relay: Slug
    warm_up_s: Seconds = 0.0
    cool_down_s: Seconds = 0.0


class WavOutput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="driver", tag="wav"):
    """Paced WAV sink: a file that fills in real time, one channel per zone that names the same `path`."""

    path: str
    buffer_ms: Annotated[float, Meta(ge=5, le=500)] = 15.0
    drift_ppm: Annotated[float, Meta(ge=-500, le=500)] = 0.0
    """How much faster than the clock this simulated card runs, in parts per million."""
    also: list[Output] = []

    @property
    def target(self) -> str:
        """What zones share that name the same output."""
        return self.path


class AlsaOutput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="driver", tag="alsa"):
    """An ALSA device by name, e.g. "hw:CARD=sndrpihifiberry"; one channel per zone that names the same `device`."""

    device: str
    buffer_ms: Annotated[float, Meta(ge=5, le=500)] = 15.0
    also: list[Output] = []

    @property
    def target(self) -> str:
        """What zones share that name the same output."""
        return self.device


class RtpOutput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="driver", tag="rtp"):
    """RTP multicast (L16, 48 kHz, packets of 5 ms) for IP speakers; one channel per zone that names the same group."""

    address: Annotated[str, Meta(pattern=r"\A2(2[4-9]|3[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}\Z")]
    port: Annotated[int, Meta(ge=1024, le=65534)] = 5004
    ttl: Annotated[int, Meta(ge=0, le=255)] = 1
    """How many routers it may pass; 1: this LAN only."""
    interface: Annotated[str, Meta(min_length=1, max_length=15)] | None = None
    """The network interface by name; without one the kernel's route decides."""
    stereo: bool = False
    """Send the one channel on both, for speakers that take no mono."""
    sdp: str | None = None
    """The file that receivers are given; written at the start."""
    also: list[Output] = []

    @property
    def target(self) -> str:
        """What zones share that name the same output."""
        return f"{self.address}:{self.port}"


class PngOutput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="driver", tag="png"):
    """A board that writes each frame as a PNG and an `index.json` of `{file, from, to}`."""

    dir: str
    width: Annotated[int, Meta(ge=32, le=7680)] = 960
    height: Annotated[int, Meta(ge=32, le=4320)] = 540
    rate_hz: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    """Of films and running lines so many pictures a second are written."""


class HdmiOutput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="driver", tag="hdmi"):
    """The kernel's frame buffer of an HDMI output (a screen, or the sending card of LED panels), without a desktop.

    `backlight`: a folder of /sys/class/backlight that dims the display; without one pictures are dimmed instead.
    """

    device: str = "/dev/fb0"
    backlight: str | None = None


SoundOutput = WavOutput | AlsaOutput | RtpOutput
Output = WavOutput | AlsaOutput | RtpOutput | PngOutput | HdmiOutput


class Dim(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Brightness of a board inside `hours`, in percent of its full one."""

    hours: HourRange
    percent: Annotated[int, Meta(ge=1, le=100)]


class Board(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board is like, and what it shows while no programme has it.

    With `pitch_mm` (from one pixel to the next) and `viewing_m` letters are never smaller than can be read from there.
    """

    pitch_mm: Annotated[float, Meta(gt=0, le=100)] | None = None
    viewing_m: Annotated[float, Meta(gt=0, le=500)] | None = None
    fit: Literal["whole", "fill"] = "whole"
    """Pictures and films: whole with a margin, or filling the board with their edges cut off."""
    brightness: list[Dim] = []
    slide: str | None = None
    """A picture shown when there is nothing else, in place of the device's name."""
    welcome: Annotated[str, Meta(max_length=400)] = ""
    """Words under the device's name, when there is nothing else."""
    clock: bool = False
    """Time and date, when there is nothing else; never while the clock cannot be believed."""
    now_playing: bool = False
    """What the station's loudspeakers play, when there is nothing else."""
    qr: Annotated[str, Meta(max_length=300)] | None = None
    """Address of the commune's page or feedback form, as a QR code."""
    qr_label: Annotated[str, Meta(max_length=60)] = ""


class Idle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the zone carries while nobody owns it. `external` lets a legacy source through the `relay`'s rest side."""

    source: Literal["silent", "external"] = "silent"
    relay: Slug | None = None
    power: list[PowerStep] = []
    """Relays that let the external source be heard (its amplifier): on inside `hours` and nowhere else."""
    hours: list[HourRange] = []
    """When the external source may be heard through `power`."""


class Cap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Volume cap: never louder than `gain_db` inside `hours`."""

    hours: HourRange
    gain_db: Decibel


class Rules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Operating rules. Emergencies override them and the override is logged."""

    quiet_hours: list[HourRange] = []
    requisition_hours: list[HourRange] = []
    """Of a zone with an external source: it is taken over only inside these hours, agreed with its owner."""
    caps: list[Cap] = []
    longest_session_s: Annotated[float, Meta(gt=0, le=86400)] | None = None


class Zone(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An output with exactly one owner at any time."""

    id: Slug
    name: str = ""
    kind: Literal["sound", "screen"]
    output: Output
    power: list[PowerStep] = []
    idle: Idle = Idle()
    rules: Rules = Rules()
    board: Board = Board()
    tags: list[Slug] = []
    gain_db: Decibel = 0.0
    delay_ms: Annotated[float, Meta(ge=0, le=2000)] = 0.0
    amplifier: Slug | None = None
    """Zones with the same one are lines of one amplifier, chosen by their relays: they share one channel of `output`,
    so they carry the same programme or only one of them plays."""
    duck_db: Annotated[float, Meta(ge=-60, lt=0)] | None = None
    """Of a sound zone, while an emergency is on: None stops the programme, which resumes as it says itself; a number
    lets it go on, quieter by so many dB."""


class Action(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a button does: play a `message`, speak `text` behind a chime, open the `microphone`, `stop` or `silence`."""

    message: Slug | None = None
    text: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    """Spoken offline when the station is set up, and kept in memory like a stored message."""
    lang: str = "vi"
    """Of the text."""
    repeat: Annotated[int, Meta(ge=1, le=100)] = 1
    """Of the text, each time with its chime."""
    stop: bool = False
    silence: bool = False
    """A key switch: closed, everything that sounds or is shown in the zones is cut, and remote programmes stay out;
    opened, every silence there is lifted, the province's too. Buttons work meanwhile."""
    microphone: bool = False
    mode: Literal["hold", "latch"] = "hold"
    """Of the microphone: on the air while the button is held, or from one press to the next."""
    longest_s: Annotated[float, Meta(gt=0, le=3600)] = 120.0
    """Of the microphone: it goes off the air after so long (without chime and warm-up), whatever the button does."""
    chime: Slug | None = "gong"
    """Of the text or the microphone: what sounds before it; null for nothing."""


class Button(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A button to ground with a pull-up (`active_low`). Only class `emergency` overrides the rules."""

    id: Slug
    name: str = ""
    pin: Pin
    active_low: bool = True
    class_: Class = msgspec.field(name="class", default=Class.EMERGENCY)
    action: Action
    zones: list[str] = msgspec.field(default_factory=lambda: ["*"])
    debounce_ms: Annotated[float, Meta(ge=0, le=500)] = 5.0
    """A change of the contact counts when it has held for so long. A press sounds so much later."""
    hold_s: Annotated[float, Meta(ge=0, le=30)] = 0.0
    """It acts when it was held for so long; 0: at once. A stop button acts at once, and means more when held."""
    lamp: Pin | Slug | None = None
    """A lamp of the button's own: a GPIO output (on = high) or the id of a relay. On: armed; slow blink: its message
    plays; fast blink: fault; dark: not armed (key switch open, silenced, or nobody runs)."""
    approved_by: str | None = None
    """Who answers for what an everyday button (class normal or priority) puts on the air; in the play log."""
    key_switch: Pin | None = None
    """A key switch to ground that must be closed for the button to act. Several buttons may have the same one."""

    @property
    def message(self) -> str | None:
        """The stored message that it plays."""
        return self.action.message if self.action.text is None else f"button-{self.id}"

    @property
    def lamp_line(self) -> str | None:
        """The output that is its lamp: a relay's id, or "lamp:<button>" for one on a pin of its own."""
        return f"lamp:{self.id}" if isinstance(self.lamp, int) else self.lamp

    @property
    def key_line(self) -> str | None:
        """The input of its key switch, "key:<pin>"."""
        return None if self.key_switch is None else f"key:{self.key_switch}"


class Microphone(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The station's microphone: `alsa` is a capture `device` by name, `wav` a file at `path` that is "spoken" for ever.

    The gain is fixed, and a limiter holds the sound at −6 dBFS before the zone's own gain: what howls cannot get
    louder and louder. There is no automatic gain.
    """

    driver: Literal["alsa", "wav"] = "alsa"
    device: str | None = None
    path: str | None = None
    gain_db: Annotated[float, Meta(ge=-60, le=30)] = 0.0


class Monitor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A receiver or microphone that hears what a zone really gives out.

    `air`: a receiver tuned to our own frequency, or a loop from the amplifier: what it hears is compared with what was
    sent, and nothing else may be heard. `microphone`: at a loudspeaker, in a street with sounds of its own.
    """

    id: Slug
    zone: Slug
    kind: Literal["air", "microphone"] = "air"
    driver: Literal["alsa", "wav", "pipe"] = "alsa"
    device: str | None = None
    path: str | None = None


class Sensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sensor of a zone's line, amplifier or supply. `virtual`: read through `hardware.control`."""

    id: Slug
    zone: Slug
    driver: Literal["ina219", "virtual"]
    bus: Annotated[int, Meta(ge=0, le=31)] = 1
    """I²C bus: /dev/i2c-N."""
    address: Annotated[int, Meta(ge=3, le=119)] = 64
    shunt_ohm: Annotated[float, Meta(gt=0, le=100)] = 0.1
    quantity: Literal["current_ma", "supply_v", "temperature_c"] = "current_ma"
    """Of a virtual sensor: what a plain number means."""
    period_s: Annotated[float, Meta(ge=0.5, le=45)] = 1.0
    open_below_ma: Annotated[float, Meta(ge=0, le=100000)] = 0.0
    """A line with less is open; 0: not judged."""
    short_above_ma: Annotated[float, Meta(ge=0, le=100000)] = 0.0
    """A line with more is shorted; 0: not judged."""
    low_below_v: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """Alarm when the supply gives less; 0: none."""
    hot_above_c: Annotated[float, Meta(ge=0, le=200)] = 0.0
    """Alarm when it is hotter; 0: none."""


class SelfTest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the zones test themselves: a soft chime of a second, one zone after the other, never in quiet hours."""

    at: list[Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")]] = []
    zones: list[str] = msgspec.field(default_factory=lambda: ["kind:sound"])


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stored message: the officer's recording (`tram record`) if there is one, else the spoken `text`."""

    id: Slug
    title: str
    text: str
    lang: str = "vi"
    chime: str | None = "siren"
    repeat: Annotated[int, Meta(ge=1, le=100)] = 1


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A programme to relay (tiếp âm). Silent or gone for `silence_s`: `fallback` plays instead."""

    id: Slug
    name: str = ""
    url: str
    silence_s: Annotated[float, Meta(ge=0.5, le=300)] = 10.0
    silence_dbfs: Annotated[float, Meta(ge=-100, le=-20)] = -60.0
    fallback: Item | list[Item] | None = None


class Cluster(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A loudspeaker cluster (cụm loa) or board that this station looks after.

    One with a `device` runs Trạm itself and is reached over `cluster_link`; any other carries the sound of a `zone`.
    """

    id: Slug
    name: str = ""
    hamlet: str = ""
    zone: Slug | None = None
    device: DeviceId | None = None
    tags: list[Slug] = []


class Station(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `station.yaml`."""

    device: Device
    timezone: str = "Asia/Ho_Chi_Minh"
    language: Literal["vi", "en"] = "vi"
    mqtt: Mqtt | None = None
    parent: Parent | None = None
    cluster_link: ClusterLink | None = None
    enrolment: Enrolment | None = None
    trust: Trust
    data_dir: str = "/var/lib/tram"
    run_dir: str = "/run/tram"
    content: Content = Content()
    normal_from_above: Literal["offer", "auto"] = "offer"
    priority_order: list[AuthorityId] = []
    """Whose priority programme goes first when two collide; the commune's own choice. Unlisted ones come last."""
    hardware: Hardware = Hardware()
    zones: Annotated[list[Zone], Meta(min_length=1, max_length=256)]
    relays: list[Relay] = []
    buttons: list[Button] = []
    microphone: Microphone | None = None
    monitors: list[Monitor] = []
    sensors: list[Sensor] = []
    self_test: SelfTest = SelfTest()
    messages: list[Message] = []
    sources: list[Source] = []
    clusters: list[Cluster] = []

    @property
    def stored(self) -> list[Message]:
        """All stored messages, those of buttons with a text of their own included."""
        own = [
            Message(
                id=b.message or "",
                title=b.name or b.id,
                text=b.action.text,
                lang=b.action.lang,
                chime=b.action.chime,
                repeat=b.action.repeat,
            )
            for b in self.buttons
            if b.action.text is not None
        ]
        return [*self.messages, *own]

    @property
    def talk_title(self) -> str:
        """What an officer who speaks live is called, in log and on boards."""
        return {"vi": "Micro", "en": "Microphone"}[self.language]

    @property
    def talk_words(self) -> str:
        """What boards show when an officer speaks live, and clusters say if they cannot have her words."""
        return {
            "vi": "Đài xã đang thông báo trực tiếp. Bà con nghe loa của đài xã.",
            "en": "The commune's station is speaking live. Listen to its own loudspeakers.",
        }[self.language]

    def outputs(self) -> list[Relay]:
        """Everything that is switched: the relays, and the lamps that have pins of their own."""
        lamps = [(b.lamp_line, b.lamp) for b in self.buttons]
        return [*self.relays, *(Relay(id=line, pin=pin) for line, pin in lamps if line and isinstance(pin, int))]

    def match(self, selectors: list[str]) -> list[str]:
        """Zone ids that the selectors (`id`, `*`, `kind:…`, `tag:…`) name, in configuration order."""
        return [z.id for z in self.zones if any(_selects(s, z) for s in selectors)]

    def fleet(self) -> dict[str, Cluster]:
        """The clusters and boards that run Trạm themselves, by device id."""
        return {c.device: c for c in self.clusters if c.device is not None}

    def places(self) -> list[str]:
        """What people may name as a place of a programme: zones, and clusters that run Trạm themselves."""
        return [*(z.id for z in self.zones), *(c.id for c in self.fleet().values())]

    def reaches(self, selector: str) -> bool:
        """Whether a selector names a zone here or a cluster on the station's link."""
        fleet = self.fleet().values()
        return bool(self.match([selector])) or any(
            selector in ("*", c.id, *(f"tag:{tag}" for tag in c.tags)) or selector.startswith("kind:") for c in fleet
        )

    def zone(self, zone_id: str) -> Zone:
        """The zone of that id; KeyError when there is none."""
        for z in self.zones:
            if z.id == zone_id:
                return z
        raise KeyError(zone_id)


def _selects(selector: str, zone: Zone) -> bool:
    if selector == "*":
        return True
    prefix, _, rest = selector.partition(":")
    if prefix == "kind":
        return zone.kind == rest
    if prefix == "tag":
        return rest in zone.tags
    return zone.id == selector
