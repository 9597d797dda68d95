"""The boards of the demo: the slides made for it, and what its pictures must show."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from agent.screen.fonts import Fonts
from agent.screen.layout import LOOKS
from province.demo.proof import Check
from province.demo.recorded import Frame, Run, epoch

SLIDES = "trinh-chieu"
STORM = "bao-so-9"
CLOSE_S = 2.0
"""The relay is looked at a few times a second, on a busy machine less often."""
LETTERS = 32


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
        return Check("slides", ok=False, detail="the slide show is not in the log")
    begin, end = spans[0]
    frames = [f for f in run.frames if begin - 0.5 <= epoch(f.from_) < end - 0.05]
    black = [f.file for f in frames if _picture(run, f).getbbox() is None]
    gaps = [f.file for f, g in pairwise(frames) if f.to != g.from_]
    texts = [f for f in frames if _ground(run, f) == LOOKS["normal"].ground]
    moving = [f for f in frames if f not in texts][1:]
    faults = [f"{name} is black" for name in black] + [f"a gap after {name}" for name in gaps]
    faults += ["no long text on several sheets"] if len(texts) < 2 else []
    faults += ["no film"] if len({f.file for f in moving}) < 2 else []
    told = f"a picture, {len(moving)} moments of a film, {len(texts)} sheets of a long text, nothing black between"
    return Check("slides", ok=not faults, detail="; ".join(faults) or told)


def _alert(run: Run) -> Check:
    """The emergency has the whole board soon after its order, and the board rests afterwards."""
    given = run.expected.triggers.get(STORM)
    red = [f for f in run.frames if _ground(run, f) == LOOKS["emergency"].ground]
    soon = [epoch(f.from_) for f in red if given is not None and epoch(f.from_) >= given]
    if given is None or not soon:
        return Check("board-alert", ok=False, detail="the storm's alert was not on the board")
    return Check("board-alert", ok=True, detail=f"on the board {(soon[0] - given) * 1000:.0f} ms after it was given")


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
    told = f"taken over {len(on)} times for {sum(b - a for a, b in mine):.1f} s, given back each time"
    return Check("requisition", ok=not faults, detail="; ".join(faults) or told)


def _within(begin: float, end: float, spans: Iterable[tuple[float, float]]) -> bool:
    return any(a - CLOSE_S <= begin and end <= b + CLOSE_S for a, b in spans)


def _picture(run: Run, frame: Frame) -> Image.Image:
    with Image.open(run.out / frame.folder / frame.file) as file:
        return file.convert("RGB")


def _ground(run: Run, frame: Frame) -> tuple[int, int, int]:
    """The colour that most of a frame has."""
    colours: list[tuple[int, tuple[int, int, int]]] = _picture(run, frame).getcolors(1 << 22) or []  # type: ignore[assignment]
    return max(colours)[1]
