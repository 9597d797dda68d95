"""Runs on the board in the sandbox of a unit: tries what it should not be able to do, and says what it could.

Prints one JSON object: attempt → whether it succeeded. Needs nothing but Python's own library.
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import json
import mmap
import os
import pathlib
import signal
import socket
import struct
import time
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)


def system(number: int, *arguments: object) -> None:
    """A system call that must not answer −1."""
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read(path: str) -> Callable[[], object]:
    return lambda: pathlib.Path(path).open("rb").read(1)


def write(path: str) -> Callable[[], object]:
    def attempt() -> None:
        target = pathlib.Path(path)
        if target.is_dir():
            (target / "breakout").write_text("x")
            (target / "breakout").unlink()
        else:
            os.close(os.open(path, os.O_WRONLY))

    return attempt


def connect() -> None:
    """Refused is as good as taken: the packet got out."""
    with socket.socket() as s:
        s.settimeout(5)
        try:
            s.connect(("10.0.2.2", 9))
        except ConnectionRefusedError:
            return


def local(path: str) -> Callable[[], object]:
    def attempt() -> None:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)

    return attempt


def listen() -> None:
    with socket.socket() as s:
        s.bind(("0.0.0.0", 4444))  # noqa: S104 - that is the attempt
        s.listen()


def set_uid() -> None:
    for folder in ("/run/tram", "/var/lib/tram", "/tmp"):  # noqa: S108
        path = pathlib.Path(folder) / "suid"
        try:
            path.write_text("x")
        except OSError:
            continue
        try:
            path.chmod(0o4755)
            if path.stat().st_mode & 0o4000:
                return
        finally:
            path.unlink()
    raise PermissionError


def write_file() -> None:
    for folder in ("/tmp", "/var/tmp", "/run", "/run/tram", "/var/lib/tram", "/dev/shm"):  # noqa: S108
        path = pathlib.Path(folder) / "breakout-file"
        try:
            path.write_text("x")
        except OSError:
            continue
        path.unlink()
        return
    raise PermissionError


def written_and_run() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def gpio() -> None:
    for chip in glob.glob("/dev/gpiochip*"):
        with open(chip, "rb") as file:
            fcntl.ioctl(file, 0x8044B401, bytes(68))
            return
    raise FileNotFoundError


def card() -> None:
    for control in glob.glob("/dev/snd/controlC*"):
        os.close(os.open(control, os.O_RDWR))
        return
    raise FileNotFoundError


def others() -> None:
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        if entry.stat().st_uid not in {os.getuid(), 65534}:
            return
    raise FileNotFoundError


def trace() -> None:
    """Any process that is not this one."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        if entry.name != str(os.getpid()) and libc.ptrace(16, int(entry.name), 0, 0) == 0:
            return
    raise PermissionError


def abi() -> None:
    """A 32-bit system call on x86-64; elsewhere there is none to try."""
    if os.uname().machine != "x86_64":
        raise PermissionError
    pid = os.fork()
    if pid == 0:
        # mov eax, 20 (getpid); int 0x80; hlt is never reached when the call is answered
        code = bytes.fromhex("b814000000cd80c3")
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        if libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            os._exit(1)
        os._exit(0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0 else 1)
    if os.waitpid(pid, 0)[1] != 0:
        raise PermissionError


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read /etc/shadow": read("/etc/shadow"),
    "read /etc/tram/pki/xa-mau.key": read("/etc/tram/pki/xa-mau.key"),
    "read /etc/tram/station.yaml": read("/etc/tram/station.yaml"),
    "read the database": read("/var/lib/tram/tram.db"),
    "read /dev/vda": read("/dev/vda"),
    "read /dev/mem": read("/dev/mem"),
    "read kernel log": lambda: libc.klogctl(3, ctypes.create_string_buffer(64), 64) >= 0 or 1 / 0,
    "write /usr": write("/usr"),
    "write /etc/tram": write("/etc/tram"),
    "write /var/log": write("/var/log"),
    "write /var/lib/tram": write("/var/lib/tram"),
    "write /dev/vda": write("/dev/vda"),
    "write a file": write_file,
    "connect to the network": connect,
    "listen on TCP": listen,
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "reach the agent's socket": local("/run/tram/agent.sock"),
    "reach voice's socket": local("/run/tram/voice.sock"),
    "become root": lambda: os.setuid(0),
    "make a set-uid file": set_uid,
    "load a module": lambda: system(313 if os.uname().machine == "x86_64" else 273, 0, b"", 0),
    "mount": lambda: libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0 or 1 / 0,
    "new name space": lambda: (
        os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else libc.unshare(0x10000000) == 0 or 1 / 0
    ),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "reboot": lambda: libc.reboot(0) == 0 or 1 / 0,  # 0 turns Ctrl-Alt-Del off: harmless if it works
    "trace another process": trace,
    "kill process 1": lambda: os.kill(1, signal.SIGCONT),
    "memory that is written and run": written_and_run,
    "foreign system call ABI": abi,
    "see other users' processes": others,
    "open a GPIO line": gpio,
    "open a sound card": card,
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
}


def main() -> None:
    done: dict[str, bool] = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except (OSError, ZeroDivisionError, struct.error, ValueError):
            done[name] = False
        else:
            done[name] = True
    print(json.dumps(done), flush=True)


main()
