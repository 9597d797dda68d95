"""A decoder child: one segment of a play, item after item, as PCM into a pipe. `python -m agent.sound.decoder JOB`.

JOB is JSON: `pieces` (agent.ports.Piece as objects), `skip` and `written` (samples to throw away first; samples that
the first item already has), `out`, `control` and `counter` (file descriptors), `media`, `resampler` and `meter`
(modules of `drivers`), `plugins` (see drivers.vlc_decoder), `hang_s`, `start_s` (what a stream may take to its first
sample).

`out` takes 16 bit little endian mono at 48 000 Hz; the pipe's capacity holds the child back. `control` is a
SOCK_SEQPACKET socket: each packet up is a mark `{item, what, samples, detail}` with the words of
agent.model.events.FeedMark, or "connect", which the parent answers with the read end of a fetcher's pipe, or "over"
when a talk has come to its end. `counter` is a file of three 8-byte numbers in shared memory: the item's samples
written and those skipped so far in all, which outlive a crash, and, from the parent, how many samples a live item may
have since its lease was renewed (0: it was not).

Without an argument it is a unit of its own (systemd/units/tram-decoder@.service): `control` is its standard input, and
the job is the first packet there, with `out`, `counter` and the media files as descriptors. The pieces then name files
by their place among these. Such a process can open nothing of the station's.

Nothing here is trusted to end well. Media that crashes libVLC kills this process, and media that hangs it too, by
SIGALRM, which no handler delays: the parent goes on with the next item. Imports are few because each is paid for in
memory and in time to the first sample; libVLC only comes in when an item needs it.
"""

from __future__ import annotations

import audioop
import contextlib
import importlib
import json
import math
import mmap
import os
import resource
import select
import signal
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from agent.model.talk import TALK_RATE
from agent.sound import flac, mp4, ogg, wav
from agent.sound.sniff import id3_length, sniff

if TYPE_CHECKING:
    from agent.sound.levelling import Levelling

