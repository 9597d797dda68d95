"""The process `python -m agent.ear`: receivers, microphones and sensors in, `EarEvent`s out, a JSON line each.

Standard input and output are the connection to the agent, whether the agent or systemd has started it; it ends with
that. Only what sounds goes before it: its alarms are to come within 10 s on a busy station too (as a nice process it
got none out in 40 s beside 14 busy ones), and it needs some hundredths of a core. numpy is needed where there are
monitors, and imported only then; sensors are read in threads, for a bus may block.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from agent import machine
from agent.ear.sensing import Sensing
from agent.ear.tap import Tap
from agent.model.config import Sensor, Station, Zone
from agent.model.ear import ALIVE_S, EAR_SOCKET, Check, Checked, EarEvent, Noticed, Ready
from agent.model.health import Line, Verdict
from agent.model.loader import load
from drivers.sensor import open_sensor

if TYPE_CHECKING:
    from agent.ear.listening import Listening
    from agent.ear.tape import Tape
    from drivers.capture import Capture

TURN_S = 1.0
REOPEN_S = 5.0
STUCK_S, STUCK_PERIODS = 5.0, 3
PACKET = 65_536
PIPE = 1 << 16

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Check)


class Ear:
    """Everything that this station hears and feels."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._poll = select.poll()
        self._readings: queue.SimpleQueue[tuple[str, Mapping[str, object] | Exception]] = queue.SimpleQueue()
        self._sensing = {s.id: Sensing(s) for s in station.sensors}
        self._read_ns = dict.fromkeys(self._sensing, time.monotonic_ns())
        """When each sensor has last said anything: a bus may hang."""
        self._listening: list[Listening] = []
        self._tapes: dict[int, Tape] = {}
        self._tap: Tap | None = None
        self._pipes: dict[int, tuple[Listening, Capture]] = {}
        self._input = b""
        self._checks: list[Check] = []
        self._failed: dict[str, float] = {}
        """Monitors that could not be opened, and when they are tried again."""
        self._alive_due = 0.0
        self._live()
        if station.monitors:
            try:
                self._prepare()
            except ImportError as error:  # sensors go on
                for monitor in station.monitors:
                    self._tell(Noticed("ear", monitor.id, f"{monitor.id}: {error}", monitor.zone))
        for sensor in station.sensors:
            threading.Thread(target=self._sense, args=(sensor,), name=f"sensor-{sensor.id}", daemon=True).start()

    def _prepare(self) -> None:
        from agent.ear.listening import Listening
        from agent.ear.tape import Tape

        numbers = {z.id: i for i, z in enumerate(self._station.zones)}
        self._tap = Tap(os.path.join(self._station.run_dir, EAR_SOCKET))
        for monitor in self._station.monitors:
            number = numbers[monitor.zone]
            tape = self._tapes.setdefault(number, Tape())
            zone = self._station.zone(monitor.zone)
            external = partial(_may_be_heard, zone, ZoneInfo(self._station.timezone))
            listening = Listening(monitor, tape, time.monotonic_ns(), external=external)
            self._listening.append(listening)
            self._open(listening)

    def _open(self, listening: Listening) -> None:
        from drivers.capture import open_capture

        name = listening.monitor.id
        try:
            capture = open_capture(listening.monitor)
            fd = capture.open()
        except (OSError, ImportError) as error:
            self._failed[name] = time.monotonic() + REOPEN_S
            listening.fails(str(error))
            return
        self._failed.pop(name, None)
        self._pipes[fd] = listening, capture
        self._poll.register(fd, select.POLLIN)

    def run(self) -> int:
        """Until standard input ends: 0."""
        self._poll.register(0, select.POLLIN)
        due = time.monotonic() + TURN_S
        while True:
            for fd, _ in self._poll.poll(max(0.0, due - time.monotonic()) * 1000):
                if fd == 0:
                    if not self._commands():
                        return 0
                else:
                    self._take_heard(fd)
            self._take_sent()
            self._verdicts()
            if time.monotonic() >= due:
                due = max(due + TURN_S, time.monotonic())
                self._turn()

    def _live(self) -> None:
        """Say that it lives, to the agent and to systemd."""
        if time.monotonic() >= self._alive_due:
            self._alive_due = time.monotonic() + ALIVE_S
            self._tell(Ready())
            machine.notify("WATCHDOG=1")

    def _turn(self) -> None:
        self._live()
        with contextlib.suppress(queue.Empty):
            while True:
                name, reading = self._readings.get_nowait()
                self._read_ns[name] = time.monotonic_ns()
                self._take_reading(name, reading)
        for name, at_ns in self._read_ns.items():
            silent_s = (time.monotonic_ns() - at_ns) / 1e9
            if silent_s > STUCK_S + STUCK_PERIODS * self._sensing[name].sensor.period_s:
                self._take_reading(name, TimeoutError(f"no answer for {silent_s:.0f} s"))
        now = time.monotonic_ns()
        for listening in self._listening:
            due = self._failed.get(listening.monitor.id)
            if due is not None and time.monotonic() >= due:
                self._open(listening)
            for told in listening.turn(now):
                self._tell(told)

    def _verdicts(self) -> None:
        """Answer the checks that can be answered."""
        for listening in self._listening:
            for checked in listening.verdicts(time.monotonic_ns()):
                self._tell(self._with_current(checked))
        for check in self._checks:  # nobody hears that zone: what its sensors say
            self._tell(self._with_current(Checked(check.zone, Verdict.UNKNOWN)))
        self._checks.clear()

    def _take_reading(self, name: str, reading: Mapping[str, object] | Exception) -> None:
        for event in self._sensing[name].take(reading):
            self._tell(event)

    def _with_current(self, checked: Checked) -> Checked:
        """A self-test's finding, with what the line's sensor says of it: an open line explains a silence."""
        for sensing in self._sensing.values():
            if sensing.sensor.zone != checked.zone:
                continue
            checked = msgspec.structs.replace(checked, current_ma=sensing.current_ma)
            if sensing.line in (Line.OPEN, Line.SHORT):
                checked = msgspec.structs.replace(checked, verdict=Verdict(sensing.line.value))
            elif sensing.line is Line.NORMAL and checked.verdict is Verdict.UNKNOWN:
                checked = msgspec.structs.replace(checked, verdict=Verdict.OK)
        return checked

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _commands(self) -> bool:
        data = os.read(0, PACKET)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                check = _decoder.decode(line)
                heard = [x for x in self._listening if x.monitor.zone == check.zone]
                for listening in heard:
                    listening.check(check)
                if not heard:
                    self._checks.append(check)
        return bool(data)

    def _take_sent(self) -> None:
        if self._tap is None:
            return
        from agent.ear.compare import samples

        for at_ns, number, data in self._tap.take():
            if number in self._tapes:
                self._tapes[number].write(samples(data), at_ns)

    def _take_heard(self, fd: int) -> None:
        data = os.read(fd, PIPE)
        listening, capture = self._pipes[fd]
        if data:
            listening.hear(data[: len(data) // 2 * 2], time.monotonic_ns())
            return
        self._poll.unregister(fd)
        os.close(fd)
        del self._pipes[fd]
        listening.fails("; ".join(capture.take_faults()))
        self._failed[listening.monitor.id] = time.monotonic() + REOPEN_S

    def _sense(self, sensor: Sensor) -> None:
        """A sensor's thread: it reads, and opens the bus again where it failed."""
        read = None
        while True:
            try:
                read = read or open_sensor(sensor, self._station.hardware.control)
                reading: Mapping[str, object] | Exception = read()
            except Exception as error:  # noqa: BLE001 - whatever a bus or a library raises is a sensor that fails
                read, reading = None, error
            self._readings.put((sensor.id, reading))
            time.sleep(sensor.period_s)

    def _tell(self, event: EarEvent) -> None:
        sys.stdout.buffer.write(_encoder.encode(event) + b"\n")
        sys.stdout.buffer.flush()


def _may_be_heard(zone: Zone, tz: tzinfo) -> bool:
    from agent.ear.watch import may_be_heard

    return may_be_heard(zone, time.time(), tz)


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m agent.ear`."""
    parser = argparse.ArgumentParser(prog="agent.ear")
    parser.add_argument("--config", required=True)
    try:
        return Ear(load(parser.parse_args(arguments).config)).run()
    except ConnectionError:
        return 0  # the agent is gone
