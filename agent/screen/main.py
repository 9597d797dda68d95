"""The process of one board: commands of `agent.model.screen` as JSON lines on stdin, events on stdout, no network.

It stays small (no Pillow, no msgspec): what must be painted is painted by a forked child that ends when it is done, and
films are decoded by another one, whose pictures are in shared memory.

When stdin ends the agent is gone: the board goes dark, for nobody could take an old alert down, and the exit is 0. It
goes dark too when the agent says nothing for `LEASE_S` (an empty line is enough). What a command says of its end holds
without the agent.
"""

from __future__ import annotations

import binascii
import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
import zlib

from agent.screen.projector import HANG_S, Projector
from agent.screen.rota import Band, Frame, Rota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.screen.driver import BoardDriver

MAX_LINE = 4 * 2**20
"""Longest command; a longer one is a fault and is skipped."""
PAINT_S = 20.0
"""A page that takes longer to paint is given up."""
AGAIN_S = 10.0
"""A board that is dark because nothing could be painted tries again this often: the memory may be free by then."""
LEASE_S = 30.0
"""An agent that has said nothing for so long hangs: the board goes dark until it speaks again."""
AHEAD_S = 0.4
"""A frame is made ready this long before its turn, so that the change itself is a copy."""
FILM_AHEAD_S = 1.5
"""A film's decoding child is started this long before its turn, and waits for it."""
CHECK_S = 2.0
"""How often the display is looked after."""
LINE_HZ = 30.0
"""A running line moves so often, on outputs that are fast enough."""
STILL_S = 6.0
"""How long the title of a film that cannot be shown takes its place."""
ALERT = b'"class_":"emergency"'
"""In a command whose painting goes before other work."""
FIRST = -10
"""The niceness of the board's process and of who paints an alert; `agent.machine.FIRST`, which is not imported here."""
CHANGED = 3
"""Exit code when the display has another resolution now: the agent starts a new process, which paints anew."""


class _Painter:
    """A painting child as its parent sees it."""

    def __init__(self, line: bytes, board: BoardDriver, look: dict[str, Any], *, skip: int = 0, shown: int = 0) -> None:
        self.line, self.shown = line, shown
        self.page: int | None = None
        """The page it is at; None before its first."""
        self.since = time.monotonic()
        self.ended = False
        self._buffer = bytearray()
        self.fd, out = os.pipe()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self._paint(board, look, out, skip)
        except OSError:
            os.close(self.fd)
            raise
        finally:
            os.close(out)

    def _paint(self, board: BoardDriver, look: dict[str, Any], out: int, skip: int) -> None:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if ALERT not in self.line:
                niceness(0)
            os.close(self.fd)
            # stdin and stdout are the agent's: a child that outlives its parent must not hold them.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            from agent import lean

            lean.absent()
            from agent.screen.painting import work

            work(self.line, board.width, board.height, out, look, skip=skip, shown=self.shown)
            code = 0
        except BrokenPipeError:
            code = 0
        except Exception as error:  # noqa: BLE001 - the child's last words; the parent reports its end as a fault
            print(f"screen painter: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def read(self) -> list[tuple[dict[str, Any], bytes]]:
        """Messages that have arrived; sets `ended` at the end of the pipe."""
        data = os.read(self.fd, 1 << 20)
        self.ended = not data
        self._buffer += data
        messages = []
        while (cut := self._buffer.find(b"\n")) >= 0:
            message = json.loads(self._buffer[:cut])
            size = message.get("bytes", 0)
            if len(self._buffer) < cut + 1 + size:
                break
            messages.append((message, bytes(self._buffer[cut + 1 : cut + 1 + size])))
            del self._buffer[: cut + 1 + size]
            self.since = time.monotonic()
        return messages

    def close(self) -> int:
        """End the child and return its wait status; one that has closed its pipe is given a moment to say why."""
        os.close(self.fd)
        patience = 50 if self.ended else 0
        while patience:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.01)
            patience -= 1
        os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]


