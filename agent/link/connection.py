"""One MQTT connection of the link, from DNS to DISCONNECT.

Each connection has a paho client of its own, driven from the link's thread, so nothing of paho's survives a broken
connection: what is in flight, what waits and what is to be acknowledged is kept here. Inside paho's callbacks events
are only noted; they are handled after paho has returned and holds no lock.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.link import topics
from agent.link.peek import is_urgent
from agent.link.reasons import explain
from agent.link.settings import Settings
from agent.link.tls import context
from agent.model.events import LinkUp, OrderArrived, OutTaken
from agent.model.records import PutOut
from agent.ports import Inbox

log = logging.getLogger("tram.link")

_STOPPED = "the link was stopped"
_FAREWELL = "farewell"
_LONGEST_SLEEP_S = 15.0
_DEAD_AFTER_MS = 120_000
_BEAT_ALIAS = 1
_NOBODY_LISTENS = 0x10
"""PUBACK "No matching subscribers": the broker has no session of the province and throws the message away."""


class Wait(Protocol):
    """Sleeps until the socket or the owner wants something; True: the socket is ready."""

    def __call__(self, sock: mqtt.SocketLike | None, timeout_s: float, *, write: bool = False) -> bool:
        """Does what the owner asked meanwhile."""


class Held:
    """What outlives a connection. Only the link's thread touches it."""

    def __init__(self, next_birth: Callable[[], int], settle_s: float) -> None:
        self.rows: dict[int, PutOut] = {}
        """By seq, in the order of offering: what the broker does not have yet."""
        self.unsent: set[str] = set()
        """Leaves whose newest retained message the broker does not have."""
        self.lost_at: float | None = None
        self._retained: dict[str, bytes] = {}
        self._next_birth = next_birth
        self._settle_s = settle_s
        self._birth = 0
        self._token = 0
        self._recent: dict[int, tuple[float, PutOut]] = {}

    def taken(self, row: PutOut, now: float) -> bool:
        """The broker has the row; False when it had said so before."""
        self.rows.pop(row.seq, None)
        while self._recent and next(iter(self._recent.values()))[0] < now - self._settle_s:
            del self._recent[next(iter(self._recent))]
        return self._recent.setdefault(row.seq, (now, row)) == (now, row)

    def revive(self) -> None:
        """Rows that the broker took just before the connection was lost go out again, first: it may have crashed.

        A broker acknowledges before anything is on its disk, and a crash also takes what is on its way to the
        province. The province knows such a row by its `seq`.
        """
        if self.lost_at is not None:
            since = self.lost_at - self._settle_s
            self.rows = {seq: row for seq, (at, row) in self._recent.items() if at >= since} | self.rows

    def retain(self, leaf: str, body: bytes) -> None:
        """The newest body of a retained topic."""
        self._retained[leaf] = body
        self.unsent.add(leaf)

    def has(self, leaf: str) -> bool:
        """Whether there is anything to publish there."""
        return leaf in self._retained

    def status(self) -> bytes:
        """The newest status."""
        return self._retained["status"]

    def state(self, device: str, *, online: bool, birth: int) -> bytes:
        """The state as it is published, or willed."""
        body = msgspec.json.decode(self._retained.get("state", b"{}"), type=dict[str, Any])
        return msgspec.json.encode({**body, "device": device, "online": online, "birth": birth})

    def birth(self) -> int:
        """Use up a birth number."""
        try:
            self._birth = max(self._next_birth(), self._birth + 1)
        except OSError as error:
            self._birth += 1
            log.warning("the birth number %d could not be made durable: %s", self._birth, error)
        return self._birth

    def token(self) -> int:
        """A number for an arriving order, never used twice in this process."""
        self._token += 1
        return self._token


