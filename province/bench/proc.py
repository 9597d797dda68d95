"""What processes cost, as the kernel tells it (proc(5), tcp(7))."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ (\d+)")
_HEADERS = 20 + 32
"""IPv4, and TCP with its timestamps."""


def tree(pid: int) -> dict[int, str]:
    """A process and all its descendants, with what each of them is. Those that end meanwhile are left out."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(folder.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            words = (PROC / str(one) / "cmdline").read_bytes().split(b"\0")
            if words != [b""]:
                found[one] = _role([w.decode("utf-8", "replace") for w in words])
        waiting += children[one]
    return found


def _role(words: list[str]) -> str:
    """`python -m agent run …` → agent, `python -m agent.screen …` → board, anything else: the module or program."""
    if "-m" in words[:-1]:
        module, *rest = words[words.index("-m") + 1 :]
        name = module.rpartition(".")[2]
        name = rest[0] if module == "agent" and rest else name
        return {"run": "agent", "screen": "board"}.get(name, name)
    return Path(words[0]).name


class Memory(Struct, frozen=True):
    """In bytes. `pss`: sum of Pss. `alone`: what they would need if nothing else on this machine used their files.

    Pss divides a shared page by all who map it, other programs of this machine included; `alone` counts a file's pages
    once for the whole group (as many as the process with the most of them has).
    """

    pss: int
    alone: int
    each: dict[str, int]
    """Pss by what the process is."""


def memory(pids: dict[int, str]) -> Memory:
    """Of these processes together; those that end meanwhile count nothing."""
    pss: dict[str, int] = defaultdict(int)
    private = 0
    shared: dict[tuple[str, str], int] = defaultdict(int)
    for pid, role in pids.items():
        with contextlib.suppress(OSError):
            own: dict[tuple[str, str], int] = defaultdict(int)
            key = ("", "")
            for line in (PROC / str(pid) / "smaps").read_text().splitlines():
                head = _MAPPING.match(line)
                if head:
                    # What was inherited in a fork has no file: its address tells it.
                    key = (head[2], head[1]) if head[2] != "0" else ("", line.split("-", 1)[0])
                    continue
                name, _, value = line.partition(":")
                if name == "Pss":
                    pss[role] += _bytes(value)
                elif name.startswith("Private_"):
                    private += _bytes(value)
                elif name.startswith("Shared_"):
                    own[key] += _bytes(value)
            for what, size in own.items():
                shared[what] = max(shared[what], size)
    return Memory(sum(pss.values()), private + sum(shared.values()), dict(pss))


def pss(pids: Iterable[int]) -> int:
    """Sum of Pss in bytes: what the kernel adds up by itself (`smaps_rollup`), quick enough to ask often."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += _bytes(line.partition(":")[2])
    return total


class Peak:
    """The most that a process and its descendants have needed together, looked at `EVERY_S`, from `start` to `stop`.

    What would not fit into `limit` bytes is ended, as a machine of that size would end it.
    """

    EVERY_S = 0.25

    def __init__(self, pid: int, limit: int) -> None:
        self.pss = 0
        self.burst = False
        self._pid = pid
        self._limit = limit
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self.EVERY_S):
            pids = tree(self._pid)
            self.pss = max(self.pss, pss(pids))
            if self.pss > self._limit and not self.burst:
                self.burst = True
                for pid in pids:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)


def _bytes(text: str) -> int:
    words = text.split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else 0


def cpu_ns(pids: Iterable[int]) -> int:
    """Time on a processor of all threads of these processes that are alive."""
    total = 0
    for pid in pids:
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list((PROC / str(pid) / "task").iterdir())
    return []


def written_bytes(pids: Iterable[int]) -> int:
    """Bytes that these processes have sent towards the disk (page cache included, once a page is dirtied)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            told = dict(line.split(": ") for line in (PROC / str(pid) / "io").read_text().splitlines())
            total += int(told["write_bytes"])
    return total


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def file_system(folder: Path) -> str:
    """The file system that holds a folder, e.g. "ext4"; on "tmpfs" nothing is ever written to a disk."""
    best = ("", "unknown")
    for line in (PROC / "mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


class Traffic(Struct, frozen=True):
    """One TCP connection's count: payload bytes (TLS records) and segments, both directions."""

    payload: int = 0
    segments: int = 0

    @property
    def on_the_wire(self) -> int:
        """Bytes with TCP and IPv4 headers. Acknowledgements are segments too; framing below IP is not in it."""
        return self.payload + self.segments * _HEADERS


class Meter:
    """A relay in front of `target` whose kernel-side counters tell what went over the device's own connection."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._inner: socket.socket | None = None

    def start(self) -> None:
        """Begin to accept."""
        threading.Thread(target=self._accept, name="meter", daemon=True).start()

    def stop(self) -> None:
        """No more connections; the last one is cut."""
        for sock in (self._listener, self._inner):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def read(self) -> Traffic:
        """The newest connection so far; nothing while there is none."""
        if self._inner is None:
            return Traffic()
        with contextlib.suppress(OSError):
            return _traffic(self._inner.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        return Traffic()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
                outer = socket.create_connection(self._target, timeout=5)
            except OSError:
                return
            outer.settimeout(None)
            for sock in (inner, outer):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._inner = inner
            for ends in ((inner, outer), (outer, inner)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _traffic(info: bytes) -> Traffic:
    """Of `struct tcp_info` (linux/tcp.h): bytes_acked, bytes_received, segs_out, segs_in."""
    sent, received, segments_out, segments_in = struct.unpack_from("=QQII", info, 120)
    return Traffic(sent + received, segments_out + segments_in)


def load_note() -> str:
    """How busy the machine is, for the notes: the load of the last minute and its processors."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
