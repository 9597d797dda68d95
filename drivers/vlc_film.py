"""H.264 films to pictures in shared memory by libVLC 3, through python-vlc: libVLC keeps the time, nothing is windowed.

libVLC's `vmem` output calls back for memory (`lock`) and when a picture's moment has come (`display`). The memory is
`SLOTS` pictures of 4 bytes a pixel (blue, green, red, nothing), so that the reader has at least one picture's time to
copy what it was told of. As in `drivers.vlc_decoder`: libVLC sees only the plugins of a folder made by `prepare`, its
demultiplexer is named, it is never called from its own callback, and the process is left with `os._exit`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import queue
import sys
from pathlib import Path
from typing import Any

from drivers import mp4, vlc_decoder

PLUGINS = (
    "access/filesystem",
    "codec/avcodec",
    "demux/mp4",
    "packetizer/packetizer_h264",
    "stream_filter/cache_block",
    "stream_filter/cache_read",
    "video_chroma/chain",
    "video_chroma/i420_rgb",
    "video_chroma/i420_rgb_sse2",
    "video_chroma/swscale",
    "video_filter/transform",
    "video_output/vmem",
)
SLOTS = 4
_OPTIONS = (
    "--quiet",
    "--no-audio",
    "--no-spu",
    "--no-lua",
    "--no-interact",
    "--no-osd",
    "--no-auto-preparse",
    "--no-metadata-network-access",
    "--no-sub-autodetect-file",
    "--no-video-title-show",
    "--codec=avcodec,none",
    "--avcodec-hw=none",
    "--avcodec-threads=2",
    "--demux=mp4",
    "--vout=vmem",
    "--file-caching=100",
)
CODINGS = ("avc1", "avc3")
MAX_PIXELS = 1920 * 1088
"""Largest film: Full HD. Larger ones take more memory and time than a small computer has."""


class FilmError(Exception):
    """The film cannot be shown; the text is for people."""


def examine(path: str) -> mp4.Picture:
    """What film it is, by its own bytes. FilmError: none that is shown here; libVLC never sees it. OSError."""
    with open(path, "rb") as file:
        found = mp4.picture(file)
    if found is None:
        raise FilmError("there is no film in it, or it is no MP4")
    if found.coding not in CODINGS:
        raise FilmError(f"its coding is {found.coding!r}, not H.264")
    if not 0 < found.pixels <= MAX_PIXELS or not 0 < found.width * found.height <= 4 * MAX_PIXELS:
        raise FilmError(f"{found.width}×{found.height} pixels are too many (at most Full HD)")
    return found


class Film:
    """One film into `memory` (of SLOTS pictures of `width` × `height`), scaled whole into the picture, or filling it.

    `moments` gets the number of a slot for each picture whose moment has come, None at the end.
    """

    def __init__(
        self, path: str, memory: Any, width: int, height: int, *, fill: bool = False, plugins: str | None = None
    ) -> None:
        found = examine(path)
        if plugins is not None:
            os.environ["VLC_PLUGIN_PATH"] = plugins
        import vlc

        self.moments: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        scan = ("--no-plugins-scan",) if plugins is not None else ()
        self._instance: Any = vlc.Instance([*_OPTIONS, *scan])
        if self._instance is None:
            raise FilmError("libVLC does not start")
        self._media = self._instance.media_new_path(path)
        self._fill = fill
        self._board = width, height
        self._memory = memoryview(memory)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._slot = -1
        self._player: Any = self._instance.media_player_new()
        self._player.set_media(self._media)
        self._size = found.width, found.height
        self._attach(vlc)

    def _attach(self, vlc: Any) -> None:
        """Tell libVLC where pictures go: the middle of a slot, whose edges stay black.

        A film that is larger than the board goes into memory of its own, from which its middle is copied.
        """
        (wide, high), (width, height) = self._size, self._board
        scale = (max if self._fill else min)(width / wide, height / high)
        w, h = max(2, round(wide * scale)), max(2, round(high * scale))
        self._pitch, self._lines, self._first = width, height, ((height - h) // 2 * width + (width - w) // 2) * 4
        self._cut: tuple[memoryview, int, int] | None = None
        if w > width or h > height:
            self._pitch, self._lines, self._first = w, h, 0
            own = mmap.mmap(-1, SLOTS * w * h * 4)
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(own))
            self._cut = memoryview(own), (w - width) // 2, (h - height) // 2
        # Kept, because libVLC calls them as long as it lives.
        self._callbacks = (
            vlc.CallbackDecorators.VideoLockCb(self._lock),
            vlc.CallbackDecorators.VideoUnlockCb(lambda _opaque, _picture, _planes: None),
            vlc.CallbackDecorators.VideoDisplayCb(self._display),
        )
        self._player.video_set_callbacks(*self._callbacks, None)
        self._player.video_set_format("RV32", w, h, self._pitch * 4)
        events = self._player.event_manager()
        for kind in (vlc.EventType.MediaPlayerEndReached, vlc.EventType.MediaPlayerEncounteredError):
            events.event_attach(kind, lambda _event: self.moments.put(None))

    def start(self) -> None:
        """Begin to play."""
        if self._player.play() != 0:
            raise FilmError("libVLC does not play it")

    def lost(self) -> int:
        """Pictures so far that came too late to be shown."""
        import vlc

        stats = vlc.MediaStats()
        self._media.get_stats(stats)
        return int(stats.lost_pictures)

    def _lock(self, _opaque: Any, planes: Any) -> int:
        self._slot = (self._slot + 1) % SLOTS
        planes[0] = self._address + self._slot * self._pitch * self._lines * 4 + self._first
        return self._slot + 1

    def _display(self, _opaque: Any, picture: int | None) -> None:
        slot = (picture or 1) - 1
        if self._cut is not None:
            self._copy(slot, *self._cut)
        self.moments.put(slot)

    def _copy(self, slot: int, source: memoryview, left: int, top: int) -> None:
        width, height = self._board
        for y in range(height):
            at = ((slot * self._lines + top + y) * self._pitch + left) * 4
            to = (slot * height + y) * width * 4
            self._memory[to : to + width * 4] = source[at : at + width * 4]


def prepare(folder: Path) -> None:
    """Make `folder` hold links to `PLUGINS` and their cache (see `drivers.vlc_decoder.prepare`)."""
    vlc_decoder.prepare(folder, PLUGINS)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    os._exit(0)
