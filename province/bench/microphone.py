"""The officer's microphone: what is spoken into it is looked for in the recording of what was played."""

from __future__ import annotations

import json
import time
import wave
from pathlib import Path

import numpy as np
import yaml

from agent.model import voice as v
from province.bench.rows import Row, row
from province.bench.voice_rig import BenchError, VoiceRig
from province.demo.stage import exchange

SPOKEN_S = 5
"""Length of what is spoken again and again; no delay is so long."""
HELD_S = 2.0
WINDOW = v.RATE // 5
SETTLED_S = 0.5
"""After so much of the officer's voice the ramp is over."""


class MicrophoneRig(VoiceRig):
    """With a virtual microphone, into which noise is spoken, and a button to hold."""

    TALK = "noi"

    def _write_config(self) -> None:
        super()._write_config()
        spoken = self.folder / "spoken.wav"
        self.spoken = np.random.default_rng(5).integers(-3000, 3000, SPOKEN_S * v.RATE, dtype=np.int16)
        with wave.open(str(spoken), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(v.RATE)
            file.writeframes(self.spoken.tobytes())
        config = yaml.safe_load(self.config.read_text("utf-8"))
        config["microphone"] = {"driver": "wav", "path": str(spoken)}
        config["buttons"].append({"id": self.TALK, "pin": 26, "action": {"microphone": True, "chime": None}})
        self.config.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")

    def hold(self, seconds: float) -> None:
        """Hold the button and return when the officer has been on the air and is off again."""
        exchange(self._hardware, {"do": "press", "button": self.TALK, "seconds": seconds})
        self.wait(v.LocalStarted)
        self.wait(v.LocalEnded, timeout_s=seconds + 5)


def microphone(folder: Path, n: int) -> list[Row]:
    """`microphone_ms`: from the moment a sound is spoken to the moment it leaves the paced sink's converter."""
    rig = MicrophoneRig(folder)
    held: list[tuple[float, float]] = []
    with rig:
        for _ in range(n):
            begun = time.time()
            rig.hold(HELD_S)
            held.append((begun, time.time()))
            time.sleep(0.3)
        apart_ns = time.time_ns() - time.monotonic_ns()
    delays = []
    for begun, ended in held:
        delays += delays_in(folder / "voice.wav", rig.spoken, begun, ended, apart_ns)
    if not delays:
        raise BenchError("the microphone was not found in the recording")
    note = (
        f"found by correlation in the recording of {n} presses of {HELD_S:g} s; the capture's period of 5 ms, what "
        "voice holds against late threads, and the sink's buffer are in it"
    )
    return [row("microphone_ms", delays, note)]


def delays_in(recording: Path, spoken: np.ndarray, begun: float, ended: float, apart_ns: int) -> list[float]:
    """The delays, in ms, of windows of a recording between two moments (epoch seconds).

    `spoken` is spoken again and again, sample 0 whenever CLOCK_MONOTONIC in samples is a multiple of its length;
    `apart_ns`: CLOCK_REALTIME minus CLOCK_MONOTONIC. Windows in which it is not clearly heard are left out.
    """
    told = json.loads(recording.with_suffix(".json").read_text("utf-8"))
    channels = len(told["zones"])
    frames = np.memmap(recording, dtype="<i2", mode="r", offset=44)
    heard = frames[: len(frames) // channels * channels].reshape(-1, channels)[:, 0]
    first, last = (max(0, round((at - told["t0"]) * v.RATE)) for at in (begun, ended))
    on_air = np.flatnonzero(heard[first:last])
    if not len(on_air):
        return []
    reference = np.conj(np.fft.rfft(spoken.astype(np.float64)))
    delays = []
    for at in range(first + int(on_air[0]) + round(SETTLED_S * v.RATE), first + int(on_air[-1]) - WINDOW, WINDOW):
        window = np.zeros(len(spoken))
        window[:WINDOW] = heard[at : at + WINDOW]
        likeness = np.fft.irfft(np.conj(np.fft.rfft(window) * reference), len(spoken))
        place = int(np.argmax(likeness))
        if likeness[place] < 10 * np.std(likeness):
            continue
        played = (round(told["t0"] * 1e9) - apart_ns) * v.RATE // 10**9 + at
        delays.append((played - place) % len(spoken) / v.RATE * 1000)
    return delays
