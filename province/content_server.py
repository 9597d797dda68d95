"""The province's content server: media over HTTPS with Range, and endless live streams, as a station meets them.

Reference and training ground: it can also be told to misbehave (`Fault`, `Live.silence`, `Live.cut`). Runs in a thread
of its own (`ContentServer`) or as a process (`python -m province.content_server`, commands as JSON lines on stdin).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import mimetypes
import shutil
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec import Struct, structs

from province.store import WANTED

TICK_S = 0.1
BLOCK = 64 * 1024


class Fault(Struct, frozen=True, kw_only=True):
    """How the server misbehaves for one file; `times` requests long (None: always).

    `cut_after`: the connection breaks after so many bytes of the body. `ignore_range`: always the whole file.
    `wrong_bytes`: the first byte sent is another. `bytes_per_s`: slow; with `stall_after` nothing more comes after so
    many bytes. `redirect`: to that URL. `longer`: so many bytes more than the file has. `status`: only that status.
    `encoding`: claims that Content-Encoding.
    """

    cut_after: int | None = None
    ignore_range: bool = False
    wrong_bytes: bool = False
    bytes_per_s: float | None = None
    stall_after: int | None = None
    redirect: str | None = None
    longer: int = 0
    status: int | None = None
    encoding: str | None = None
    times: int | None = None


class Request(Struct, frozen=True):
    """A request as it was answered."""

    path: str
    range: str | None
    status: int


class Live:
    """An endless stream: one file of constant bit rate looped in real time; all listeners hear the same moment.

    `burst_s` seconds are sent at once on connection (as Icecast does). `silence`, a file of the same coding, is sent
    instead while `silenced`; without one nothing is sent then. Thread-safe: only flags are set from outside.
    """

    def __init__(self, path: Path, kbps: int, silence: Path | None = None, burst_s: float = 1.0) -> None:
        self.sound = path.read_bytes()
        self.quiet = b"" if silence is None else silence.read_bytes()
        self.type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.bytes_per_s = kbps * 1000 / 8
        self.burst_s = burst_s
        self.silenced = False
        self.off = False
        self.listeners = 0
        self._t0 = time.monotonic()
        self._cuts = 0

    def cut(self) -> None:
        """Break all connections and refuse new ones until `restore`."""
        self.off = True
        self._cuts += 1

    def restore(self) -> None:
        """Sound again, for new connections too."""
        self.off = self.silenced = False

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send the stream to one listener until it goes or the stream is cut."""
        if self.off:
            raise web.HTTPServiceUnavailable(text="off air")
        response = web.StreamResponse(headers={"Content-Type": self.type, "Cache-Control": "no-store"})
        await response.prepare(request)
        cuts = self._cuts
        self.listeners += 1
        try:
            position = max(0, self._edge() - int(self.burst_s * self.bytes_per_s))
            with contextlib.suppress(ConnectionResetError):  # a listener goes when it likes
                while cuts == self._cuts:
                    edge = self._edge()
                    source = self.quiet if self.silenced else self.sound
                    if source:
                        await response.write(_looped(source, position, edge - position))
                    position = edge
                    await asyncio.sleep(TICK_S)
            _abort(request)
        finally:
            self.listeners -= 1
        return response

    def _edge(self) -> int:
        return int((time.monotonic() - self._t0) * self.bytes_per_s)


def _looped(source: bytes, position: int, count: int) -> bytes:
    start = position % len(source)
    turns = (start + count) // len(source) + 1
    return (source * turns)[start : start + count]


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def encode_live(source: Path, target: Path, kbps: int = 64) -> Path:
    """Encode any sound file as the constant-bit-rate MP3 (no tags) that `Live` can loop. Needs ffmpeg."""
    return _encode(["-i", str(source)], target, kbps)


def encode_silence(target: Path, kbps: int = 64, seconds: float = 5.0) -> Path:
    """A silent MP3 of the same coding, for `Live.silence`. Needs ffmpeg."""
    return _encode(["-f", "lavfi", "-t", str(seconds), "-i", "anullsrc=r=44100:cl=mono"], target, kbps)


def _encode(source: list[str], target: Path, kbps: int) -> Path:
    tool = shutil.which("ffmpeg")
    if tool is None:
        raise FileNotFoundError("ffmpeg is needed to encode a live stream")
    coding = ["-ar", "44100", "-ac", "1", "-b:a", f"{kbps}k", "-write_xing", "0", "-id3v2_version", "0", "-map", "0:a"]
    subprocess.run([tool, "-v", "error", "-y", *source, *coding, "-f", "mp3", str(target)], check=True)
    return target


