"""Pictures that somebody made to do harm, and the largest that are shown: little memory, a reason, and no crash."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.screen.painter import PictureError, fit

BOARD = (960, 540)
MOST_MB = 80
"""Memory of a painter at work (VmHWM), a board of this size."""
DECODE = """
import json, resource, sys
from agent.screen import painting
resource.setrlimit(resource.RLIMIT_AS, (painting.MEMORY, painting.MEMORY))
resource.setrlimit(resource.RLIMIT_CPU, (painting.CPU_S, painting.CPU_S))
why = ""
try:
    painting.paint.__globals__["fit"](sys.argv[1], 960, 540)
except painting.PictureError as error:
    why = str(error)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"mb": int(status["VmHWM"].split()[0]) / 1024, "why": why}))
"""


def decoded(path: Path) -> dict[str, Any]:
    """What a process with a painter's limits made of it: memory at most, and why it was refused."""
    done = subprocess.run([sys.executable, "-c", DECODE, str(path)], capture_output=True, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    grain = random.Random(1).randbytes(256 * 256 * len(mode))
    return Image.frombytes(mode, (256, 256), grain).resize((width, height))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    """A WebP container (RFC 9649 section 2)."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def still(size: int = 16) -> bytes:
    """The one chunk of a small lossy WebP."""
    return saved(Image.new("RGB", (size, size), (255, 0, 0)), "WEBP")[12:]


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    return chunk(
        b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


def claims(width: int, height: int) -> bytes:
    """A lossless WebP that claims to be so large and has no pixels."""
    head = (width - 1) | (height - 1) << 14
    return riff(chunk(b"VP8L", b"\x2f" + struct.pack("<I", head) + b"\0" * 40))


def frame(x: int, y: int, size: int) -> bytes:
    where = b"".join(v.to_bytes(3, "little") for v in (x // 2, y // 2, size - 1, size - 1, 40))
    return chunk(b"ANMF", where + b"\0" + still(size))


def animated(width: int, height: int, *frames: bytes) -> bytes:
    return riff(canvas(width, height, 2), chunk(b"ANIM", b"\0\0\0\0\0\0"), *frames)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "WebP cut in half": lambda: (whole := saved(noise(400, 300), "WEBP"))[: len(whole) // 2],
    "WebP cut in its header": lambda: saved(noise(40, 30), "WEBP")[:24],
    "WebP of 16,383 pixels a side": lambda: claims(16_383, 16_383),
    "WebP with a canvas of 20,000 pixels a side": lambda: riff(canvas(20_000, 20_000), still()),
    "WebP with a canvas of 4 thousand million pixels": lambda: riff(canvas(2**24, 2**8), still()),
    "WebP whose canvas is not its picture's": lambda: riff(canvas(64, 64), still(16)),
    "animation outside its canvas": lambda: animated(64, 64, frame(60, 60, 16)),
    "animation without pictures": lambda: animated(64, 64),
    "animation on a canvas of 16,000 pixels a side": lambda: animated(16_000, 16_000, *[frame(0, 0, 16)] * 50),
    "RIFF that is a sound": lambda: b"RIFF\x24\0\0\0WAVEfmt ",
    "WebP with a length of 4 GB": lambda: b"RIFF\xff\xff\xff\xffWEBP" + still(),
    "GIF that claims 65,535 pixels a side": lambda: (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;"
    ),
    "JPEG that claims 65,535 pixels a side": lambda: saved(noise(64, 64), "JPEG").replace(
        b"\xff\xc0\0\x11\x08\0\x40\0\x40", b"\xff\xc0\0\x11\x08\xff\xff\xff\xff"
    ),
}


def _text_bomb() -> bytes:
    """A PNG whose compressed comment unpacks to 64 MB (PNG 3, 11.3.3.3 zTXt)."""
    import zlib

    whole = saved(Image.new("RGB", (8, 8)), "PNG")
    data = b"zTXtcomment\0\0" + zlib.compress(b"x" * 64 * 2**20, 9)
    bomb = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return whole[:33] + bomb + whole[33:]


HOSTILE["PNG with a text of 64 MB"] = _text_bomb


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_picture_is_refused_with_a_reason_and_little_memory(tmp_path: Path, case: str) -> None:
    (tmp_path / "x").write_bytes(HOSTILE[case]())
    told = decoded(tmp_path / "x")
    assert told["why"]
    assert told["mb"] < MOST_MB


def test_of_an_animation_of_many_pictures_the_first_is_shown(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(animated(16, 16, *[frame(0, 0, 16)] * 5000))
    assert decoded(tmp_path / "x")["why"] == ""
    assert fit(str(tmp_path / "x"), *BOARD).size == (540, 540)


LARGEST: dict[str, tuple[str, tuple[int, int], str, dict[str, Any]]] = {
    "JPEG": ("JPEG", (6000, 3999), "RGB", {}),
    "JPEG of 20,000 pixels": ("JPEG", (20_000, 1_190), "RGB", {}),
    "progressive JPEG": ("JPEG", (4000, 3850), "RGB", {"progressive": True}),
    "progressive JPEG without chroma subsampling": (
        "JPEG",
        (3000, 2765),
        "RGB",
        {"progressive": True, "subsampling": 0},
    ),
    "PNG": ("PNG", (2880, 2880), "RGB", {"compress_level": 1}),
    "PNG with a palette": ("PNG", (2880, 2880), "P", {"compress_level": 1}),
    "transparent PNG": ("PNG", (2035, 2035), "RGBA", {"compress_level": 1}),
    "transparent grey PNG": ("PNG", (2035, 2035), "LA", {"compress_level": 1}),
    "WebP": ("WEBP", (1684, 1684), "RGB", {"quality": 80, "method": 0}),
    "lossless WebP": ("WEBP", (1684, 1684), "RGB", {"lossless": True, "method": 0}),
    "transparent WebP of Full HD": ("WEBP", (1920, 1080), "RGBA", {"quality": 80, "method": 0}),
    "GIF": ("GIF", (2775, 2775), "P", {}),
}


@pytest.mark.parametrize("case", LARGEST)
def test_the_largest_picture_of_each_kind_is_shown_with_little_memory(tmp_path: Path, case: str) -> None:
    kind, size, mode, options = LARGEST[case]
    image = noise(*size).convert("P") if mode == "P" else noise(*size, mode)
    image.save(tmp_path / "x", kind, **options)
    told = decoded(tmp_path / "x")
    assert told["why"] == ""
    assert told["mb"] < MOST_MB


@pytest.mark.parametrize("case", ["PNG", "WebP", "progressive JPEG", "transparent PNG"])
def test_a_picture_that_would_need_more_memory_is_refused_before_it_is_decoded(tmp_path: Path, case: str) -> None:
    kind, (width, height), mode, options = LARGEST[case]
    noise(width + 60, height + 60, mode).save(tmp_path / "x", kind, **options)
    with pytest.raises(PictureError, match="pixels are too many"):
        fit(str(tmp_path / "x"), *BOARD)
