"""Asking the running agent over its control socket: one JSON line there, one back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli.language import _, reason
from agent.cli.show import safe

MAX_ANSWER = 16 * 1024 * 1024


class NotRunning(click.ClickException):
    """There is no agent to ask."""

    exit_code = 3


class Refused(click.ClickException):
    """The agent said no; `reason` is its short name."""

    def __init__(self, name: str, detail: str = "") -> None:
        words = reason(name)
        super().__init__(_("Refused: {reason}.").format(reason=safe(words)) + (f" ({safe(detail)})" if detail else ""))
        self.reason = name


def ask(run_dir: str, do: str, args: dict[str, Any] | None = None, timeout_s: float = 15.0) -> Any:
    """The agent's result. NotRunning (exit 3) when nobody answers, Refused (exit 1) when it declines."""
    path = Path(run_dir) / "agent.sock"
    line = msgspec.json.encode({"do": do, "args": args or {}}) + b"\n"
    try:
        answer = _exchange(path, line, timeout_s)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(
            _(
                "The station is not running here (no answer at {path}). "
                "Start it with “systemctl start tram” or “tram run”."
            ).format(path=path)
        ) from None
    except PermissionError:
        raise NotRunning(
            _(
                "This user may not speak to the station ({path}). Use the user tram, a member of its group, or root."
            ).format(path=path)
        ) from None
    except TimeoutError:
        raise NotRunning(
            _("The station does not answer ({path}). Look at “tram doctor” and “journalctl -u tram”.").format(path=path)
        ) from None
    except OSError as error:
        raise NotRunning(
            _("The station cannot be asked at {path}: {detail}.").format(path=path, detail=error)
        ) from None
    return _result(answer, path)


def _exchange(path: Path, line: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(str(path))
        sock.sendall(line)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER:
            part = sock.recv(65536)
            if not part:
                break
            answer += part
    return bytes(answer)


def _result(answer: bytes, path: Path) -> Any:
    try:
        document = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        raise NotRunning(
            _(
                "The station broke off without an answer ({path}). Try again; if it stays so, see “journalctl -u tram”."
            ).format(path=path)
        ) from None
    if document.get("ok") is True:
        return document.get("result")
    raise Refused(str(document.get("reason") or "malformed"), str(document.get("detail") or ""))
