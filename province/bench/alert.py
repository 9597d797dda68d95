"""A province's alert whose words nobody has spoken before: from the packet to the first word at the converter."""

from __future__ import annotations

import time
from pathlib import Path

from agent.model import voice as v
from province.bench import proc
from province.bench.rows import Row, row
from province.bench.stages import TappedStage
from province.bench.station import minute
from province.bench.voice_rig import BenchError
from province.demo.stage import DEVICE

ZONE = "loa-xa"
SENTENCE = (
    "Thông báo khẩn số {} của Ủy ban nhân dân xã: 7h30 tối nay bão số 3 vào bờ, gió cấp 12, bà con ấp {} đến "
    "nhà văn hóa trú bão ngay. "
)
LENGTHS = (1, 6)
"""In sentences, by turns: a call of 10 seconds, and an announcement of a minute."""


COLD = 2
"""So many more with the amplifier off, for the note: their words wait for its warm-up, whatever speech takes."""


def text_to_speech(folder: Path, n: int) -> list[Row]:
    """`text_to_speech_ms`: an emergency of text is given to the MQTT client, until its first word is heard, over a
    programme that is on."""
    words: dict[int, list[float]] = {length: [] for length in LENGTHS}
    siren: list[float] = []
    cold: list[float] = []
    lost = 0
    with TappedStage(folder) as stage:
        stage.wait_ready()
        background = stage.broadcast("commune", "nen", [stage.media(minute(folder))], resume="restart")
        stage.order("commune", background | {"repeat": {"count": 1000, "interval_s": 0}})
        _on_again(stage)
        for k in range(n):
            length = LENGTHS[k % len(LENGTHS)]
            said = _say(stage, k, length)
            if said is None:
                lost += 1
            else:
                siren.append(said[0])
                words[length].append(said[1])
            _on_again(stage)
        stage.publisher.send(stage.province.sign("commune", "cancel", {"ids": ["nen"]}, [DEVICE], ttl_s=60))
        for k in range(n, n + COLD):
            stage.hear(v.Power, lambda e: e.zone == ZONE and e.state == "off", 30)
            said = _say(stage, k, 1)
            cold += [] if said is None else [said[1]]
    parts = [
        f"{length} sentence{'s' * (length > 1)}: median {sorted(found)[len(found) // 2]:.0f} (n {len(found)})"
        for length, found in words.items()
        if found
    ]
    note = (
        "from publish() to the first word at the converter, never spoken before, broker and TLS included, over a "
        "programme that is on; "
    )
    if siren:
        note += f"the siren covers it, from {sorted(siren)[len(siren) // 2]:.0f} on; "
    if cold:
        note += f"with the amplifier off the siren goes on until it is warm, the words came after {max(cold):.0f}; "
    note += "; ".join([*parts, proc.load_note()])
    if lost:
        note += f"; {lost} of {n} were not heard"
    return [row("text_to_speech_ms", [ms for found in words.values() for ms in found], note)]


def _say(stage: TappedStage, k: int, length: int) -> tuple[float, float] | None:
    """An alert of words that nobody has spoken: ms to the siren's first sample and to the first word; None: lost."""
    text = "".join(SENTENCE.format(100 * k + j + 1, j + 1) for j in range(length))
    name = f"loi-{k}"
    args = stage.broadcast("province", name, [{"text": text, "lang": "vi"}], zones=["kind:sound"])
    order = stage.province.sign("province", "broadcast", args, [DEVICE], ttl_s=600)
    begun = time.monotonic_ns()
    stage.publisher.send(order)
    prefix = f"province/{name}#"
    first = stage.hear(v.Started, lambda e: e.play.startswith(prefix), 10)
    word = stage.hear(v.SegmentStarted, lambda e: e.play.startswith(prefix), 20)
    stage.publisher.send(stage.province.sign("province", "cancel", {"ids": [name]}, [DEVICE], ttl_s=60))
    if first is None or word is None:
        return None
    return (first.submitted_ns - begun) / 1e6, (word.at_ns - begun) / 1e6


def _on_again(stage: TappedStage) -> None:
    """Wait for the programme beneath."""
    if stage.hear(v.Started, lambda e: "/nen#" in e.play, 20) is None:
        raise BenchError("the background programme is not on")
