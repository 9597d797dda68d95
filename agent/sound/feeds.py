"""Decoder children: one a segment, started anew behind an item that killed it. Implements `agent.ports.Feeds`.

A segment lives in a thread of its own that reads its child's marks, fetches what a stream asks for, and closes the
pipe when all is written. The child exits as soon as everything is in the pipe, while voice still plays from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

import agent
from agent import machine
from agent.model.events import FeedMark
from agent.model.talk import OVER
from agent.ports import Inbox, Piece
from agent.sound.wav import RATE

PIPE_BYTES = 2**20
"""Some ten seconds: a programme outlives a decoder that dies and is replaced."""
COUNTER = 24
"""Bytes that a child shares: see agent.sound.decoder."""
LIVE_PIPE_BYTES = 2**16
"""0.7 s: what a live stream may lie there waiting."""
_MOST_DESCRIPTORS = 253
"""What the kernel passes on in one go (SCM_MAX_FD)."""
_ROOT = Path(agent.__file__).parent.parent
_FETCHER = (sys.executable, "-m", "agent.store.fetcher", "--stream")


class _Mark(Struct, frozen=True):
    """What a child says. It may have been taken over by its media: nothing else gets through, and nothing long."""

    item: int
    what: Literal["ready", "started", "ended", "failed", "fallback", "connect", "done"]
    samples: Annotated[int, Meta(ge=0, lt=2**53)]
    detail: str


class _Process(Protocol):
    """A decoder as it is ended and waited for."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int | None:
        """Its exit code, None when nobody can know."""


