"""The real voice process on the paced WAV sink and the virtual GPIO, and what a test asks of it."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import time
import wave
from array import array
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent.model import voice as v
from agent.voice.client import VoiceClient

MS = 1_000_000
WAIT_S = 10.0

HEAD = """
device: {id: tram-thu, name: Trạm thử, unit: 84/86/xa-mau}
trust: {root_keys: roots.json, authorities: authorities.json}
data_dir: data
run_dir: run
hardware: {gpio: virtual, control: run/control.sock}
"""
"""How the configuration of a station begins that is voice alone, with virtual pins."""
CONFIG = (
    HEAD
    + """
zones:
  - {id: hall, kind: sound, output: {driver: wav, path: out/station.wav, buffer_ms: 100}}
  - id: hamlet
    kind: sound
    output: {driver: wav, path: out/station.wav, buffer_ms: 100}
    power: [{relay: amplifier, warm_up_s: 0.2, cool_down_s: 0.2}]
relays: [{id: amplifier, pin: 5}]
buttons:
  - {id: fire, pin: 6, action: {message: fire}, zones: [hall]}
  - {id: stop, pin: 7, action: {stop: true}}
messages: [{id: fire, title: Cháy, text: "Cháy!", chime: null}]
"""
)


def write_wav(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(array("h", values).tobytes())


def read_wav(path: Path) -> list[list[int]]:
    """The channels."""
    with wave.open(str(path), "rb") as file:
        channels = file.getnchannels()
        samples = array("h", file.readframes(file.getnframes()))
    return [list(samples[i::channels]) for i in range(channels)]


class Process:
    """`python -m agent.voice` in a folder."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.folder = folder
        (folder / "station.yaml").write_text(config, encoding="utf-8")
        self.events: queue.SimpleQueue[Struct] = queue.SimpleQueue()
        self.seen: list[Any] = []
        self.client: VoiceClient | None = None
        self.child: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        with (self.folder / "voice.log").open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "agent.voice", "--config", str(self.folder / "station.yaml")],
                stderr=log,
                env={**os.environ, **env},
            )

    def connect(self) -> Any:
        """A new connection; its Hello."""
        self.client = VoiceClient(str(self.folder / "run" / "voice.sock"), self.post)
        self.client.start()
        return self.wait(v.Hello)

    def post(self, event: Struct, *, urgent: bool = False) -> None:
        self.events.put(event)

    def do(self, *commands: Any, fd: int | None = None) -> None:
        assert self.client is not None
        for command in commands:
            self.client.send(command, fd)
            fd = None

    def wait(self, kind: type[Any], **fields: Any) -> Any:
        """The next event of that kind with these fields."""
        deadline = time.monotonic() + WAIT_S
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if isinstance(event, kind) and all(getattr(event, k) == x for k, x in fields.items()):
                return event

    def control(self, **asked: Any) -> dict[str, Any]:
        """One line over the control socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "run" / "control.sock"))
            sock.sendall(json.dumps(asked).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
            return answer

    def end(self, how: str = "terminate") -> int:
        """End it; its exit code."""
        if self.client is not None:
            self.client.close()
            self.client = None
        assert self.child is not None
        if self.child.poll() is None:
            getattr(self.child, how)()
        return self.child.wait(WAIT_S)

    def recording(self) -> tuple[dict[str, Any], list[list[int]]]:
        told = json.loads((self.folder / "out" / "station.json").read_text())
        return told, read_wav(self.folder / "out" / "station.wav")

    def origin_ns(self) -> int:
        """CLOCK_MONOTONIC of sample 0, by the wall clock."""
        t0: float = json.loads((self.folder / "out" / "station.json").read_text())["t0"]
        return time.monotonic_ns() - round((time.time() - t0) * 1e9)
