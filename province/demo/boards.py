"""The boards of the demo: the slides made for it, and what its pictures must show."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from agent.screen.fonts import Fonts
from agent.screen.layout import LOOKS
from province.demo.proof import Check
from province.demo.recorded import Frame, Run, epoch

SLIDES = "trinh-chieu"
SLIDES_AGAIN = "trinh-chieu-lai"
"""The show that the storm interrupts."""
STORM = "bao-so-9"
CLOSE_S = 2.0
"""The relay is looked at a few times a second, on a busy machine less often."""
STEP_S = 0.5
"""The board turns to the language that is heard within so long."""


def photograph(target: Path) -> Path:
    """A picture as a telephone takes it: lying on its side, and a note that says so."""
    fonts = Fonts()
    image = Image.new("RGB", (1280, 720), (24, 92, 60))
    draw = ImageDraw.Draw(image)
    for y in range(720):
        draw.line((0, y, 1280, y), (24 + y // 9, 92 + y // 8, 60 + y // 20))
    for text, size, y, colour in (
        ("Tiêm vắc-xin cho trẻ em", 92, 250, "#ffffff"),
        ("Thứ bảy, 7 giờ 30 – Trạm y tế xã Mẫu", 54, 400, "#ffe27a"),
        ("Nhớ mang theo sổ tiêm chủng", 54, 500, "#ffffff"),
    ):
        font = fonts.load(0, size, bold=True)
        draw.text(((1280 - font.getlength(text)) / 2, y), text, font=font, fill=colour)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(target, quality=88, exif=exif)
    return target


def film(target: Path, seconds: int = 4) -> Path:
    """An H.264 film in MP4, as ffmpeg makes it."""
    source = f"testsrc2=s=640x360:r=25:d={seconds}"
    words = ["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([*words, str(target)], check=True, timeout=60)
    return target


def checks(run: Run) -> Iterator[Check]:
    """What the frames, the log and the relays show together."""
    yield _slides(run)
    yield _alert(run)
    yield _requisition(run)


def _slides(run: Run) -> Check:
    """Picture, film and long text in their turn, and never black between."""
    spans = [(epoch(e.started), epoch(e.ended)) for e in run.entries if e.bulletin == SLIDES and e.started and e.ended]
    if not spans:
        return _check("slides", ["the slide show is not in the log"], "", "")
    begin, end = spans[0]
    frames = [f for f in run.frames if begin - 0.5 <= epoch(f.from_) < end - 0.05]
    black = [f.file for f in frames if _picture(run, f).getbbox() is None]
    gaps = [f.file for f, g in pairwise(frames) if f.to != g.from_]
    texts = [f for f in frames if _ground(run, f) == LOOKS["normal"].ground]
    moving = [f for f in frames if f not in texts][1:]
    faults = [f"{name} is black" for name in black] + [f"a gap after {name}" for name in gaps]
    faults += ["no long text on several sheets"] if len(texts) < 2 else []
    faults += ["no film"] if len({f.file for f in moving}) < 2 else []
    return _check(
        "slides",
        faults,
        f"a picture, {len(moving)} moments of a film, {len(texts)} sheets of a long text, nothing black between",
        f"một ảnh, {len(moving)} khoảnh khắc phim, {len(texts)} trang thông báo dài, không lúc nào tối giữa chừng",
    )


def _alert(run: Run) -> Check:
    """The emergency has the whole board soon after its order, in the language that is heard; then the show is back."""
    given = run.expected.triggers.get(STORM)
    red = [f for f in run.frames if _ground(run, f) == LOOKS["emergency"].ground]
    soon = [f for f in red if given is not None and epoch(f.from_) >= given]
    if given is None or not soon:
        return _check("board-alert", ["the storm's alert was not on the board"], "", "")
    faults = []
    turned = [f for f in soon if f.file != soon[0].file]
    second = _second_language(run)
    if not turned or second is None:
        faults.append("it was not shown in a second language")
    elif abs(epoch(turned[0].from_) - second) > STEP_S:
        faults.append(f"the second language {epoch(turned[0].from_) - second:+.1f} s from where it is heard")
    before = {f.file for f in run.frames if epoch(f.from_) < given and f.to is not None}
    after = next((f for f in run.frames if f.from_ == soon[-1].to), None)
    if after is None or after.file not in before or _ground(run, after) == LOOKS["idle"].ground:
        faults.append("the slide show did not come back")
    ms = (epoch(soon[0].from_) - given) * 1000
    off = 0.0 if second is None or not turned else epoch(turned[0].from_) - second
    return _check(
        "board-alert",
        faults,
        f"on the board after {ms:.0f} ms, the second language {off:+.2f} s from its voice, the show is back",
        f"lên bảng sau {ms:.0f} ms, ngôn ngữ thứ hai lệch giọng đọc {off:+.2f} giây, trình chiếu trở lại",
    )


def _second_language(run: Run) -> float | None:
    """When (epoch seconds) the second language of the storm's alert was heard: behind what was played before it."""
    entry = next((e for e in run.sounding() if e.bulletin == STORM), None)
    if entry is None or entry.started is None or len(entry.content) < 3:
        return None
    return epoch(entry.started) + sum(_seconds(run, content) for content in entry.content[:2])


def _seconds(run: Run, content: str) -> float:
    with wave.open(str(run.out / "sent" / f"{content}.wav")) as sound:
        return float(sound.getnframes() / sound.getframerate())


def _requisition(run: Run) -> Check:
    """The advertiser's board is switched over while a programme has it, and only then; the log has the minutes."""
    zone, relay = "bang-qc", "chuyen-hinh"
    mine = [(epoch(e.started), epoch(e.ended)) for e in run.entries if e.zone == zone and e.started and e.ended]
    switched = [(h.at, bool(h.on)) for h in run.happenings if h.relay == relay]
    on = [
        (a, b) for (a, x), (b, y) in zip(switched, [*switched[1:], (float("inf"), False)], strict=True) if x and not y
    ]
    faults = [f"shown at {a:.0f} without the relay" for a, b in mine if not _within(a, b, on)]
    faults += [
        f"switched over at {a:.0f} for nothing" for a, b in on if not any(a - CLOSE_S < d and c < b for c, d in mine)
    ]
    if not mine:
        faults.append("the board was never taken over")
    lasted = sum(b - a for a, b in mine)
    return _check(
        "requisition",
        faults,
        f"taken over {len(on)} times for {lasted:.1f} s, given back each time",
        f"được trưng dụng {len(on)} lần trong {lasted:.1f} giây, lần nào cũng được trả lại",
    )


def _check(name: str, faults: list[str], told: str, vi: str) -> Check:
    """What held in both languages; faults are for developers, in English."""
    said = "; ".join(faults)
    return Check(name, ok=not faults, detail=said or told, vi=said or vi)


def _within(begin: float, end: float, spans: Iterable[tuple[float, float]]) -> bool:
    return any(a - CLOSE_S <= begin and end <= b + CLOSE_S for a, b in spans)


def _picture(run: Run, frame: Frame) -> Image.Image:
    with Image.open(run.out / frame.folder / frame.file) as file:
        return file.convert("RGB")


def _ground(run: Run, frame: Frame) -> tuple[int, int, int]:
    """The colour that most of a frame has."""
    colours: list[tuple[int, tuple[int, int, int]]] = _picture(run, frame).getcolors(1 << 22) or []  # type: ignore[assignment]
    return max(colours)[1]