class _Unit:
    """A decoder that systemd started for a connection: hanging up ends it, and how it ended is not told."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def kill(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def wait(self) -> int | None:
        """It is gone when the connection is."""
        return None


class _Segment(Struct, eq=False):
    play: str
    number: int
    pieces: list[Piece]
    skip: int
    write_end: int
    thread: threading.Thread | None = None
    stopped: bool = False
    limit: int = 0
    """Samples that a live segment may have, since it was extended; 0: as its piece says."""
    counter: int | None = None
    """The memory that it shares with its child now."""
    child: _Process | None = None
    fetcher: subprocess.Popen[bytes] | None = None
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)


class DecoderFeeds:
    """Starts and watches decoder children. Thread-safe; `open` and `close` return at once.

    `post`: the owner's inbox, for FeedMark. `fetcher`: the command that writes a stream's bytes to its stdout, the
    URL is appended. `media`, `resampler` and `meter`: modules of `drivers`. `plugins`: folder for libVLC's plugin
    links, filled by `prepare`.
    `unit`: a socket behind which systemd starts a decoder in a sandbox of its own for each connection, which gets its
    files as open descriptors and can open none; None: decoders are our children.
    `hang_s`: an item that gives no sample for so long, while the pipe has room, is given up. `start_s`: a stream has
    at least so long to its first sample, however short its `silence_s`.

    `skip_samples` counts over the whole segment; compressed files are decoded and thrown away up to there (some 100
    times real time), our own WAV is sought. A relay's `seconds` count samples written, whether voice plays or, waiting
    at the live edge, discards them. A relay that fell back does not return to its stream. Fallback files repeat until
    the time is full.
    """

    def __init__(
        self,
        post: Inbox,
        *,
        fetcher: Sequence[str] = _FETCHER,
        plugins: Path | None = None,
        unit: Path | None = None,
        media: str = "drivers.vlc_decoder",
        resampler: str = "drivers.soxr",
        meter: str = "drivers.ebur128",
        hang_s: float = 10.0,
        start_s: float = 3.0,
    ) -> None:
        self._post = post
        self._fetcher = tuple(fetcher)
        self._plugins = plugins
        self._unit = unit
        self._prepared: str | None = None
        self._media, self._resampler, self._meter = media, resampler, meter
        self._hang_s, self._start_s = hang_s, start_s
        self._lock = threading.Lock()
        self._open: dict[str, list[_Segment]] = {}

    def prepare(self) -> None:
        """Fill the plugin folder in a child of its own (0.3 s); until then, or if it fails, children start slowly.

        Call it once at start, from a thread that may wait; the folder belongs on a file system in memory.
        """
        if self._plugins is None:
            return
        self._plugins.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [sys.executable, "-m", self._media, str(self._plugins)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if made.returncode == 0:
            self._prepared = str(self._plugins)

    def open(self, play: str, segment: int, pieces: Sequence[Piece], skip_samples: int = 0) -> int:
        """Start decoding `pieces` into one pipe and return its read end (the caller closes it after handing it on)."""
        read_end, write_end = os.pipe()
        live = any(p.url is not None for p in pieces)
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: a smaller one serves too
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, LIVE_PIPE_BYTES if live else PIPE_BYTES)
        opened = _Segment(play, segment, list(pieces), skip_samples, write_end)
        opened.thread = threading.Thread(target=self._run, args=(opened,), name=f"feed {play}/{segment}", daemon=True)
        with self._lock:
            self._open.setdefault(play, []).append(opened)
        opened.thread.start()
        return read_end

    def extend(self, play: str, segment: int, seconds: float) -> None:
        """Let a live segment go on for `seconds` from what it has given; one that has ended stays so."""
        with self._lock:
            found = next((s for s in self._open.get(play, ()) if s.number == segment), None)
        if found is None:
            return
        with found.lock:
            if found.counter is not None:
                given = int.from_bytes(os.pread(found.counter, 8, 0), "little")
                found.limit = given + round(seconds * RATE)
                _limit(found.counter, found.limit)

    def close(self, play: str) -> None:
        """End all children of a play; no mark of it is posted afterwards."""
        with self._lock:
            segments = list(self._open.get(play, ()))
        for segment in segments:
            with segment.lock:
                segment.stopped = True
                for process in (segment.child, segment.fetcher):
                    if process is not None:
                        process.kill()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End everything and wait until it is gone."""
        with self._lock:
            everything = [s for segments in self._open.values() for s in segments]
        for segment in everything:
            self.close(segment.play)
        for segment in everything:
            if segment.thread is not None:
                segment.thread.join(timeout_s)

    def _run(self, segment: _Segment) -> None:
        machine.stand_back()
        try:
            self._decode(segment)
        except OSError as error:  # no process, no memory, no file descriptors
            for piece in segment.pieces:
                self._mark(segment, piece.item, "failed", 0, f"no decoder could be started: {error.strerror}")
        finally:
            os.close(segment.write_end)
            self._end(segment.fetcher)
            with self._lock:
                rest = self._open[segment.play]
                rest.remove(segment)
                if not rest:
                    del self._open[segment.play]
        self._mark(segment, -1, "done")

    def _decode(self, segment: _Segment) -> None:
        """Children one after the other until every piece was tried; `segment.pieces` are those still to come."""
        skip, written, ready = segment.skip, 0, False
        while segment.pieces and not segment.stopped:
            pieces = segment.pieces
            counter = os.memfd_create("feed")
            try:
                os.truncate(counter, COUNTER)
                with segment.lock:
                    segment.counter = counter
                    _limit(counter, segment.limit)
                job = self._job(pieces, skip, written)
                start = self._child if self._unit is None else self._in_unit
                child, control = start(segment, job, counter)
                with control:
                    finished, ready = self._follow(segment, control, ready)
                code = child.wait()
                counts = os.pread(counter, 16, 0)
            finally:
                with segment.lock:
                    segment.counter = None
                os.close(counter)
            if segment.stopped or finished >= len(pieces):
                return
            samples, skipped = int.from_bytes(counts[:8], "little"), int.from_bytes(counts[8:], "little")
            piece, segment.pieces = pieces[finished], pieces[finished + 1 :]
            skip, written = max(skip - skipped, 0), 0
            if piece.url is not None and piece.fallback:
                segment.pieces.insert(0, msgspec.structs.replace(piece, url=None))
                written = samples
            else:
                self._mark(segment, piece.item, "failed", samples, _explain(code, self._hang_s))

    def _job(self, pieces: list[Piece], skip: int, written: int) -> dict[str, Any]:
        return {
            "pieces": msgspec.to_builtins(pieces),
            "skip": skip,
            "written": written,
            "media": self._media,
            "resampler": self._resampler,
            "meter": self._meter,
            "plugins": self._prepared,
            "hang_s": self._hang_s,
            "start_s": self._start_s,
        }

    def _child(self, segment: _Segment, job: dict[str, Any], counter: int) -> tuple[_Process, socket.socket]:
        """A decoder that is a child of ours."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        job |= {"out": segment.write_end, "control": theirs.fileno(), "counter": counter}
        with theirs, segment.lock:
            child = segment.child = subprocess.Popen(
                [sys.executable, "-m", "agent.sound.decoder", json.dumps(job)],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(segment.write_end, theirs.fileno(), counter),
            )
        self._end_if_stopped(segment)
        return child, ours

    def _in_unit(self, segment: _Segment, job: dict[str, Any], counter: int) -> tuple[_Process, socket.socket]:
        """A decoder that systemd starts. OSError: it does not."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        control.connect(str(self._unit))
        descriptors = [segment.write_end, counter]
        try:
            _hand_over(job["pieces"], descriptors)
            socket.send_fds(control, [json.dumps(job).encode()], descriptors)
        finally:
            for file in descriptors[2:]:
                os.close(file)
        with segment.lock:
            child = segment.child = _Unit(control)
        self._end_if_stopped(segment)
        return child, control

    @staticmethod
    def _end_if_stopped(segment: _Segment) -> None:
        """`close` may have come before there was anything to end."""
        if segment.stopped and segment.child is not None:
            segment.child.kill()

    def _follow(self, segment: _Segment, control: socket.socket, ready: bool) -> tuple[int, bool]:
        """Pass on a child's marks until it is gone. Returns how many pieces it finished, and whether any sounded."""
        finished, items = 0, {p.item for p in segment.pieces}
        while True:
            try:
                packet = control.recv(65_536)
            except OSError:
                packet = b""
            if not packet:
                return finished, ready
            try:
                mark = msgspec.json.decode(packet, type=_Mark)
            except msgspec.MsgspecError:
                continue
            if mark.what == "connect":
                self._connect(segment, control, mark.item)
            elif mark.item in items and not (mark.what == "ready" and ready):
                ready = ready or mark.what == "ready"
                if mark.what in {"ended", "failed"}:
                    finished += 1
                    items.discard(mark.item)
                self._mark(segment, mark.item, mark.what, mark.samples, mark.detail[:300])

    def _connect(self, segment: _Segment, control: socket.socket, item: int) -> None:
        """Start a fetcher for a stream and hand its output to the child; or tell it that the talk is over."""
        piece = next((p for p in segment.pieces if p.item == item), None)
        if piece is not None and piece.talk and self._is_over(segment.fetcher):
            with contextlib.suppress(OSError):
                control.send(b"over")
            return
        self._end(segment.fetcher)
        url = None if piece is None else piece.url
        read_end, write_end = os.pipe()
        try:
            with segment.lock:
                if not segment.stopped and url is not None:
                    segment.fetcher = subprocess.Popen(
                        [*self._fetcher, url],
                        cwd=_ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=write_end,
                        stderr=subprocess.DEVNULL,
                    )
            with contextlib.suppress(OSError):  # the child is gone: `_follow` sees it
                socket.send_fds(control, [b"stream"], [read_end])
        finally:
            os.close(read_end)
            os.close(write_end)

    @staticmethod
    def _is_over(fetcher: subprocess.Popen[bytes] | None) -> bool:
        """Whether what it fetched came to its proper end; it has closed its output, so it is about to leave."""
        try:
            return fetcher is not None and fetcher.wait(1.0) == OVER
        except subprocess.TimeoutExpired:
            return False

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.kill()
            process.wait()

    def _mark(self, segment: _Segment, item: int, what: str, samples: int = 0, detail: str = "") -> None:
        if not segment.stopped:
            self._post(FeedMark(segment.play, segment.number, item, what, samples, detail))


