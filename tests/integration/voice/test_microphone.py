"""The microphone in the real process: a virtual one into the paced sink, and ALSA's null plugin for the binding."""

from __future__ import annotations

import os
import random
import select
import time
from pathlib import Path

import pytest

from agent.model import voice as v
from drivers.wav_capture import WavCapture
from tests.integration.voice.process import CONFIG, MS, Process, write_wav

LOOP = 48_000
TALK = """
  - {id: talk, pin: 8, action: {microphone: true, chime: null}, zones: [hall], lamp: 9, key_switch: 10}
microphone: {driver: wav, path: spoken.wav}
messages:"""


def spoken() -> list[int]:
    """Noise: every stretch of it tells its place."""
    dice = random.Random(6)
    return [dice.randint(-9000, 9000) for _ in range(LOOP)]


def delays_ms(hall: list[int], origin_ns: int, voice: list[int]) -> list[float]:
    """From the moment at which a sample was spoken to that at which it left the sink, for some stretches."""
    places = {tuple(voice[i : i + 4]): i for i in range(LOOP - 4)}
    found = []
    for at in range(0, len(hall) - 4, 480):
        place = places.get(tuple(hall[at : at + 4]))
        if place is not None:
            left = origin_ns * 48 // MS + at
            found.append(((left - place) % LOOP) / 48)
    return found


def test_a_virtual_microphone_is_heard_soon_after_it_was_spoken_into(tmp_path: Path) -> None:
    config = CONFIG.replace("buffer_ms: 100", "buffer_ms: 15").replace("\nmessages:", TALK)
    process = Process(tmp_path, config)
    write_wav(tmp_path / "spoken.wav", spoken())
    process.start()
    process.connect()
    try:
        assert process.control(do="relays")["relays"] == {"amplifier": False, "lamp:talk": False}
        process.control(do="press", button="talk", seconds=0.1)
        process.wait(v.ButtonEvent, state="locked")
        process.wait(v.ButtonEvent, state="released")
        assert process.control(do="key", button="talk", closed=True)["ok"]
        process.control(do="press", button="talk", seconds=1.5)
        started = process.wait(v.LocalStarted)
        assert started.message == "microphone"
        assert process.wait(v.LocalEnded).reason == "completed"
        time.sleep(0.05)
        assert process.control(do="relays")["relays"]["lamp:talk"] is True
        origin = process.origin_ns()
    finally:
        process.end()
    _, (hall, _) = process.recording()
    delays = delays_ms(hall, origin, spoken())
    print(f"microphone delay: {len(delays)} stretches, {min(delays):.1f} to {max(delays):.1f} ms")
    assert len(delays) > 50
    assert sorted(delays)[len(delays) // 2] <= 60


def test_a_file_that_cannot_be_spoken_is_a_fault_and_an_end(tmp_path: Path) -> None:
    microphone = WavCapture(str(tmp_path / "none.wav"))
    read = microphone.open()
    assert os.read(read, 10) == b""
    assert "none.wav" in microphone.take_faults()[0]
    os.close(read)


@pytest.mark.alsa
def test_an_alsa_device_is_captured_in_real_time_and_let_go() -> None:
    from drivers.alsa_capture import AlsaCapture

    microphone = AlsaCapture("null")
    read = microphone.open()
    begun, got = time.monotonic(), 0
    while time.monotonic() - begun < 0.5:
        if select.select([read], [], [], 0.1)[0]:
            got += len(os.read(read, 65_536)) // 2
    assert 0 < got <= 48_000
    os.close(read)
    absent = AlsaCapture("nosuchdevice")
    read = absent.open()
    assert os.read(read, 10) == b""
    assert absent.take_faults()
    os.close(read)
