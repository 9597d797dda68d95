"""One station with 102 clusters on one core: what it costs, how soon its status follows, how soon an alert is there.

The clusters are MQTT clients that behave like agents: certificate, Will, state, status, beats, receipts. They run in
this process, on other cores than the station where there are any.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.link import topics
from province.bench import proc
from province.bench.rows import Row, row
from province.bench.stages import DirectStage
from province.bench.voice_rig import BenchError
from province.demo.stage import DEVICE

COUNT = 102
"""The largest commune there is."""
GROUP, PROVINCE_GROUP = "xa-mau-cum", "tinh-mau"
LIMIT = 512_000_000
"""Bytes of memory that the station may need at once."""
BEAT_S = 60.0
QUIET_S = 60.0
PATIENCE_S = 120.0


class _Cluster:
    """One simulated cluster on its own connection."""

    def __init__(self, stage: _Commune, name: str, number: int) -> None:
        self.name = name
        self.received: dict[str, float] = {}
        self._number = number
        self._n = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        identity = stage.pki.identity(name)
        tls = ssl.create_default_context(cafile=str(stage.pki.ca))
        tls.load_cert_chain(identity.cert, identity.key)
        self._client.tls_set_context(tls)
        self._client.will_set(topics.up(name, "state"), self._state(online=False), qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_message = self._arrived
        self._client.reconnect_delay_set(1, 10)
        self._client.connect("127.0.0.1", stage.link_port, keepalive=60)
        self._client.loop_start()

    def _state(self, *, online: bool) -> bytes:
        zones = [{"id": "loa", "kind": "sound", "tags": []}]
        body = {"device": self.name, "online": online, "birth": 1, "since": f"x{self._number}", "zones": zones}
        return msgspec.json.encode(body)

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        targets = topics.targets(self.name, [GROUP, PROVINCE_GROUP])
        client.subscribe([(f, 1) for target in targets for f in topics.inbound(target)])
        client.publish(topics.up(self.name, "state"), self._state(online=True), qos=1, retain=True)
        self.status("normal")

    def _arrived(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        at = time.monotonic()
        claims = message.payload.split(b".")[1]
        order = json.loads(_unbase64(bytes(claims)))
        if order["jti"] not in self.received:
            self.received[order["jti"]] = at
            for seq, state in enumerate(("received", "accepted", "running", "done"), 1):
                ack = {"jti": order["jti"], "iss": order["iss"], "seq": seq, "state": state, "at": "", "zones": {}}
                client.publish(topics.up(self.name, "ack"), msgspec.json.encode(ack), qos=1)

    def status(self, line: str) -> None:
        """A status as a cluster sends it when something has changed."""
        body = {"device": self.name, "zones": {"loa": {"line": line, "temperature_c": 41.0}}, "faults": []}
        self._client.publish(topics.up(self.name, "status"), msgspec.json.encode(body), qos=1, retain=True)

    def beat(self) -> None:
        """A beat."""
        self._n += 1
        body = {"n": self._n, "at": int(time.time()), "zones": {}, "faults": 0, "rev": 1, "log": [1, "00000000"]}
        self._client.publish(topics.up(self.name, "beat"), msgspec.json.encode(body))

    def stop(self) -> None:
        """Go."""
        self._client.disconnect()
        self._client.loop_stop()


class _Commune(DirectStage):
    """A training station with a link and clusters on it, held to one core."""

    link_port = 0

    def _write_config(self) -> None:
        super()._write_config()
        names = [f"{DEVICE}-cum-{i + 1}" for i in range(COUNT)]
        for name in names:
            self.pki.client(name)
        lan = self.pki.server("lan")
        self.link_port, media_port = _free_port(), _free_port()
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        config["cluster_link"] = {
            "host": "127.0.0.1",
            "port": self.link_port,
            "media_port": media_port,
            "ca": str(self.pki.ca),
            "cert": str(lan.cert),
            "key": str(lan.key),
            "group": GROUP,
        }
        config["clusters"] = [{"id": f"cum-{i + 1}", "device": name} for i, name in enumerate(names)]
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")
        self.broker._clusters = {DEVICE: names}
        self.broker.allow({DEVICE: [PROVINCE_GROUP]})
        self.names = names

    def start_agent(self) -> None:
        """On one core."""
        mask = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(mask)})
        try:
            super().start_agent()
        finally:
            os.sched_setaffinity(0, mask)

    def __enter__(self) -> Self:
        super().__enter__()
        return self


def scale(folder: Path, n: int) -> list[Row]:
    """The `clusters_…` rows."""
    cores = os.cpu_count() or 1
    with _Commune(folder) as stage, contextlib.ExitStack() as stack:
        stage.wait_ready()
        peak = proc.Peak(stage.agent_pid(), LIMIT)
        peak.start()
        stack.callback(peak.stop)
        begun = time.monotonic()
        clusters = [_Cluster(stage, name, i) for i, name in enumerate(stage.names)]
        for cluster in clusters:
            stack.callback(cluster.stop)
        stop = threading.Event()
        stack.callback(stop.set)
        threading.Thread(target=_beat, args=(clusters, stop), daemon=True).start()
        _until(lambda: _online(stage) == COUNT, "all clusters are online")
        came = time.monotonic() - begun
        time.sleep(5)
        cpu = _cpu_percent(stage, QUIET_S)
        lags = [_change(stage, clusters[k * 7 % COUNT]) for k in range(n)]
        alerts = [t for k in range(n) for t in _alert(stage, clusters, k)]
        memory = proc.memory(proc.tree(stage.agent_pid()))
        loaded = _cpu_percent(stage, 5)
        if peak.burst:
            raise BenchError(f"{peak.pss / 1e6:.0f} MB at once: more than a station of {LIMIT / 1e6:.0f} MB has")
    where = f"station on one core of {cores} (taskset), {COUNT} clusters by TLS with a certificate each"
    parts = ", ".join(f"{role} {size / 1e6:.1f}" for role, size in sorted(memory.each.items()))
    return [
        row("clusters_online_s", [came], f"{where}; from the first connection to the last one in the status"),
        row("clusters_change_s", lags, f"{where}; a cluster's line opens → the province has the alarm"),
        row(
            "clusters_alert_ms",
            alerts,
            f"{where}; the province publishes an emergency → it is at a cluster; {n} alerts × {COUNT}",
        ),
        row(
            "clusters_cpu_percent",
            [cpu],
            f"{where}; of that core, all processes of the station, {QUIET_S:.0f} s of beats every {BEAT_S:.0f} s; "
            f"right after {n} alerts with {4 * COUNT} receipts each {loaded:.0f}",
        ),
        row(
            "clusters_pss_mb",
            [peak.pss / 1e6],
            f"{where}; peak of the sum of Pss of all its processes, looked at every {proc.Peak.EVERY_S:g} s, which "
            f"ends them above the bound; after the alerts {memory.pss / 1e6:.1f}: {parts}",
        ),
    ]


def _beat(clusters: list[_Cluster], stop: threading.Event) -> None:
    while not stop.is_set():
        for cluster in clusters:
            cluster.beat()
            if stop.wait(BEAT_S / len(clusters)):
                return


def _online(stage: _Commune) -> int:
    rows: dict[str, Any] = stage.ask("status")["result"]["clusters"]
    return sum(1 for r in rows.values() if r.get("online"))


def _change(stage: _Commune, cluster: _Cluster) -> float:
    before = _alarms(stage)
    begun = time.monotonic()
    cluster.status("open")
    _until(lambda: _alarms(stage) > before, "the line's alarm at the province")
    lag = time.monotonic() - begun
    cluster.status("normal")
    _until(lambda: _alarms(stage) > before + 1, "its end")
    return lag


def _alarms(stage: _Commune) -> int:
    events = stage.watcher.export()["events"]
    return sum(1 for e in events if e["body"].get("what") == "line-open")


def _alert(stage: _Commune, clusters: list[_Cluster], k: int) -> list[float]:
    args = stage.broadcast("province", f"bao-{k}", [{"chime": "gong"}])
    signed = stage.province.sign("province", "broadcast", args, [f"group:{PROVINCE_GROUP}"], ttl_s=600)
    begun = time.monotonic()
    stage.publisher.send(signed)
    _until(lambda: all(signed.jti in c.received for c in clusters), "the alert is everywhere")
    return [(c.received[signed.jti] - begun) * 1000 for c in clusters]


def _cpu_percent(stage: _Commune, seconds: float) -> float:
    before, begun = _ticks(stage), time.monotonic()
    time.sleep(seconds)
    return 100 * (_ticks(stage) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)


def _ticks(stage: _Commune) -> int:
    total = 0
    for pid in proc.tree(stage.agent_pid()):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def _until(what: Callable[[], bool], why: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.002)
    raise BenchError(f"not within {PATIENCE_S:.0f} s: {why}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _unbase64(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
