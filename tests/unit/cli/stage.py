"""A fake agent at its socket, a configuration, and the command run in this process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.__main__ import main
from agent.cli import language

STATION = """\
device: {{id: xa-mau, name: Đài truyền thanh xã Mẫu, unit: 84/86/xa-mau}}
trust: {{root_keys: roots.json, authorities: authorities.json}}
data_dir: {folder}/data
run_dir: {run}
zones:
  - {{id: loa-xa, kind: sound, output: {{driver: wav, path: out.wav}}, tags: [ngoai-troi]}}
  - {{id: bang, kind: screen, output: {{driver: png, dir: board}}}}
messages:
  - {{id: so-tan, title: Sơ tán, text: Đi ngay}}
"""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


class FakeAgent:
    """Answers from `answers` ({name: result or Refusal}); `asked` is what it was asked, in order."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.raw: bytes | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                question = json.loads(lines.readline())
                self.asked.append((question["do"], question["args"]))
                connection.sendall(self._answer(question["do"]))

    def _answer(self, do: str) -> bytes:
        if self.raw is not None:
            return self.raw
        answer = self.answers.get(do, {})
        body = answer.body if isinstance(answer, Refusal) else {"ok": True, "result": answer}
        return json.dumps(body, ensure_ascii=False).encode() + b"\n"

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


class Refusal:
    """The agent says no."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.body = {"ok": False, "reason": reason, "detail": detail}


class Stage:
    """Runs commands on a configuration of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.run_dir = Path(tempfile.mkdtemp(prefix="tram-"))  # short: socket paths end at 108 bytes
        self.config = folder / "station.yaml"
        self.config.write_text(STATION.format(folder=folder, run=self.run_dir))
        self.agent: FakeAgent | None = None

    def start(self, **answers: Any) -> FakeAgent:
        """The agent is there now."""
        self.agent = FakeAgent(self.run_dir / "agent.sock")
        self.agent.answers = answers
        return self.agent

    def tram(self, *args: str, config: bool = True) -> Done:
        """`tram ARGS` with this configuration."""
        extra = ["--config", str(self.config)] if config else []
        before = os.environ.get("LANGUAGE")
        self._capsys.readouterr()
        try:
            code = main([*extra, *args])
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            if before is None:
                os.environ.pop("LANGUAGE", None)
            else:
                os.environ["LANGUAGE"] = before
        captured = self._capsys.readouterr()
        return Done(code, captured.out, captured.err)


@contextlib.contextmanager
def staged(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    """A stage that is cleared afterwards."""
    stage = Stage(folder, capsys)
    try:
        language.use(None)
        yield stage
    finally:
        if stage.agent is not None:
            stage.agent.close()
            (stage.run_dir / "agent.sock").unlink()
        stage.run_dir.rmdir()
