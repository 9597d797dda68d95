"""Sends signed orders over MQTT 5 and follows their acks.

The broker knows the sender by its certificate only; what counts is the order's signature, so a Publisher can send
orders it could never have signed, and any bytes at all (`raw`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import Struct
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.link import topics
from agent.link.tls import CredentialError, context
from province.record import DeviceReceipt, Message, Receipt, Record
from province.store import Province, ProvinceError, Signed

REPEAT_S = 30.0
"""An emergency that a device has not acknowledged is sent again after so long (CONTRACT section 3)."""
PUBLISH_S = 15.0
"""How long the broker may take for a message, a reconnect included."""
ORDER_LIMIT = 16 * 1024
EMERGENCY_LIMIT = 4 * 1024
DESIRED_LIMIT = 256 * 1024


class Access(Struct, frozen=True):
    """How to reach the broker: address, the CA's file, and a client certificate's files."""

    host: str
    port: int
    ca: str
    cert: str
    key: str

    @classmethod
    def publisher(cls, province: Province) -> Access:
        """As who may write orders."""
        return cls._of(province, province.settings.publisher.cert, province.settings.publisher.key)

    @classmethod
    def watcher(cls, province: Province) -> Access:
        """As who may read everything."""
        return cls._of(province, province.settings.watcher.cert, province.settings.watcher.key)

    @classmethod
    def _of(cls, province: Province, cert: str, key: str) -> Access:
        s = province.settings
        return cls(s.broker.host, s.broker.port, *(str(province.path(p)) for p in (s.ca, cert, key)))


class LinkError(ProvinceError):
    """The broker cannot be reached or does not take what is sent; the message says why."""


def _without_delay(_client: mqtt.Client, _data: object, sock: mqtt.SocketLike) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """A paho client whose callbacks only enqueue; `on_messages` is called in a thread of its own.

    Subscriptions are renewed after each reconnect. `keep_s` seconds the session outlives a break. The broker is told
    that messages were taken when `on_messages` has returned; if it raises, the connection ends and they stay with
    the broker: `failure` says why.
    """

    def __init__(
        self,
        access: Access,
        client_id: str,
        *,
        subscribe: Sequence[str] = (),
        on_messages: Callable[[list[Message]], None] | None = None,
        keep_s: int = 0,
        on_up: Callable[[bool], None] | None = None,
    ) -> None:
        self.access = access
        self._filters = [(name, 1) for name in subscribe]
        self._on_messages, self._on_up = on_messages, on_up
        self._queue: queue.SimpleQueue[tuple[int, mqtt.MQTTMessage] | None] = queue.SimpleQueue()
        self._session = 0
        self._pubacks: dict[int, str] = {}
        self.failure: str | None = None
        self._keep_s = keep_s
        self._state = threading.Condition()
        self._up = False
        self._ready = False
        self._refused: str | None = None
        try:
            tls = context(access.ca, access.cert, access.key, check_dates=True)
        except CredentialError as error:
            raise LinkError(str(error)) from error
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self._client.tls_set_context(tls)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_connect_fail = self._failed
        self._client.on_publish = self._published
        self._client.on_subscribe = self._subscribed
        self._client.on_message = lambda _client, _data, message: self._queue.put((self._session, message))
        # An order's small packets must not wait for the acknowledgement of the ones before.
        self._client.on_socket_open = _without_delay
        self._client.reconnect_delay_set(1, 4)
        self._client.max_inflight_messages_set(1000)
        self._worker = threading.Thread(target=self._work, name=client_id, daemon=True)

    def open(self, timeout_s: float = 15.0) -> None:
        """Connect and subscribe; LinkError when that takes longer. Afterwards it reconnects by itself."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._keep_s
        self._worker.start()
        try:
            self._client.connect(
                self.access.host,
                self.access.port,
                keepalive=60,
                clean_start=mqtt.MQTT_CLEAN_START_FIRST_ONLY if not self._keep_s else False,
                properties=properties,
            )
        except OSError as error:
            self.close()
            raise LinkError(f"{self.access.host}:{self.access.port}: {error}") from error
        self._client.loop_start()
        with self._state:
            self._state.wait_for(lambda: self._ready or self._refused, timeout_s)
            if self._ready:
                return
            why = self._refused or f"no answer in {timeout_s:.0f} s"
        self.close()
        raise LinkError(f"{self.access.host}:{self.access.port}: {why}")

    @property
    def up(self) -> bool:
        """Whether it is connected now."""
        return self._up

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        """Send with QoS 1 and wait until the broker has it; LinkError when it refuses or is away too long."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = max(1, expiry_s)
        # paho keeps what it is given over a reconnect; its own way to wait gives up when there is no connection.
        mid = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        with self._state:
            if not self._state.wait_for(lambda: mid in self._pubacks, PUBLISH_S):
                raise LinkError(f"{topic}: the broker has not taken it within {PUBLISH_S:.0f} s")
            refused = self._pubacks.pop(mid)
        if refused:
            raise LinkError(f"{topic}: the broker refuses it: {refused}")

    def close(self) -> None:
        """Disconnect. May be called twice."""
        self._client.disconnect()
        self._client.loop_stop()
        if self._worker.is_alive():
            self._queue.put(None)
            self._worker.join(5.0)

    def _work(self) -> None:
        """Hand over what has arrived, as many at once as there are, and acknowledge it then."""
        while True:
            batch = [self._queue.get()]
            while len(batch) < 500 and not self._queue.empty():
                batch.append(self._queue.get())
            arrived = [entry for entry in batch if entry is not None]
            if self._on_messages and arrived:
                at = time.time()
                try:
                    self._on_messages([Message(m.topic, bytes(m.payload), at, m.retain) for _, m in arrived])
                except Exception as error:  # noqa: BLE001 - told by `failure`; the thread must not die unseen
                    self.failure = f"{type(error).__name__}: {error}"
                    self._client.disconnect()
                    return
            for session, message in arrived:
                if session == self._session:  # a packet id means nothing in a later connection
                    self._client.ack(message.mid, message.qos)
            if len(arrived) < len(batch):
                return

    def _published(self, _client: mqtt.Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        with self._state:
            self._pubacks[mid] = str(reason) if reason.is_failure else ""
            self._state.notify_all()

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._session += 1
        if reason.is_failure:
            self._set(up=False, refused=str(reason))
        elif self._filters:
            client.subscribe(self._filters)
            self._set(up=True)
        else:
            self._set(up=True, ready=True)

    def _subscribed(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        bad = [str(r) for r in reasons if r.is_failure]
        self._set(up=True, ready=not bad, refused=", ".join(bad) or None)

    def _disconnected(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._set(up=False, refused=str(reason) if reason.is_failure else None)

    def _failed(self, _client: mqtt.Client, _data: Any) -> None:
        self._set(up=False)

    def _set(self, *, up: bool, ready: bool = False, refused: str | None = None) -> None:
        with self._state:
            changed, self._up = self._up != up, up
            self._ready = self._ready or ready
            self._refused = refused
            self._state.notify_all()
        if changed and self._on_up is not None:
            self._on_up(up)


class Publisher:
    """Publishes orders and knows the acks that come back. Use as a context manager, or `open` and `close`."""

    def __init__(self, access: Access, *, client_id: str | None = None) -> None:
        name = client_id or f"publisher-{os.getpid()}-{os.urandom(4).hex()}"
        filters = [f"{topics.ROOT}/dev/+/ack"]
        self._connection = Connection(access, name, subscribe=filters, on_messages=self._take)
        self.record = Record()
        """What has been acknowledged; read it inside `changed`."""
        self.changed = threading.Condition()

    def open(self, timeout_s: float = 15.0) -> None:
        """Connect; LinkError."""
        self._connection.open(timeout_s)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def __enter__(self) -> Publisher:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        """Publish any bytes with QoS 1; LinkError."""
        self._connection.publish(topic, payload, retain=retain, expiry_s=expiry_s)

    def send(self, order: Signed | str, to: Sequence[str] | None = None, *, now: float | None = None) -> list[str]:
        """Publish an order and return the topics it went to.

        `to`: device ids or `group:<id>`; the order's `aud` unless given. A command expires at the broker with the
        order; a state order is retained under its scope. ProvinceError: expired, too large, or an alias in `aud`
        (aliases have no topic: say where it goes).
        """
        signed = describe(order) if isinstance(order, str) else order
        payload = signed.jws.encode()
        at = time.time() if now is None else now
        names, expiry = self._topics(signed, to), None
        if signed.is_state:
            limit = DESIRED_LIMIT
        else:
            limit = ORDER_LIMIT
            if signed.exp is not None:
                expiry = int(signed.exp - at)
                if expiry <= 0:
                    raise ProvinceError("the order has expired")
        if len(payload) > limit:
            raise ProvinceError(f"the order has {len(payload)} bytes; devices refuse more than {limit}")
        for name in names:
            self.raw(name, payload, retain=signed.is_state, expiry_s=expiry)
        return names

    @staticmethod
    def _topics(signed: Signed, to: Sequence[str] | None) -> list[str]:
        try:
            if signed.is_state:
                targets = to or [signed.scope or signed.aud[0]]
                return [topics.desired(target, signed.op, signed.iss) for target in targets]
            return [topics.order(target) for target in to or signed.aud]
        except ValueError as error:
            raise ProvinceError(f"{error}; an alias has no topic: say which device it goes to") from error

    def receipt(self, order: Signed) -> Receipt:
        """The order's acks so far."""
        with self.changed:
            return self.record.receipt(order.iss, order.jti)

    def wait(self, order: Signed, until: Callable[[Receipt], bool], timeout_s: float) -> Receipt:
        """Wait until the receipt satisfies `until`, or the time is over; the receipt as it is then."""
        with self.changed:
            self.changed.wait_for(lambda: until(self.record.receipt(order.iss, order.jti)), timeout_s)
            return self.record.receipt(order.iss, order.jti)

    def pursue(
        self,
        order: Signed,
        devices: Collection[str],
        *,
        watch: Callable[[str, DeviceReceipt], None] | None = None,
        repeat_s: float = REPEAT_S,
        timeout_s: float | None = None,
        ended: Callable[[DeviceReceipt], bool] | None = None,
    ) -> Receipt:
        """Send an emergency and follow it to its end at each device, or until it expires (or `timeout_s`).

        Devices that have not acknowledged it get the same bytes again, on their own topics, every `repeat_s`; when
        `devices` is empty its `aud` is sent again until anyone answers. `watch` hears of each change at a device.
        `ended` says when a device needs no following any more, unless that is its last ack.
        """
        if order.exp is None:
            raise ProvinceError("an emergency needs an end")
        begun = time.monotonic()
        end = begun + max(0.0, order.exp - time.time())
        end = end if timeout_s is None else min(end, begun + timeout_s)
        expected = set(devices)
        told: dict[str, int] = {}
        self.send(order)
        again = begun + repeat_s
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._news(order, told), max(0.0, min(end, again) - time.monotonic()))
                receipt = self.record.receipt(order.iss, order.jti)
                news = [(name, d) for name, d in receipt.devices.items() if told.get(name) != d.seq]
                told.update((name, d.seq) for name, d in news)
            for name, device in news if watch else ():
                if watch:
                    watch(name, device)
            finished = {name for name, d in receipt.devices.items() if (ended(d) if ended else d.final)}
            now = time.monotonic()
            if (expected and expected <= finished) or now >= end:
                return receipt
            if now >= again:
                again = now + repeat_s
                missing = sorted(expected - set(receipt.devices))
                if missing or not (expected or receipt.devices):
                    self.send(order, missing or None)

    def _news(self, order: Signed, told: dict[str, int]) -> bool:
        receipt = self.record.receipt(order.iss, order.jti)
        return any(told.get(name) != device.seq for name, device in receipt.devices.items())

    def _take(self, messages: list[Message]) -> None:
        with self.changed:
            for message in messages:
                self.record.take(message)
            self.changed.notify_all()


def describe(jws: str) -> Signed:
    """What an order says of itself, unverified; ProvinceError when it is not one."""
    try:
        body = jws.split(".")[1]
        claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        args = claims["args"]
        scope = args.get("scope") if isinstance(args, dict) else None
        exp = claims.get("exp")
        return Signed(jws, str(claims["iss"]), str(claims["jti"]), str(claims["op"]), list(claims["aud"]), exp, scope)
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise ProvinceError(f"this is not an order: {type(error).__name__}: {error}") from error
