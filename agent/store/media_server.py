"""A station's library for its clusters: `https://station/media/<sha256>` over mutual TLS, in a process of its own.

`python -m agent.store.media_server --folder F --talks S --host H --port P --ca C --cert C --key K [--cluster NAME …]`.
It serves complete files, each verified by its hash before it is first given out, by Range or whole; it lists nothing,
writes nothing, and ends when its standard input does. Who asks shows a certificate of `--ca`. The first line out is
`{"port": N}`.

`/media/talk/<name>` is what an officer says live in the play of that (percent-encoded) name, while she does:
`TALK_RATE` samples a second of 16 bits, chunked, to its proper end. It is given to the clusters that are named, and to
nobody else.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import ssl
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET, socket
from socketserver import ThreadingTCPServer
from typing import Any, BinaryIO
from urllib.parse import unquote

from agent.store.library import place
from agent.store.talks import LostError, Talks

BLOCK = 256 * 1024
AT_ONCE = 16
"""So many clusters are served at once; others wait for their turn, as long as their own patience lasts."""
CONNECTIONS = 64
"""Of all kinds; one more is closed at once, and a cluster comes again: strangers must not use up all threads."""
LISTENERS = 128
"""Clusters that may listen to live talks at once, beside these."""
PATIENCE_S = 30.0
"""A cluster that takes nothing for so long is left."""
TALK_PATIENCE_S = 5.0
"""The same, of one that listens."""
TALK_BUFFER = 16 * 1024
"""What the kernel holds for it: half a second, and as much again of its own."""
_TALK = "/media/talk/"
_PATH = re.compile(r"/media/([0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d{1,12})-(\d{1,12})?")


class Files:
    """The content folder, as far as it may be given out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def open(self, sha256: str) -> BinaryIO | None:
        """The file of that hash, or None when there is none, or what is there is another."""
        try:
            file = place(self._folder, sha256).open("rb")
        except OSError:
            return None
        told = os.fstat(file.fileno())
        print_ = (told.st_ino, told.st_size)
        with self._lock:  # once for all who ask: 102 clusters want the same file at the same moment
            if self._verified.get(sha256) != print_:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    file.close()
                    return None
                self._verified[sha256] = print_
        return file


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of `/media/<sha256>`; nothing else."""

    protocol_version = "HTTP/1.1"
    server_version = "tram"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Server
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        """Send a file or a part of it, or what is said live."""
        if self.path.startswith(_TALK):
            self._talk(unquote(self.path.removeprefix(_TALK)))
            return
        with self.server.turns:
            self._answer(body=True)

    def do_HEAD(self) -> None:
        """Tell about a file."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        found = _PATH.fullmatch(self.path)
        file = None if found is None else self.server.files.open(found[1])
        if file is None:
            self._refuse(404)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            first, last = 0, size - 1
            wanted = self.headers.get("Range")
            if wanted is not None and (part := _RANGE.fullmatch(wanted)) is not None:
                first, last = int(part[1]), min(int(part[2] or size - 1), size - 1)
                if first > last:
                    self._refuse(416, f"bytes */{size}")
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if body:
                self._send(file, first, last + 1 - first)

    def _send(self, file: BinaryIO, first: int, left: int) -> None:
        file.seek(first)
        while left and (block := file.read(min(BLOCK, left))):
            self.wfile.write(block)
            left -= len(block)

    def _talk(self, name: str) -> None:
        if _holder(self.connection) not in self.server.clusters:
            self._refuse(403)
            return
        talk = self.server.talks.listen(name)
        if talk is None:
            self._refuse(404)
            return
        with self.server.listening() as possible:
            if not possible:
                self._refuse(503)
                return
            self.connection.settimeout(TALK_PATIENCE_S)
            self.connection.setsockopt(SOL_SOCKET, SO_SNDBUF, TALK_BUFFER)
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for block in talk:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
            except LostError:
                self.close_connection = True  # without its proper end
            else:
                self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, content_range: str | None = None) -> None:
        self.send_response(status)
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the clusters' own alarms say what they miss."""


class Server(ThreadingTCPServer):
    """One thread a connection; the handshake is made in it, so that nobody who dawdles holds up the others."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], files: Files, talks: Talks, clusters: Collection[str], tls: ssl.SSLContext
    ) -> None:
        self.files = files
        self.talks = talks
        self.clusters = frozenset(clusters)
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        self._listeners = threading.BoundedSemaphore(LISTENERS)
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._tls = tls
        super().__init__(address, Handler)

    @contextlib.contextmanager
    def listening(self) -> Iterator[bool]:
        """One more listens, if possible; its place is meanwhile free for others."""
        if not self._listeners.acquire(blocking=False):
            yield False
            return
        self._places.release()
        try:
            yield True
        finally:
            self._places.acquire()
            self._listeners.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for it, while there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread, to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        request.settimeout(PATIENCE_S)
        with self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Strangers, broken connections and dawdlers: none of it is ours to mend."""

    def shutdown_request(self, request: socket | tuple[bytes, socket]) -> None:
        """The secured socket has closed it."""
        with contextlib.suppress(OSError):
            super().shutdown_request(request)


def _holder(connection: ssl.SSLSocket) -> str | None:
    """The name in the certificate of whoever asks."""
    told: Any = connection.getpeercert() or {}
    return next((value for rdn in told.get("subject", ()) for name, value in rdn if name == "commonName"), None)


def context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or later, for those with a certificate of `ca`. OSError or ssl.SSLError when the files cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_verify_locations(ca)
    made.load_cert_chain(cert, key)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; 1 with a sentence on standard error when it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m agent.store.media_server")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--talks", type=Path, required=True)
    parser.add_argument("--cluster", action="append", default=[])
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args(arguments)
    try:
        tls = context(options.ca, options.cert, options.key)
        talks = Talks(options.talks)
        server = Server((options.host, options.port), Files(options.folder), talks, options.cluster, tls)
    except (OSError, ssl.SSLError) as error:
        where = f"{options.host}:{options.port}"
        print(f"{where}: {getattr(error, 'strerror', None) or error}", file=sys.stderr, flush=True)
        return 1
    talks.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