class Connection:
    """One connection. Only the link's thread touches it."""

    def __init__(
        self,
        settings: Settings,
        held: Held,
        inbox: Inbox,
        wait: Wait,
        stopping: Callable[[], bool],
        *,
        check_dates: bool,
    ) -> None:
        self.check_dates = check_dates
        self.up = False
        self.waiting = deque(held.rows.values())
        self._s = settings
        self._held = held
        self._inbox = inbox
        self._wait = wait
        self._stopping = stopping
        self._targets = [*topics.targets(settings.device, settings.groups), *settings.others]
        self._reason: str | None = None
        self._birth = 0
        self._window = 1
        self._alias = False
        self._aliased = False
        self._filters: list[str] = []
        self._strays: set[str] = set()
        self._happened: deque[Callable[[], None]] = deque()
        self._orders: dict[int, int] = {}
        self._recorded: set[int] = set()
        self._in_flight: dict[int, PutOut | str] = {}
        self._outbox_from = 0.0
        self._outbox_pause_s = 0.0
        self._state_from = 0.0
        self._state_stale = False
        self._farewell_by: float | None = None
        self._errors = _LastError()
        self._client = self._make_client()

    def run(self) -> str:
        """Connect and serve until the connection ends; returns why. OSError when it could not even be made."""
        s, client = self._s, self._client
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=s.session_expiry_s,
            ReceiveMaximum=s.in_flight,
            MaximumPacketSize=s.max_packet_bytes,
        )
        client.connect(s.host, s.port, keepalive=s.keepalive_s, clean_start=False, properties=properties)
        give_up_at = time.monotonic() + s.connect_timeout_s
        while self._reason is None:
            sock = client.socket()
            if sock is None:
                self._end(self._broken())
                break
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            ready = self._wait(sock, 0.0 if pending else self._sleep(give_up_at), write=client.want_write())
            if ready or pending:
                client.loop_read()
            if client.want_write():
                client.loop_write()
            client.loop_misc()
            while self._happened:
                self._happened.popleft()()
            if self._reason is None:
                self._work(give_up_at)
        return self._reason or self._broken()

    def close(self) -> None:
        """Give the socket back and remember what did not arrive. Without a DISCONNECT the broker publishes the Will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._held.unsent.update(w for w in self._in_flight.values() if isinstance(w, str) and w != _FAREWELL)

    def acknowledge(self, token: int) -> None:
        """PUBACK in the order of arrival, as [MQTT-4.6.0-2] asks: an early one waits for those before it."""
        if token not in self._orders:
            return
        self._recorded.add(token)
        while self._orders and (first := next(iter(self._orders))) in self._recorded:
            self._recorded.discard(first)
            self._client.ack(self._orders.pop(first), 1)

    def beat(self, body: bytes) -> None:
        """Publish a beat unless the network is stuck. The topic goes over the air once, then as an alias."""
        if not self.up or self._client.want_write():
            return
        properties = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=2 * self._s.beat_period_s)
        if self._alias:
            properties.TopicAlias = _BEAT_ALIAS
        topic = "" if self._aliased else topics.up(self._s.device, "beat")
        self._client.publish(topic, body, qos=0, properties=properties)
        self._aliased = self._alias

    def leave(self, reason: str) -> None:
        """Disconnect so that the Will is published if no new connection follows."""
        self._end(reason)
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))

    def _make_client(self) -> mqtt.Client:
        s = self._s
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=s.device,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = s.connect_timeout_s
        client.max_inflight_messages = s.in_flight
        client.tls_set_context(context(s.ca, s.cert, s.key, check_dates=self.check_dates, section=s.section))
        client.enable_logger(self._errors.logger)
        note = self._happened.append
        client.on_socket_open = self._before_connect
        client.on_connect = lambda _c, _u, flags, reason, properties: note(
            partial(self._connected, reason, properties, session_present=flags.session_present)
        )
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: note(partial(self._subscribed, reasons))
        client.on_message = lambda _c, _u, message: note(partial(self._arrived, message))
        client.on_publish = lambda _c, _u, mid, reason, _p: note(partial(self._published, mid, reason))
        client.on_disconnect = lambda _c, _u, flags, reason, _p: note(
            partial(self._disconnected, reason, by_source=flags.is_disconnect_packet_from_server)
        )
        return client

    def _before_connect(self, _client: mqtt.Client, _data: object, sock: mqtt.SocketLike) -> None:
        """TLS stands and CONNECT is next: only now a birth is used up, so that failed attempts cost no write."""
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
        self._birth = self._held.birth()
        self._client.will_set(
            topics.up(self._s.device, "state"),
            self._held.state(self._s.device, online=False, birth=self._birth),
            qos=1,
            retain=True,
            properties=_properties(PacketTypes.WILLMESSAGE, WillDelayInterval=self._s.will_delay_s),
        )

    # What paho noted.

    def _connected(self, reason: ReasonCode, properties: Properties, *, session_present: bool) -> None:
        if reason.is_failure:
            self._end(f"the source refuses this device: {reason}")
            return
        # Two places of the broker's window are kept for state and status.
        self._window = max(1, min(self._s.in_flight, getattr(properties, "ReceiveMaximum", 65535)) - 2)
        self._alias = getattr(properties, "TopicAliasMaximum", 0) >= _BEAT_ALIAS
        lost_at = self._held.lost_at
        short = session_present and lost_at is not None and time.monotonic() - lost_at < self._s.refresh_after_s
        orders = SubscribeOptions(
            qos=1,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            if short
            else SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE,
        )
        # Live only: what is retained is replaced on each connection anyway, but an older Will may still come.
        own_state = SubscribeOptions(qos=0, noLocal=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        wanted = [(f, orders) for target in self._targets for f in topics.inbound(target)]
        wanted.append((topics.up(self._s.device, "state"), own_state))
        self._filters = [f for f, _ in wanted]
        self._client.subscribe(wanted)

    def _subscribed(self, reasons: Sequence[ReasonCode]) -> None:
        refused = {f: r for f, r in zip(self._filters, reasons, strict=False) if r.is_failure}
        for name, reason in refused.items():
            log.warning("the source refuses the subscription to %s: %s", name, reason)
        own = next((f for f in topics.inbound(self._s.device) if f in refused), None)
        if own is not None:
            self._end(f"the source refuses the subscription to {own}: {refused[own]}")
            return
        self.up = True
        if self._held.has("state"):
            self._held.unsent.add("state")
        log.info("link up: birth %d", self._birth)
        self._inbox(LinkUp(self._birth))

    def _arrived(self, message: mqtt.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            name = ""
        payload = bytes(message.payload)
        topic = topics.parse(name)
        if topic == topics.Topic(self._s.device, "state"):
            self._own_state(payload)
            return
        token = self._held.token()
        if message.qos:
            self._orders[token] = message.mid
        if topic is None or topic.target not in self._targets:
            self._stray(name, topic)
            self.acknowledge(token)
        elif not payload and (message.retain or topic.leaf == "desired"):
            self.acknowledge(token)  # somebody cleared a retained message: that lifts nothing
        else:
            order = OrderArrived(name, payload, message.retain, token, time.monotonic_ns())
            self._inbox(order, urgent=is_urgent(topic, payload))

    def _stray(self, name: str, topic: topics.Topic | None) -> None:
        """A topic nobody here asked for: the session still has a group that the configuration has left."""
        if topic is None or topic.target in self._strays:
            return
        log.warning("leaving %s, which is not in the configuration", name)
        self._strays.add(topic.target)
        self._client.unsubscribe(list(topics.inbound(topic.target)))

    def _own_state(self, payload: bytes) -> None:
        """Somebody else wrote our state: the Will of an earlier connection, most likely. Say how it really is."""
        try:
            seen = msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
        except msgspec.DecodeError:
            seen = {}
        if seen.get("birth") != self._birth or seen.get("online") is not True:
            self._state_stale = self._held.has("state")

    def _published(self, mid: int, reason: ReasonCode) -> None:
        what = self._in_flight.pop(mid, None)
        if not isinstance(what, PutOut):
            if what is not None and reason.is_failure:
                log.warning("the source refuses our %s: %s", what, reason)
            return
        if reason.is_failure or reason.value == _NOBODY_LISTENS:
            self._put_back(what, reason)
            return
        self._outbox_pause_s = 0.0
        if self._held.taken(what, time.monotonic()):
            self._inbox(OutTaken(what.seq))

    def _put_back(self, row: PutOut, reason: ReasonCode) -> None:
        """The broker does not keep the row for anybody: try one again after a pause that grows."""
        now = time.monotonic()
        if now >= self._outbox_from:
            self._outbox_pause_s = min(2 * self._outbox_pause_s or 1.0, self._s.outbox_pause_s)
            self._outbox_from = now + self._outbox_pause_s
            log.warning("the source did not take our %s: %s; again in %.0f s", row.topic, reason, self._outbox_pause_s)
        flying = {w.seq for w in self._in_flight.values() if isinstance(w, PutOut)}
        self.waiting = deque(r for r in self._held.rows.values() if r.seq not in flying)

    def _disconnected(self, reason: ReasonCode, *, by_source: bool) -> None:
        if by_source and str(reason) == "Session taken over":
            self._end("another client has connected with this device's id")
        elif by_source:
            self._end(f"the source ended the connection: {reason}")
        else:
            self._end(self._broken())

    # What is to be done now.

    def _work(self, give_up_at: float) -> None:
        now = time.monotonic()
        if self._stopping():
            self._say_farewell(now)
            return
        if not self.up:
            if now >= give_up_at:
                self._end(f"{self._s.host}:{self._s.port} took the connection but does not answer")
            return
        if self._state_stale and now >= self._state_from:
            self._state_stale = False
            self._state_from = now + self._s.stale_state_pause_s
            self._held.unsent.add("state")
        for leaf in sorted(self._held.unsent - set(self._retained_in_flight())):
            self._held.unsent.discard(leaf)
            body = self._held.state(self._s.device, online=True, birth=self._birth)
            self._publish(leaf, leaf, body if leaf == "state" else self._held.status(), retain=True)
        window = 1 if self._outbox_pause_s else self._window
        while self.waiting and len(self._in_flight) < window and now >= self._outbox_from:
            row = self.waiting.popleft()
            self._publish(row, row.topic, row.body)

    def _retained_in_flight(self) -> list[str]:
        return [w for w in self._in_flight.values() if isinstance(w, str)]

    def _publish(self, what: PutOut | str, leaf: str, body: bytes, *, retain: bool = False) -> None:
        other, _, leaf = leaf.rpartition("/")
        topic = topics.up(other or self._s.device, leaf)
        info = self._client.publish(topic, body, qos=1, retain=retain or leaf == "state")
        self._in_flight[info.mid] = what
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self._end(self._broken())

    def _say_farewell(self, now: float) -> None:
        if not self.up:
            self._end(_STOPPED)
        elif self._farewell_by is None:
            self._farewell_by = now + self._s.farewell_s
            state = self._held.state(self._s.device, online=False, birth=self._birth)
            self._publish(_FAREWELL, "state", state, retain=True)
        elif _FAREWELL not in self._in_flight.values():
            self._end(_STOPPED)
            self._client.disconnect()
        elif now >= self._farewell_by:
            self.leave(_STOPPED)

    def _sleep(self, give_up_at: float) -> float:
        now = time.monotonic()
        until = now + _LONGEST_SLEEP_S
        if not self.up:
            until = min(until, give_up_at)
        if self._state_stale:
            until = min(until, self._state_from)
        if self.waiting and self._outbox_from > now:
            until = min(until, self._outbox_from)
        if self._farewell_by is not None:
            until = min(until, self._farewell_by)
        return max(0.0, until - now)

    def _end(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason

    def _broken(self) -> str:
        where = f"{self._s.host}:{self._s.port}"
        error = self._errors.last
        if not self.up and isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError | None):
            return f"{where} cut the connection before it answered (does it accept our certificate?)"
        if error is not None:
            return explain(error, self._s.host, self._s.port, self._s.section)
        return f"the connection to {where} broke"


def _properties(packet: int, **values: int) -> Properties:
    made = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(made, name, value)
    return made


class _LastError(logging.Handler):
    """paho swallows a socket's error and only logs it; here it is caught, for the sentence it explains."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: Exception | None = None
        self.logger = logging.Logger("paho", logging.ERROR)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the newest error."""
        if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], Exception):
            self.last = record.args[0]
