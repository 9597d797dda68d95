"""What the tests of the link talk to it with: an inbox, raw MQTT peers, a network that can be cut."""

from __future__ import annotations

import base64
import json
import os
import queue
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from msgspec import Struct
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.link.client import MqttLink
from agent.link.settings import Settings
from agent.model.events import LinkUp, OrderArrived
from province.pki import Identity, Pki

PATIENCE_S = 15.0


def until(what: Callable[..., Any], patience_s: float = PATIENCE_S) -> Any:
    """The first truthy answer of `what`; the test fails when there is none in time."""
    deadline = time.monotonic() + patience_s
    while True:
        if answer := what():
            return answer
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def jws(**claims: object) -> bytes:
    """Something shaped like an order; nobody here verifies it."""
    parts = [{"alg": "Ed25519"}, claims]
    return b".".join(
        [
            *(base64.urlsafe_b64encode(json.dumps(p, separators=(",", ":")).encode()).rstrip(b"=") for p in parts),
            b"c2ln",
        ]
    )


class Collector:
    """An inbox that keeps everything, and can acknowledge each order at once."""

    def __init__(self) -> None:
        self.events: list[Struct] = []
        self.urgent: list[bytes] = []
        self.link: MqttLink | None = None

    def __call__(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.append(event)
        if isinstance(event, OrderArrived):
            if urgent:
                self.urgent.append(event.payload)
            if self.link is not None:
                self.link.acknowledge(event.token)

    def of(self, kind: type[Struct]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def wait(self, kind: type[Struct], count: int = 1, patience_s: float = PATIENCE_S) -> list[Any]:
        until(lambda: len(self.of(kind)) >= count, patience_s)
        return self.of(kind)


class Births:
    """A birth counter without a disk."""

    def __init__(self, first: int = 1) -> None:
        self.given: list[int] = []
        self._first = first

    def __call__(self) -> int:
        self.given.append(self._first + len(self.given))
        return self.given[-1]


class Station:
    """A link with its inbox; `with` starts and stops it."""

    def __init__(
        self,
        pki: Pki,
        port: int,
        device: str = "tram-a",
        *,
        acknowledge: bool = True,
        trusted: bool = True,
        births: Callable[[], int] | None = None,
        identity: Identity | None = None,
        **settings: Any,
    ) -> None:
        identity = identity or pki.identity(device)
        defaults: dict[str, Any] = {
            "groups": ["nhom-1"],
            "host": "127.0.0.1",
            "backoff_min_s": 0.05,
            "backoff_max_s": 0.2,
            "will_delay_s": 1,
            "farewell_s": 0.5,
        }
        self.inbox = Collector()
        self.births = births or Births()
        self.link = MqttLink(
            Settings(
                device=device,
                port=port,
                ca=str(pki.ca),
                cert=str(identity.cert),
                key=str(identity.key),
                **{**defaults, **settings},
            ),
            self.inbox,
            self.births,
            clock_trusted=trusted,
        )
        if acknowledge:
            self.inbox.link = self.link
        self.link.publish_state(b'{"agent":"test"}')

    def __enter__(self) -> Station:
        self.link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.stop()

    def up(self, count: int = 1) -> Station:
        self.inbox.wait(LinkUp, count)
        return self

    def orders(self) -> list[bytes]:
        return [e.payload for e in self.inbox.of(OrderArrived)]


class Message(Struct):
    topic: str
    payload: bytes
    retain: bool
    expiry_s: int | None = None


class Peer:
    """A raw MQTT 5 client with the certificate of `name`: province, watcher or attacker."""

    def __init__(
        self, pki: Pki, port: int, name: str, *subscribe: str, client_id: str = "", session_s: int = 0
    ) -> None:
        identity = pki.identity(name)
        self.received: list[Message] = []
        self._acks: queue.SimpleQueue[tuple[int, ReasonCode]] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        self._up = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=str(pki.ca))
        context.load_cert_chain(identity.cert, identity.key)
        self.client.tls_set_context(context)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages = 1000
        self.client.on_message = lambda _c, _u, m: self.received.append(
            Message(m.topic, bytes(m.payload), m.retain, getattr(m.properties, "MessageExpiryInterval", None))
        )
        self.client.on_publish = lambda _c, _u, mid, reason, _p: self._acks.put((mid, reason))
        self.client.on_subscribe = lambda *_: self._subscribed.set()

        def connected(client: mqtt.Client, _u: object, _f: object, reason: ReasonCode, _p: object) -> None:
            assert not reason.is_failure, reason
            if subscribe:
                client.subscribe([(s, SubscribeOptions(qos=1)) for s in subscribe])
            self._up.set()

        self.client.on_connect = connected
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        self.client.connect("127.0.0.1", port, clean_start=not session_s, properties=properties)
        self.client.loop_start()
        assert self._up.wait(PATIENCE_S)
        assert not subscribe or self._subscribed.wait(PATIENCE_S)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def send(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> ReasonCode:
        """Publish with QoS 1 and return the broker's answer."""
        mid = self._publish(topic, payload, retain=retain, expiry_s=expiry_s)
        while True:
            acked, reason = self._acks.get(timeout=PATIENCE_S)
            if acked == mid:
                return reason

    def send_all(self, topic: str, payloads: Iterator[bytes]) -> None:
        """Publish many with QoS 1 and wait for all answers."""
        waiting = {self._publish(topic, p) for p in payloads}
        while waiting:
            waiting.discard(self._acks.get(timeout=PATIENCE_S)[0])

    def on(self, topic: str) -> list[bytes]:
        return [m.payload for m in self.received if m.topic == topic]

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        return self.client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid


class Network:
    """A TCP hop to `port` that can be frozen (nothing passes, nobody is told) or cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._listener.close()
        self.cut()

    def freeze(self) -> None:
        """From now on the connections that exist are dead, and neither end is told."""
        self._frozen.set()
        self._frozen = threading.Event()

    def cut(self) -> None:
        """Close all connections at both ends."""
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._pairs.append((near, far))
            threading.Thread(target=self._pass, args=(near, far, self._frozen), daemon=True).start()

    @staticmethod
    def _pass(near: socket.socket, far: socket.socket, frozen: threading.Event) -> None:
        with selectors.DefaultSelector() as selector, suppress(OSError):
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while not frozen.is_set():
                for key, _ in selector.select(0.05):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        near.close()
                        far.close()
                        return
                    if not frozen.is_set():
                        key.data.sendall(data)


def mosquitto_sub(pki: Pki, port: int, name: str, *arguments: str) -> list[str]:
    """What Mosquitto's own client sees, as lines."""
    identity = pki.identity(name)
    done = subprocess.run(
        [
            *("mosquitto_sub", "-V", "5", "-q", "1", "-h", "localhost", "-p", str(port)),
            *("--cafile", str(pki.ca), "--cert", str(identity.cert), "--key", str(identity.key)),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    return done.stdout.splitlines()
