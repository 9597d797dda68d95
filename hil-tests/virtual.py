"""The virtual board: the real image in QEMU, in software emulation.

The disk is an overlay over the image, so that each test writes on its own. A power cut is SIGKILL to the emulator: what
the guest had given to its disk stays, as if the card had written its cache; a card that lies about flushes is not
imitated. Sound is recorded on the host, pins are the kernel's simulator, commands go through the guest agent, which
needs no network.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from board import BoardError, Ran, answered, samples

from province.demo.listening import Signal

BOOT_LIMIT_S = 900.0
BOOT_USUAL_S = 25.0
"""From power on to the first answer where nothing else runs."""
CPU = "max,-la57,-svm,-vmx"
"""All that the emulator knows, but five levels of pages and a machine in the machine: the kernel's module
for that patches its code while everything waits, for minutes on a busy machine."""
WAV_HEADER = 44
PINS = "/sys/devices/platform/gpio-sim.0"


class Wire:
    """A Unix socket of the emulator that carries a line of JSON each way."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        """A message out. BoardError when it is not taken: who should read is not up yet, or gone."""
        self._socket.settimeout(5.0)
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise BoardError(f"the emulator takes nothing: {error}") from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, None when none came in time. BoardError when the emulator is gone."""
        deadline = monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = deadline - monotonic()
            if left <= 0:
                return None
            self._socket.settimeout(left)
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            except ConnectionError:
                more = b""
            if not more:
                raise BoardError("the emulator has ended; its last words are in emulator.log")
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            message: dict[str, Any] = json.loads(line.lstrip(b"\xff"))
        except ValueError:
            return {}
        return message

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class VirtualBoard:
    """Implements `board.Board`. `image` is what `image-build/build virtual-board` made; `folder` is this board's own.

    `disk`: an overlay to go on with (it is copied), instead of the fresh image.
    """

    capabilities = frozenset({"virtual_board", "sound", "gpio", "display", "watchdog", "powercut", "network", "clock"})
    host = "10.0.2.2"
    sound_device = "hw:CARD=Intel"

    def __init__(self, image: Path, folder: Path, disk: Path | None = None) -> None:
        self.folder = folder
        self.disk = folder / "disk.qcow2"
        self.patience = 1.0
        self.boots = 0
        self.extra: list[str] = []
        """Further arguments of the emulator, from the next start on."""
        self.append = ""
        """Further words of the kernel's command line."""
        self._image = image
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Wire | None = None
        self._monitor: Wire | None = None
        self._ids = itertools.count(1)
        self._pins = ""
        folder.mkdir(parents=True, exist_ok=True)
        if disk is not None:
            shutil.copy(disk, self.disk)
        else:
            self._tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image / "disk.img", self.disk)

    # -- power -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """See `Board.start`. Deadlines adapt to how long this took."""
        begun = monotonic()
        self.power_on()
        self.wait_for_agent(BOOT_LIMIT_S)
        self.patience = max(1.0, (monotonic() - begun) / BOOT_USUAL_S)

    def power_on(self) -> None:
        """Start the emulator, and wait for nothing."""
        if self._process is not None:
            raise BoardError("the board is on already")
        self.boots += 1
        for name in ("agent", "monitor"):
            (self.folder / name).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "emulator.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        self._agent = self._connect("agent")
        self._monitor = self._connect("monitor")
        self.monitor("qmp_capabilities")

    def power_cut(self) -> None:
        """See `Board.power_cut`."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for wire in (self._agent, self._monitor):
            if wire is not None:
                wire.close()
        self._agent = self._monitor = None
        self._pins = ""

    def shut_down(self, timeout_s: float = 120.0) -> None:
        """An orderly end. BoardError when it does not come."""
        self._say({"execute": "guest-shutdown"})
        process = self._process
        try:
            if process is not None:
                process.wait(timeout_s * self.patience)
        except subprocess.TimeoutExpired:
            raise BoardError("the board does not shut down") from None
        finally:
            self.power_cut()

    close = power_cut

    def wait_for_agent(self, timeout_s: float) -> None:
        """Until the guest agent answers; BoardError, with the console's last lines."""
        deadline = monotonic() + timeout_s
        while monotonic() < deadline:
            with contextlib.suppress(BoardError):
                self.guest("guest-ping", timeout_s=2.0)
                return
            if self._process is None or self._process.poll() is not None:
                break
        raise BoardError(f"the board did not boot within {timeout_s:.0f} s; its console:\n{self.console()[-3000:]}")

    def wait_for_reset(self, timeout_s: float) -> None:
        """Until the emulator tells that the machine is reset, from now on; BoardError. Earlier resets do not count."""
        begun, deadline = int(time()), monotonic() + timeout_s
        while self._monitor is not None and (left := deadline - monotonic()) > 0:
            message = self._monitor.receive(left)
            if message and message.get("event") == "RESET" and message["timestamp"]["seconds"] >= begun:
                return
        raise BoardError(f"the board was not reset within {timeout_s:.0f} s")

    def console(self) -> str:
        """What the serial console has said since power on."""
        with contextlib.suppress(OSError):
            return (self.folder / f"console-{self.boots}.log").read_text("utf-8", "replace")
        return ""

    # -- commands ----------------------------------------------------------------------------------------------------

    def run(self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"") -> Ran:
        """See `Board.run`. `timeout_s` is multiplied by the patience."""
        limit_s = timeout_s * self.patience
        deadline = monotonic() + limit_s
        arguments = {"path": "/bin/sh", "arg": ["-c", command], "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self.guest("guest-exec", arguments, timeout_s=limit_s)["pid"]
        pause_s = 0.05
        while monotonic() < deadline:
            status = self.guest("guest-exec-status", {"pid": pid}, timeout_s=limit_s)
            if status["exited"]:
                out, err = (
                    base64.b64decode(status.get(name, "")).decode("utf-8", "replace")
                    for name in ("out-data", "err-data")
                )
                return Ran(int(status.get("exitcode", 128 + int(status.get("signal", 0)))), out, err)
            sleep(pause_s)
            pause_s = min(1.0, 1.5 * pause_s)
        raise BoardError(f"{command!r} had not ended after {limit_s:.0f} s")

    def guest(self, command: str, arguments: dict[str, Any] | None = None, *, timeout_s: float = 30.0) -> Any:
        """What the guest agent answers; BoardError. Answers to earlier questions that came too late are passed over."""
        number = self._say({"execute": command, "arguments": arguments or {}})
        deadline = monotonic() + timeout_s
        while self._agent is not None:
            message = self._agent.receive(max(0.0, deadline - monotonic()))
            if message is None:
                break
            if message.get("id") != number:
                continue
            if "error" in message:
                raise BoardError(f"the guest agent refuses {command}: {message['error']}")
            return message["return"]
        raise BoardError(f"the guest agent does not answer {command}")

    def _say(self, message: dict[str, Any]) -> int:
        if self._agent is None:
            raise BoardError("the board is off")
        number = next(self._ids)
        self._agent.send({**message, "id": number})
        return number

    def monitor(self, command: str, **arguments: object) -> Any:
        """A command to the emulator's own monitor (QMP); BoardError."""
        if self._monitor is None:
            raise BoardError("the board is off")
        number = next(self._ids)
        self._monitor.send({"execute": command, "arguments": arguments, "id": number})
        while message := self._monitor.receive(30.0):
            if message.get("id") == number:
                if "error" in message:
                    raise BoardError(f"{command}: {message['error']['desc']}")
                return message["return"]
        raise BoardError(f"the emulator does not answer {command}")

    # -- what is around it -------------------------------------------------------------------------------------------

    def press(self, line: int) -> None:
        """See `Board.press`."""
        self._pin(f"echo pull-down >sim_gpio{line}/pull")

    def release(self, line: int) -> None:
        """See `Board.release`."""
        self._pin(f"echo pull-up >sim_gpio{line}/pull")

    def level(self, line: int) -> bool:
        """See `Board.level`."""
        return self._pin(f"cat sim_gpio{line}/value").strip() == "1"

    def _pin(self, command: str) -> str:
        ran = self.run(f"cd {PINS}/gpiochip*[0-9] && {command}")
        if ran.code:
            raise BoardError(f"simulated pins: {ran.err}")
        return ran.out

    def heard(self) -> Signal:
        """See `Board.heard`. Only while the card runs does the recording grow."""
        with contextlib.suppress(OSError):
            return samples(self.recording.read_bytes()[WAV_HEADER:], 2)
        return samples(b"", 2)

    @property
    def recording(self) -> Path:
        """The file that the sound card of this boot is recorded in; its header is right only after the end."""
        return self.folder / f"sound-{self.boots}.wav"

    def screen(self, file: Path) -> None:
        """Write what is on the screen as a PNG."""
        self.monitor("screendump", filename=str(file), format="png")

    def network(self, up: bool) -> None:
        """Plug the cable in or out."""
        self.monitor("set_link", name="nic", up=up)

    def unplug_sound(self) -> None:
        """Take the sound card from the system, by the kernel: the emulator cannot put a codec back."""
        answered(self, "echo 1 >/sys/class/sound/card0/device/remove")

    def plug_sound(self) -> None:
        """Put it back."""
        answered(self, "echo 1 >/sys/bus/pci/rescan")

    # -- the emulator ------------------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        image, folder, share = self._image, self.folder, self._emulator / "usr/share"
        root = f"root=/dev/vda2 ro quiet console=ttyS0 {self.append}"
        return [
            *self._program("qemu-system-x86_64"),
            *("-L", str(share / "qemu"), "-L", str(share / "seabios"), "-nodefaults", "-no-user-config"),
            *("-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", CPU, "-smp", "2", "-m", "1024"),
            *("-display", "none", "-vga", "std", "-uuid", "7c0b5c0e-4f1e-4a51-8f5c-6a0a70616e64"),
            *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd"), "-append", root),
            *("-drive", f"file={self.disk},if=none,id=disk,format=qcow2,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=nic,romfile="),
            *("-audiodev", f"wav,id=sound,path={self.recording},out.frequency=48000"),
            # Not virtio's: after an underrun its driver takes samples that are never played.
            *("-device", "ich9-intel-hda,id=card"),
            *("-device", "hda-output,bus=card.0,audiodev=sound,mixer=off"),
            # A recording begins anew when nobody has it open. A second card, which nobody plays on, keeps it open.
            *("-device", "adlib,audiodev=sound"),
            *("-device", "i6300esb", "-watchdog-action", "reset"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-chardev", f"socket,id=agent,path={folder / 'agent'},server=on,wait=off"),
            *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
            *("-serial", f"file:{folder / f'console-{self.boots}.log'}"),
            *self.extra,
        ]

    @property
    def _emulator(self) -> Path:
        return self._image / "emulator"

    def _program(self, name: str) -> list[str]:
        """Debian 13's program run in place, on any host: with its own loader and libraries."""
        usr = self._emulator / "usr"
        loader, libraries = usr / "lib64/ld-linux-x86-64.so.2", usr / "lib/x86_64-linux-gnu"
        return [str(loader), "--library-path", str(libraries), str(usr / "bin" / name)]

    def _tool(self, name: str, *arguments: object) -> None:
        ran = subprocess.run([*self._program(name), *map(str, arguments)], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise BoardError(f"{name}: {ran.stderr}")

    def _connect(self, name: str) -> Wire:
        deadline = monotonic() + 60
        while True:
            try:
                return Wire(self.folder / name)
            except OSError as error:
                if self._process is None or self._process.poll() is not None or monotonic() > deadline:
                    said = (self.folder / "emulator.log").read_text("utf-8", "replace")
                    self.power_cut()
                    raise BoardError(f"the emulator does not start: {said[-2000:]}") from error
                sleep(0.05)


def lower_priority() -> None:
    """Emulation is patient; what else runs on this machine may not be."""
    with contextlib.suppress(OSError):
        os.nice(5)
