"""`tram demo` before anything is started: the output folder."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner

from province.demo.main import demo

NOBODY = 65_534


def test_a_folder_that_another_user_left_is_answered_with_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    out.mkdir()
    (out / "events.jsonl").touch()
    for folder in (out, tmp_path):
        folder.chmod(0o555)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # permissions mean nothing to root
        if os.getuid() == 0:
            os.setuid(NOBODY)
        result = CliRunner().invoke(demo, ["--out", str(out)])
        os.write(write, f"{result.exit_code}\n{result.output}\n{result.exception!r}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        code, _, said = told.read().decode().partition("\n")
    os.waitpid(child, 0)
    tmp_path.chmod(0o755)
    assert code == "1"
    assert f"Error: {out} cannot be made anew" in said
    assert "--out" in said
    assert "SystemExit(1)" in said, "a sentence, not a traceback"
