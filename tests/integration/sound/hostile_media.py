"""Stands in for drivers.vlc_decoder and does what hostile media make libVLC do: the file's bytes say which."""

import os
import signal
import time


class MediaError(Exception):
    """As in drivers.vlc_decoder."""


class Decoding:
    """Crashes, hangs, yields nothing, raises, or goes on for ever."""

    def __init__(self, source: int, demux: str, plugins: str | None = None) -> None:
        data = os.read(source, 4096)
        self._way = data[data.rindex(b"<") + 1 : data.rindex(b">")].decode()
        if self._way == "forge":
            _forge()
        if self._way in {"crash", "forge"}:
            os.kill(os.getpid(), signal.SIGSEGV)
        self.fd, write = os.pipe()
        if self._way in {"late-crash", "late-hang"}:
            os.write(write, b"\1\0\1\0" * 4800)
        elif self._way == "endless":
            self.fd = os.open("/dev/zero", os.O_RDONLY)
        if self._way != "late-hang":
            os.close(write)

    def start(self) -> int:
        """The rate."""
        if self._way == "hang":
            while True:
                time.sleep(1)
        if self._way == "raise":
            raise RuntimeError("a bug in the driver")
        if self._way == "nothing":
            raise MediaError("there is no sound in it")
        return 48_000

    def abandon(self) -> None:
        """The end is reached."""
        if self._way == "late-crash":
            os.kill(os.getpid(), signal.SIGSEGV)


def _forge() -> None:
    """Say to the parent what no honest child says."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and "socket" in os.readlink(f"/proc/self/fd/{fd}"):
            for lie in (b"\xff", b"[]", b'{"item":1}', b'{"item":77,"what":"ended","samples":1,"detail":""}') * 20:
                os.write(fd, lie)
            os.write(fd, b'{"item":1,"what":"failed","samples":9007199254740993,"detail":""}')
            os.write(fd, b'{"item":1,"what":"connect","samples":0,"detail":""}')
