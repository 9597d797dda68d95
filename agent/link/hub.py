"""The station's own link to its clusters and boards (`cluster_link`): a Mosquitto of its own, and the client of it.

The broker is a child that dies with the agent and remembers nothing: what clusters may have missed the owner knows
(`agent.core.passing`). A cluster's MQTT client id is its certificate's name, so nobody can speak as another; the
agent comes in by a Unix socket in a folder that is only its own.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import selectors
import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.core.commands import PassOn
from agent.link import mosquitto, topics
from agent.model.config import ClusterLink, Station
from agent.model.events import Alarm, ClusterSaid, ClustersUp
from agent.ports import Inbox

log = logging.getLogger("tram.hub")

RETRY_S = (1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_S = 60.0
"""A broker that served so long starts the series of pauses anew."""
OPEN_S = 10.0
"""How long the broker may take to open its socket."""
LOOK_S = 30.0
QUIET_S = 3600.0
"""An alarm about a stranger ends when nothing of the kind was seen for so long."""
EXPIRES_S = 14 * 86400.0
"""A certificate is complained of so long before it runs out."""
LARGEST = {"state": 8 * 2**10, "beat": 512, "status": 64 * 2**10, "event": 64 * 2**10, "ack": 16 * 2**10}
"""Bytes of what a cluster may say; anything larger arrives empty, which is no message of ours."""
BEAT_GAP_S = 0.5
IN_FLIGHT = 100
MOST = 500
"""Connections at once, strangers included."""
_CONNECTED = re.compile(r"New client connected from (\S+) as (\S+) \(.*u'([^']*)'\)")
_NO_CERTIFICATE = re.compile(
    r"certificate verify failed|peer did not return a certificate|unknown ca|certificate expired"
)
_TROUBLE = re.compile(r"Error|Unable|Address|Permission|refused", re.IGNORECASE)


class Hub:
    """Posts ClustersUp, ClusterSaid and Alarm to `inbox`. `pass_on` and `acknowledge` return at once."""

    def __init__(self, config: Station, inbox: Inbox) -> None:
        if config.cluster_link is None:
            raise ValueError("the configuration has no cluster_link section")
        self._link: ClusterLink = config.cluster_link
        self._fleet = config.fleet()
        self._groups = [self._link.group, *config.device.groups]
        self._station = config.device.id
        self._inbox = inbox
        self._dir = Path(config.run_dir) / "clusters"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._broker: subprocess.Popen[bytes] | None = None
        self._client: mqtt.Client | None = None
        self._up = False
        self._tokens = itertools.count(1)
        self._mids: dict[int, tuple[mqtt.Client, int]] = {}
        self._beats: dict[str, float] = {}
        self._alarms: dict[str, tuple[str, float]] = {}

    @property
    def pid(self) -> int | None:
        """Process id of the broker, None when it does not run."""
        broker = self._broker
        return broker.pid if broker is not None and broker.poll() is None else None

    # the owner's side

    def start(self) -> None:
        """Begin to serve; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the broker. May be called twice."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            os.write(self._waker, b"!")
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def pass_on(self, command: PassOn) -> None:
        """Publish it; without a broker it is dropped, for the owner gives everything anew with the next ClustersUp."""
        client = self._client
        if client is None or not self._up:
            return
        desired = command.op is not None
        topic = (
            topics.desired(command.target, command.op or "", command.iss or "")
            if desired
            else topics.order(command.target)
        )
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if command.expiry_s is not None:
            properties.MessageExpiryInterval = command.expiry_s
        client.publish(topic, command.payload, qos=1, retain=desired, properties=properties)

    def acknowledge(self, token: int) -> None:
        """What a cluster said is durably recorded."""
        client, mid = self._mids.pop(token, (None, 0))
        if client is not None and client is self._client:
            client.ack(mid, 1)

    # the thread's side

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                detail = self._serve()
            except OSError as error:
                detail = f"{error.filename or self._dir}: {error.strerror or error}"
            if self._stopping.is_set():
                return
            log.warning("the link to the clusters is down: %s", detail)
            self._raise("cluster-link", f"the link to the clusters does not serve: {detail}", lasting=True)
            failures = 0 if time.monotonic() - begun > STEADY_S else failures + 1
            self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _serve(self) -> str:
        """One life of the broker; returns why it ended."""
        program = mosquitto.program()
        if program is None:
            return "mosquitto is not installed (Debian: apt install mosquitto)"
        for member in ("ca", "cert", "key"):
            path = getattr(self._link, member)
            try:
                Path(path).read_bytes()
            except OSError as error:
                return f"cluster_link.{member}: cannot read {path}: {error.strerror}"
        self._look_at_certificate()
        configuration = self._configure()
        # The kernel ends the child with this thread's process, however that ends: the port is then free again.
        guard = [tool, "--pdeathsig", "TERM"] if (tool := shutil.which("setpriv")) else []
        with subprocess.Popen(
            [*guard, program, "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as broker:
            self._broker = broker
            try:
                return self._live_with(broker)
            finally:
                self._leave()
                broker.terminate()
                try:
                    broker.wait(3.0)
                except subprocess.TimeoutExpired:
                    broker.kill()

    def _configure(self) -> Path:
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.unlink(missing_ok=True)
        link = self._link
        rules = ["topic readwrite tram/1/#", *mosquitto.device_access(dict.fromkeys(self._fleet, self._groups))]
        return mosquitto.write(
            self._dir,
            "\n".join(rules) + "\n",
            mosquitto.Listener(
                host=link.host, port=link.port, ca=link.ca, cert=link.cert, key=link.key, named=True, most=MOST
            ),
            settings=[
                "persistence false",
                "persistent_client_expiration 14d",
                "max_queued_messages 2000",
                "max_inflight_messages 0",
            ],
            socket=self._socket,
            max_packet_bytes=300 * 2**10,
        )

    @property
    def _socket(self) -> Path:
        return self._dir / "broker.sock"

    def _live_with(self, broker: subprocess.Popen[bytes]) -> str:
        assert broker.stderr is not None  # noqa: S101 - it was asked for
        os.set_blocking(broker.stderr.fileno(), False)
        opened_by = time.monotonic() + OPEN_S
        buffer, trouble = b"", ""
        with selectors.DefaultSelector() as poll:
            poll.register(broker.stderr, selectors.EVENT_READ)
            poll.register(self._wake, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if self._client is None:
                    if self._socket.exists():
                        self._connect()
                    elif time.monotonic() > opened_by:
                        return trouble or "mosquitto does not open its socket"
                poll.select(LOOK_S if self._client is not None else 0.02)
                data = broker.stderr.read()
                if data == b"":
                    code = broker.wait()
                    return trouble or f"mosquitto ended (exit code {code})"
                *lines, buffer = (buffer + (data or b"")).split(b"\n")
                for line in lines:
                    said = line.decode("utf-8", "replace")
                    if not self._noticed(said) and _TROUBLE.search(said):
                        trouble = said.partition(": ")[2] or said
                self._end_alarms()
        return "stopped"

    def _connect(self) -> None:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._station}.station",
            protocol=mqtt.MQTTv5,
            transport="unix",
            manual_ack=True,
        )
        client.max_inflight_messages_set(2000)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._ready()
        client.on_message = self._said
        client.on_disconnect = lambda *_: setattr(self, "_up", False)
        client.reconnect_delay_set(1, 2)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = IN_FLIGHT
        properties.SessionExpiryInterval = 3600
        try:
            client.connect(str(self._socket), 1883, keepalive=60, clean_start=False, properties=properties)
        except OSError:
            return  # not listening yet
        self._client = client
        client.loop_start()

    def _leave(self) -> None:
        client, self._client, self._up = self._client, None, False
        self._mids.clear()
        if client is not None:
            client.disconnect()
            client.loop_stop()

    # paho's thread: only events are posted

    def _connected(self, client: mqtt.Client, _data: object, _flags: object, reason: Any, _p: object) -> None:
        if not reason.is_failure:
            client.subscribe([(f"{topics.ROOT}/dev/+/{leaf}", 1) for leaf in topics.UP])

    def _ready(self) -> None:
        self._up = True
        self._alarms.pop("cluster-link", None)
        log.info("the link to the clusters serves on %s:%d", self._link.host, self._link.port)
        self._inbox(ClustersUp())

    def _said(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = topics.parse(message.topic)
        except UnicodeDecodeError:
            topic = None
        now = time.monotonic()
        known = topic is not None and topic.target in self._fleet and topic.leaf in LARGEST and bool(message.payload)
        if (
            topic is None
            or not known
            or (topic.leaf == "beat" and now - self._beats.get(topic.target, -BEAT_GAP_S) < BEAT_GAP_S)
        ):
            if message.qos:
                client.ack(message.mid, message.qos)
            return
        if topic.leaf == "beat":
            self._beats[topic.target] = now
        token = next(self._tokens)
        if message.qos:
            self._mids[token] = (client, message.mid)
        payload = bytes(message.payload) if len(message.payload) <= LARGEST[topic.leaf] else b""
        self._inbox(ClusterSaid(topic.target, topic.leaf, payload, token))

    # alarms

    def _noticed(self, line: str) -> bool:
        """Whether the broker spoke of a stranger, not of a trouble of its own."""
        if _NO_CERTIFICATE.search(line):
            self._raise("cluster-foreign", "somebody without a certificate of ours tries to connect to the link")
            return True
        found = _CONNECTED.search(line)
        if found is not None and found[3] not in self._fleet:
            detail = f"{found[3]} at {found[1].rpartition(':')[0]} has a certificate, but is no cluster of this station"
            self._raise("cluster-foreign", detail)
        return found is not None or "SSL" in line or "Protocol error" in line

    def _look_at_certificate(self) -> None:
        try:
            decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
            ends = ssl.cert_time_to_seconds(decode(self._link.cert)["notAfter"])
        except (OSError, ValueError, KeyError):
            return  # the broker says what is wrong with it
        left = ends - time.time()
        if left < EXPIRES_S:
            when = time.strftime("%Y-%m-%d", time.gmtime(ends))
            detail = (
                f"the certificate of the link ({self._link.cert}) {'has expired' if left < 0 else 'expires'} on {when}"
            )
            self._raise("cluster-certificate", detail, lasting=True)

    def _raise(self, what: str, detail: str, *, lasting: bool = False) -> None:
        """Say it when it is new; `lasting` ones do not end by themselves."""
        before = self._alarms.get(what)
        self._alarms[what] = (detail, float("inf") if lasting else time.monotonic())
        if before is None or before[0] != detail:
            self._inbox(Alarm(what, detail))

    def _end_alarms(self) -> None:
        for what, (_, seen) in list(self._alarms.items()):
            if time.monotonic() - seen > QUIET_S:
                del self._alarms[what]
                self._inbox(Alarm(what, "", on=False))


class NoHub:
    """A station without clusters of its own."""

    def start(self) -> None:
        """Nothing to serve."""

    def stop(self) -> None:
        """Nothing to end."""

    def pass_on(self, command: PassOn) -> None:
        """Nobody is there."""

    def acknowledge(self, token: int) -> None:
        """Nobody said anything."""
