"""mpv and mpd from Debian, measured in the same run as we are.

What is alike: a warm daemon, a 64 kbit/s MP3, one command over a Unix socket, and the time until the first PCM that is
not silence comes out at the end of its output. What is not alike:

- Our programme has been prepared in advance, because the schedule knows it. The peers start it from stopped, as MPD
  has to; a second row gives them their best case, a file that is loaded and paused.
- Their PCM goes into a pipe that takes it at once, so that their first chunk waits for nothing. Ours waits for the
  next period of a sink that is paced like a card and already runs, which is half a period in the mean.
- Memory: they play; our figure is the whole station with link, store, schedule and board.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from province.bench import proc
from province.bench.rows import Row, row
from province.bench.voice_rig import BenchError

READY_S = 10.0


class Tap:
    """The reading end of a FIFO, emptied by a thread that dates the first chunk that is not silence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Opened for both: then it never ends, and nobody who opens it for writing has to wait.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._armed = threading.Event()
        self._first: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="tap", daemon=True).start()

    def arm(self) -> None:
        """Date the next sound."""
        self._armed.set()

    def wait(self) -> int:
        """CLOCK_MONOTONIC nanoseconds of the first sound since `arm`. BenchError when none comes."""
        try:
            return self._first.get(timeout=READY_S)
        except queue.Empty:
            raise BenchError(f"no sound came out of {self.path.name}") from None

    def close(self) -> None:
        """Give the descriptor back when nobody writes any more."""
        self._armed.clear()
        os.write(self._fd, b"\0")
        self._fd = -1

    def _read(self) -> None:
        fd = self._fd
        while chunk := os.read(fd, 4096):
            now = time.monotonic_ns()
            if self._fd < 0:
                os.close(fd)
                return
            if self._armed.is_set() and chunk.strip(b"\0"):
                self._armed.clear()
                self._first.put(now)


class Peer(ABC):
    """A player as a process in `folder`. `start` returns how many seconds it took until it answered."""

    program: str

    def __init__(self, folder: Path, sound: Path, tap: Tap | None) -> None:
        self.folder = folder
        self.sound = sound
        self.tap = tap
        self.process: subprocess.Popen[bytes] | None = None
        self._lines: Any = None
        self._socket: socket.socket | None = None

    @classmethod
    def name(cls) -> str:
        """With its version, or "" where it is not installed."""
        path = shutil.which(cls.program)
        if path is None:
            return ""
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        numbers = [w.strip("()v") for w in said.split() if w.strip("()v")[:1].isdigit()]
        return f"{cls.program} {numbers[0]}" if numbers else cls.program

    @abstractmethod
    def command(self) -> list[str]:
        """What is started."""

    @abstractmethod
    def greet(self) -> None:
        """Read what shows that commands are taken."""

    @abstractmethod
    def load(self, *, paused: bool) -> None:
        """Have the sound ready: playing, or paused at its start."""

    @abstractmethod
    def resume(self) -> None:
        """Play what is paused."""

    @abstractmethod
    def play(self) -> None:
        """Play the sound from a stopped state."""

    @abstractmethod
    def rest(self) -> None:
        """Stop."""

    def start(self) -> float:
        """Start the program; seconds until it took a command."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / f"{self.program}.sock").unlink()
        begun = time.monotonic()
        log = (self.folder / f"{self.program}.log").open("ab")
        with log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.folder / f"{self.program}.sock"))
                break
            except OSError:
                sock.close()
                if time.monotonic() - begun > READY_S or self.process.poll() is not None:
                    raise BenchError(f"{self.program} did not start; see {log.name}") from None
                time.sleep(0.001)
        sock.settimeout(READY_S)
        self._socket = sock
        self._lines = sock.makefile("rb")
        self.greet()
        return time.monotonic() - begun

    def write(self, line: str) -> None:
        """Send one line."""
        if self._socket is None:
            raise BenchError(f"{self.program} is not running")
        self._socket.sendall(line.encode() + b"\n")

    def line(self) -> bytes:
        """Read one line."""
        line: bytes = self._lines.readline()
        if not line:
            raise BenchError(f"{self.program} hung up")
        return line

    def stop(self) -> None:
        """End it."""
        if self._socket is not None:
            self._lines.close()
            self._socket.close()
            self._socket = None
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Mpv(Peer):
    """JSON over `--input-ipc-server`; PCM into a FIFO, or the null output where only its memory counts."""

    program = "mpv"

    def command(self) -> list[str]:
        """Without configuration, scripts or video."""
        pcm = ["--ao=null"]
        if self.tap is not None:
            pcm = ["--ao=pcm", f"--ao-pcm-file={self.tap.path}", "--ao-pcm-waveheader=no"]
        quiet = ["--no-config", "--no-terminal", "--no-video", "--load-scripts=no", "--ytdl=no"]
        return ["mpv", *quiet, "--idle=yes", "--pause=no", f"--input-ipc-server={self.folder / 'mpv.sock'}", *pcm]

    def greet(self) -> None:
        """It answers a question."""
        self._ask("get_property", "idle-active")

    def load(self, *, paused: bool) -> None:
        """Loaded, and where paused: decoded as far as mpv decodes in advance."""
        self._ask("set_property", "pause", paused)
        self._ask("loadfile", str(self.sound))
        self._until("playback-restart")

    def resume(self) -> None:
        """Unpause."""
        self._ask("set_property", "pause", False)

    def play(self) -> None:
        """Load and play."""
        self._ask("loadfile", str(self.sound))

    def rest(self) -> None:
        """Nothing loaded."""
        self._ask("stop")
        self._until("idle")

    def _ask(self, *words: object) -> None:
        self.write(json.dumps({"command": words}))

    def _until(self, event: str) -> None:
        while json.loads(self.line()).get("event") != event:
            pass


class Mpd(Peer):
    """Its own protocol; the `fifo` output, which a timer paces, or `null`."""

    program = "mpd"

    def command(self) -> list[str]:
        """With one output and no database."""
        fifo = f'type "fifo"\n path "{self.tap.path}"\n format "48000:16:1"' if self.tap else 'type "null"'
        lines = [
            f'bind_to_address "{self.folder / "mpd.sock"}"',
            f'pid_file "{self.folder / "mpd.pid"}"',
            'zeroconf_enabled "no"',
            f'audio_output {{\n {fifo}\n name "bench"\n}}',
        ]
        config = self.folder / "mpd.conf"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        return ["mpd", "--no-daemon", str(config)]

    def greet(self) -> None:
        """`OK MPD version`."""
        self.line()

    def load(self, *, paused: bool) -> None:
        """In the queue and playing, then paused at the start: mpd cannot load paused."""
        self._ask("clear")
        self._ask(f'add "file://{self.sound}"')
        self._ask("play 0")
        if paused:
            time.sleep(0.1)
            self._ask("pause 1")
            self._ask("seekcur 0")

    def resume(self) -> None:
        """Unpause."""
        self.write("pause 0")

    def play(self) -> None:
        """Play the queue's first."""
        self.write("play 0")

    def rest(self) -> None:
        """Stopped, the queue stays."""
        self.write("stop")

    def _ask(self, line: str) -> None:
        self.write("ping")  # answers of `resume`, `play` and `rest` are read here, outside what is timed
        self.write(line)
        self.write("ping")
        seen = 0
        while seen < 3:
            answer = self.line()
            if answer.startswith(b"ACK"):
                raise BenchError(f"mpd: {answer.decode().strip()}")
            seen += answer.startswith(b"OK")


