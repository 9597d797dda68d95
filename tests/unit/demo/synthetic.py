"""Runs made of arithmetic instead of hardware: what a demonstration would leave, right or wrong on purpose."""

from __future__ import annotations

import hashlib
import json
import wave
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.model.playlog import Head, LogEntry, chain
from province.demo.listening import level_dbfs

RATE = 48_000
T0 = 1_763_850_000.25
HANOI = timezone(timedelta(hours=7))
Sound = NDArray[np.float64]


def seconds(count: float) -> int:
    """Samples in that many seconds."""
    return round(count * RATE)


def speech(seed: int, length_s: float, level: float = 0.12) -> Sound:
    """Something like speech: coloured noise in syllables, quiet at both ends; another one for each seed."""
    rng = np.random.default_rng(seed)
    count = seconds(length_s)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    spectrum *= (hertz > 120) / (1 + (hertz / 700) ** 2)
    voice = np.fft.irfft(spectrum, count)
    at = np.arange(count) / RATE
    voice *= 0.15 + np.clip(np.sin(2 * np.pi * (3.1 + seed % 5 * 0.3) * at + seed), 0, 1)
    edge = seconds(0.03)
    voice[:edge] *= np.linspace(0, 1, edge) ** 2
    voice[-edge:] *= np.linspace(1, 0, edge) ** 2
    return quantised(voice / np.sqrt(np.mean(voice**2)) * level)


def gong(length_s: float = 1.0, hertz: float = 440.0) -> Sound:
    """A struck bell that has faded away at its end."""
    at = np.arange(seconds(length_s)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * k * at) / k for k in (1, 2.76, 5.4))
    return quantised(0.3 * tone * np.exp(-4 * at / length_s) * np.linspace(1, 0, len(at)) ** 0.5)


def siren(length_s: float = 1.0) -> Sound:
    """A rising and falling tone, quiet at both ends."""
    at = np.arange(seconds(length_s)) / RATE
    tone = np.sin(2 * np.pi * (700 * at + 60 * np.sin(2 * np.pi * at / length_s)))
    edge = seconds(0.02)
    tone[:edge] *= np.linspace(0, 1, edge)
    tone[-edge:] *= np.linspace(1, 0, edge)
    return quantised(0.35 * tone)


def quantised(sound: Sound) -> Sound:
    """As 16 bit would have it."""
    result: Sound = np.round(np.clip(sound, -1, 32767 / 32768) * 32768) / 32768
    return result


def write_wav(path: Path, channels: Sound) -> None:
    """Write full-scale-1.0 samples, shape (samples,) or (samples, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if channels.ndim == 1 else channels.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(channels * 32768).astype("<i2").tobytes())


def stamp(at: float) -> str:
    """RFC 3339 with the offset of Vietnam, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).astimezone(HANOI).isoformat(timespec="microseconds")


