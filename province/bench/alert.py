"""A province's alert whose words nobody has spoken before: from the packet to the first word at the converter."""

from __future__ import annotations

import time
from pathlib import Path

from agent.model import voice as v
from province.bench import proc
from province.bench.rows import Row, row
from province.bench.stages import TappedStage
from province.demo.stage import DEVICE

ZONE = "loa-xa"
SENTENCE = (
    "Thông báo khẩn số {} của Ủy ban nhân dân xã: 7h30 tối nay bão số 3 vào bờ, gió cấp 12, bà con ấp {} đến "
    "nhà văn hóa trú bão ngay. "
)
LENGTHS = (1, 6)
"""In sentences, by turns: a call of 10 seconds, and an announcement of a minute."""


def text_to_speech(folder: Path, n: int) -> list[Row]:
    """`text_to_speech_ms`: an emergency of text is given to the MQTT client, until its first word is heard."""
    words: dict[int, list[float]] = {length: [] for length in LENGTHS}
    siren: list[float] = []
    lost = 0
    with TappedStage(folder) as stage:
        stage.wait_ready()
        for k in range(n):
            length = LENGTHS[k % len(LENGTHS)]
            text = "".join(SENTENCE.format(100 * k + j + 1, j + 1) for j in range(length))
            name = f"loi-{k}"
            args = stage.broadcast("province", name, [{"text": text, "lang": "vi"}], zones=["kind:sound"])
            order = stage.province.sign("province", "broadcast", args, [DEVICE], ttl_s=600)
            begun = time.monotonic_ns()
            stage.publisher.send(order)
            prefix = f"province/{name}#"
            first = stage.hear(v.Started, lambda e, prefix=prefix: e.play.startswith(prefix), 10)  # type: ignore[misc]
            word = stage.hear(v.SegmentStarted, lambda e, prefix=prefix: e.play.startswith(prefix), 20)  # type: ignore[misc]
            if first is None or word is None:
                lost += 1
            else:
                siren.append((first.submitted_ns - begun) / 1e6)
                words[length].append((word.at_ns - begun) / 1e6)
            stage.publisher.send(stage.province.sign("province", "cancel", {"ids": [name]}, [DEVICE], ttl_s=60))
            stage.hear(v.Power, lambda e: e.zone == ZONE and e.state == "off", 30)
    parts = [
        f"{length} sentence{'s' * (length > 1)}: median {sorted(found)[len(found) // 2]:.0f} (n {len(found)})"
        for length, found in words.items()
        if found
    ]
    note = "from publish() to the first word at the converter, never spoken before, broker and TLS included; "
    if siren:
        note += f"the siren covers it, from {sorted(siren)[len(siren) // 2]:.0f} on; "
    note += "; ".join([*parts, proc.load_note()])
    if lost:
        note += f"; {lost} of {n} were not heard"
    return [row("text_to_speech_ms", [ms for found in words.values() for ms in found], note)]
