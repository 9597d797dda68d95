"""Make the chimes in agent/voice/assets by arithmetic: 48 000 Hz, mono, 16 bit, as loud as the words that follow them.

gong   1.6 s  two struck bells, a fourth down (G5, D5): a bulletin follows
siren  3.0 s  two slow sweeps 500 → 1 000 → 500 Hz with odd harmonics: an emergency
drill  3.4 s  three pairs of short beeps, 880 and 660 Hz, then the words “Đây là diễn tập” (scripts/dien-tap.wav,
              spoken once by espeak-ng): an exercise, never to be taken for the siren
test   1.3 s  three soft tones (600, 900, 1 350 Hz): a self-test, its peaks at −23 dBFS
info   0.9 s  one soft rising third (C5, E5): a note to the listeners

Between 500 and 3 000 Hz, where horn loudspeakers are loud. Edges are faded over 5 ms or more.
Run by .venv/bin/python.
"""

from __future__ import annotations

import math
import struct
import sys
import wave
from collections.abc import Callable
from pathlib import Path

from agent.model.loudness import SIREN_LUFS, TARGET_LUFS
from drivers.ebur128 import measure

ROOT = Path(__file__).resolve().parent.parent
RATE = 48_000
LOUDNESS = {"gong": TARGET_LUFS, "siren": SIREN_LUFS, "drill": TARGET_LUFS, "info": TARGET_LUFS}
"""LUFS (EBU R128)."""
TEST_PEAK = 10 ** (-23.1 / 20)
"""The self-test is to be heard by a microphone at the pole, not to wake the hamlet."""
ASSETS = ROOT / "agent" / "voice" / "assets"
Sound = list[float]


def bell(hertz: float, seconds: float, decay_s: float) -> Sound:
    """A struck bar: partials that die away, the higher the sooner."""
    partials = ((1.0, 1.0), (2.0, 0.45), (3.01, 0.25), (4.2, 0.1))
    return [
        sum(a * math.exp(-t * r / decay_s) * math.sin(2 * math.pi * hertz * r * t) for r, a in partials)
        for t in (n / RATE for n in range(round(seconds * RATE)))
    ]


def sweep(seconds: float, low: float, high: float, times: int) -> Sound:
    """A tone that rises and falls `times` times, with a third and fifth harmonic."""
    out, phase = [], 0.0
    count = round(seconds * RATE)
    for n in range(count):
        rising = 0.5 - 0.5 * math.cos(2 * math.pi * times * n / count)
        phase += 2 * math.pi * (low + (high - low) * rising) / RATE
        out.append(math.sin(phase) + 0.33 * math.sin(3 * phase) + 0.15 * math.sin(5 * phase))
    return out


def tone(hertz: float, seconds: float) -> Sound:
    """A plain sine."""
    return [math.sin(2 * math.pi * hertz * n / RATE) for n in range(round(seconds * RATE))]


def beep(hertz: float, seconds: float, pause_s: float) -> Sound:
    """A tone with soft edges and silence after it."""
    tone = [
        math.sin(2 * math.pi * hertz * n / RATE) + 0.2 * math.sin(6 * math.pi * hertz * n / RATE)
        for n in range(round(seconds * RATE))
    ]
    return faded(tone, 0.01, 0.01) + [0.0] * round(pause_s * RATE)


def spoken(name: str) -> Sound:
    """Words, as loud as the beeps."""
    with wave.open(str(Path(__file__).parent / f"{name}.wav")) as file:
        samples = struct.unpack(f"<{file.getnframes()}h", file.readframes(file.getnframes()))
    peak = max(abs(s) for s in samples)
    return [s / peak for s in samples]


def mixed(*parts: tuple[float, Sound]) -> Sound:
    """Sounds added, each from its second on."""
    out = [0.0] * max(round(at * RATE) + len(sound) for at, sound in parts)
    for at, sound in parts:
        start = round(at * RATE)
        for n, value in enumerate(sound):
            out[start + n] += value
    return out


def faded(sound: Sound, rise_s: float, fall_s: float) -> Sound:
    """With raised-cosine edges."""
    rise, fall, count = round(rise_s * RATE), round(fall_s * RATE), len(sound)

    def gain(n: int) -> float:
        edge = min(n / rise, (count - 1 - n) / fall, 1.0)
        return 0.5 - 0.5 * math.cos(math.pi * edge)

    return [value * gain(n) for n, value in enumerate(sound)]


CHIMES: dict[str, Callable[[], Sound]] = {
    "gong": lambda: faded(mixed((0, bell(783.99, 1.2, 0.5)), (0.45, bell(587.33, 1.15, 0.5))), 0.005, 0.25),
    "siren": lambda: faded(sweep(3.0, 500, 1000, 2), 0.02, 0.05),
    "drill": lambda: mixed(
        *((0.8 * k, beep(880, 0.2, 0.1) + beep(660, 0.2, 0.3)) for k in range(3)), (2.4, spoken("dien-tap"))
    ),
    "test": lambda: [
        v for hertz in (600.0, 900.0, 1350.0) for v in [*faded(tone(hertz, 0.4), 0.03, 0.03), *[0.0] * (RATE // 40)]
    ],
    "info": lambda: faded(mixed((0, bell(523.25, 0.5, 0.3)), (0.22, bell(659.26, 0.68, 0.3))), 0.01, 0.25),
}


def render(name: str) -> bytes:
    """The samples of a chime, 16 bit little endian."""
    sound = CHIMES[name]()
    scale = 32767 * TEST_PEAK / max(abs(v) for v in sound)
    if name in LOUDNESS:
        lufs, _ = measure(packed(sound, scale), RATE)
        scale *= 10 ** ((LOUDNESS[name] - lufs) / 20)
    return packed(sound, scale)


def packed(sound: Sound, scale: float) -> bytes:
    """As 16 bit samples."""
    return struct.pack(f"<{len(sound)}h", *(round(v * scale) for v in sound))


def main(folder: Path) -> None:
    """Write every chime into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CHIMES:
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(render(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
