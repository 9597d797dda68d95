"""The tools of a customer's acceptance team: everything is built from CONTRACT.md and public libraries.

Nothing of the product is imported. Orders are signed with plain Ed25519 (cryptography), the broker is watched with a
paho MQTT 5 client of our own, sound is read from the growing `station.wav`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
import wave
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 120.0
"""How long a condition may take on a slow, busy machine; nothing here measures speed."""
AUDIBLE = 0.02
"""Samples above this are sound, not what is left of a fade."""
HEADER = 44
LOCAL = timezone(timedelta(hours=7))
TERMINAL = {"done", "failed", "rejected"}
_numbers = itertools.count(1)


class LateError(AssertionError):
    """A condition did not come true in time."""


def until(look: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Ask until the answer is true; the answer."""
    end = time.monotonic() + timeout_s
    while not (answer := look()):
        if time.monotonic() > end:
            raise LateError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.02)
    return answer


def number() -> int:
    """Greater than any of an earlier run: for versions and counters."""
    return time.time_ns() // 1_000_000


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, LOCAL).isoformat(timespec="microseconds")


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# signing


class Key:
    """An Ed25519 key; `kid` is its RFC 7638 thumbprint, computed here."""

    def __init__(self, private: Ed25519PrivateKey | None = None) -> None:
        self.private = private or Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64(raw)}
        canonical = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True)
        self.kid = b64(hashlib.sha256(canonical.encode()).digest())

    @classmethod
    def read(cls, path: str | Path) -> Key:
        jwk = json.loads(Path(path).read_text("utf-8"))
        key = cls(Ed25519PrivateKey.from_private_bytes(unb64(jwk["d"])))
        assert key.jwk["x"] == jwk["x"]
        return key


def compact(key: Key, header: Any, claims: bytes) -> bytes:
    """A compact JWS over exactly these bytes."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{b64(head)}.{b64(claims)}".encode()
    return signed + b"." + b64(key.private.sign(signed)).encode()


class Authority:
    """Signs orders for one issuer. `ctr` counts up from the time of day, so that a station may be tested twice."""

    def __init__(self, iss: str, key: Key, aud: list[str]) -> None:
        self.iss = iss
        self.key = key
        self.aud = aud
        self.ctr = number()

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": "Ed25519", "kid": self.key.kid, "typ": "tram-order+jws"} | changes

    def claims(
        self, op: str, args: Any, *, state: bool = False, life_s: float = 3600, **changes: Any
    ) -> dict[str, Any]:
        """Claims of an order; a change to None removes that claim."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.iss,
            "aud": self.aud,
            "jti": f"t-{uuid.uuid4()}",
            "iat": now,
            "op": op,
            "args": args,
        }
        if not state:
            claims["exp"] = int(now + life_s)
            if "ctr" not in changes:
                self.ctr += 1
                claims["ctr"] = self.ctr
        claims |= changes
        return {k: v for k, v in claims.items() if v is not None}

    def sign(self, claims: dict[str, Any] | bytes, key: Key | None = None, **header: Any) -> bytes:
        body = claims if isinstance(claims, bytes) else json.dumps(claims, ensure_ascii=False).encode()
        return compact(key or self.key, self.header(**header), body)


def general(payload: Any, keys: list[Key], typ: str = "tram-authorities+jws") -> dict[str, Any]:
    """A JWS in General JSON Serialization, signed by all the keys."""
    body = b64(json.dumps(payload).encode())
    signatures = []
    for key in keys:
        head = b64(json.dumps({"alg": "Ed25519", "kid": key.kid, "typ": typ}).encode())
        signatures.append({"protected": head, "signature": b64(key.private.sign(f"{head}.{body}".encode()))})
    return {"payload": body, "signatures": signatures}


# the link


class Message:
    def __init__(self, message: mqtt.MQTTMessage) -> None:
        self.at = time.time()
        self.topic: str = message.topic
        self.payload: bytes = bytes(message.payload)
        self.qos: int = message.qos
        self.retain: bool = message.retain
        self.expiry: int | None = getattr(message.properties, "MessageExpiryInterval", None)

    @property
    def kind(self) -> str:
        return self.topic.rsplit("/", 1)[-1]

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.payload)
        return body


