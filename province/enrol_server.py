"""The registration office on the network: HTTPS, `POST /enrol` with a code, `POST /renew` with the present certificate.

Answers are JSON: `{"certificate": PEM}` or `{"reason": word}`. A refusal that will stay one is 400 (bad-request,
wrong-name), 403 (wrong-code, revoked), 409 (used-code) or 410 (expired-code); 429 and 5xx mean: again later. An
address that failed too often waits, so that codes cannot be tried out; what goes well does not count, for many devices
may share one address.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from province.enrolment import RefusedError, Register
from province.pki import Pki

log = logging.getLogger("province.enrol")
MOST = 16 * 1024
STATUS = {
    "bad-request": 400,
    "wrong-name": 400,
    "wrong-code": 403,
    "revoked": 403,
    "used-code": 409,
    "expired-code": 410,
}


class Limiter:
    """At most `burst` failures of one address at once, then one every `pause_s`; memory is bounded.

    When more addresses fail than are remembered the longest quiet one is forgotten.
    """

    def __init__(self, burst: int = 10, pause_s: float = 60.0, addresses: int = 10_000) -> None:
        self._burst, self._pause_s, self._addresses = burst, pause_s, addresses
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Whether this address may try."""
        return self._debt(address, now) <= self._burst - 1

    def failed(self, address: str, now: float) -> None:
        """It tried and failed."""
        self._debts[address] = (self._debt(address, now) + 1, now)
        self._debts.move_to_end(address)
        while len(self._debts) > self._addresses:
            self._debts.popitem(last=False)

    def _debt(self, address: str, now: float) -> float:
        debt, at = self._debts.get(address, (0.0, now))
        return max(0.0, debt - (now - at) / self._pause_s)


class EnrolServer:
    """The office of the province in `folder`, in a thread of its own, on `host`:`port` (0: a free one).

    `names`: what devices call it by; its certificate is for them. `changed` is called when the revocation list is new.
    """

    def __init__(
        self,
        folder: Path,
        pki: Pki,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        changed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host, self.port = host, port
        self._folder, self._pki, self._names = folder, pki, names
        self._changed, self._clock = changed, clock
        self._limiter = Limiter()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="enrol-server", daemon=True)

    def start(self) -> None:
        """Listen; OSError when that is not possible."""
        self._thread.start()
        self._up.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Answer nobody any more. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    @property
    def url(self) -> str:
        """Where it is, by the first of its names."""
        return f"https://{self._names[0]}:{self.port}"

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001 - told to whoever started it
            self._failure = error
        finally:
            self._up.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._register = Register(self._folder, self._pki)
        self._register.write_crl(self._clock())
        app = web.Application(client_max_size=MOST)
        app.router.add_post("/enrol", self._enrol)
        app.router.add_post("/renew", self._renew)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=5.0, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, self.host, self.port, ssl_context=self._tls())
        try:
            await site.start()
            server: Any = site._server
            self.port = server.sockets[0].getsockname()[1]
            self._up.set()
            await self._stop.wait()
        finally:
            await runner.cleanup()
            self._register.close()

    def _tls(self) -> ssl.SSLContext:
        server = self._pki.server("enrol", list(self._names))
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(server.cert, server.key)
        made.load_verify_locations(self._pki.ca)
        made.verify_mode = ssl.CERT_OPTIONAL
        return made

    async def _enrol(self, request: web.Request) -> web.Response:
        def answer(body: dict[str, Any]) -> str:
            pem = self._register.enrol(
                _text(body, "device"), _text(body, "code"), _text(body, "csr"), body.get("station_key"), self._clock()
            )
            self._changed()
            return pem

        return await self._answer(request, answer)

    async def _renew(self, request: web.Request) -> web.Response:
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        present = tls.getpeercert(binary_form=True) if tls is not None else None

        def answer(body: dict[str, Any]) -> str:
            if present is None:
                raise RefusedError("bad-request")
            return self._register.renew(present, _text(body, "device"), _text(body, "csr"), self._clock())

        return await self._answer(request, answer)

    async def _answer(self, request: web.Request, answer: Callable[[dict[str, Any]], str]) -> web.Response:
        address, now = request.remote or "", time.monotonic()
        if not self._limiter.allows(address, now):
            return web.json_response({"reason": "rate-limited"}, status=429, headers={"Retry-After": "60"})
        try:
            pem = answer(_body(await request.json()))
        except (ValueError, RecursionError):
            return self._refuse(address, now, "bad-request")
        except RefusedError as error:
            log.warning("%s: refused: %s", address, error.reason)
            return self._refuse(address, now, error.reason)
        return web.json_response({"certificate": pem})

    def _refuse(self, address: str, now: float, reason: str) -> web.Response:
        self._limiter.failed(address, now)
        return web.json_response({"reason": reason}, status=STATUS[reason])


def _body(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RefusedError("bad-request")
    return given


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise RefusedError("bad-request")
    return value


def reloader(command: str | None) -> Callable[[], None]:
    """Runs `command` by the shell, to make the broker read its revocation list; what goes wrong is logged."""

    def run() -> None:
        if command is not None:
            done = subprocess.run(command, shell=True, check=False)  # noqa: S602 - the operator's own command line
            if done.returncode:
                log.error(
                    "%s ended with %d: the broker may still admit a revoked certificate", command, done.returncode
                )

    return run
