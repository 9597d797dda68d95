"""The process of one board: commands of `agent.model.screen` as JSON lines on stdin, events on stdout, no network.

It stays small (no Pillow, no msgspec): what must be painted is painted by a forked child that ends when it is done.
When stdin ends the agent is gone: the board goes dark, for nobody could take an old alert down, and the exit is 0.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import time
import zlib

from agent.screen.rota import Frame, Rota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.screen.driver import BoardDriver

MAX_LINE = 4 * 2**20
"""Longest command; a longer one is a fault and is skipped."""
PAINT_S = 20.0
"""A page that takes longer to paint is given up."""


class _Painter:
    """A painting child as its parent sees it."""

    def __init__(self, line: bytes, board: BoardDriver, *, skip: int = 0, shown: int = 0) -> None:
        self.line, self.shown = line, shown
        self.page: int | None = None
        """The page it is at; None before its first."""
        self.since = time.monotonic()
        self.ended = False
        self._buffer = bytearray()
        self.fd, out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._paint(board, out, skip)
        os.close(out)

    def _paint(self, board: BoardDriver, out: int, skip: int) -> None:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(self.fd)
            # stdin and stdout are the agent's: a child that outlives its parent must not hold them.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            from agent.screen.painting import work

            work(self.line, board.width, board.height, out, skip=skip, shown=self.shown)
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


class _Process:
    """One board, its commands and its painter."""

    def __init__(self, board: BoardDriver) -> None:
        self.board = board
        self.rota = Rota()
        self.painter: _Painter | None = None
        self.finished = False
        """The painter has said that it is done; its end is then no fault."""
        self.input = bytearray()
        self.skipping = False

    def run(self) -> None:
        """Serve until stdin ends."""
        try:
            while self._step():
                pass
        except BrokenPipeError:
            pass
        finally:
            self._drop_painter()
            self.board.close()

    def _step(self) -> bool:
        readable = [0, self.painter.fd] if self.painter else [0]
        wakes = [t for t in (self.rota.due(), self.painter.since + PAINT_S if self.painter else None) if t is not None]
        timeout = max(0.0, min(wakes) - time.monotonic()) if wakes else None
        ready, _, _ = select.select(readable, [], [], timeout)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return False
            self._take(data)
        elif self.painter and self.painter.fd in ready:
            self._painted(self.painter)
        elif self.painter and time.monotonic() >= self.painter.since + PAINT_S:
            self._gave_up(f"nothing painted for {PAINT_S:.0f} s")
        self._turn()
        return True

    def _take(self, data: bytes) -> None:
        self.input += data
        newest: bytes | None = None
        while (cut := self.input.find(b"\n")) >= 0:
            if not self.skipping and self.input[:cut].strip():
                newest = bytes(self.input[:cut])
            self.skipping = False
            del self.input[: cut + 1]
        if len(self.input) > MAX_LINE:
            self.input.clear()
            if not self.skipping:
                self._fault("command", f"longer than {MAX_LINE} bytes")
            self.skipping = True
        if newest is not None:
            self._drop_painter()
            self._start(newest)

    def _start(self, line: bytes, *, skip: int = 0, shown: int = 0) -> None:
        self.finished = False
        try:
            self.painter = _Painter(line, self.board, skip=skip, shown=shown)
        except OSError as error:
            self._fault("painter", str(error))
            self._dark()

    def _painted(self, painter: _Painter) -> None:
        for message, payload in painter.read():
            kind = message["m"]
            if kind == "begin":
                self.rota = Rota() if not painter.shown else self.rota
            elif kind == "page":
                painter.page = message["n"]
            elif kind == "fault":
                self._fault(message["what"], message["detail"])
            elif kind == "frame":
                painter.shown += 1
                self.rota.frames.append(Frame(payload, message["sha256"], message["dwell_s"], message["play"]))
                self._turn()
            elif kind == "end":
                self.finished = True
        if painter.ended and self.finished:
            self._drop_painter()
            self.rota.complete = True
        elif painter.ended:
            self._gave_up("")

    def _gave_up(self, why: str) -> None:
        """The painter died or hangs: its page is lost, the next ones are not."""
        painter = self.painter
        if painter is None:
            return
        status = self._drop_painter()
        why = why or (f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}")
        if painter.page is None:
            self._fault("painter", why)
            self._dark()
            return
        self._fault("painter", f"page {painter.page}: {why}")
        self._start(painter.line, skip=painter.page + 1, shown=painter.shown)

    def _drop_painter(self) -> int:
        painter, self.painter = self.painter, None
        return painter.close() if painter else 0

    def _turn(self) -> None:
        frame = self.rota.turn(time.monotonic())
        if frame is not None:
            self._show(zlib.decompress(frame.packed), frame.sha256, frame.play)
        self.rota.trim()

    def _show(self, rgb: bytes, sha256: str, play: str | None) -> None:
        try:
            at_ns, file = self.board.show(rgb, sha256)
        except OSError as error:
            self._fault("output", str(error))
            return
        event = {"ev": "shown", "at_ns": at_ns, "sha256": sha256, "play": play, "file": file}
        self._say({key: value for key, value in event.items() if value is not None})

    def _dark(self) -> None:
        """Nothing could be painted: black is better than an alert of yesterday."""
        import hashlib

        self.rota = Rota()
        self.rota.complete = True
        rgb = bytes(self.board.width * self.board.height * 3)
        self._show(rgb, hashlib.sha256(rgb).hexdigest(), None)

    def _fault(self, what: str, detail: str) -> None:
        self._say({"ev": "fault", "what": what, "detail": detail[:500]})

    @staticmethod
    def _say(event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]


def main(argv: list[str] | None = None) -> int:
    """Run one board: `--zone ID --output JSON`, the JSON being the zone's `output` of the configuration."""
    words = sys.argv[1:] if argv is None else argv
    given = dict(zip(words[::2], words[1::2], strict=False))
    if set(given) != {"--zone", "--output"} or len(words) != 4:
        print("usage: python -m agent.screen --zone ID --output JSON", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        options = json.loads(given["--output"])
        name = options.pop("driver")
        board: BoardDriver = importlib.import_module(f"drivers.{name}_board").Board(**options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        _Process._say({"ev": "fault", "what": "output", "detail": f"{type(error).__name__}: {error}"})
        return 1
    _Process(board).run()
    return 0
