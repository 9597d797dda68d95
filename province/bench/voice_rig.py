"""One real voice process with the benchmark in the agent's place, on the shipped example of a commune station."""

from __future__ import annotations

import contextlib
import copy
import itertools
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from msgspec import Struct

from agent.model import voice as v
from agent.model.events import SpeechFailed, SpeechReady
from agent.sound import messages
from agent.sound.speech import OfflineSpeech
from agent.voice.client import VoiceClient
from province.demo.stage import EXAMPLES, exchange

Kind = TypeVar("Kind", bound=Struct)


class BenchError(Exception):
    """A benchmark cannot be made here; the message says why."""


def tell_nobody(event: Struct, *, urgent: bool = False) -> None:
    """An inbox for what is of no interest."""


class VoiceRig:
    """Makes the configuration in `folder`; `spawn` starts voice, `close` ends it.

    The amplifier's warm-up and cool-down are `power_s` instead of seconds, so that a hundred starts do not take an
    hour; nothing that is measured waits for them.
    """

    ZONE = "loa-xa"
    BUTTON = "khan-cap"
    TWINS = range(20, 26)
    """Pins of as many buttons like it: one pressed more than 30 times a minute counts as a chattering contact."""

    def __init__(self, folder: Path, power_s: float = 0.2) -> None:
        self.folder = folder
        self.config = folder / "station.yaml"
        self.log = folder / "voice.log"
        self._hardware = folder / "hardware.sock"
        self._power_s = power_s
        self._process: subprocess.Popen[bytes] | None = None
        self._client: VoiceClient | None = None
        self._events: queue.SimpleQueue[Struct] = queue.SimpleQueue()
        self._write_config()

    def _write_config(self) -> None:
        example = yaml.safe_load((EXAMPLES / "commune-station.yaml").read_text("utf-8"))
        del example["mqtt"]
        button = next(b for b in example["buttons"] if b["id"] == self.BUTTON)
        self.debounce_ms: float = button["debounce_ms"]
        plain = {k: v for k, v in button.items() if k not in ("lamp", "key_switch")}
        example["buttons"] = [{**copy.deepcopy(plain), "id": f"{self.BUTTON}-{pin}", "pin": pin} for pin in self.TWINS]
        self._twins = itertools.cycle(f"{self.BUTTON}-{pin}" for pin in self.TWINS)
        example["data_dir"] = str(self.folder / "data")
        example["run_dir"] = str(self.folder)
        example["hardware"] = {"gpio": "virtual", "control": str(self._hardware)}
        for zone in example["zones"]:
            if zone["kind"] == "sound":
                zone["output"] = {"driver": "wav", "path": str(self.folder / "voice.wav")}
                zone["power"] = [{"relay": "tang-am", "warm_up_s": self._power_s, "cool_down_s": self._power_s}]
            else:
                zone["output"]["dir"] = str(self.folder / "board")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(example, allow_unicode=True, sort_keys=False), "utf-8")
        self._texts = {m["id"]: m["text"] for m in example["messages"]}

    def pin_messages(self) -> None:
        """Have the stored messages spoken, as the agent does at its first start: voice keeps them in memory."""
        spoken: queue.SimpleQueue[Struct] = queue.SimpleQueue()
        data = self.folder / "data"
        speech = OfflineSpeech(lambda event, urgent=False: spoken.put(event), data / "speech")
        for name, text in self._texts.items():
            speech.render(name, text, "vi")
        for _ in self._texts:
            event = spoken.get(timeout=60)
            if isinstance(event, SpeechFailed):
                raise BenchError(f"a stored message cannot be spoken: {event.detail}")
            if isinstance(event, SpeechReady):
                messages.pin(data, event.key, Path(event.path))

    def spawn(self) -> tuple[int, v.Hello]:
        """Start voice and connect: CLOCK_MONOTONIC nanoseconds just before the start, and voice's first packet."""
        command = [sys.executable, "-m", "agent", "voice", "--config", str(self.config)]
        self._events = queue.SimpleQueue()
        with self.log.open("ab") as log:
            begun = time.monotonic_ns()
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        events = self._events
        self._client = VoiceClient(str(self.folder / "voice.sock"), lambda event, urgent=False: events.put(event))
        self._client.start()
        try:
            hello = self.wait(v.Hello, timeout_s=20)
        except BenchError:
            self.close()
            tail = self.log.read_text("utf-8", "replace")[-500:]
            raise BenchError(f"voice did not come up; its log ends with: {tail}") from None
        return begun, hello

    def close(self) -> None:
        """End voice. May be called twice."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> VoiceRig:
        self.spawn()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the running voice."""
        if self._process is None:
            raise BenchError("voice is not running")
        return self._process.pid

    def send(self, command: v.VoiceCommand, fd: int | None = None) -> None:
        """One command; `fd` is closed here."""
        if self._client is None:
            raise BenchError("voice is not running")
        self._client.send(command, fd)

    def press(self, seconds: float = 0.05) -> int:
        """Press an emergency button, each in turn: CLOCK_MONOTONIC nanoseconds at the edge."""
        question = {"do": "press", "button": next(self._twins), "seconds": seconds}
        answer: dict[str, Any] = exchange(self._hardware, question)
        return int(answer["at_ns"])

    def wait(self, kind: type[Kind], fits: Callable[[Kind], bool] = lambda _: True, timeout_s: float = 5.0) -> Kind:
        """The next event of a kind that fits; others are passed over. BenchError when none comes."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=left)
                if isinstance(event, kind) and fits(event):
                    return event
        raise BenchError(f"voice sent no {kind.__name__} within {timeout_s:g} s")