class ContentServer:
    """Serves the files of `media` under `/media/NAME` and streams under `/live/NAME`, over HTTPS.

    What the province waits for (`Province.awaited`) may be put there, once.

    `port` 0 takes a free one. `plain` opens a second, unencrypted port, as many radio streams have. `requests` records
    what was asked; `faults` maps a file's name to its Fault; `live` a stream's name to its Live.
    """

    def __init__(
        self, media: Path, cert: Path, key: Path, *, host: str = "127.0.0.1", port: int = 0, plain: bool = False
    ) -> None:
        self.media = media
        self.host = host
        self.port = port
        self.plain_port: int | None = None
        self.faults: dict[str, Fault] = {}
        self.live: dict[str, Live] = {}
        self.requests: list[Request] = []
        self._plain = plain
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(cert, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="content-server", daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the media are: `{url}/NAME`."""
        return f"https://{self.host}:{self.port}/media"

    def live_url(self, name: str, *, plain: bool = False) -> str:
        """The address of a stream."""
        origin = f"http://{self.host}:{self.plain_port}" if plain else f"https://{self.host}:{self.port}"
        return f"{origin}/live/{name}"

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        """Break all connections and end the thread. May be called twice."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application(middlewares=[self._record])
        application.router.add_get("/media/{name}", self._file)
        application.router.add_put("/media/{name}", self._receive)
        application.router.add_get("/live/{name}", self._stream)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self._plain:
            await web.TCPSite(self._runner, self.host, 0).start()
            self.plain_port = self._runner.addresses[1][1]

    async def _stop(self) -> None:
        for live in self.live.values():
            live.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        status = 0
        try:
            response: web.StreamResponse = await handler(request)
            status = response.status
        except web.HTTPException as refusal:
            status = refusal.status
            raise
        finally:
            self.requests.append(Request(request.path, request.headers.get("Range"), status))
        return response

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        live = self.live.get(request.match_info["name"])
        if live is None:
            raise web.HTTPNotFound
        return await live.serve(request)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = self.media / name
        fault = self._fault(name)
        if fault is not None and fault.redirect is not None:
            raise web.HTTPFound(fault.redirect)
        if fault is not None and fault.status is not None:
            return web.Response(status=fault.status)
        if path.parent != self.media or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path) if fault is None else await _misbehave(request, path, fault)

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        """A document that is wanted is taken in, once, and not one byte more than is wanted."""
        path = self.media / request.match_info["name"]
        wanted, part = path.with_name(path.name + WANTED), path.with_name(f".{path.name}.part")
        fault = self._fault(path.name)
        if fault is not None and fault.status is not None:
            return web.Response(status=fault.status)
        if path.parent != self.media or path.exists() or not wanted.is_file():
            raise web.HTTPForbidden
        limit, size = int(wanted.read_text("ascii")), 0
        try:
            with part.open("wb") as file:
                async for block in request.content.iter_chunked(BLOCK):
                    size += len(block)
                    if size > limit:
                        raise web.HTTPRequestEntityTooLarge(limit, size)
                    file.write(block)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        wanted.unlink(missing_ok=True)
        return web.Response(status=201)

    def _fault(self, name: str) -> Fault | None:
        fault = self.faults.get(name)
        if fault is None or fault.times is None:
            return fault
        if fault.times <= 0:
            del self.faults[name]
            return None
        self.faults[name] = structs.replace(fault, times=fault.times - 1)
        return fault


async def _misbehave(request: web.Request, path: Path, fault: Fault) -> web.StreamResponse:
    content = path.read_bytes() + b"!" * fault.longer
    start = 0 if fault.ignore_range else (request.http_range.start or 0)
    body = content[start:]
    if fault.wrong_bytes and body:
        body = bytes([body[0] ^ 1]) + body[1:]
    response = web.StreamResponse(status=206 if start else 200)
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    if fault.encoding is not None:
        response.headers["Content-Encoding"] = fault.encoding
    response.content_length = len(body)
    await response.prepare(request)
    stop = min((n for n in (fault.cut_after, fault.stall_after) if n is not None), default=len(body))
    step = BLOCK if fault.bytes_per_s is None else max(1, int(fault.bytes_per_s * TICK_S))
    for at in range(0, min(stop, len(body)), step):
        await response.write(body[at : min(at + step, stop)])
        if fault.bytes_per_s is not None:
            await asyncio.sleep(TICK_S)
    if fault.stall_after is not None and stop < len(body):
        await asyncio.sleep(3600)
    if fault.cut_after is not None and stop < len(body):
        await asyncio.sleep(0.02)  # let what was written leave before the connection breaks
        _abort(request)
    return response


def main(arguments: list[str] | None = None) -> int:
    """Serve until stdin ends. First line out: `{"url", "port", "plain_port"}`.

    Lines in: `{"live": NAME, "do": "silence" | "sound" | "cut" | "restore"}`.
    """
    parser = argparse.ArgumentParser(prog="python -m province.content_server", description="Serve media and streams.")
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="also serve without TLS, on a port of its own")
    parser.add_argument("--live", action="append", default=[], metavar="NAME=FILE:KBPS[:SILENCE]")
    options = parser.parse_args(arguments)
    server = ContentServer(
        options.media, options.cert, options.key, host=options.host, port=options.port, plain=options.plain
    )
    for stream in options.live:
        name, _, rest = stream.partition("=")
        file, kbps, *silence = rest.split(":")
        server.live[name] = Live(Path(file), int(kbps), Path(silence[0]) if silence else None)
    server.start()
    print(json.dumps({"url": server.url, "port": server.port, "plain_port": server.plain_port}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            _obey(server, line)
    server.stop()
    return 0


def _obey(server: ContentServer, line: str) -> None:
    try:
        command = json.loads(line)
        live = server.live[command["live"]]
        match command["do"]:
            case "silence":
                live.silenced = True
            case "sound":
                live.silenced = False
            case "cut":
                live.cut()
            case "restore":
                live.restore()
            case other:
                raise ValueError(f"unknown: {other}")  # noqa: TRY301 - told like any other mistake of the line
    except (ValueError, KeyError, TypeError) as error:
        print(json.dumps({"error": f"{line.strip()}: {error!r}"}), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
