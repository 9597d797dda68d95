"""Media to PCM by libVLC 3, through python-vlc: faster than real time, held back by the pipe without loss.

The way is a stream output chain (`transcode` to 16 bit stereo, `standard` into a pipe as WAV) and not libVLC's audio
callbacks: those are paced in real time and drop what a full pipe delays, while the chain runs as fast as it is read.
What it does not do is left to the caller: mono, sample rate (the chain loses a resampler's tail), start and end.

libVLC is never called from its own callback, `release()` never (it may freeze): leave the process with `os._exit`.

The attack surface is made small in two ways. The demultiplexer is named by the caller, so a playlist or a manifest is
never followed, whatever the file says. And `prepare` writes a folder of links to the few plugins that are needed,
with their cache: libVLC then knows no other plugin (no network access, no playlist, no Lua), starts in 5 ms instead
of 100 ms (seconds when cold) and takes 20 MB instead of 60.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLUGINS = (
    "access/filesystem",
    "access_output/access_output_file",
    "audio_filter/audio_format",
    "audio_filter/simple_channel_mixer",
    "audio_filter/trivial_channel_mixer",
    "audio_mixer/float_mixer",
    "codec/adpcm",
    "codec/araw",
    "codec/avcodec",
    "codec/flac",
    "codec/g711",
    "codec/mpg123",
    "codec/opus",
    "codec/vorbis",
    "demux/es",
    "demux/flacsys",
    "demux/mp4",
    "demux/ogg",
    "demux/wav",
    "mux/mux_wav",
    "packetizer/packetizer_copy",
    "packetizer/packetizer_flac",
    "packetizer/packetizer_mpeg4audio",
    "packetizer/packetizer_mpegaudio",
    "stream_filter/cache_block",
    "stream_filter/cache_read",
    "stream_filter/skiptags",
    "stream_out/stream_out_standard",
    "stream_out/stream_out_transcode",
)
"""What decodes MP3, AAC, M4A, Ogg (Opus, Vorbis), FLAC and coded WAV. Not faad: it swallows the first frame."""

_OPTIONS = (
    "--quiet",
    "--no-video",
    "--no-spu",
    "--no-lua",
    "--no-stats",
    "--no-interact",
    "--no-osd",
    "--no-auto-preparse",
    "--no-metadata-network-access",
    "--no-sub-autodetect-file",
    "--codec=mpg123,vorbis,opus,flac,avcodec,any",
    "--sout-mux-caching=0",
)
_SCANLESS = "--no-plugins-scan"
_HEADER = 44


class MediaError(Exception):
    """libVLC could not play the media; the text is for people."""


def prepare(folder: Path, names: Sequence[str] = PLUGINS) -> None:
    """Make `folder` hold links to these plugins and their cache; replaces what was there. Takes some 0.1 s.

    To be run in a process of its own (`python -m drivers.vlc_decoder FOLDER`) and again after each upgrade of libVLC.
    libVLC looks for plugins beside the library and would write the cache of that folder too; so a copy of the core
    library is loaded from a temporary folder which has only our links beside it. Not from beside `folder`: Debian lets
    nothing be executed from /run. Decoders that are other users read what is made here.
    """
    os.umask(0o022)
    plugins = _installed_plugins()
    work = Path(tempfile.mkdtemp(prefix="tram-vlc-"))
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        links = work / "vlc" / "plugins"
        for name in names:
            kind, _, module = name.partition("/")
            target = plugins / kind / f"lib{module}_plugin.so"
            if target.exists():
                (links / kind).mkdir(parents=True, exist_ok=True)
                (links / kind / target.name).symlink_to(target)
        core = work / "libvlccore.so.9"
        shutil.copyfile(plugins.parent.parent / core.name, core)
        ctypes.CDLL(str(core), mode=ctypes.RTLD_GLOBAL)
        vlc = ctypes.CDLL("libvlc.so.5")
        vlc.libvlc_new.restype = ctypes.c_void_p
        arguments = (ctypes.c_char_p * 2)(b"--quiet", b"--reset-plugins-cache")
        if not vlc.libvlc_new(2, arguments) or not (links / "plugins.dat").exists():
            raise MediaError("libVLC wrote no plugin cache")
        shutil.copytree(links, fresh, symlinks=True)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


def _installed_plugins() -> Path:
    found = _library_folder("libvlccore.so.9") / "vlc" / "plugins"
    if not found.is_dir():
        raise MediaError(f"no plugins of libVLC in {found}: install vlc-plugin-base")
    return found


def _library_folder(name: str) -> Path:
    """Where the dynamic linker finds a library, without loading it into this process."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    for folder in (f"/usr/lib/{multiarch}", "/usr/lib", "/usr/local/lib"):
        if (Path(folder) / name).exists():
            return Path(folder)
    raise MediaError(f"{name} is not installed")