def _limit(counter: int, samples: int) -> None:
    """Tell the child that shares it how many samples its live item may have; 0: as it was told."""
    os.pwrite(counter, samples.to_bytes(8, "little"), COUNTER - 8)


def _hand_over(pieces: list[dict[str, Any]], descriptors: list[int]) -> None:
    """Open the pieces' files behind `descriptors` and put their places there instead of their paths.

    What cannot be opened stays a path, which the decoder will say that it cannot open either.
    """
    places: dict[str, int] = {}

    def place(path: str) -> str | int:
        if path not in places and len(descriptors) < _MOST_DESCRIPTORS:
            with contextlib.suppress(OSError):
                descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                places[path] = len(descriptors) - 1
        return places.get(path, path)

    for piece in pieces:
        if piece.get("path") is not None:
            piece["path"] = place(piece["path"])
        if piece.get("fallback"):
            piece["fallback"] = [place(path) for path in piece["fallback"]]


def _explain(code: int | None, hang_s: float) -> str:
    """Why a child died, for people."""
    if code is None:
        return f"the decoder died of it, or gave no sound for {hang_s:g} s"
    if code >= 0:
        return f"the decoder gave up (code {code})"
    if -code == signal.SIGALRM:
        return f"no sound came out of it for {hang_s:g} s"
    return f"the decoder died of it ({signal.Signals(-code).name})"
