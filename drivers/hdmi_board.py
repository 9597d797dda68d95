"""The kernel's frame buffer as a board: HDMI full screen without a desktop, for screens and LED sending cards.

Why not VLC's own `fb` output: it draws slides and films, but goes black between them, and cannot tell what it shows.
Here both come as pixels, so a slide takes the place of the last one in a single copy, and the output can be read back.
The layout of the two ioctls' structs is that of linux/fb.h.
"""

from __future__ import annotations

import fcntl
import glob
import mmap
import os
import struct
import time

FBIOGET_VSCREENINFO, FBIOGET_FSCREENINFO, FBIOBLANK = 0x4600, 0x4602, 0x4611
BLANK, UNBLANK = 4, 0
"""FB_BLANK_POWERDOWN: the display may sleep."""
DRM = "/sys/class/drm"


def geometry(fd: int) -> tuple[int, int, int, int]:
    """Width, height, bits a pixel and bytes a line of a frame buffer. OSError: it is none, or it is gone."""
    variable = fcntl.ioctl(fd, FBIOGET_VSCREENINFO, bytes(160))
    fixed = fcntl.ioctl(fd, FBIOGET_FSCREENINFO, bytes(80))
    width, height = struct.unpack_from("=2I", variable)
    (bits,) = struct.unpack_from("=I", variable, 24)
    # struct fb_fix_screeninfo: id[16], unsigned long smem_start, 4 × u32, 3 × u16, (pad), u32 line_length
    (line,) = struct.unpack_from("@16xL4I3HI", fixed)[-1:]
    if bits not in (16, 32):
        raise OSError(f"{bits} bits a pixel; 16 or 32 are needed")
    return width, height, bits, line


class Board:
    """Shows frames in the frame buffer `device`, 32 or 16 bits a pixel.

    `check` notices an unplugged display by the kernel's connectors, and another resolution by the frame buffer's size.
    """

    rate_hz = 30.0

    def __init__(self, *, device: str = "/dev/fb0", backlight: str | None = None, drm: str | None = None) -> None:
        self._backlight, self._drm = backlight, drm or DRM
        self._fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._size = geometry(self._fd)
            self.width, self.height, self._bits, self._line = self._size
            self._map = mmap.mmap(self._fd, self._line * self.height)
        except BaseException:
            os.close(self._fd)
            raise
        self._blank(UNBLANK)
        self._open = True

    def prepare(self, rgb: bytes, sha256: str) -> bytes | bytearray | memoryview:
        """The frame as the frame buffer has it."""
        frame = bytearray(self.width * self.height * 4)
        for offset in range(3):
            frame[2 - offset :: 4] = rgb[offset::3]
        return self._native(frame)

    def show(self, ready: bytes | bytearray | memoryview) -> tuple[int, None]:
        """Copy it to the display."""
        self._copy(ready, 0)
        return time.monotonic_ns(), None

    def move(self, bgrx: bytes | memoryview, top: int = 0) -> None:
        """Copy rows of a moving picture to the display."""
        self._copy(self._native(bgrx), top)

    def read(self) -> bytes:
        """The pixels of the frame buffer."""
        step = self._bits // 8
        rows = b"".join(self._map[y * self._line :][: self.width * step] for y in range(self.height))
        rgb = bytearray(self.width * self.height * 3)
        if self._bits == 32:
            for offset in range(3):
                rgb[offset::3] = rows[2 - offset :: 4]
            return bytes(rgb)
        low, high = rows[0::2], rows[1::2]
        rgb[0::3] = high.translate(bytes((v & 0xF8) | v >> 5 for v in range(256)))
        six = (((h & 7) << 3) | w >> 5 for h, w in zip(high, low, strict=True))
        rgb[1::3] = bytes(v << 2 | v >> 4 for v in six)
        rgb[2::3] = low.translate(bytes((v << 3 & 0xF8) | (v >> 2 & 7) for v in range(256)))
        return bytes(rgb)

    def dim(self, percent: int) -> bool:
        """Set the backlight, if the display has one that can be set."""
        if self._backlight is None:
            return False
        try:
            with open(os.path.join(self._backlight, "max_brightness"), encoding="ascii") as file:
                most = int(file.read())
            with open(os.path.join(self._backlight, "brightness"), "w", encoding="ascii") as file:
                file.write(str(max(1, round(most * percent / 100))))
        except (OSError, ValueError):
            return False
        return True

    def check(self) -> bool:
        """Whether the size is the same. OSError: no display is plugged in, or the frame buffer is gone."""
        states = []
        for path in glob.glob(os.path.join(glob.escape(self._drm), "card*-*", "status")):
            with open(path, encoding="ascii") as file:
                states.append(file.read().strip())
        if "disconnected" in states and "connected" not in states:  # others do not know: "unknown"
            raise OSError("no display is plugged in")
        return geometry(self._fd) == self._size

    def close(self) -> None:
        """Black, and the display may sleep. May be called twice."""
        if self._open:
            self._open = False
            self._map[:] = bytes(len(self._map))
            self._blank(BLANK)
            self._map.close()
            os.close(self._fd)

    def _copy(self, rows: bytes | bytearray | memoryview, top: int) -> None:
        wide = self.width * self._bits // 8
        if wide == self._line:
            self._map[top * self._line : top * self._line + len(rows)] = rows
            return
        for y in range(len(rows) // wide):
            at = (top + y) * self._line
            self._map[at : at + wide] = rows[y * wide : (y + 1) * wide]

    def _native(self, bgrx: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """Rows in the frame buffer's own form: as they are, or RGB565."""
        if self._bits == 32:
            return bgrx
        data = bytes(bgrx)
        blue, green, red = data[0::4], data[1::4], data[2::4]
        out = bytearray(len(data) // 2)
        low_green = green.translate(bytes(v << 3 & 0xE0 for v in range(256)))
        high_green = green.translate(bytes(v >> 5 for v in range(256)))
        out[0::2] = _either(low_green, blue.translate(bytes(v >> 3 for v in range(256))))
        out[1::2] = _either(red.translate(bytes(v & 0xF8 for v in range(256))), high_green)
        return bytes(out)

    def _blank(self, how: int) -> None:
        try:
            fcntl.ioctl(self._fd, FBIOBLANK, how)
        except OSError:
            return  # many drivers do not know it; the picture is black all the same


def _either(one: bytes, other: bytes) -> bytes:
    """Bitwise or of equally long bytes."""
    both = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")