class Decoding:
    """One media being decoded. Read `fd` to its end: 16 bit little endian stereo at `rate`, nothing in front.

    `source`: a file descriptor of a regular file or of a pipe, at its beginning; stays open. `demux`: the name of the
    demultiplexer (mpga, aac, mp4, ogg, flac, wav); no other is tried. `plugins`: the folder made by `prepare`, or
    None: all installed plugins are examined. `caching_ms`: what libVLC collects of a pipe before it begins.
    Construction returns at once; `start` waits for the first samples.
    """

    def __init__(self, source: int, demux: str, plugins: str | None = None, caching_ms: int = 100) -> None:
        if plugins is not None:
            os.environ["VLC_PLUGIN_PATH"] = plugins
        import vlc

        self.fd, self._write = os.pipe()
        scan = (_SCANLESS,) if plugins is not None else ()
        self._instance: Any = vlc.Instance([*_OPTIONS, *scan, f"--file-caching={caching_ms}"])
        if self._instance is None:
            raise MediaError("libVLC does not start")
        media = self._instance.media_new_location(f"fd://{source}")
        media.add_option(f":demux={demux}")
        media.add_option(
            ":sout=#transcode{acodec=s16l,channels=2}:standard{access=fd,mux=wav,dst=" + str(self._write) + "}"
        )
        self._player: Any = self._instance.media_player_new()
        self._player.set_media(media)
        self._over = threading.Event()
        self._failed = False
        events = self._player.event_manager()
        events.event_attach(vlc.EventType.MediaPlayerEndReached, self._on_end)
        events.event_attach(vlc.EventType.MediaPlayerEncounteredError, self._on_error)
        threading.Thread(target=self._finish, name="vlc-finish", daemon=True).start()
        self._player.play()

    def start(self) -> int:
        """Wait for the first samples; returns their rate in Hz. Raises MediaError when there are none."""
        header = b""
        while len(header) < _HEADER:
            part = os.read(self.fd, _HEADER - len(header))
            if not part:
                raise MediaError("libVLC cannot decode it" if self._failed else "there is no sound in it")
            header += part
        rate = int.from_bytes(header[24:28], "little")
        if header[:4] != b"RIFF" or header[22:24] != b"\2\0" or not 1_000 <= rate <= 768_000:
            raise MediaError(f"libVLC gives a strange format ({rate} Hz)")
        return rate

    def abandon(self) -> None:
        """Stop early without waiting for libVLC: closes `fd`."""
        os.close(self.fd)
        self._over.set()

    def _on_end(self, _event: object) -> None:
        self._over.set()

    def _on_error(self, _event: object) -> None:
        self._failed = True
        self._over.set()

    def _finish(self) -> None:
        """Only `stop` makes libVLC write what its chain still holds and close its end of the pipe."""
        self._over.wait()
        self._player.stop()
        with contextlib.suppress(OSError):
            os.close(self._write)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    os._exit(0)
