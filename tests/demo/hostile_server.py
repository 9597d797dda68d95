"""An HTTPS server that a station may fetch from, and that does its worst."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class HostileServer:
    """Serves `files[path]`; `redirects[path]` says where to; `endless` paths never stop. Notes what was asked."""

    def __init__(self, pki: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.endless: set[str] = set()
        self.asked: list[str] = []
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                with contextlib.suppress(OSError):
                    outer.answer(self)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(pki / "content.crt"), str(pki / "content.key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"https://{self.host}"

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif path in self.endless:
            request.send_response(200)
            request.end_headers()
            while not self._ended.is_set():
                request.wfile.write(bytes(65536))
        elif path in self.files:
            request.send_response(200)
            request.send_header("Content-Length", str(len(self.files[path])))
            request.end_headers()
            request.wfile.write(self.files[path])
        else:
            request.send_error(404)