class Link:
    """One MQTT 5 client over TLS; keeps every message in the order in which it came."""

    def __init__(self, connection: dict[str, Any], pki: Path, name: str, subscribe: str | None = None) -> None:
        self.messages: list[Message] = []
        self._news = threading.Condition()
        self._subscribe = subscribe
        self._ready = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"acceptance-{name}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set(connection["ca"], str(pki / f"{name}.crt"), str(pki / f"{name}.key"))
        self._client.tls_insecure_set(False)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._heard
        self._client.reconnect_delay_set(1, 1)
        host, port = connection["broker"]["host"], connection["broker"]["port"]
        life = Properties(PacketTypes.CONNECT)
        life.SessionExpiryInterval = 3600
        self._client.connect(host, port, clean_start=mqtt.MQTT_CLEAN_START_FIRST_ONLY, properties=life)
        self._client.loop_start()
        if not self._ready.wait(PATIENCE_S):
            raise LateError(f"{name} cannot connect to the broker")

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, _code: Any, _properties: Any) -> None:
        if self._subscribe is None:
            self._ready.set()
        else:
            client.subscribe(self._subscribe, options=mqtt.SubscribeOptions(qos=1, retainAsPublished=True))

    def _heard(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self.messages.append(Message(message))
            self._news.notify_all()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, topic: str, payload: bytes, *, retain: bool = False, expiry: int | None = None) -> Any:
        properties = Properties(PacketTypes.PUBLISH)
        if expiry is not None:
            properties.MessageExpiryInterval = expiry
        return self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    def wait(
        self, fits: Callable[[Message], bool], what: str, *, since: int = 0, timeout_s: float = PATIENCE_S
    ) -> Message:
        """The first message from number `since` on that fits."""
        end = time.monotonic() + timeout_s
        at = since
        with self._news:
            while True:
                while at < len(self.messages):
                    if fits(self.messages[at]):
                        return self.messages[at]
                    at += 1
                if not self._news.wait(end - time.monotonic()):
                    raise LateError(f"{what}: no such message within {timeout_s:.0f} s")

    def all(self, kind: str, since: int = 0) -> list[Message]:
        return [m for m in self.messages[since:] if m.kind == kind and m.topic.startswith("tram/1/dev/")]


# sound


def tone(
    path: Path, hertz: float, seconds: float, *, level: float = 0.25, rate: int = 48_000, channels: int = 1
) -> Path:
    """A tone that begins and ends at full swing: its first sample can be found in the recording."""
    wave_form = np.cos(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate) * level
    return write_wav(path, wave_form, rate, channels)


def write_wav(path: Path, sound: np.ndarray, rate: int = 48_000, channels: int = 1) -> Path:
    data = np.repeat(np.round(sound * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())
    return path


def pitch(sound: np.ndarray, rate: int = 48_000) -> float:
    """The strongest frequency in Hz; 0 for silence."""
    if len(sound) < 480 or np.abs(sound).max() < 1e-3:
        return 0.0
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * rate / len(sound))


def rms_dbfs(sound: np.ndarray) -> float:
    """20·log10 of the RMS: a full-scale sine is −3.01."""
    return 20 * math.log10(max(float(np.sqrt(np.mean(sound**2))), 1e-9))


# the station


def error_of(entry: dict[str, Any], due: float) -> float:
    """Milliseconds between when it was to begin and when it did: the log's three statements agree, and never early."""
    assert abs(epoch(entry["planned"]) - due) < 0.002, entry
    error = (epoch(entry["started"]) - due) * 1000
    assert abs(error - entry["start_error_ms"]) < 2, entry
    assert error > -2, entry
    return error


