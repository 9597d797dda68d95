"""The training station's control socket answers every line, also one that asks for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from province.demo.stage import ControlSocket, Stage

LINES = {
    "no object": b"[]",
    "no JSON": b"press",
    "nothing": b"{}",
    "two verbs": b'{"link": {"up": true}, "clock": {"offset_s": 0}}',
    "an unknown verb": b'{"do": "dance"}',
    "a link that is neither up nor down": b'{"do": "link", "up": "yes"}',
    "a link without a word": b'{"do": "link"}',
    "a clock in words": b'{"do": "clock", "offset_s": "late"}',
    "nothing to restart": b'{"do": "restart", "what": "moon", "kill": true}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_cannot_be_carried_out_is_answered_with_the_reason(line: bytes, tmp_path: Path) -> None:
    answer = ControlSocket(Stage(tmp_path))._answer(line)
    assert answer["ok"] is False
    assert answer["error"]
