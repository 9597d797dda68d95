"""Training stations as the benchmarks need them: without the demo's own relay, and with an ear at voice."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import yaml

from agent.model import voice as v
from province.bench.proc import Meter
from province.bench.voice_rig import BenchError
from province.demo.stage import DEVICE, Stage

MEMORY = "/dev/shm"  # noqa: S108 - what is made in it is ours alone
Kind = TypeVar("Kind", bound=v.Event)
_decoder = msgspec.json.Decoder(v.VoiceEvent)


class DirectStage(Stage):
    """The device reaches the broker without a relay in this process, whose threads would delay it."""

    def __enter__(self) -> Self:
        """Everything is up."""
        super().__enter__()
        return self

    def _write_config(self) -> None:
        """Without sensors, so that no ear runs beside what is measured."""
        super()._write_config()
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        del config["sensors"]
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")

    def start_agent(self) -> None:
        """As the stage does, after the configuration was changed."""
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        config["mqtt"]["port"] = self.broker_port()
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")
        super().start_agent()

    def broker_port(self) -> int:
        """Where the device connects."""
        return self.broker.port

    def agent_pid(self) -> int:
        """Of the running agent, whose descendants are the station's processes."""
        return self.pids()["agent"]

    def broadcast(self, iss: str, name: str, items: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Arguments of a bulletin for all zones, to be signed."""
        args = {"id": name, "title": name, "start": "now", "zones": ["*"], "items": items, "resume": "drop"}
        return args | {"class": "emergency" if iss == "province" else "priority"} | more

    def order(self, iss: str, args: dict[str, Any]) -> None:
        """Sign and publish a bulletin."""
        self.publisher.send(self.province.sign(iss, "broadcast", args, [DEVICE], ttl_s=3600))

    def media(self, path: Path) -> dict[str, Any]:
        """An item that is a file from the content server."""
        media: dict[str, Any] = msgspec.to_builtins(self.province.media(path))
        return {"media": media}

    def wait_for(self, what: str, fits: Callable[[dict[str, Any]], bool], timeout_s: float) -> None:
        """Until the station's status is such. BenchError with `what` when it never is."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(OSError, KeyError):
                if fits(self.ask("status")["result"]):
                    return
            time.sleep(0.1)
        raise BenchError(f"{what} within {timeout_s:g} s")

    def beats(self) -> list[dict[str, Any]]:
        """All beats so far, as received."""
        with self.watcher.changed:
            return [row["body"] for row in self.watcher.export()["beats"]]


class MeteredStage(DirectStage):
    """The device's connection runs through a counter; its board's pictures lie in memory, as in a device's /run."""

    meter: Meter | None = None

    def start_agent(self) -> None:
        """With the board's folder in memory: its clock is a new picture each minute."""
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        memory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tram-bench-", dir=MEMORY)))
        for zone in config["zones"]:
            if zone["kind"] == "screen":
                zone["output"]["dir"] = str(memory / zone["id"])
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")
        super().start_agent()

    def broker_port(self) -> int:
        """That of the counter."""
        if self.meter is None:
            self.meter = Meter(("127.0.0.1", self.broker.port))
            self.meter.start()
        return self.meter.port

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        if self.meter is not None:
            self.meter.stop()


class TappedStage(DirectStage):
    """Voice runs before its agent does, and its events can be heard here too."""

    def start_agent(self) -> None:
        """Voice first."""
        self._events: queue.SimpleQueue[v.Event] = queue.SimpleQueue()
        self.faults: list[v.Fault] = []
        self.underruns = 0
        run_dir = Path(self.config.run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        with (self.out / "device" / "voice.log").open("ab") as log:
            self._voice = subprocess.Popen(
                [sys.executable, "-m", "province.bench.tapped_voice", str(self.config_path), str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
            )
        os.close(write_end)
        threading.Thread(target=self._listen, args=(read_end,), name="tap", daemon=True).start()
        end = time.monotonic() + 10
        while not (run_dir / "voice.sock").exists():
            if time.monotonic() > end or self._voice.poll() is not None:
                raise BenchError("the tapped voice did not start")
            time.sleep(0.01)
        super().start_agent()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._voice.terminate()
        try:
            self._voice.wait(5)
        except subprocess.TimeoutExpired:
            self._voice.kill()
            self._voice.wait()

    def _listen(self, fd: int) -> None:
        with os.fdopen(fd, "rb") as lines:
            for line in lines:
                event = _decoder.decode(line)
                if isinstance(event, v.Fault):
                    self.faults.append(event)
                if isinstance(event, v.Ended):
                    self.underruns += event.underrun_samples
                self._events.put(event)

    def hear(self, kind: type[Kind], fits: Callable[[Kind], bool], timeout_s: float) -> Kind | None:
        """The next event of a kind that fits; others are passed over. None when none comes."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=left)
                if isinstance(event, kind) and fits(event):
                    return event
        return None
