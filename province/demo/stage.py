"""A training station with everything around it: province, broker, content server, one device. No script, no clock.

Everything is made for the run in one folder: keys, certificates, configuration (from `config/commune-station.yaml`),
media. The device's processes know nothing of it: virtual hardware is chosen by the configuration.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agent.model.config import Station as Config
from agent.model.loader import load
from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from drivers.clock import set_virtual_offset
from province.broker import Broker
from province.content_server import ContentServer
from province.demo.relay import Relay
from province.pki import Pki, make
from province.publish import Access, Publisher
from province.record import Record, Taken
from province.store import Endpoint, Province, Settings
from province.watch import Watcher

DEVICE = "xa-mau"
UNIT = "84/86/xa-mau"
EXAMPLES = Path(__file__).resolve().parents[2] / "config"
AUTHORITIES: dict[str, tuple[str, int, Class, str]] = {
    "province": ("province", 100, Class.EMERGENCY, "84/86"),
    "emergency": ("district", 50, Class.EMERGENCY, "84/86"),
    "commune": ("commune", 10, Class.PRIORITY, UNIT),
    "station": ("commune", 10, Class.EMERGENCY, UNIT),
}
"""id → level, rank, highest class, unit."""


BUFFER_MS = 30
"""How far the sound card of this run writes ahead: as short as a voice with real-time priority keeps up with."""


class StageError(Exception):
    """The training station cannot be set up; the message says what and what helps."""


class Stage:
    """Use as a context manager: everything is up inside, and every process has ended after it."""

    def __init__(
        self,
        out: Path,
        *,
        live: dict[str, Any] | None = None,
        card: bool = False,
        broker_via: tuple[str, int] | None = None,
        hear: Callable[[Taken], None] | None = None,
        buffer_ms: int = BUFFER_MS,
        requisition: bool = False,
    ) -> None:
        self.out = out
        self.buffer_ms = buffer_ms
        self._live = live or {}
        self._card = card
        self._via = broker_via
        self._hear = hear
        self._requisition = requisition
        self._stack = contextlib.ExitStack()
        self._agent: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.control = out / "control.sock"
        self.hardware = out / "device" / "hardware.sock"
        self.config_path = out / "station.yaml"

    # setting up

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        out = self.out
        (out / "device").mkdir(parents=True, exist_ok=True)
        self.pki: Pki = make(out / "pki", [DEVICE, "attacker"])
        (out / "media").mkdir(exist_ok=True)
        server = self.pki.identity("content")
        self.content = ContentServer(out / "media", server.cert, server.key, plain=True)
        for name, live in self._live.items():
            self.content.live[name] = live
        self.content.start()
        self._stack.callback(self.content.stop)
        self.broker = Broker(out / "broker", self.pki, {DEVICE: ["tinh-mau"]})
        self.broker.start()
        self._stack.callback(self.broker.stop)
        self.province = Province.create(
            out,
            [
                AuthorityEntry(
                    id=name, level=level, rank=rank, keys=[], ops=["*"], max_class=top, units=[unit], zones=["*"]
                )
                for name, (level, rank, top, unit) in AUTHORITIES.items()
            ],
            settings=Settings(
                name="Tỉnh Mẫu",
                broker=Endpoint("127.0.0.1", self.broker.port),
                media_url=self.content.url,
                devices=[DEVICE],
            ),
            roots=3,
            threshold=2,
        )
        self.relay = Relay(("127.0.0.1", self.broker.port) if self._via is None else self._via)
        self.relay.start()
        self._stack.callback(self.relay.stop)
        self._write_config()
        self.config: Config = load(str(self.config_path))
        self.record = Record(known=[DEVICE])
        self.watcher = Watcher(Access.watcher(self.province), self.record, hear=self._hear)
        self.watcher.start()
        self._stack.callback(self.watcher.stop)
        self.publisher = Publisher(Access.publisher(self.province))
        self.publisher.open()
        self._stack.callback(self.publisher.close)
        self._stack.callback(self._end_agent)
        self.start_agent()
        self._control = ControlSocket(self)
        self._control.start()
        self._stack.callback(self._control.stop)

    def _write_config(self) -> None:
        """The shipped example of a commune station, with this run's addresses and virtual hardware."""
        out = self.out
        example = yaml.safe_load((EXAMPLES / "commune-station.yaml").read_text("utf-8"))
        trust = out / "device" / "trust"
        trust.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "root_keys.json", trust / "roots.json")
        shutil.copy(out / "authorities.json", trust / "authorities.json")
        key = trust / "station.jwk"
        shutil.copy(out / "keys" / "station.jwk", key)
        key.chmod(0o600)
        example["device"] |= {"id": DEVICE, "unit": UNIT}
        identity = self.pki.identity(DEVICE)
        example["mqtt"] = {
            "host": "127.0.0.1",
            "port": self.relay.port,
            "ca": str(out / "pki" / "ca.crt"),
            "cert": str(identity.cert),
            "key": str(identity.key),
            "source_silent_alarm_s": 15,
            "reconnect_max_s": 2,
        }
        example["trust"] = {
            "root_keys": str(trust / "roots.json"),
            "authorities": str(trust / "authorities.json"),
            "station_key": str(key),
            "station_authority": "station",
            "names": [
                {"id": "station", "name": "Ủy ban nhân dân xã Mẫu"},
                {"id": "commune", "name": "Ủy ban nhân dân xã Mẫu"},
                {"id": "province", "name": "Ủy ban nhân dân tỉnh Mẫu"},
                {"id": "emergency", "name": "Ban chỉ huy Phòng thủ dân sự khu vực"},
            ],
        }
        example["data_dir"] = str(out / "device" / "data")
        example["run_dir"] = str(_short_dir(out))
        example["content"] = {
            "allowed_hosts": [f"127.0.0.1:{self.content.port}"],
            "ca": str(out / "pki" / "ca.crt"),
            "loudness_lufs": None,  # what is sent is what is to be found in the recording, sample by sample
        }
        example["priority_order"] = ["station", "commune", "province"]
        example["hardware"] = {"gpio": "virtual", "clock": "virtual", "control": str(self.hardware)}
        also = [{"driver": "alsa", "device": "default"}] if self._card else []
        for zone in example["zones"]:
            if zone["kind"] == "sound":
                zone["output"] = {"driver": "wav", "path": str(out / "station.wav"), "buffer_ms": self.buffer_ms}
                zone["output"]["also"] = also
                zone.setdefault("rules", {})["quiet_hours"] = [_distant_hours()]
                zone["rules"].pop("caps", None)
            else:
                zone["output"]["dir"] = str(out / "board")
        example["sensors"] = [
            {"id": f"tuyen-{z['id']}"[:40], "zone": z["id"], "driver": "virtual"}
            for z in example["zones"]
            if z["kind"] == "sound"
        ]
        if self._requisition:
            self._add_requisitioned(example)
        for source in example["sources"]:
            source["url"] = self.content.live_url(source["id"], plain=True)
            source["silence_s"] = 3
        for message in example["messages"]:
            message["repeat"] = 1
        self.config_path.write_text(yaml.safe_dump(example, allow_unicode=True, sort_keys=False), "utf-8")

    def _add_requisitioned(self, example: dict[str, Any]) -> None:
        """An advertiser's board as in its own example, beside the commune's."""
        theirs = yaml.safe_load((EXAMPLES / "requisitioned-board.yaml").read_text("utf-8"))
        (zone,) = theirs["zones"]
        zone["id"] = "bang-qc"
        zone["output"] = {"driver": "png", "dir": str(self.out / "board-qc"), "width": 640, "height": 360}
        zone["rules"]["requisition_hours"] = ["00:00-24:00"]
        zone.pop("board")
        example["zones"].append(zone)
        example["relays"] += theirs["relays"]

    # processes

    def start_agent(self) -> None:
        """Start the agent, which starts voice."""
        log = (self.out / "device" / "agent.log").open("ab")
        with log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _end_agent(self) -> None:
        agent = self._agent
        if agent is not None and agent.poll() is None:
            agent.terminate()
            try:
                agent.wait(10)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
        pid = self.voice_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def voice_pid(self) -> int | None:
        """The process id of voice, found by its command line; None when it is not there."""
        return next(iter(_processes("voice", str(self.config_path))), None)

    def pids(self) -> dict[str, int]:
        """Process ids of the training station."""
        found = {"demo": os.getpid(), "agent": self._agent.pid if self._agent else 0}
        for name, pid in (("voice", self.voice_pid()), ("broker", self.broker.pid)):
            if pid is not None:
                found[name] = pid
        return found

    def restart(self, what: str, *, kill: bool) -> None:
        """Restart agent, voice or broker, in order or by SIGKILL. Voice is started again by its agent."""
        with self._lock:
            if what == "broker":
                self.broker.restart(kill=kill)
            elif what == "voice":
                pid = self.voice_pid()
                if pid is None:
                    raise StageError("voice is not running")
                os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
            elif what == "agent" and self._agent is not None:
                (self._agent.kill if kill else self._agent.terminate)()
                self._agent.wait(15)
                self.start_agent()
            else:
                raise StageError(f"there is no {what!r} to restart: agent, voice or broker")

    # talking to it

    def ask(self, what: str, **args: Any) -> dict[str, Any]:
        """Ask the agent as the `tram` commands do."""
        return exchange(Path(self.config.run_dir) / "agent.sock", {"do": what, "args": args})

    def press(self, button: str, seconds: float = 0.3) -> dict[str, Any]:
        """Press a wall button of the virtual hardware."""
        return exchange(self.hardware, {"do": "press", "button": button, "seconds": seconds})

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Until the device is online and its buttons are armed. StageError with the log's end when it is not."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            fleet = self.watcher.export()["states"] if self.watcher.up else []
            online = any(row["device"] == DEVICE and row["body"].get("online") for row in fleet)
            with contextlib.suppress(OSError, ValueError):
                if online and self.ask("status")["result"].get("voice"):
                    return
            if self._agent is not None and self._agent.poll() is not None:
                break
            time.sleep(0.05)
        tail = (self.out / "device" / "agent.log").read_text("utf-8", "replace")[-2000:]
        raise StageError(f"the station did not come up; its log ends with:\n{tail}")

    def connection(self) -> dict[str, Any]:
        """`connection.json` (CONTRACT section 9)."""
        sounds = [z.id for z in self.config.zones if z.kind == "sound"]
        return {
            "broker": {"host": "127.0.0.1", "port": self.broker.port},
            "ca": str(self.out / "pki" / "ca.crt"),
            "authorities": {
                name: {"id": name, "level": level, "rank": rank, "key": str(self.out / "keys" / f"{name}.jwk")}
                for name, (level, rank, _, _) in AUTHORITIES.items()
            },
            "root_threshold": 2,
            "devices": [
                {
                    "id": DEVICE,
                    "unit": UNIT,
                    "aliases": list(self.config.device.aliases),
                    "groups": list(self.config.device.groups),
                    "zones": [
                        {
                            "id": z.id,
                            "kind": z.kind,
                            "tags": list(z.tags),
                            "channel": sounds.index(z.id) if z.id in sounds else None,
                        }
                        for z in self.config.zones
                    ],
                    "config": str(self.config_path),
                    "control": str(self.control),
                }
            ],
            "media": {"dir": str(self.out / "media"), "url": self.content.url},
            "pids": self.pids(),
        }