@dataclass
class Synthetic:
    """A run in the making. Change `tape`, `log`, `province`, `expect` before `save`."""

    out: Path
    length_s: float
    zones: list[str] = field(default_factory=lambda: ["loa"])
    log: list[LogEntry] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    happenings: list[dict[str, Any]] = field(default_factory=list)
    expect: dict[str, Any] = field(default_factory=dict)
    sounds: dict[str, Sound] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tape = np.zeros((seconds(self.length_s), len(self.zones)))

    def send(self, sound: Sound, kind: str = "") -> str:
        """Put a reference into `sent/` (or `sent/<kind>/`) and return its hash."""
        name = hashlib.sha256(sound.tobytes()).hexdigest()
        write_wav(self.out / "sent" / kind / f"{name}.wav", sound)
        self.sounds[name] = sound
        return name

    def play(
        self,
        bulletin: str,
        at_s: float,
        parts: list[str],
        *,
        zone: str = "loa",
        class_: str = "normal",
        title: str = "",
        skip_s: float = 0.0,
        stop_s: float | None = None,
        live: dict[str, Sound] | None = None,
        planned_s: float | None = None,
        reported: bool = True,
        **more: Any,
    ) -> None:
        """Put a stretch on the tape and into the log.

        `skip_s` of the sounds are left out (a continuation), `stop_s` interrupts with a fade of 10 ms.
        """
        whole = np.concatenate([(live or self.sounds)[part] for part in parts])[seconds(skip_s) :].copy()
        if skip_s:
            whole[:240] *= np.linspace(0, 1, 240)
        if stop_s is not None:
            whole = whole[: seconds(stop_s - at_s)]
            whole[-480:] *= np.linspace(1, 0, 480)
        whole = quantised(whole)
        first = seconds(at_s)
        self.tape[first : first + len(whole), self.zones.index(zone)] = whole
        begin, end = T0 + first / RATE, T0 + (first + len(whole)) / RATE
        planned = T0 + (at_s if planned_s is None else planned_s)
        entry = LogEntry(
            bulletin=bulletin,
            title=title or bulletin,
            class_=class_,
            iss=more.get("iss", "tinh-mau"),
            zone=zone,
            result="completed" if stop_s is None else "interrupted",
            by=more.get("by", "schedule"),
            approved_by=more.get("approved_by"),
            planned=stamp(planned),
            started=stamp(begin),
            ended=stamp(end),
            start_error_ms=(begin - planned) * 1e3,
            level_dbfs=level_dbfs(whole),
            reason=None if stop_s is None else "outranked",
            content=[part for part, sounded in zip(parts, self._sounded(parts, skip_s, live), strict=True) if sounded],
        )
        if stop_s is not None:
            entry.content[:] = self._begun(parts, stop_s - at_s)
        entry.content[:] = [part for part in entry.content if not part.startswith("live:")]
        self.log.append(entry)

    def _sounded(self, parts: list[str], skip_s: float, live: dict[str, Sound] | None) -> list[bool]:
        ends = np.cumsum([len((live or self.sounds)[part]) for part in parts])
        return [bool(end > seconds(skip_s)) for end in ends]

    def _begun(self, parts: list[str], length_s: float) -> list[str]:
        ends = np.cumsum([0, *(len(self.sounds[part]) for part in parts)])
        return [part for part, end in zip(parts, ends, strict=False) if end < seconds(length_s)]

    def acked(self, jti: str, bulletin: str, states: list[str], at_s: float, first_s: float | None = None) -> None:
        """The acks of one order; the `running` one tells the first sample."""
        for seq, state in enumerate(states, 1):
            ack: dict[str, Any] = {
                "jti": jti,
                "iss": "tinh-mau",
                "id": bulletin,
                "seq": seq,
                "state": state,
                "zones": {},
            }
            ack["at"] = stamp(T0 + at_s + 0.02 * (seq - 1))
            if state == "running" and first_s is not None:
                ack["zones"] = {"loa": {"state": "running", "first_sample_at": stamp(T0 + first_s)}}
            self.acks.append(ack)

    def happened(self, at_s: float, what: str, text: str = "", figure: str = "", **more: Any) -> None:
        """A line of events.jsonl."""
        self.happenings.append({"at": T0 + at_s, "what": what, "text": text, "figure": figure, **more})

    def chained(self) -> list[dict[str, Any]]:
        """The log, chained."""
        head, chained = Head(), []
        for entry in self.log:
            linked = chain(head, entry)
            head = Head(linked.n, linked.hash)
            chained.append(linked.to_dict())
        return chained

    def save(self, log: list[dict[str, Any]] | None = None) -> Path:
        """Write the folder. `log` replaces the chained log (the province's record keeps the true one)."""
        truth = self.chained()
        reported = [{"kind": "log", "seq": n, "entry": entry} for n, entry in enumerate(truth, 1)]
        write_wav(self.out / "station.wav", quantised(self.tape))
        self._json("station.json", {"t0": T0, "rate": RATE, "zones": self.zones})
        self._json("playlog.json", {"entries": truth if log is None else log})
        events = [{"device": "xa-mau", "at": stamp(T0), "body": event} for event in reported + self.events]
        acks = [{"device": "xa-mau", "at": stamp(T0), "body": ack} for ack in self.acks]
        receipts: dict[str, dict[str, Any]] = {}
        for ack in self.acks:
            receipt = receipts.setdefault(ack["jti"], {"iss": ack["iss"], "jti": ack["jti"], "id": ack["id"]})
            device = receipt.setdefault("devices", {}).setdefault("xa-mau", {"times": {}, "zones": {}})
            device.update(state=ack["state"], seq=ack["seq"])
            device["times"][ack["state"]] = ack["at"]
            device["zones"] |= ack["zones"]
        self._json("province.json", {"events": events, "acks": acks, "receipts": list(receipts.values())})
        self._json("expect.json", self.expect)
        lines = (json.dumps(happening, ensure_ascii=False) for happening in self.happenings)
        (self.out / "events.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return self.out

    def _json(self, name: str, value: object) -> None:
        (self.out / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def small_day(out: Path) -> Synthetic:
    """Twenty seconds in which everything is right.

    1.0 s bulletin `tin` (gong, speech), cut at 3.5 by a button `nut` (siren, speech), continued at 6.2; relay
    `tiep-am` at 10 (gong, live), `bao` at 15.05, an emergency of the province; its order came at 15.0.
    """
    run = Synthetic(out, 20.0)
    bell, alarm = run.send(gong()), run.send(siren())
    news, local, storm = run.send(speech(1, 4.0)), run.send(speech(2, 1.5)), run.send(speech(3, 2.0))
    run.send(speech(66, 3.0), "forbidden")
    stream = speech(7, 8.0)
    write_wav(out / "sent" / "live" / "vov.wav", stream)
    run.play("tin", 1.0, [bell, news], stop_s=3.5)
    run.play("nut", 3.5, [alarm, local], class_="emergency", by="button:khan-cap", planned_s=3.48)
    run.play("tin", 6.2, [bell, news], skip_s=2.5)
    relayed = {bell: run.sounds[bell], "live:vov": stream[seconds(2) : seconds(5)]}
    run.play("tiep-am", 10.0, [bell, "live:vov"], live=relayed)
    run.play("bao", 15.05, [alarm, storm], class_="emergency", planned_s=15.05)
    run.acked("j1", "tin", ["received", "offered", "accepted", "running", "done"], 0.5, 1.0)
    run.acked("j2", "bao", ["received", "running", "done"], 15.0, 15.05)
    run.expect = {
        "due": {"tin": T0 + 1.0, "tiep-am": T0 + 10.0},
        "triggers": {"nut": T0 + 3.48},
        "live": {"tiep-am": "vov"},
        "heard": ["tin", "nut", "tiep-am", "bao"],
        "resume": {"tin": "continue"},
        "silent": [(T0 + 18.5, T0 + 20.0)],
    }
    return run


def demonstration(out: Path) -> Synthetic:
    """Something like the 75 seconds of the demonstration, with board, relays, broker, attacker and a hostile title."""
    run = Synthetic(out, 75.0, zones=["loa-xa", "loa-ap-3"])
    bell, alarm = run.send(gong(1.5)), run.send(siren(1.4))
    bulletin, local, storm = run.send(speech(1, 21.0)), run.send(speech(2, 7.0, 0.2)), run.send(speech(3, 9.0, 0.2))
    stream = speech(7, 30.0, 0.09)
    write_wav(out / "sent" / "live" / "vov.wav", stream)
    relayed = {
        bell: run.sounds[bell],
        "live:vov": stream[: seconds(7.6)] * np.clip((seconds(7.6) - np.arange(seconds(7.6))) / 480, 0, 1),
    }
    for zone in run.zones:
        run.play("tiep-am", 8.0, [bell, "live:vov"], live=relayed, zone=zone, title="Tiếp âm thời sự Đài quốc gia")
        run.play(
            "tin-tinh", 18.3, [bell, bulletin], stop_s=32.02, zone=zone, title="Bản tin tỉnh: lịch tưới vụ Đông Xuân"
        )
        title = "Thông báo khẩn tại trạm <img src=x onerror=alert(1)>"
        run.play(
            "nut-do",
            32.02,
            [alarm, local],
            zone=zone,
            class_="emergency",
            by="button:khan-cap",
            iss="xa-mau",
            title=title,
        )
        run.play(
            "tin-tinh", 40.5, [bell, bulletin], skip_s=13.72, zone=zone, title="Bản tin tỉnh: lịch tưới vụ Đông Xuân"
        )
        run.play("bao", 58.03, [alarm, storm], zone=zone, class_="emergency", title="Bão số 5: bà con vào nơi trú ẩn")
    run.expect["live"] = {"tiep-am": "vov"}
    run.acked("j1", "tin-tinh", ["received", "offered", "accepted", "running", "done"], 16.0)
    run.acked("j2", "bao", ["received", "running", "done"], 58.0)
    run.acks[-2]["zones"] = {z: {"state": "running", "first_sample_at": stamp(T0 + 58.03)} for z in run.zones}
    for relay, on_off in {
        "nguon": [(7.0, 16.9), (17.3, 50.5), (57.9, 70.2)],
        "loa": [(7.5, 16.4), (17.8, 50.2), (58, 70)],
    }.items():
        for on, off in on_off:
            run.happened(on, "relay", f"Rơ-le {relay} bật", relay=relay, on=True)
            run.happened(off, "relay", f"Rơ-le {relay} tắt", relay=relay, on=False)
    run.happened(0.0, "link", "Trạm và bảng tin đã lên mạng", up=True)
    run.happened(8.0, "start", "Tiếp âm bắt đầu đúng mẫu", "0,21 ms")
    run.happened(16.0, "order", "Tỉnh gửi bản tin, xã được mời nhận")
    run.happened(18.2, "accept", "Xã nhận bản tin")
    run.happened(24.0, "link", "Máy chủ bị tắt đột ngột; chương trình vẫn phát", up=False)
    run.happened(32.0, "press", "Nhấn nút khẩn cấp khi mất mạng", "9,8 ms")
    run.happened(45.0, "link", "Máy chủ trở lại, mọi sự kiện đến đúng một lần", up=True)
    run.happened(50.0, "attack", "Kẻ tấn công bắt đầu", on=True)
    for index, reason in enumerate(
        ["bad-signature", "replayed", "expired", "too-large", "malformed", "not-authorised"]
    ):
        run.happened(50.5 + index, "refused", f"Từ chối lệnh giả: {reason}")
    run.happened(57.0, "attack", "Kẻ tấn công dừng", on=False)
    run.happened(58.0, "order", "Tỉnh phát cảnh báo bão", "31 ms")
    run.happened(70.0, "silence", "Ngắt toàn bộ <b>ngay</b>")
    _board(run, out / "board")
    return run


def _board(run: Synthetic, folder: Path) -> None:
    from PIL import Image, ImageDraw

    from agent.screen.fonts import Fonts

    folder.mkdir(parents=True, exist_ok=True)
    pages = [
        (0.2, 18.3, "#0b3d2e", "UBND XÃ MẪU"),
        (18.3, 25.0, "#0d47a1", "Lịch tưới vụ Đông Xuân"),
        (25.0, 32.03, "#0d47a1", "Trạm bơm ấp 3: 5 giờ sáng"),
        (32.03, 40.5, "#b71c1c", "THÔNG BÁO KHẨN"),
        (40.5, 49.0, "#0d47a1", "Lịch tưới vụ Đông Xuân"),
        (49.0, 58.05, "#0b3d2e", "UBND XÃ MẪU"),
        (58.05, 64.0, "#b71c1c", "BÃO SỐ 5"),
        (64.0, 70.0, "#b71c1c", "Bà con vào nơi trú ẩn"),
        (70.0, None, "#000000", ""),
    ]
    fonts, index = Fonts(), []
    for number, (begin, end, colour, text) in enumerate(pages):
        image = Image.new("RGB", (960, 540), colour)
        ImageDraw.Draw(image).text((480, 270), text, "white", fonts.load(0, 64, bold=True), anchor="mm")
        image.save(folder / f"{number:04}.png")
        frame = {"file": f"{number:04}.png", "from": stamp(T0 + begin), "to": None if end is None else stamp(T0 + end)}
        index.append(frame)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
