"""A programme for two hamlets is not heard in the third: by the sound itself, one channel a hamlet."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model import voice as v
from tests.integration.voice.process import HEAD, Process, write_wav

CONFIG = (
    HEAD
    + """
zones:
  - {id: ap-1, kind: sound, output: {driver: wav, path: out/station.wav}, gain_db: -6, power: [{relay: t1}]}
  - {id: ap-2, kind: sound, output: {driver: wav, path: out/station.wav}, power: [{relay: t2}]}
  - {id: ap-3, kind: sound, output: {driver: wav, path: out/station.wav}, delay_ms: 50, power: [{relay: t3}]}
relays: [{id: t1, pin: 5}, {id: t2, pin: 6}, {id: t3, pin: 7}]
messages: [{id: tone, title: Thử, text: Thử, chime: null}]
"""
)


def test_a_programme_for_two_hamlets_is_not_heard_in_the_third(tmp_path: Path) -> None:
    voice = Process(tmp_path, CONFIG)
    write_wav(tmp_path / "data" / "pinned" / "tone.wav", [0, *[8000, -8000] * 12_000])
    voice.start()
    voice.connect()
    voice.do(v.Open(play="p", zones=["ap-1", "ap-3"], pinned=["message:tone"]), v.Close(play="p"))
    relays = [voice.wait(v.RelayEvent, on=True).relay for _ in range(2)]
    ends = [voice.wait(v.Ended), voice.wait(v.Ended)]
    voice.wait(v.Power, state="off")
    voice.wait(v.Power, state="off")
    assert voice.end() == 0
    assert relays == ["t1", "t3"]
    assert {e.zone: e.reason for e in ends} == {"ap-1": "completed", "ap-3": "completed"}
    told, (first, second, third) = voice.recording()
    assert told["zones"] == ["ap-1", "ap-2", "ap-3"]
    assert not any(second)  # not one sample
    begin, later = (next(i for i, s in enumerate(channel) if s) for channel in (first, third))
    assert later - begin == 50 * 48
    assert max(first) == pytest.approx(8000 * 10 ** (-6 / 20), abs=2)
    assert max(third) == 8000
