"""A whole commune in network namespaces: a station and its clusters, each a machine of its own on one network.

Every machine runs `tram run` with a sound card that is a file and drifts as told. The province's broker and content
server run outside, on the bridge. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import wave
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.broker import Broker
from province.content_server import ContentServer
from province.pki import make
from province.publish import Access, Publisher
from province.record import Record
from province.store import Endpoint, Province, Settings, Signed
from province.watch import Watcher

NET = f"10.{200 + os.getpid() // 250 % 50}.{os.getpid() % 250 + 1}"
"""A network of this process alone: several runs at once must not meet."""
STATION = "xa-mau"
GROUP = "xa-mau-cum"
RATE = 48_000
PATIENCE_S = 40.0
BUFFER_MS = 200
"""What an underrun costs is not made up for, and three stations share a busy test machine."""


def possible() -> str | None:
    """Why not, if namespaces cannot be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    name = f"tram-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        return made.stderr.decode().strip() or "ip netns does not work here"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


MACHINES = [
    pytest.mark.broker,
    pytest.mark.xdist_group("commune"),
    pytest.mark.skipif(possible() is not None, reason=f"network namespaces: {possible()}"),
]
"""Marks of tests that need machines of their own."""


def until(what: Callable[[], Any], why: str | Callable[[], object], patience_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
            if answer := what():
                return answer
        time.sleep(0.02)
    raise AssertionError(f"it did not happen: {why() if callable(why) else why}")


class Machine:
    """One device: a namespace, a folder, a configuration, an agent."""

    def __init__(self, commune: Commune, name: str, number: int, config: dict[str, Any]) -> None:
        self.name = name
        self.commune = commune
        self.ns = f"{commune.tag}-{number}"
        self.address = f"{NET}.{number + 1}"
        self.dir = commune.dir / name
        self.dir.mkdir(parents=True)
        self.run_dir = commune.run / name
        self.wav = self.dir / "sound.wav"
        self.config_path = self.dir / "station.yaml"
        self.config = config
        self.agent: subprocess.Popen[bytes] | None = None

    def write(self) -> None:
        self.config_path.write_text(yaml.safe_dump(self.config, allow_unicode=True, sort_keys=False), "utf-8")

    def start(self) -> None:
        with (self.dir / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                ["ip", "netns", "exec", self.ns, sys.executable, "-m", "agent", "run", "--config", self.config_path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.agent.send_signal(how)
            try:
                self.agent.wait(15)
            except subprocess.TimeoutExpired:
                self.agent.kill()
                self.agent.wait()

    def power_off(self) -> None:
        """All its processes at once, as a power cut."""
        self.stop(signal.SIGKILL)
        self.end_all()

    def end_all(self) -> None:
        pids = subprocess.run(["ip", "netns", "pids", self.ns], capture_output=True, text=True, check=False)
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def cable(self, *, plugged: bool) -> None:
        self.commune.ip("link", "set", f"{self.ns}v", "up" if plugged else "down")

    def ask(self, what: str, **args: Any) -> dict[str, Any]:
        return _exchange(self.run_dir / "agent.sock", {"do": what, "args": args})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status")["result"]
        return found

    def press(self, button: str, seconds: float = 0.2) -> None:
        _exchange(self.dir / "hardware.sock", {"do": "press", "button": button, "seconds": seconds})

    @property
    def log(self) -> str:
        return (self.dir / "agent.log").read_text("utf-8", "replace")

    def heard(self, after: float = 0.0) -> float | None:
        """Wall time of the first sample after `after` that sounds; None: silence."""
        t0, speed, samples = self.recording()
        first = max(0, round((after - t0) * speed))
        return next((t0 + i / speed for i in range(first, len(samples)) if abs(samples[i]) > 200), None)

    def recording(self) -> tuple[float, float, array[int]]:
        """Wall time of sample 0, samples a second of its card, the samples."""
        told = json.loads(self.wav.with_suffix(".json").read_bytes())
        data = self.wav.read_bytes()[44:]
        return told["t0"], RATE * (1 + told.get("drift_ppm", 0) / 1e6), array("h", data[: len(data) // 2 * 2])


class Commune:
    """Use as a context manager. `drifts`: one cluster for each, of so many ppm. `sims`: clusters with a SIM too.

    `delays_ms`: by how much each cluster plays later, for the distance to the neighbouring horn. `station`: more of its
    configuration.
    """

    def __init__(
        self,
        drifts: Sequence[float],
        *,
        sims: Sequence[int] = (),
        delays_ms: Sequence[float] = (),
        station_drift: float = 0.0,
        station: dict[str, Any] | None = None,
    ) -> None:
        self.tag = f"tr{os.getpid() % 100_000}"
        self._drifts = list(drifts)
        self._sims = set(sims)
        self._delays_ms = list(delays_ms) or [0.0] * len(self._drifts)
        self._station_drift = station_drift
        self._more = station or {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Commune:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @staticmethod
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def _set_up(self) -> None:
        self.dir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tram-commune-")))
        self.run = self.dir / "r"
        names = [f"{STATION}-cum-{i + 1}" for i in range(len(self._drifts))]
        self.ip("link", "add", self.tag, "type", "bridge")
        self._stack.callback(subprocess.run, ["ip", "link", "del", self.tag], check=False)
        self.ip("addr", "add", f"{NET}.1/24", "dev", self.tag)
        self.ip("link", "set", self.tag, "up")
        self.pki = make(self.dir / "pki", [STATION, *names], [f"{NET}.1"])
        self.pki.server("station-lan", [f"{NET}.2"])
        server = self.pki.identity("content")
        (self.dir / "media").mkdir()
        self.content = ContentServer(self.dir / "media", server.cert, server.key, host=f"{NET}.1")
        self.content.start()
        self._stack.callback(self.content.stop)
        groups = {name: ["tinh-mau"] for name in (STATION, *names)}
        self.broker = Broker(self.dir / "broker", self.pki, groups, clusters={STATION: names}, host=f"{NET}.1")
        self.broker.start()
        self._stack.callback(self.broker.stop)
        right: dict[str, Any] = {"keys": [], "ops": ["*"], "max_class": Class.EMERGENCY, "zones": ["*"]}
        self.province = Province.create(
            self.dir,
            [
                AuthorityEntry(id="tinh", level="province", rank=100, units=["84"], **right),
                AuthorityEntry(id="xa", level="commune", rank=10, units=["84/86/xa-mau"], **right),
            ],
            settings=Settings(name="Tỉnh", broker=Endpoint(f"{NET}.1", self.broker.port), media_url=self.content.url),
            roots=1,
            threshold=1,
        )
        self.record = Record()
        self.watcher = Watcher(Access.watcher(self.province), self.record)
        self.watcher.start()
        self._stack.callback(self.watcher.stop)
        self.publisher = Publisher(Access.publisher(self.province))
        self.publisher.open()
        self._stack.callback(self.publisher.close)
        self.station = Machine(self, STATION, 1, self._station(names))
        self.clusters = [Machine(self, name, i + 2, self._cluster(name, i)) for i, name in enumerate(names)]
        for machine in self.machines:
            self._plug_in(machine)
            machine.config["data_dir"] = str(machine.dir / "data")
            machine.config["run_dir"] = str(machine.run_dir)
            machine.config["hardware"] = {
                "gpio": "virtual",
                "clock": "virtual",
                "control": str(machine.dir / "hardware.sock"),
            }
            machine.config["zones"][0]["output"]["path"] = str(machine.wav)
            machine.write()
            self._stack.callback(machine.end_all)
            self._stack.callback(machine.stop)
            machine.start()

    @property
    def machines(self) -> list[Machine]:
        return [self.station, *self.clusters]

    def _plug_in(self, machine: Machine) -> None:
        self.ip("netns", "add", machine.ns)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", machine.ns], check=False)
        self.ip("link", "add", f"{machine.ns}v", "type", "veth", "peer", "name", "eth0", "netns", machine.ns)
        self.ip("link", "set", f"{machine.ns}v", "master", self.tag, "up")
        self.ip("-n", machine.ns, "addr", "add", f"{machine.address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            self.ip("-n", machine.ns, "link", "set", link, "up")

    def _device(self, name: str, unit: str, role: str, drift: float) -> dict[str, Any]:
        return {
            "device": {"id": name, "name": name, "unit": unit, "role": role, "groups": ["tinh-mau"]},
            "timezone": "UTC",
            "trust": {
                "root_keys": str(self.dir / "root_keys.json"),
                "authorities": str(self.dir / "authorities.json"),
            },
            "content": {"allowed_hosts": [f"{NET}.1:{self.content.port}", f"{NET}.1"], "ca": str(self.pki.ca)},
            "normal_from_above": "auto",
            "zones": [
                {
                    "id": f"loa-{name}",
                    "kind": "sound",
                    "output": {"driver": "wav", "path": "", "buffer_ms": BUFFER_MS, "drift_ppm": drift},
                }
            ],
        }

    def _link(self, name: str, host: str, port: int) -> dict[str, Any]:
        identity = self.pki.identity(name)
        files = {"ca": str(self.pki.ca), "cert": str(identity.cert), "key": str(identity.key)}
        return {"host": host, "port": port, **files}

    def _station(self, names: Sequence[str]) -> dict[str, Any]:
        config = self._device(STATION, "84/86/xa-mau", "station", self._station_drift)
        config["mqtt"] = self._link(STATION, f"{NET}.1", self.broker.port) | {"reconnect_max_s": 2}
        config["trust"] |= {"station_key": str(self.dir / "keys" / "xa.jwk"), "station_authority": "xa"}
        config["cluster_link"] = self._link("station-lan", f"{NET}.2", 8884) | {"group": GROUP}
        config["clusters"] = [{"id": f"cum-{i + 1}", "device": name} for i, name in enumerate(names)]
        config["messages"] = [
            {"id": "so-tan", "title": "Sơ tán", "text": "Sơ tán ngay.", "chime": "siren"},
        ]
        config["buttons"] = [
            {"id": "khan-cap", "pin": 5, "action": {"message": "so-tan"}},
            {"id": "dung", "pin": 6, "action": {"stop": True}},
            {"id": "ngat", "pin": 7, "action": {"silence": True}},
        ]
        return config | self._more

    def _cluster(self, name: str, number: int) -> dict[str, Any]:
        config = self._device(name, f"84/86/xa-mau/ap-{number + 1}", "cluster", self._drifts[number])
        config["device"]["groups"] = ["tinh-mau", GROUP]
        config["zones"][0]["delay_ms"] = self._delays_ms[number]
        config["parent"] = self._link(name, f"{NET}.2", 8884) | {"media": f"https://{NET}.2:8443/media"}
        if number in self._sims:
            config["mqtt"] = self._link(name, f"{NET}.1", self.broker.port) | {"reconnect_max_s": 2}
        return config

    # what happens

    def wait_ready(self) -> None:
        """The station's loudspeaker and all clusters are there."""

        def ready() -> bool:
            status = self.station.status()
            rows = status["clusters"].values()
            return bool(status["online"] and status.get("voice") and all(r.get("online") for r in rows))

        until(ready, lambda: f"all are there; {self.station.log[-1500:]}", 3 * PATIENCE_S)
        for cluster in self.clusters:
            until(lambda c=cluster: c.status().get("voice"), f"{cluster.name} has its voice")

    def order(self, aud: Sequence[str], **args: Any) -> Signed:
        """The province's broadcast."""
        made = {"id": f"b{time.time_ns()}", "title": "Tin", "class": "priority", "start": "now", "zones": ["*"]}
        made |= {"resume": "drop", "items": [{"chime": "gong"}]} | args
        signed = self.province.sign("tinh", "broadcast", made, list(aud), ttl_s=600)
        self.publisher.send(signed)
        return signed


def _exchange(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(json.dumps(message).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        return answer


def skew_s(one: Machine, other: Machine, at: float, seconds: float = 1.0) -> float:
    """How much later the same sound is heard from `other`, at wall time `at`, by cross-correlation."""
    import numpy as np

    pieces = []
    grid = at + np.arange(round(seconds * RATE)) / RATE
    for machine in (one, other):
        t0, speed, samples = machine.recording()
        at_sample = (grid - t0) * speed
        pieces.append(np.interp(at_sample, np.arange(len(samples)), np.frombuffer(samples.tobytes(), "<i2")))
    a, b = (p - p.mean() for p in pieces)
    size = 2 * len(a)
    spectrum = np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size))
    lags = np.fft.irfft(spectrum, size)
    lag = int(np.argmax(lags))
    return (lag - size if lag > size // 2 else lag) / RATE


def noise(path: Path, seconds: float, seed: int = 7) -> Path:
    """Something that is like nothing but itself at every moment: band-limited noise, at −14 dBFS or so."""
    import numpy as np

    raw = np.random.default_rng(seed).normal(0, 1, round(seconds * RATE))
    spectrum = np.fft.rfft(raw)
    spectrum[round(len(spectrum) * 4000 / (RATE / 2)) :] = 0
    sound = np.fft.irfft(spectrum, len(raw))
    values = np.clip(sound / np.abs(sound).max() * 20_000, -32_000, 32_000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    return path


@contextlib.contextmanager
def paused(*machines: Machine) -> Iterator[None]:
    """Without these machines."""
    for machine in machines:
        machine.power_off()
    try:
        yield
    finally:
        for machine in machines:
            machine.start()


def owned(machine: Machine) -> bool:
    return any("owner" in zone for zone in machine.status()["zones"].values())


def entries(machine: Machine) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{machine.dir / 'data' / 'tram.db'}?mode=ro", uri=True) as db:
        return [json.loads(row[0]) for row in db.execute("SELECT entry FROM playlog ORDER BY n")]