PEERS: tuple[type[Peer], ...] = (Mpv, Mpd)


def installed() -> Iterator[type[Peer]]:
    """Those that are there."""
    return (peer for peer in PEERS if peer.name())


def missing() -> list[str]:
    """Programs that are not there."""
    return [peer.program for peer in PEERS if not peer.name()]


def ready(folder: Path, sound: Path, n: int) -> list[Row]:
    """`ready_s`: from the start of the process to its first answer."""
    rows = []
    for kind in installed():
        times = []
        for _ in range(n + 1):
            peer = kind(folder, sound, None)
            times.append(peer.start())
            peer.stop()
        rows.append(row("ready_s", times[1:], "its command socket answers", peer=kind.name()))
    return rows


def command_to_sample(folder: Path, sound: Path, n: int) -> list[Row]:
    """`command_to_sample_ms`: resuming what is loaded and paused; starting from a stopped state in the note."""
    rows = []
    for kind in installed():
        tap = Tap(folder / f"{kind.program}.pcm")
        peer = kind(folder, sound, tap)
        resumed, started = [], []
        try:
            peer.start()
            for _ in range(n + 1):
                peer.load(paused=True)
                time.sleep(0.25)
                resumed.append(_timed(tap, peer.resume))
                peer.rest()
                time.sleep(0.15)
                started.append(_timed(tap, peer.play))
                peer.rest()
                time.sleep(0.15)
        finally:
            peer.stop()
            tap.close()
        note = "its own start from stopped, by an address known to it; daemon warm, output opened anew"
        rows.append(row("command_to_sample_ms", started[1:], note, peer=kind.name()))
        note = "resuming a file that it was told to load and pause before: its best case"
        rows.append(row("command_to_sample_ms", resumed[1:], note, peer=f"{kind.name()}, paused"))
    return rows


def _timed(tap: Tap, act: Any) -> float:
    tap.arm()
    begun = time.monotonic_ns()
    act()
    return (tap.wait() - begun) / 1e6


def playing(folder: Path, sound: Path, n: int) -> list[Row]:
    """`pss_playing_mb`: the process while it plays the same MP3 into its null output."""
    rows = []
    for kind in installed():
        peer = kind(folder, sound, None)
        try:
            peer.start()
            peer.load(paused=False)
            time.sleep(1.0)
            taken = []
            for _ in range(n):
                time.sleep(0.2)
                taken.append(proc.memory(proc.tree(peer.process.pid if peer.process else 0)))
        finally:
            peer.stop()
        note = f"null output; alone on a machine {taken[-1].alone / 1e6:.1f} MB"
        rows.append(row("pss_playing_mb", [t.pss / 1e6 for t in taken], note, peer=kind.name()))
    return rows
