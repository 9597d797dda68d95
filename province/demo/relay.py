"""A TCP relay between the device and the broker, so that the link can be cut without touching either."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Listens on a free loopback port and passes bytes to `target` while it is up."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._up = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to accept."""
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def stop(self) -> None:
        """Close everything."""
        self.set_up(False)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def set_up(self, up: bool) -> None:
        """Up: new connections pass. Down: all are cut, new ones closed at once."""
        with self._lock:
            self._up = up
            if not up:
                for sock in list(self._open):
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner: socket.socket) -> None:
        with inner, contextlib.suppress(OSError):
            if not self._up:
                return
            with socket.create_connection(self._target, timeout=5) as outer:
                for sock in (inner, outer):
                    sock.settimeout(None)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not self._admit(inner, outer):
                    return
                back = threading.Thread(target=_pump, args=(outer, inner), daemon=True)
                back.start()
                _pump(inner, outer)
                back.join()
                with self._lock:
                    self._open -= {inner, outer}

    def _admit(self, *ends: socket.socket) -> bool:
        with self._lock:
            if self._up:
                self._open |= set(ends)
            return self._up


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    except OSError:
        pass
    finally:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