class Bulletin:
    """One broadcast that was sent."""

    def __init__(self, station: Training, authority: Authority, claims: dict[str, Any], raw: bytes) -> None:
        self.station = station
        self.authority = authority
        self.claims = claims
        self.raw = raw
        self.jti: str = claims["jti"]
        self.id: str = claims["args"].get("id", "")

    def acks(self) -> list[dict[str, Any]]:
        return self.station.acks(self.jti)

    def wait(self, *states: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The first ack with one of the states; a final ack of another kind is an error at once."""
        wanted = set(states)
        found = self.station.wait_ack(self.jti, lambda a: a["state"] in wanted | TERMINAL, "/".join(states), timeout_s)
        assert found["state"] in wanted, f"{self.id}: {found} instead of {states}"
        return found

    def ended(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        return self.station.wait_ack(self.jti, lambda a: a["state"] in TERMINAL, "an outcome", timeout_s)

    def done(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        return self.wait("done", timeout_s=timeout_s)

    def running(self, zone: str | None = None) -> float:
        """When its first sample was (epoch), once it sounds."""
        zone = zone or self.station.sound_zone
        ack = self.station.wait_ack(
            self.jti, lambda a: a["state"] in TERMINAL or "first_sample_at" in a.get("zones", {}).get(zone, {}), "sound"
        )
        assert "first_sample_at" in ack.get("zones", {}).get(zone, {}), f"{self.id} never sounded: {ack}"
        return epoch(ack["zones"][zone]["first_sample_at"])

    def entries(self, zone: str | None = None, count: int = 1) -> list[dict[str, Any]]:
        """Its play-log entries as they came as events."""
        return self.station.entries(self.id, zone or self.station.sound_zone, count)


class Training:
    """A training station as `connection.json` describes it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.connection: dict[str, Any] = json.loads((out / "connection.json").read_text("utf-8"))
        self.device: dict[str, Any] = self.connection["devices"][0]
        self.id: str = self.device["id"]
        self.base = f"tram/1/dev/{self.id}"
        self.media_dir = Path(self.connection["media"]["dir"])
        self.media_url: str = self.connection["media"]["url"]
        self.config = Path(self.device["config"])
        self.sound_zone = next(z["id"] for z in self.device["zones"] if z["kind"] == "sound")
        self.screen_zone = next(z["id"] for z in self.device["zones"] if z["kind"] == "screen")
        self.authorities = {
            name: Authority(who["id"], Key.read(who["key"]), [self.id])
            for name, who in self.connection["authorities"].items()
        }
        self.watcher = Link(self.connection, out / "pki", "watcher", "tram/1/#")
        self.publisher = Link(self.connection, out / "pki", "publisher")
        self.sent: list[Bulletin] = []

    def close(self) -> None:
        self.watcher.close()
        self.publisher.close()

    def __getattr__(self, name: str) -> Authority:
        try:
            return self.__dict__["authorities"][name]
        except KeyError:
            raise AttributeError(name) from None

    # orders

    def publish(self, raw: bytes, topic: str | None = None, **options: Any) -> int:
        """Publish to the device; returns the number of the next message the watcher will have."""
        before = len(self.watcher.messages)
        self.publisher.send(topic or f"{self.base}/order", raw, **options)
        return before

    def order(self, authority: Authority, op: str, args: Any, **claims: Any) -> Bulletin:
        """Sign and publish a command."""
        topic = claims.pop("topic", None)
        made = authority.claims(op, args, **claims)
        raw = authority.sign(made)
        sent = Bulletin(self, authority, made, raw)
        self.publish(raw, topic, expiry=max(1, int(made["exp"] - time.time())) if "exp" in made else None)
        return sent

    def state(self, authority: Authority, op: str, args: dict[str, Any], **claims: Any) -> Bulletin:
        """Sign and publish a state order, retained."""
        made = authority.claims(op, {"scope": self.id} | args, state=True, **claims)
        raw = authority.sign(made)
        self.publish(raw, f"{self.base}/desired/{op}/{authority.iss}", retain=True)
        return Bulletin(self, authority, made, raw)

    def broadcast(self, authority: Authority, items: list[dict[str, Any]], **args: Any) -> Bulletin:
        """A bulletin to the loudspeaker, priority and now unless told otherwise; arguments of None are left out."""
        claims = args.pop("claims", {})
        body: dict[str, Any] = {
            "id": f"b{next(_numbers)}-{uuid.uuid4().hex[:6]}",
            "title": "Bản tin nghiệm thu",
            "class": "priority",
            "start": "now",
            "zones": [self.sound_zone],
            "items": items,
            "resume": "drop",
        } | {k.rstrip("_"): v for k, v in args.items()}
        sent = self.order(authority, "broadcast", {k: v for k, v in body.items() if v is not None}, **claims)
        self.sent.append(sent)
        return sent

    def unschedule(self) -> None:
        """Every issuer's schedule is empty again."""
        empty = [self.state(a, "schedule", {"version": number(), "entries": []}) for a in self.authorities.values()]
        for sent in empty:
            sent.done()

    def tidy(self) -> None:
        """End whatever a test left running."""
        left = [b for b in self.sent if not any(a["state"] in TERMINAL for a in b.acks())]
        self.sent.clear()
        for bulletin in left:
            self.order(bulletin.authority, "cancel", {"ids": [bulletin.id]}).done()
        for bulletin in left:
            bulletin.ended()

    # what the station says

    def acks(self, jti: str) -> list[dict[str, Any]]:
        return [m.body for m in self.watcher.all("ack") if m.body["jti"] == jti]

    def wait_ack(
        self, jti: str, fits: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = PATIENCE_S, since: int = 0
    ) -> dict[str, Any]:
        try:
            return self.watcher.wait(
                lambda m: m.topic == f"{self.base}/ack" and m.body["jti"] == jti and fits(m.body),
                what,
                since=since,
                timeout_s=timeout_s,
            ).body
        except LateError as late:
            raise LateError(f"ack of {jti}: {late}; there are {self.acks(jti)}") from None

    def wait_event(
        self,
        kind: str,
        fits: Callable[[dict[str, Any]], bool],
        what: str,
        since: int = 0,
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        return self.watcher.wait(
            lambda m: m.topic == f"{self.base}/event" and m.body["kind"] == kind and fits(m.body),
            what,
            since=since,
            timeout_s=timeout_s,
        ).body

    def events(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        """Events of a kind, each once: QoS 1 may bring one again, with the same `seq` and the same bytes."""
        found: dict[int, bytes] = {}
        for message in self.watcher.all("event", since):
            seq = message.body["seq"]
            assert found.setdefault(seq, message.payload) == message.payload, "one seq, two events"
        return [body for payload in found.values() if (body := json.loads(payload))["kind"] == kind]

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        return [event["entry"] for event in self.events("log", since)]

    def entries(self, bulletin: str, zone: str, count: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            return [e for e in self.log() if e["bulletin"] == bulletin and e["zone"] == zone]

        try:
            until(lambda: len(found()) >= count, f"{count} log entries of {bulletin} in {zone}")
        except LateError as late:
            own = [line for line in self.tram("log", "--format", "csv").stdout.splitlines() if bulletin in line]
            raise LateError(f"{late}; outbox {self.status()['outbox']}; the station's own log: {own}") from None
        return found()

    # virtual hardware and people

    def control(self, verb: str, **args: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(self.device["control"])
            sock.sendall(json.dumps({"do": verb, **args}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        assert answer.get("ok"), f"control {verb} {args}: {answer}"
        return answer

    def tram(self, *words: str, lang: str = "en") -> subprocess.CompletedProcess[str]:
        """Run a `tram` command for this device."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LC_")} | {"LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "agent", "--lang", lang, words[0], "--config", str(self.config), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment)

    def status(self) -> dict[str, Any]:
        """What `tram status` says; waits for a station that is just starting."""
        done: Any = until(lambda: (d := self.tram("status", "--json")).returncode == 0 and d, "tram status")
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def relays(self) -> dict[str, bool]:
        relays: dict[str, bool] = self.control("relays")["relays"]
        return relays

    # sound

    def media(self, source: Path, type_: str | None = None, **changes: Any) -> dict[str, Any]:
        """Serve a file; the item that names it."""
        target = self.media_dir / f"{uuid.uuid4().hex[:8]}-{source.name}"
        target.write_bytes(source.read_bytes())
        kinds = {
            ".wav": "audio/wav",
            ".mp3": "audio/mpeg",
            ".opus": "audio/ogg",
            ".m4a": "audio/mp4",
            ".flac": "audio/flac",
            ".png": "image/png",
        }
        data = target.read_bytes()
        return {
            "media": {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "url": f"{self.media_url}/{target.name}",
                "type": type_ or kinds.get(target.suffix, "application/octet-stream"),
            }
            | changes
        }

    def have(self, *items: dict[str, Any]) -> None:
        """Play these once, almost inaudibly: from then on the station has their content, and nothing waits for it."""
        self.broadcast(self.commune, list(items), volume_db=-60).done()

    def recording(self) -> tuple[float, int, int]:
        """t0, rate and number of channels, as they are now."""
        told = json.loads((self.out / "station.json").read_text("utf-8"))
        return told["t0"], told["rate"], len(told["zones"])

    def heard(self, begin: float, end: float, zone: str | None = None) -> np.ndarray:
        """What went out in a zone between two moments (epoch), one float a sample; waits until they have passed.

        A sample's place in the recording is its moment, and what has passed without being written stays silence.
        """
        until(lambda: time.time() > end + 0.1, "the moment itself", end - time.time() + 5)
        return self._recorded(begin, end, zone)

    def hear(self, since: float, zone: str | None = None) -> float:
        """Wait for a sound; the moment (epoch) of the first audible sample from `since` on.

        News of an end come before it is heard, by what the card has already: what ended may still sound.
        """

        def onset() -> float | None:
            if time.time() < since:
                return None
            audible = np.flatnonzero(np.abs(self._recorded(since, time.time(), zone)) > AUDIBLE)
            return since + float(audible[0]) / self.recording()[1] if len(audible) else None

        found: float = until(onset, "a sound")
        return found

    def _recorded(self, begin: float, end: float, zone: str | None) -> np.ndarray:
        t0, rate, channels = self.recording()
        channel = next(z["channel"] for z in self.device["zones"] if z["id"] == (zone or self.sound_zone))
        first, last = round((begin - t0) * rate), round((end - t0) * rate)
        with (self.out / "station.wav").open("rb") as file:
            file.seek(HEADER + first * 2 * channels)
            data = file.read((last - first) * 2 * channels)
        data = data[: len(data) // (2 * channels) * 2 * channels]
        frames = np.frombuffer(data, "<i2").reshape(-1, channels)[:, channel].astype(float) / 32768
        return np.concatenate([frames, np.zeros(last - first - len(frames))])

    def heard_entry(self, entry: dict[str, Any]) -> np.ndarray:
        """What went out during a play-log entry."""
        return self.heard(epoch(entry["started"]), epoch(entry["ended"]), entry["zone"])

    def pitches(self, begin: float, end: float, window_s: float = 0.1) -> list[float]:
        """Strongest frequency of each window."""
        sound = self.heard(begin, end)
        width = round(window_s * 48_000)
        return [pitch(sound[i : i + width]) for i in range(0, len(sound) - width + 1, width)]

    def button_sounds(self, button: str) -> None:
        """Wait until the loudspeaker is a button's."""
        name = f"local:{button}:"
        until(
            lambda: str((self.status()["zones"][self.sound_zone].get("owner") or {}).get("bulletin")).startswith(name),
            f"button {button} on the air",
        )

    def underruns(self) -> int:
        """How often voice said that samples came too late: what sounded then is longer than it should be."""
        return sum(e["on"] for e in self.events("alarm") if e["what"] == "voice-xrun")

    def board(self) -> Iterator[dict[str, Any]]:
        yield from json.loads((self.out / "board" / "index.json").read_text("utf-8"))