RATE = wav.RATE
_SAMPLE = 2
_FADE = RATE // 50
_BLOCK = 65_536
_DAY = 24 * 3600 * RATE
_LEAD = RATE // 2
"""A live stream may be this far ahead of real time: the cushion against a hesitating network."""
_EDGE = RATE
"""How far behind its live edge a stream is joined."""
_BEHIND = 3 * RATE
"""Farther behind than this it is joined anew."""
_TALK = (RATE // 2, RATE, 0.3)
"""The same of somebody who speaks live, and how long the first burst may last (seconds)."""
_MUCH = 60 * RATE
"""So much at once is a file."""
_JOIN_S = 0.6
_RETRY_S = 0.2
_TICK_S = 0.02
_MEMORY = 768 * 2**20
_CPU_S = 3600


class ItemError(Exception):
    """This item cannot be played; the text is for people."""


class ItemFullError(Exception):
    """The item has all the samples it may have."""


class OverError(Exception):
    """Whoever spoke live has finished."""


class Control:
    """The socket to the parent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def mark(self, item: int, what: str, samples: int = 0, detail: str = "") -> None:
        """Report progress; a parent that is gone ends this process."""
        try:
            os.write(self._fd, json.dumps({"item": item, "what": what, "samples": samples, "detail": detail}).encode())
        except OSError:
            os._exit(0)

    def connect(self, item: int) -> int | None:
        """Have the stream fetched anew: the read end of its bytes, or None when that could not be started.

        Raises OverError when there is nothing more to fetch.
        """
        import socket

        self.mark(item, "connect")
        with socket.socket(fileno=os.dup(self._fd)) as s:
            data, fds, _, _ = socket.recv_fds(s, 64, 1)
        if not data:
            os._exit(0)
        if data == b"over":
            raise OverError
        return fds[0] if fds else None


class Output:
    """The pipe to voice, and the count of what went into it."""

    def __init__(self, fd: int, counter: int, control: Control, skip: int, written: int, hang_s: float) -> None:
        self.fd = fd
        self._control = control
        self._shared = mmap.mmap(counter, 24)
        self._skip = skip
        self._skipped = 0
        self._first = written
        self._hang_s = hang_s
        self._ready = False
        self._item = 0
        self.samples = 0
        self._limit = _DAY

    def begin(self, item: int, limit: int = _DAY) -> None:
        """The next item, of at most `limit` samples."""
        self._item, self.samples, self._limit = item, self._first, limit
        self._first = 0
        self._count()
        self.patience()

    def patience(self) -> None:
        """From now on the kernel ends this process unless something is written within `hang_s`."""
        signal.setitimer(signal.ITIMER_REAL, self._hang_s)

    def no_hurry(self) -> None:
        """Waiting is in order."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def skip_bytes(self) -> int:
        """Bytes of PCM that would be thrown away now."""
        return self._skip * _SAMPLE

    def skipped(self, samples: int) -> None:
        """Samples that a seek has passed over."""
        self._skip -= samples
        self._skipped += samples
        self._count()

    def room(self) -> int:
        """Samples that the item may still have."""
        renewed = int.from_bytes(self._shared[16:], "little")
        return (renewed or self._limit) - self.samples

    def write(self, pcm: bytes) -> None:
        """Write it all, however long the reader takes; ends when nobody reads. Raises ItemFullError at the limit."""
        if self._skip:
            passed = min(self._skip, len(pcm) // _SAMPLE)
            self.skipped(passed)
            pcm = pcm[passed * _SAMPLE :]
            if not self._skip:
                self._count()
        full = len(pcm) // _SAMPLE >= self.room()
        self.no_hurry()
        view = memoryview(pcm)[: self.room() * _SAMPLE]
        while view:
            view = view[self.some(view) :]
        if full:
            raise ItemFullError
        self.patience()

    def some(self, pcm: bytes | memoryview) -> int:
        """Write what fits now (all of it on a blocking pipe); returns the bytes written, always whole samples."""
        try:
            done = os.write(self.fd, pcm)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            os._exit(0)
        first = self.samples == 0
        self.samples += done // _SAMPLE
        self._count()
        if first and done:
            if not self._ready:
                self._ready = True
                self._control.mark(self._item, "ready", self.samples)
            self._control.mark(self._item, "started", self.samples)
        return done

    def _count(self) -> None:
        self._shared[:16] = self.samples.to_bytes(8, "little") + self._skipped.to_bytes(8, "little")


def _fading(pcm: bytes, room: int) -> bytes:
    """The same, fading over the last 20 ms before `room` samples are full: a stream that is left does not click."""
    samples = array("h", pcm)
    for i in range(max(0, room - _FADE), len(samples)):
        samples[i] = samples[i] * max(0, room - 1 - i) // _FADE
    return samples.tobytes()


class Mono48:
    """PCM of any rate and layout to ours. Several channels are averaged, so equal channels keep their level."""

    def __init__(self, resampler: Any, rate: int, channels: int, floats: bool = False) -> None:
        self._channels = channels
        self._resampler: Any = None
        self._before_mixing = floats
        if rate != RATE or floats:
            self._resampler = resampler.Resampler(rate, RATE, channels if floats else 1, floats)

    def convert(self, pcm: bytes) -> bytes:
        """16 bit (or float) frames in, our samples out."""
        if self._before_mixing:
            return self._mixed(self._resampler.process(pcm))
        mono = self._mixed(pcm)
        return self._resampler.process(mono) if self._resampler else mono

    def rest(self) -> bytes:
        """What a filter still holds."""
        if self._resampler is None:
            return b""
        held: bytes = self._resampler.flush()
        return self._mixed(held) if self._before_mixing else held

    def _mixed(self, pcm: bytes) -> bytes:
        n = self._channels
        if n == 1:
            return pcm
        if n == 2:
            return audioop.tomono(pcm, 2, 0.5, 0.5)
        samples = memoryview(pcm).cast("h")
        out = bytes(len(pcm) // n)
        for channel in range(n):
            out = audioop.add(out, audioop.mul(samples[channel::n].tobytes(), 2, 1 / n), 2)
        return out


class Decoder:
    """The job: how each kind of item becomes PCM."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._control = Control(job["control"])
        self._out = Output(
            job["out"], job["counter"], self._control, job.get("skip", 0), job.get("written", 0), job["hang_s"]
        )

    def run(self) -> None:
        """All items."""
        for piece in self._job["pieces"]:
            item = piece["item"]
            try:
                detail = self._piece(piece)
            except ItemError as error:
                self._control.mark(item, "failed", self._out.samples, str(error))
            except Exception as error:  # noqa: BLE001 - media is hostile; whatever it does costs this item only
                self._control.mark(item, "failed", self._out.samples, f"{type(error).__name__}: {error}")
            else:
                self._control.mark(item, "ended", self._out.samples, detail)
        self._out.no_hurry()
        self._control.mark(-1, "done")

    def _piece(self, piece: dict[str, Any]) -> str:
        seconds = piece.get("seconds")
        if piece.get("path") is not None:
            # What was announced is not exceeded by more than a margin; an endless file ends.
            self._out.begin(piece["item"], _DAY if seconds is None else round((seconds * 1.05 + 2) * RATE))
            try:
                given = self._file(piece["path"], 10 ** (piece.get("gain_db", 0.0) / 20), self._levelling(piece))
            except ItemFullError:
                return "cut: longer than announced"
            if not given:
                raise ItemError("there is no sound in it")
            return ""
        self._out.begin(piece["item"], _DAY if seconds is None else round(seconds * RATE))
        try:
            return self._relay(piece)
        except ItemFullError:
            return ""

    def _levelling(self, piece: dict[str, Any]) -> Levelling | None:
        """The hand on the fader of what was not measured; None where it stays as it is, or cannot be measured."""
        target = piece.get("level_lufs")
        if target is None:
            return None
        from agent.sound.levelling import Levelling

        with contextlib.suppress(OSError):
            return Levelling(self._driver("meter").Passing(RATE), target)
        return None

    def _file(self, path: str | int, gain: float = 1.0, level: Levelling | None = None) -> bool:
        """Play one file (a path, or its open descriptor). Returns whether it had any sound, be it skipped."""
        before = self._out.skip_bytes
        try:
            with open(os.dup(path) if isinstance(path, int) else path, "rb") as file:
                file.seek(0)
                for pcm in self._samples(file):
                    loud = pcm if gain == 1.0 else audioop.mul(pcm, _SAMPLE, gain)
                    self._out.write(loud if level is None else level.add(loud))
                if level is not None:
                    self._out.write(level.rest())
        except OSError as error:
            raise ItemError(error.strerror or str(error)) from None
        return self._out.samples > 0 or self._out.skip_bytes < before

    def _samples(self, file: BinaryIO) -> Iterator[bytes]:
        head = file.read(8192)
        tag = id3_length(head)
        if tag:
            file.seek(tag)
            head = file.read(8192)
        found = sniff(head)
        if found is None:
            raise ItemError("not a sound file of a known kind (WAV, MP3, AAC, M4A, Ogg, FLAC)")
        demux, _ = found
        if demux == "wav":
            try:
                form = wav.examine(file)
            except wav.WavError as error:
                raise ItemError(str(error)) from None
            if form.pcm:
                return self._pcm(file, form)
        return self._media(file, demux)

    def _pcm(self, file: BinaryIO, form: wav.Wav) -> Iterator[bytes]:
        passed = min(self._out.skip_bytes // _SAMPLE, form.frames) if form.ours else 0
        self._out.skipped(passed)
        file.seek(form.offset + passed * form.frame)
        left = (form.frames - passed) * form.frame
        change = None if form.ours else Mono48(self._driver("resampler"), form.rate, form.channels, form.floats)
        step = max(_BLOCK // form.frame, 1) * form.frame
        while left and (data := file.read(min(step, left))):
            left -= len(data)
            data = data[: len(data) // form.frame * form.frame]
            yield data if change is None else change.convert(_to_16(data, form))
        if change is not None:
            yield change.rest()

    def _media(self, file: BinaryIO, demux: str) -> Iterator[bytes]:
        driver = self._driver("media")
        trim = mp4.examine(file) if demux == "mp4" else flac.examine(file) if demux == "flac" else None
        if demux == "ogg":
            try:
                trim = ogg.examine(file)
            except ogg.CodecError as error:
                raise ItemError(str(error)) from None
            source = _pumped(ogg.rewritten(file))
        elif demux == "flac" and trim is not None:
            source = _pumped(flac.rewritten(file))
        else:
            source = os.dup(file.fileno())
            os.lseek(source, 0, os.SEEK_SET)
        try:
            decoding = driver.Decoding(source, demux, self._job.get("plugins"))
            rate = decoding.start()
        except driver.MediaError as error:
            raise ItemError(str(error)) from None
        change = Mono48(self._driver("resampler"), rate, 2)
        data = _read(decoding.fd)
        for part in data if trim is None else _trimmed(data, trim, rate):
            yield change.convert(part)
        yield change.rest()
        decoding.abandon()
        os.close(source)

    def _driver(self, role: str) -> Any:
        return importlib.import_module(self._job[role])

    def _relay(self, piece: dict[str, Any]) -> str:
        """Live for as long as it sounds, then the fallback for what is left; ItemFullError when the time is over.

        A talk's fallback is said once.
        """
        why = "the stream's decoder died"
        level = self._levelling(piece)
        if piece.get("url") is not None:
            try:
                why = Live(self._job, self._control, self._out, piece, self._driver, level).run()
            except OverError:
                return ""
        files = piece.get("fallback") or []
        if not files:
            raise ItemError(f"{why}; there is no fallback")
        os.set_blocking(self._out.fd, True)
        self._control.mark(piece["item"], "fallback", self._out.samples, why)
        problem, before = "", -1
        while self._out.samples > before:
            before = self._out.samples
            for path in files:
                self._out.patience()
                try:
                    self._file(path, level=level)
                except ItemError as error:
                    problem = str(error)
            if piece.get("talk") and self._out.samples > before:
                return why
        raise ItemError(f"{why}; the fallback: {problem or 'there is no sound in it'}")


class Live:
    """A stream, joined at its live edge, in real time, until it falls silent or stays away.

    One loop that never blocks plays what is there; a thread connects. So a stalled network, a stalled decoder and a
    reader that waits are told apart, and what was received is played while the stream is called again.
    """

    def __init__(
        self,
        job: dict[str, Any],
        control: Control,
        out: Output,
        piece: dict[str, Any],
        driver: Callable[[str], Any],
        level: Levelling | None,
    ) -> None:
        self._job, self._control, self._out, self._driver, self._level = job, control, out, driver, level
        self._item: int = piece["item"]
        self._silence_s: float = piece.get("silence_s", 10.0)
        self._talk: bool = piece.get("talk", False)
        self._threshold = 0.0 if self._talk else 32768 * 10 ** (piece.get("silence_dbfs", -60.0) / 20)
        self._edge, self._behind, self._join_s = _TALK if self._talk else (_EDGE, _BEHIND, _JOIN_S)
        self._frame = _SAMPLE if self._talk else 2 * _SAMPLE
        self._over = False
        self._connector: threading.Thread | None = None
        self._decoding: Any = None
        self._change: Mono48 | None = None
        self._odd = b""
        self._fresh = bytearray()
        """What came since the connection, until it is clear how it comes."""
        self._first = 0.0
        self._half = 0
        self._joined = False
        self._is_live = True
        self._buffer = bytearray()
        """What is to be played."""
        self._sounded = self._given = 0.0
        """When something above the threshold, and when anything, was last written."""

    def run(self) -> str:
        """Play; returns why it is over. ItemFullError: the item's time is over; OverError: it came to its end."""
        os.set_blocking(self._out.fd, False)
        last = self._sounded = retry_at = time.monotonic()
        pause, credit = _RETRY_S, float(_LEAD)
        while True:
            now = time.monotonic()
            self._out.patience()
            patience = self._silence_s if self._given else max(self._silence_s, self._job["start_s"])
            if now - self._sounded >= patience:
                state = "silent" if now - self._given < 0.5 else "away"
                return f"the stream is {state} for {patience:g} s"
            if now - self._sounded < _RETRY_S:
                pause = _RETRY_S
            if self._over and not self._buffer:
                raise OverError
            if self._decoding is None and not self._over and self._connector is None and now >= retry_at:
                self._connector = threading.Thread(target=self._connect, name="connect", daemon=True)
                self._connector.start()
                retry_at, pause = now + pause, min(pause * 2, 5.0)
            if self._connector is not None and not self._connector.is_alive():
                self._connector = None
            if self._readable():
                self._take()
            now = time.monotonic()
            credit = min(credit + (now - last) * RATE, _LEAD)
            last = now
            self._join(now)
            credit -= self._give(int(credit), now)

    def _connect(self) -> None:
        """In its thread: have the stream fetched, see what it is, and start to decode it."""
        try:
            source = self._control.connect(self._item)
        except OverError:
            self._over = True
            return
        if source is None:
            return
        if self._talk:
            self._decoding = Samples(source)
            return
        head, kind = b"", None
        while kind is None and len(head) < _BLOCK and (part := os.read(source, 8192)):
            head += part
            kind = sniff(head[id3_length(head) :])
        if kind is None or kind[0] == "mp4":
            os.close(source)
            return
        pipe = _pumped(_chunks(head[id3_length(head) + kind[1] :], source))
        driver = self._driver("media")
        with contextlib.suppress(driver.MediaError):
            self._decoding = driver.Decoding(pipe, kind[0], self._job.get("plugins"))

    def _readable(self) -> bool:
        """Whether decoded sound can be read; waits a little for it."""
        if self._decoding is None or (not self._is_live and len(self._buffer) >= _BEHIND * _SAMPLE):
            time.sleep(_TICK_S)
            return False
        return bool(select.select([self._decoding.fd], [], [], _TICK_S)[0])

    def _take(self) -> None:
        """Take new samples in, or the end of the stream."""
        if self._change is None:
            try:
                rate = self._decoding.start()
            except self._driver("media").MediaError:
                return self._leave()
            self._change = Mono48(self._driver("resampler"), rate, self._frame // _SAMPLE)
            return None
        part = os.read(self._decoding.fd, _BLOCK)
        if not part:
            return self._leave()
        data = self._odd + part
        whole = len(data) // self._frame * self._frame
        self._odd = data[whole:]
        came = self._change.convert(data[:whole])
        (self._buffer if self._joined else self._fresh).extend(came if self._level is None else self._level.add(came))
        return None

    def _leave(self) -> None:
        """The stream ended: all that came is played, and the next connection is joined anew."""
        self._decoding.abandon()
        rest = b"" if self._change is None else self._change.rest()
        self._decoding = self._change = None
        self._odd = b""
        self._buffer += self._fresh
        self._buffer += rest if self._level is None else self._level.add(rest) + self._level.rest()
        self._fresh.clear()
        self._first, self._half, self._joined = 0.0, 0, False
        self._is_live = False

    def _join(self, now: float) -> None:
        """Wait for a connection's first burst, keep its newest second, and stay near the live edge.

        What still comes much faster than real time after the burst is a file: it is played from its beginning.
        """
        if self._joined:
            if self._is_live and len(self._buffer) > self._behind * _SAMPLE:
                del self._buffer[: -self._edge * _SAMPLE]
            return
        if not self._fresh:
            return
        self._first = self._first or now
        waited = now - self._first
        if waited < self._join_s / 2:
            self._half = len(self._fresh)
        if waited < self._join_s and len(self._fresh) < _MUCH * _SAMPLE:
            return
        late = len(self._fresh) - self._half
        steady = len(self._fresh) < _MUCH * _SAMPLE and late < 3 * self._join_s / 2 * RATE * _SAMPLE
        self._is_live = self._talk or steady
        self._buffer += self._fresh[-self._edge * _SAMPLE :] if self._is_live else self._fresh
        self._fresh.clear()
        self._joined = True

    def _give(self, samples: int, now: float) -> int:
        """Write what is due and watch whether it sounds; returns the samples written."""
        samples = min(samples, self._out.room(), len(self._buffer) // _SAMPLE)
        if samples <= 0:
            return 0
        done = self._out.some(_fading(bytes(self._buffer[: samples * _SAMPLE]), self._out.room()))
        # A reader who waits is no reason to give the stream up: its time stands still meanwhile.
        self._given = now
        threshold = self._threshold if self._level is None else self._threshold * self._level.factor
        if not done or audioop.rms(bytes(self._buffer[:done]), _SAMPLE) >= threshold:
            self._sounded = now
        del self._buffer[:done]
        if self._out.room() <= 0:
            raise ItemFullError
        return done // _SAMPLE


class Samples:
    """The bytes of a talk, which are samples as they are."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def start(self) -> int:
        """How many a second."""
        return TALK_RATE

    def abandon(self) -> None:
        """No more."""
        os.close(self.fd)


def _to_16(data: bytes, form: wav.Wav) -> bytes:
    """Samples of 8, 24 or 32 bits and G.711 to 16 bits; floats stay for the resampler."""
    if form.law is not None:
        return audioop.ulaw2lin(data, 2) if form.law == "u" else audioop.alaw2lin(data, 2)
    if form.floats or form.bits == 16:
        return data
    width = form.bits // 8
    if width == 1:
        data = audioop.bias(data, 1, -128)
    return audioop.lin2lin(data, width, 2)


def _read(fd: int) -> Iterator[bytes]:
    """Whole stereo frames until the end."""
    odd = b""
    while data := os.read(fd, _BLOCK):
        data = odd + data
        whole = len(data) // 4 * 4
        odd = data[whole:]
        if whole:
            yield data[:whole]


def _trimmed(data: Iterable[bytes], trim: ogg.Trim, rate: int) -> Iterator[bytes]:
    scale = rate / trim.rate
    start = round(trim.start * scale) * 4
    left = math.inf if trim.length is None else round(trim.length * scale) * 4
    for part in data:
        cut = part[start:]
        start = max(start - len(part), 0)
        if left < len(cut):
            cut = cut[: int(left)]
        left -= len(cut)
        if cut:
            yield cut


def _chunks(head: bytes, fd: int) -> Iterator[bytes]:
    yield head
    while data := os.read(fd, _BLOCK):
        yield data
    os.close(fd)


def _pumped(chunks: Iterable[bytes]) -> int:
    """The read end of a pipe that a thread fills."""
    read, write = os.pipe()

    def pump() -> None:
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(write, view) :]
        except OSError:
            pass  # nobody reads any more
        finally:
            os.close(write)

    threading.Thread(target=pump, name="pump", daemon=True).start()
    return read


def confine(files: int = 0) -> None:
    """Give up what decoding does not need: privileges to gain, files to write, memory, and the network if allowed.

    `files`: how many are open beyond what every job has.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    libc.unshare(0x10000000 | 0x40000000)  # CLONE_NEWUSER | CLONE_NEWNET; where the kernel says no, nothing is lost
    for what, limit in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64 + files),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU_S),
    ):
        resource.setrlimit(what, (limit, limit))
    with contextlib.suppress(OSError):  # a unit is nice already, and may not say so itself
        os.nice(5)
    os.environ["HOME"] = "/nonexistent"


def handed_over(control: int) -> dict[str, Any]:
    """The job that comes through a unit's standard input, its places replaced by the descriptors that came with it."""
    import socket

    with socket.socket(fileno=os.dup(control)) as s:
        packet, fds, flags, _ = socket.recv_fds(s, 2**20, 253)
    if not packet or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        os._exit(0)
    job: dict[str, Any] = json.loads(packet)

    def file(place: str | int) -> str | int:
        return fds[place] if isinstance(place, int) else place

    for piece in job["pieces"]:
        if piece.get("path") is not None:
            piece["path"] = file(piece["path"])
        piece["fallback"] = [file(place) for place in piece.get("fallback") or ()]
    confine(len(fds))
    return job | {"out": fds[0], "counter": fds[1], "control": control}


def leave_with(control: int) -> None:
    """End this process as soon as the agent hangs up, whatever it is doing."""

    def watch() -> None:
        poll = select.poll()
        poll.register(control, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="hang-up", daemon=True).start()


def main() -> NoReturn:
    """Do the job of the first argument, and leave without libVLC's farewell, which may never end."""
    if len(sys.argv) > 1:
        confine()
        job = json.loads(sys.argv[1])
    else:
        job = handed_over(sys.stdin.fileno())
        leave_with(job["control"])
    Decoder(job).run()
    os._exit(0)


if __name__ == "__main__":
    main()