class _Capture:
    """A child that makes a small picture of what was read back from the output."""

    def __init__(self, token: int, rgb: bytes, width: int, height: int) -> None:
        self.token = token
        self._data = b""
        self.fd, out = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                from agent.screen.painting import thumbnail

                data = thumbnail(rgb, width, height)
                while data:
                    data = data[os.write(out, data) :]
                code = 0
            finally:
                os._exit(code)
        os.close(out)

    def read(self) -> dict[str, Any] | None:
        """The answer, when it is complete."""
        part = os.read(self.fd, 1 << 16)
        self._data += part
        if part:
            return None
        os.close(self.fd)
        _, status = os.waitpid(self._pid, 0)
        if status:
            return {"ev": "captured", "token": self.token, "detail": "the picture could not be made small"}
        return {"ev": "captured", "token": self.token, "png": binascii.b2a_base64(self._data, newline=False).decode()}


class _Process:
    """One board, its commands and its children."""

    def __init__(self, board: BoardDriver, look: dict[str, Any] | None = None, work: str | None = None) -> None:
        self.board = board
        self.look = look or {}
        self.plugins = None if work is None else os.path.join(work, "vlc")
        self.rota = Rota()
        self.painter: _Painter | None = None
        self.finished = False
        """The painter has said that it is done; its end is then no fault."""
        self.film: Projector | None = None
        self.coming: tuple[Frame, Projector] | None = None
        """The film whose turn comes next, ready to begin."""
        self.capture: _Capture | None = None
        self.focus: tuple[str, int, int] | None = None
        """The pages of a play to which the agent has turned."""
        self.input = bytearray()
        self.skipping = False
        self.shown: Frame | None = None
        self.again: float | None = None
        """When what could not be painted is tried again."""
        self.until: float | None = None
        """When what is shown must be gone, whatever the agent does."""
        self.heard = time.monotonic()
        self.alone = False
        self.percent = 100
        self.display_fault: str | None = None
        self._show_line = self._rest_line = b'{"do":"rest","dark":true}'
        self._ready: tuple[Frame | None, str, Any] | None = None
        self._dims = False
        """The display itself sets its brightness."""
        self._next_check = self.heard + CHECK_S
        self._strip: tuple[Band, bytes, float] | None = None
        """The running line that is on: its strip as the driver has pixels, and since when it runs."""
        self._next_move = 0.0

    def run(self) -> int:
        """Serve until stdin ends (0), or the display has another size (CHANGED)."""
        try:
            while (code := self._step()) is None:
                pass
        except BrokenPipeError:
            code = 0
        finally:
            try:
                self._drop_painter()
                self._new_rota()
                self._drop_film()
            except BrokenPipeError:
                pass  # nobody hears of the film any more
            finally:
                self.board.close()
        return code

    def _step(self) -> int | None:
        """One turn; an exit code when it was the last."""
        readable = [0, *(c.fd for c in (self.painter, self.film, self.capture) if c)]
        timeout = max(0.0, self._wake() - time.monotonic())
        ready, _, _ = select.select(readable, [], [], timeout)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return 0
            self._take(data)
        elif self.painter and self.painter.fd in ready:
            self._painted(self.painter)
        elif self.film and self.film.fd in ready:
            self._projected(self.film)
        elif self.capture and self.capture.fd in ready and (answer := self.capture.read()) is not None:
            self.capture = None
            self._say(answer)
        return None if self._tend(time.monotonic()) else CHANGED

    def _wake(self) -> float:
        """When time itself is the next event."""
        wakes = [self._next_check, self.heard + LEASE_S if not self.alone else None, self.until, self.again]
        due = self.rota.due()
        coming = self.rota.ahead(0.0, float("inf")) if due is not None else None
        wakes.append(due)
        if due is not None and coming is not None and coming.film is None and self._ready is None:
            wakes.append(due - AHEAD_S)
        elif due is not None and coming is not None and coming.film is not None and self.coming is None:
            wakes.append(due - FILM_AHEAD_S)
        wakes += [
            self.painter.since + PAINT_S if self.painter else None,
            self.film.since + HANG_S if self.film else None,
        ]
        wakes.append(self._next_move if self._strip else None)
        return min(w for w in wakes if w is not None)

    def _tend(self, now: float) -> bool:
        """Do what is due. False: the display has another size."""
        if self.painter and now >= self.painter.since + PAINT_S:
            self._gave_up(f"nothing painted for {PAINT_S:.0f} s")
        if self.film and now >= self.film.since + HANG_S:
            self._film_over(self.film, f"nothing came of it for {HANG_S:.0f} s")
        if self.until is not None and now >= self.until:
            self.until = None
            self._begin(self._rest_line)
        if self.again is not None and now >= self.again:
            self._begin(self._show_line)
        if not self.alone and now >= self.heard + LEASE_S:
            self.alone, self.again = True, None
            self._fault("agent", f"the agent has said nothing for {LEASE_S:.0f} s; the board is dark")
            self._drop_painter()
            self._dark()
        if now >= self._next_check:
            self._next_check = now + CHECK_S
            if not self._check():
                return False
        self._turn(now)
        self._move(now)
        return True

    # commands

    def _take(self, data: bytes) -> None:
        self.input += data
        self.heard = time.monotonic()
        newest: bytes | None = self._show_line if self.alone else None
        if self.alone:
            self.alone = False
            self._say({"ev": "fault", "what": "agent", "detail": "", "on": False})
        while (cut := self.input.find(b"\n")) >= 0:
            if not self.skipping and self.input[:cut].strip():
                newest = self._command(bytes(self.input[:cut])) or newest
            self.skipping = False
            del self.input[: cut + 1]
        if len(self.input) > MAX_LINE:
            self.input.clear()
            if not self.skipping:
                self._fault("command", f"longer than {MAX_LINE} bytes")
            self.skipping = True
        if newest is not None:
            self._begin(newest)

    def _command(self, line: bytes) -> bytes | None:
        """Do what is done at once; a command that is to be painted is given back."""
        try:
            told = json.loads(line)
            what = told["do"]
            if what == "turn":
                self.focus = told["play"], told["first"], told["last"]
                self._turn_pages()
            elif what == "dim":
                self._dim(told["percent"])
            elif what == "capture":
                self._capture(told["token"])
            else:
                self.until = told["until_ns"] / 1e9 if told.get("until_ns") is not None else None
                if what == "rest":
                    self._rest_line = line
                return line
        except (ValueError, KeyError, TypeError) as error:
            self._fault("command", f"{type(error).__name__}: {error}")
        return None

    def _begin(self, line: bytes) -> None:
        self._show_line, self.again = line, None
        self._drop_painter()
        if json.loads(line).get("dark"):
            self._dark()
        else:
            self._start(line)

    def _turn_pages(self) -> None:
        if self.focus is not None and self.rota.frames and self.rota.frames[0].play == self.focus[0]:
            self.rota.focus(*self.focus[1:])

    def _dim(self, percent: int) -> None:
        self.percent = percent
        self._dims = self.board.dim(percent)
        self._ready = None
        if self.shown is not None and self.film is None and self.shown.packed:
            self._put(self.shown, zlib.decompress(self.shown.packed))
        elif self.film is None and not self._dims:
            self._begin(self._show_line)

    def _capture(self, token: int) -> None:
        """Fork a child that makes a small picture of what is on the output."""
        try:
            rgb = self.board.read()
        except (OSError, ValueError) as error:
            self._say({"ev": "captured", "token": token, "detail": str(error) or type(error).__name__})
            return
        if self.capture is not None:
            self._say({"ev": "captured", "token": token, "detail": "another picture is being taken"})
            return
        self.capture = _Capture(token, rgb, self.board.width, self.board.height)

    # painting

    def _start(self, line: bytes, *, skip: int = 0, shown: int = 0) -> None:
        self.finished = False
        try:
            self.painter = _Painter(line, self.board, self.look, skip=skip, shown=shown)
        except OSError as error:
            self._fault("painter", str(error))
            self._unpainted()

    def _painted(self, painter: _Painter) -> None:
        for message, payload in painter.read():
            kind = message["m"]
            if kind == "begin":
                self._new_rota() if not painter.shown else None
            elif kind == "page":
                painter.page = message["n"]
            elif kind == "fault":
                self._fault(message["what"], message["detail"])
            elif kind == "frame":
                painter.shown += 1
                self.rota.frames.append(_frame(message, payload))
                self._turn_pages()
                self._turn(time.monotonic())
            elif kind == "end":
                self.finished = True
        if painter.ended and self.finished:
            self._drop_painter()
            self._complete()
        elif painter.ended:
            self._gave_up("")

    def _complete(self) -> None:
        self.rota.complete = True
        play = self.rota.frames[0].play if self.rota.frames else None
        if play is not None:
            self._say({"ev": "lasts", "play": play, "seconds": self.rota.seconds})

    def _new_rota(self) -> None:
        self.rota = Rota()
        self._ready = None
        if self.coming is not None:
            self.coming[1].close()
            self.coming = None

    def _gave_up(self, why: str) -> None:
        """The painter died or hangs: its page is lost, the next ones are not."""
        painter = self.painter
        if painter is None:
            return
        status = self._drop_painter()
        why = why or (f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}")
        if painter.page is None:
            self._fault("painter", why)
            self._unpainted()
            return
        self._fault("painter", f"page {painter.page}: {why}")
        self._start(painter.line, skip=painter.page + 1, shown=painter.shown)

    def _unpainted(self) -> None:
        self._dark()
        self.again = None if self.alone else time.monotonic() + AGAIN_S

    def _drop_painter(self) -> int:
        painter, self.painter = self.painter, None
        return painter.close() if painter else 0

    # frames

    def _turn(self, now: float) -> None:
        frame = self.rota.turn(now)
        if frame is not None:
            self._change(frame)
        elif self._ready is None and (coming := self.rota.ahead(now, AHEAD_S)) is not None and coming.film is None:
            self._prepare(coming)
        elif self.coming is None and (coming := self.rota.ahead(now, FILM_AHEAD_S)) is not None and coming.film:
            self.coming = self._projector(coming)
        self.rota.trim()

    def _change(self, frame: Frame) -> None:
        """Another frame's turn. What is on stays until the new one is there, and a film's first picture too."""
        self._drop_film()
        self._strip = None
        self.shown = frame
        if frame.film is not None:
            ready = self.coming if self.coming is not None and self.coming[0] is frame else self._projector(frame)
            self.coming = None
            if ready is not None:
                self.film = ready[1]
                self.film.start()
                self.rota.ends(time.monotonic() + 2 * HANG_S)  # its time counts from its first picture
                return
        if self._ready is None or self._ready[0] is not frame:
            self._prepare(frame)
        if self._ready is not None and self._ready[2] is not None:
            self._show(frame.play, *self._ready[1:])
        self._ready = None
        if frame.band is not None:
            self._strip = (frame.band, _bgrx(self._dimmed(zlib.decompress(frame.band.strip))), time.monotonic())

    def _projector(self, frame: Frame) -> tuple[Frame, Projector] | None:
        fill, size = self.look.get("fit") == "fill", (self.board.width, self.board.height)
        try:
            return frame, Projector(frame.film or "", *size, fill=fill, plugins=self.plugins)
        except OSError as error:
            self._fault("film", f"page {frame.page}: {error}")
            return None

    def _prepare(self, frame: Frame) -> None:
        self._ready = self._made(frame, zlib.decompress(frame.packed))

    def _made(self, frame: Frame | None, rgb: bytes) -> tuple[Frame | None, str, Any]:
        """The frame, the hash of its pixels as they go out, and what the driver made of it: None when it failed."""
        dimmed, sha256 = self._dimmed(rgb), frame.sha256 if frame else ""
        if dimmed is not rgb or not sha256:
            import hashlib

            sha256 = hashlib.sha256(dimmed).hexdigest()
        try:
            return frame, sha256, self.board.prepare(dimmed, sha256)
        except OSError as error:
            self._fault("output", str(error))
            return frame, sha256, None

    def _put(self, frame: Frame | None, rgb: bytes) -> None:
        _, sha256, ready = self._made(frame, rgb)
        if ready is not None:
            self._show(frame.play if frame else None, sha256, ready)

    def _show(self, play: str | None, sha256: str, ready: Any) -> None:
        try:
            at_ns, file = self.board.show(ready)
        except OSError as error:
            self._fault("output", str(error))
            return
        event = {"ev": "shown", "at_ns": at_ns, "sha256": sha256, "play": play, "file": file}
        self._say({key: value for key, value in event.items() if value is not None})

    def _dimmed(self, pixels: bytes) -> bytes:
        """Pixels with less light, where the display has no brightness of its own."""
        if self.percent >= 100 or self._dims:
            return pixels
        return pixels.translate(_light(self.percent))

    def _dark(self) -> None:
        """Nothing could be painted: black is better than an alert of yesterday."""
        self._drop_film()
        self._strip = self.shown = None
        self._new_rota()
        self.rota.complete = True
        self._put(None, bytes(self.board.width * self.board.height * 3))

    # what moves

    def _projected(self, film: Projector) -> None:
        picture = film.read()
        now = time.monotonic()
        if picture is not None:
            first = film.shown == 1
            if first or now >= self._next_move:
                self._next_move = now + 0.9 / self.board.rate_hz
                self._moved(picture, 0)  # copied once, onto the display
            if first and self.shown is not None:
                import hashlib

                self.rota.ends(now + self.shown.dwell_s)
                sha256 = hashlib.sha256(_rgb(self._dimmed(bytes(picture)))).hexdigest()
                event = {"ev": "shown", "at_ns": time.monotonic_ns(), "sha256": sha256, "play": self.shown.play}
                self._say({key: value for key, value in event.items() if value is not None})
        if film.ended:
            self._film_over(film, None)

    def _film_over(self, film: Projector, why: str | None) -> None:
        """It came to its end, or to a bad one: then its still picture takes the place of what was not seen."""
        frame = self.shown
        self._drop_film()
        fault = why or film.fault
        if frame is None:
            return
        if fault is None:
            self.rota.ends(time.monotonic())
            return
        self._fault("film", f"page {frame.page}: {fault}")
        frame.film = None
        self.rota.ends(time.monotonic() + (0.0 if film.shown else STILL_S))
        self._put(frame, zlib.decompress(frame.packed))

    def _drop_film(self) -> None:
        film, self.film = self.film, None
        if film is not None:
            film.close()
        if film is not None and film.shown:
            play = self.shown.play if self.shown else None
            event = {"ev": "dropped", "play": play, "shown": film.shown, "lost": film.lost}
            self._say({key: value for key, value in event.items() if value is not None})

    def _move(self, now: float) -> None:
        """The running line, where it is now."""
        if self._strip is None or now < self._next_move:
            return
        band, pixels, since = self._strip
        self._next_move = now + 1 / min(self.board.rate_hz, LINE_HZ)
        wide, row = self.board.width * 4, band.width * 4
        at = int((now - since) * band.speed) % band.width * 4
        rows = []
        for y in range(band.rows):
            line = pixels[y * row : (y + 1) * row]
            rows.append((line[at:] + line * (wide // row + 1))[:wide])
        self._moved(b"".join(rows), band.top, dimmed=True)

    def _moved(self, pixels: bytes | memoryview, top: int, *, dimmed: bool = False) -> None:
        try:
            whole = dimmed or self.percent >= 100
            self.board.move(pixels if whole else self._dimmed(bytes(pixels)), top)
        except OSError as error:
            self._fault("output", str(error))

    # the display

    def _check(self) -> bool:
        """Look after the display. False: it has another size, and all must be painted anew."""
        try:
            same = self.board.check()
        except OSError as error:
            if self.display_fault is None:
                self.display_fault = str(error)
                self._fault("display", self.display_fault)
            return True
        if self.display_fault is not None:
            self.display_fault = None
            self._say({"ev": "fault", "what": "display", "detail": "", "on": False})
            self._begin(self._show_line)
        return same

    def _fault(self, what: str, detail: str) -> None:
        self._say({"ev": "fault", "what": what, "detail": detail[:500]})

    @staticmethod
    def _say(event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]


def niceness(wanted: int) -> None:
    """Of this process and of what it starts. Without the right to ask (RLIMIT_NICE) nothing changes."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, wanted)


def _frame(message: dict[str, Any], payload: bytes) -> Frame:
    band = message.get("band")
    size = len(payload) - (band["bytes"] if band else 0)
    moving = Band(band["top"], band["rows"], band["width"], band["speed"], payload[size:]) if band else None
    told = (message["sha256"], message["dwell_s"], message["play"], message["page"], message.get("film"))
    return Frame(payload[:size], *told, moving)


def _bgrx(rgb: bytes) -> bytes:
    pixels = bytearray(len(rgb) // 3 * 4)
    for offset in range(3):
        pixels[2 - offset :: 4] = rgb[offset::3]
    return bytes(pixels)


def _rgb(bgrx: bytes) -> bytes:
    pixels = bytearray(len(bgrx) // 4 * 3)
    for offset in range(3):
        pixels[offset::3] = bgrx[2 - offset :: 4]
    return bytes(pixels)


def _light(percent: int) -> bytes:
    """The table by which pixels give that much of their light: their values follow a gamma of 2.2 (IEC 61966-2-1)."""
    share = (percent / 100) ** (1 / 2.2)
    return bytes(round(value * share) for value in range(256))


def _open(options: dict[str, Any]) -> BoardDriver | None:
    """The board, waited for while it is not there; None when stdin ends meanwhile."""
    name = options.pop("driver")
    module = importlib.import_module(f"drivers.{name}_board")
    told = ""
    while True:
        try:
            board: BoardDriver = module.Board(**options)
        except OSError as error:
            if str(error) != told:
                told = str(error)
                _Process._say({"ev": "fault", "what": "display", "detail": told})
        else:
            if told:
                _Process._say({"ev": "fault", "what": "display", "detail": "", "on": False})
            return board
        ended = select.poll()
        ended.register(0, 0)  # nothing but its end
        if ended.poll(CHECK_S * 1000):
            return None


def main(argv: list[str] | None = None) -> int:
    """Run one board: `--zone ID --output JSON --board JSON --work FOLDER`, the zone's members of the configuration."""
    words = sys.argv[1:] if argv is None else argv
    given = dict(zip(words[::2], words[1::2], strict=False))
    if set(given) != {"--zone", "--output", "--board", "--work"} or len(words) != 8:
        print("usage: python -m agent.screen --zone ID --output JSON --board JSON --work FOLDER", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    niceness(FIRST)
    try:
        board = _open(json.loads(given["--output"]))
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        _Process._say({"ev": "fault", "what": "output", "detail": f"{type(error).__name__}: {error}"})
        return 1
    if board is None:
        return 0
    return _Process(board, json.loads(given["--board"]), given["--work"]).run()