class ControlSocket:
    """The training station's control socket (CONTRACT section 9): one JSON line in, one out."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._socket = socket.socket(socket.AF_UNIX)

    def start(self) -> None:
        """Listen."""
        with contextlib.suppress(FileNotFoundError):
            self._stage.control.unlink()
        self._socket.bind(_bindable(self._stage.control))
        self._socket.listen(8)
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def stop(self) -> None:
        """Close."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                lines.write(json.dumps(self._answer(line), ensure_ascii=False).encode() + b"\n")
                lines.flush()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = msgspec.json.decode(line, type=dict[str, Any])
            verb, args = _verb(asked)
            return {"ok": True, **(self._do(verb, args) or {})}
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, OSError, StageError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _do(self, verb: str, args: dict[str, Any]) -> dict[str, Any] | None:
        stage = self._stage
        match verb:
            case "press" | "set" | "line" | "relays":
                answer = exchange(stage.hardware, {"do": verb, **args})
                if not answer.get("ok"):
                    raise StageError(str(answer.get("error")))
                return {k: v for k, v in answer.items() if k != "ok"}
            case "link":
                if not isinstance(args["up"], bool):
                    raise TypeError("up must be true or false")
                stage.relay.set_up(args["up"])
            case "restart":
                stage.restart(str(args["what"]), kill=bool(args.get("kill")))
                return {"pids": stage.pids()}
            case "clock":
                set_virtual_offset(f"{stage.hardware}.clock", float(args["offset_s"]))
            case _:
                raise StageError(f"no verb {verb!r}: press, set, line, link, restart or clock")
        return None


