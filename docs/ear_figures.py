"""How well the ear tells right from wrong, on real mixes: `python docs/ear_figures.py` fills docs/supervision.md.

Needs espeak-ng and sox. Everything is seeded: the figures are the same each time.
"""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent.ear.compare import LATEST_S, RATE, WINDOW_S, Heard, judge, samples  # noqa: E402

TEXTS = (
    "Đây là đài truyền thanh xã. Mời bà con theo dõi thông báo về lịch tiêm chủng cho trẻ em tại trạm y tế.",
    "Thông báo lịch bơm nước vụ đông xuân. Các hộ ở ấp ba và ấp bốn chuẩn bị máy bơm, kiểm tra bờ bao trước năm giờ.",
    "Ủy ban nhân dân xã mời các hộ gia đình có tên sau đây đến họp tại nhà văn hóa lúc bảy giờ tối ngày mai.",
    "Dự báo thời tiết: đêm nay và ngày mai có mưa rào và dông, gió tây nam cấp ba, trong cơn dông đề phòng lốc và sét.",
)
NOTES = ("C3", "E3", "G3", "A3", "F3", "D3")
WINDOW = int(RATE * WINDOW_S)
LONG = int(RATE * (WINDOW_S + LATEST_S))
MARK = "<!-- figures -->"
Sound = np.ndarray[Any, Any]


def read(path: Path) -> Sound:
    """A WAV file of 48 000 Hz, one channel."""
    with wave.open(str(path)) as file:
        return samples(file.readframes(file.getnframes()))


def sources(folder: Path) -> dict[str, Sound]:
    """The sounds: speech, music, chimes."""
    found: dict[str, Sound] = {}
    for i, text in enumerate(TEXTS):
        raw, path = folder / "raw.wav", folder / f"speech-{i}.wav"
        voice = ["-v", "vi", "-s", str(140 + 10 * (i % 3)), "-p", str(35 + 10 * i)]
        subprocess.run(["espeak-ng", *voice, "-w", str(raw), text], check=True)
        subprocess.run(["sox", raw, "-r", "48000", "-c", "1", "-b", "16", path, "gain", "-n", "-6"], check=True)
        found[f"speech {i}"] = read(path)
    for i in range(2):
        path = folder / f"music-{i}.wav"
        lengths = [0.35 + 0.1 * ((k * (i + 2)) % 3) for k in range(40)]
        plucks = [
            f"|sox -n -r 48000 -c 1 -p synth {s:.2f} pluck {NOTES[(k * (i + 3) + i) % 6]}"
            for k, s in enumerate(lengths)
        ]
        command = f"sox -R {' '.join(shlex.quote(p) for p in plucks)} -r 48000 -c 1 -b 16 {path} gain -n -6"
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        found[f"music {i}"] = read(path)
    assets = ROOT / "agent" / "voice" / "assets"
    found["siren"] = read(assets / "siren.wav")
    found["gong and speech"] = np.concatenate([read(assets / "gong.wav"), found["speech 0"]])
    return found


class Air:
    """What a transmitter, the air and a receiver do to a sound."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def begin(self, sound: Sound, count: int) -> Sound:
        """`count` samples from a place somewhere in the sound, which goes round."""
        rolled = np.roll(sound, -int(self.rng.integers(0, len(sound))))
        return np.tile(rolled, -(-count // len(rolled)))[:count]

    def __call__(self, sound: Sound, snr_db: float) -> Sound:
        """The sound as it is heard."""
        spectrum, hertz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / RATE)
        shape = (hertz > 120) / np.sqrt(1 + (hertz / 5000) ** 8) / np.sqrt(1 + (2 * np.pi * hertz * 50e-6) ** 2)
        gain = 10 ** (self.rng.uniform(-20, 6) / 20)
        out = np.fft.irfft(spectrum * shape, len(sound)) * gain
        late = np.concatenate([np.zeros(int(self.rng.uniform(0, 1.2) * RATE)), out])[: len(sound)]
        noise = float(np.sqrt(np.mean(sound**2))) * gain * 10 ** (-snr_db / 20)
        return (late + self.rng.normal(0, noise, len(late))).astype(np.float32)


def table() -> list[str]:
    """The figures as a table."""
    path = Air(1)
    with tempfile.TemporaryDirectory() as folder:
        sounds = sources(Path(folder))
    rows = ["| noise | right, not recognised | wrong, taken for right | lowest right score | highest wrong score |"]
    rows.append("| --- | --- | --- | --- | --- |")
    kin = {"speech 0", "gong and speech"}
    for snr in (40, 20, 12, 6, 0):
        right, wrong = [], []
        for sound in sounds.values():
            for _ in range(25):
                sent = path.begin(sound, LONG + 2 * RATE)
                right.append(judge(sent[-LONG:], path(sent, snr)[-WINDOW:], sending=True, offset_s=LATEST_S))
        for (one, a), (two, b) in itertools.permutations(sounds.items(), 2):
            if {one, two} == kin:
                continue
            for _ in range(5):
                sent, heard = path.begin(a, LONG), path(path.begin(b, LONG), snr)[-WINDOW:]
                wrong.append(judge(sent, heard, sending=True, offset_s=LATEST_S))
        right = [j for j in right if j.score is not None]
        wrong = [j for j in wrong if j.score is not None]
        missed = sum(j.heard is not Heard.RIGHT for j in right)
        taken = sum(j.heard is Heard.RIGHT for j in wrong)
        low, high = min(j.score or 0 for j in right), max(j.score or 0 for j in wrong)
        rows.append(f"| {snr} dB | {missed} of {len(right)} | {taken} of {len(wrong)} | {low:.2f} | {high:.2f} |")
    return [*rows, "", *others(path, sounds)]


def others(path: Air, sounds: dict[str, Sound]) -> list[str]:
    """Silence, noise, and sounds while nothing is sent."""
    noise = path.rng.normal(0, 0.1, (50, WINDOW)).astype(np.float32)
    nothing = [np.zeros(WINDOW, np.float32), *noise]
    sent = [path.begin(s, LONG) for s in sounds.values() for _ in range(10)]
    pairs = [(s, nothing[i % len(nothing)]) for i, s in enumerate(sent)]
    dead = sum(judge(s, h, sending=True, offset_s=LATEST_S).heard is Heard.DEAD for s, h in pairs)
    quiet = sum(judge(np.zeros(LONG, np.float32), h, sending=False).heard is Heard.QUIET for h in nothing)
    foreign = [judge(np.zeros(LONG, np.float32), path(s, 12)[-WINDOW:], sending=False).heard for s in sent]
    return [
        f"Silence or noise while something is sent: {dead} of {len(sent)} found dead. Silence or noise while nothing is"
        f" sent: {quiet} of {len(nothing)} quiet. Speech, music and siren (12 dB) while nothing is sent:"
        f" {sum(h is Heard.FOREIGN for h in foreign)} of {len(foreign)} found foreign."
    ]


if __name__ == "__main__":
    page = ROOT / "docs" / "supervision.md"
    head, _, _ = page.read_text("utf-8").partition(MARK)
    page.write_text(head + MARK + "\n\n" + "\n".join(table()) + "\n", encoding="utf-8")