def _verb(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """`{"do": "press", "button": …}`, or `{"press": {"button": …}}`."""
    if "do" in asked:
        return str(asked["do"]), {k: v for k, v in asked.items() if k != "do"}
    if len(asked) != 1:
        raise ValueError('one verb is expected: {"do": VERB, …} or {VERB: {…}}')
    ((verb, args),) = asked.items()
    return verb, args if isinstance(args, dict) else {}


def exchange(path: Path, question: dict[str, Any], timeout_s: float = 25.0) -> dict[str, Any]:
    """One JSON line to a Unix socket, one back. OSError when nobody listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        sock.connect(_bindable(path))
        sock.sendall(json.dumps(question, ensure_ascii=False).encode() + b"\n")
        with sock.makefile("rb") as lines:
            line = lines.readline()
    if not line:
        raise OSError(f"{path} closed without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _bindable(path: Path) -> str:
    """A Unix socket's path has at most 107 bytes: a longer one is reached through an open folder."""
    if len(str(path).encode()) < 100:
        return str(path)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{folder}/{path.name}"


def _short_dir(out: Path) -> Path:
    """The device's run folder; a short path under /tmp where the output folder's would not fit a socket address."""
    run = out / "device" / "run"
    if len(str(run).encode()) > 80:
        import tempfile

        run = Path(tempfile.mkdtemp(prefix="tram-"))
    return run


def _distant_hours() -> str:
    """Quiet hours that do not meet this run: one hour, twelve hours from now."""
    hour = (time.gmtime().tm_hour + 7 + 12) % 24
    return f"{hour:02d}:00-{(hour + 1) % 24:02d}:00"


def _processes(command: str, config: str) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if command.encode() in words and config.encode() in words:
                    yield int(folder.name)
