"""The fetcher: a child process that downloads, alive only while there is something to do.

`python -m agent.store.fetcher` reads JSON lines: first the settings `{"allowed_hosts", "ca", "idle_s",
"connect_timeout_s", "read_timeout_s", "window_s", "parent"}`, then jobs `{"job": N, "sha256", "size", "url", "path"}`
and `{"cancel": N}`. It answers each job with one line `{"job": N, "code", "detail", "final", "got"}`: code "done", or
what went wrong (`FetchError`); `got` bytes are new. The file is fetched into `path` + ".part", which survives every
failure that more bytes could mend, and renamed when size and SHA-256 are right. End of stdin ends the process at once.

`python -m agent.store.fetcher --stream URL …` writes a live stream's bytes to stdout (tiếp âm); `local:NAME` is what an
officer says live at the parent station, `--parent`, and at no other. It ends with 0 when the
listener went away, else with a code of `EXIT` and `{"code", "detail", "final"}` as the last line of stderr.

What may be fetched (CONTRACT section 4): https; a host that `allowed_hosts` names, "host" for the default port or
"host:port"; each redirect is checked the same. A resolved address must be a public one, unless that address itself (or
"localhost" for this machine) is on the list: what is checked is the very address that is connected to. The parent
station, `"parent": {"url", "ca", "cert", "key"}`, is exempt: it is asked with the device's certificate, at any address.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import ipaddress
import json
import os
import queue
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from agent.model.talk import LOCAL, OVER
from agent.store.files import sync_folder

BLOCK = 64 * 1024
REDIRECTS = 5
WINDOW_BYTES = 16 * 1024
"""A download that brings less than this in a window (60 s) is given up, to be resumed later."""
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "tram"}
EXIT = {"host": 3, "address": 3, "redirect": 3, "http": 4, "tls": 4, "broken": 4, "slow": 5, "ended": OVER}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FetchError(Exception):
    """A download that did not succeed.

    `code`: host, address, redirect, size, hash (all final: asking again will not help), http, tls, broken, slow,
    encoding, disk-full, disk, cancelled.
    """

    def __init__(self, code: str, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.final = final


class _Interrupted(BaseException):
    """Raised by the alarm inside whatever blocks; BaseException, so that no library takes it for its own error."""


class Policy:
    """Which URLs and addresses may be used.

    `own`: a URL of the station's own configuration (a relay source): its host counts as listed, at any address, and
    may be plain http. `parent`: where a cluster's station has its library, at any address.
    """

    def __init__(self, allowed_hosts: list[str], own: str | None = None, parent: str | None = None) -> None:
        self._hosts = {_listed(host) for host in allowed_hosts}
        self._names = {host for host, _ in self._hosts}
        self._own = None if own is None else _plain_host(urlsplit(own).hostname or "")
        self._parent = None if parent is None else _host_port(parent)

    def check_url(self, url: str) -> None:
        """Raise FetchError unless the URL's scheme and host are allowed."""
        try:
            parts = urlsplit(url)
            host, port = _host_port(url)
            secret = parts.username is not None or parts.password is not None
        except ValueError as error:
            raise FetchError("host", f"{url!r} is no web address: {error}", final=True) from error
        if self._is_own(host) and parts.scheme in {"http", "https"}:
            return
        if parts.scheme != "https":
            raise FetchError("host", f"{url} is not https", final=True)
        if secret:
            raise FetchError("host", f"{host}: an address with a password in it is refused", final=True)
        self.check_host(host, port)

    def check_host(self, host: str, port: int) -> None:
        """Raise FetchError unless the host is listed with this port, or is the source's own."""
        host = _plain_host(host)
        if (host, port) not in self._hosts and (host, port) != self._parent and not self._is_own(host):
            name = host if port == 443 else f"{host}:{port}"
            raise FetchError("host", f"the host {name} is not listed in content.allowed_hosts", final=True)

    def allows(self, host: str, address: str) -> bool:
        """Whether `host` may be connected to at the resolved `address`."""
        ip = _unwrapped(address)
        if ip.is_global and not ip.is_multicast:
            return True
        if str(ip) in self._names or address in self._names or (ip.is_loopback and "localhost" in self._names):
            return True
        host = _plain_host(host)
        return self._is_own(host) or (self._parent is not None and host == self._parent[0])

    def _is_own(self, host: str) -> bool:
        return self._own is not None and host == self._own


def _plain_host(host: str) -> str:
    host = host.rstrip(".").lower()
    return host if host.isascii() else host.encode("idna").decode()


def _listed(entry: str) -> tuple[str, int]:
    """An entry of `allowed_hosts`: host, host:port, an IPv6 address with or without brackets. Raises FetchError."""
    try:
        return _host_port(f"https://[{entry}]" if entry.count(":") > 1 and "[" not in entry else f"https://{entry}")
    except ValueError as error:
        raise FetchError("host", f"content.allowed_hosts: {entry!r} is no host: {error}", final=True) from error


def _host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    return _plain_host(parts.hostname), parts.port or {"http": 80}.get(parts.scheme, 443)


def _unwrapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that is really meant: IPv4 inside IPv6 (mapped, 6to4, NAT64) taken out."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def _connect(policy: Policy, host: str, port: int, timeout: float | None) -> socket.socket:
    """Resolve, check, and connect to the checked address itself: no second look-up can change it.

    The host is checked again, as the HTTP library understood the URL.
    """
    policy.check_host(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("broken", f"{host} cannot be found: {error}") from error
    allowed = [entry for entry in found if policy.allows(host, str(entry[4][0]))]
    if not allowed:
        private = found[0][4][0]
        raise FetchError(
            "address",
            f"{host} leads to the private address {private}; list {private} in content.allowed_hosts if it is meant",
            final=True,
        )
    reason = ""
    for family, kind, protocol, _, address in allowed:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            reason = error.strerror or str(error)
        else:
            return connection
    raise FetchError("broken", f"{host}:{port} cannot be reached: {reason}")


class _Adapter(HTTPAdapter):
    """Requests' transport, with connections that check where they go."""

    def __init__(self, policy: Policy, ca: str | None, identity: tuple[str, str] | None = None) -> None:
        self._policy = policy
        self._ca = ca
        self._identity = identity
        super().__init__(max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Requests' hook for the connection pool."""
        policy = self._policy
        context = ssl.create_default_context()
        if self._ca is not None:
            context.load_verify_locations(self._ca)
        if self._identity is not None:
            context.load_cert_chain(*self._identity)

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(policy, self.host, self.port, _seconds(self.timeout))

            def connect(self) -> None:
                super().connect()
                _confirm(policy, self)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(policy, self.host, self.port, _seconds(self.timeout))

            def connect(self) -> None:
                super().connect()
                _confirm(policy, self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        super().init_poolmanager(connections, maxsize, block, ssl_context=context, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _seconds(timeout: object) -> float | None:
    return float(timeout) if isinstance(timeout, (int, float)) else None


def _confirm(policy: Policy, connection: HTTPConnection) -> None:
    """Before a request is sent: the peer is an allowed address, however the connection came about."""
    if connection.sock is None or not policy.allows(connection.host, connection.sock.getpeername()[0]):
        connection.close()
        raise FetchError("address", f"{connection.host} is connected to an address that is not allowed", final=True)


class Web:
    """GET and PUT with the policy applied to every step."""

    def __init__(
        self,
        policy: Policy,
        ca: str | None,
        connect_timeout_s: float,
        read_timeout_s: float,
        parent: dict[str, str] | None = None,
    ) -> None:
        self._policy = policy
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy or .netrc would go around the policy
        try:
            adapter = _Adapter(policy, ca)
        except (OSError, ssl.SSLError) as error:
            raise FetchError("tls", f"content.ca {ca} cannot be used: {error}") from error
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        if parent is not None:
            try:
                known = _Adapter(policy, parent["ca"], (parent["cert"], parent["key"]))
            except (OSError, ssl.SSLError):
                return  # the link to the parent says what is wrong with them; other sources go on
            self._session.mount(f"{parent['url']}/", known)

    @contextmanager
    def get(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The response to a GET after at most five checked redirects. Raises FetchError."""
        for _ in range(REDIRECTS + 1):
            self._policy.check_url(url)
            with self._once("GET", url, headers) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = urljoin(url, response.headers["Location"])
        raise FetchError("redirect", f"more than {REDIRECTS} redirects", final=True)

    def put(self, url: str, body: bytes, type_: str) -> None:
        """Put a whole body there; a redirect is not followed. Raises FetchError."""
        self._policy.check_url(url)
        with self._once("PUT", url, {"Content-Type": type_}, body) as response:
            if response.status_code not in {200, 201, 204}:
                final = 300 <= response.status_code < 500 and response.status_code not in {408, 429}
                told = f"{urlsplit(url).netloc}: the server answers {response.status_code} {response.reason}"
                raise FetchError("http", told, final=final)

    @contextmanager
    def _once(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> Iterator[requests.Response]:
        try:
            with self._session.request(
                method,
                url,
                headers=HEADERS | headers,
                data=body,
                stream=True,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                yield response
        except requests.exceptions.SSLError as error:
            raise FetchError("tls", f"no trusted connection to {urlsplit(url).netloc}: {_root(error)}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise FetchError("broken", f"{urlsplit(url).netloc}: {_root(error)}") from error


def _root(error: BaseException) -> str:
    """The innermost reason of a nest of exceptions."""
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException) and inner is not error:
            return _root(inner)
    return str(error) or type(error).__name__


class Fetcher:
    """Carries out jobs one after the other, on the main thread, where `alarm` (SIGALRM) can interrupt what blocks."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._window_s = float(settings["window_s"])
        self._web: Web | None = None
        self._job = 0
        self._got = self._window_start = 0
        self._armed = self._waiting = False
        self.cancelled: set[int] = set()

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """One job, to its answer."""
        self._job, self._got = int(job["job"]), 0
        code, detail, final = "done", "", False
        try:
            self._armed = True
            self._fetch(str(job["url"]), str(job["path"]), str(job["sha256"]), int(job["size"]))
            self._armed = False
        except FetchError as refusal:
            self._armed = False
            code, detail, final = refusal.code, refusal.detail, refusal.final
        except _Interrupted:
            if self._job in self.cancelled:
                code, detail = "cancelled", "other work is more urgent, or it is no longer wanted"
            else:
                code, detail = "slow", f"fewer than {WINDOW_BYTES} bytes came in {self._window_s:g} s"
        except OSError as error:
            self._armed = False
            code = "disk-full" if error.errno in _NO_ROOM else "disk"
            detail = f"{job['path']} cannot be written: {error.strerror or error}"
        return {"job": self._job, "code": code, "detail": detail, "final": final, "got": self._got}

    def alarm(self) -> None:
        """End the job if it was cancelled, or brought too little since the last alarm."""
        if not self._armed:
            return
        progress, self._window_start = self._got - self._window_start, self._got
        if self._job in self.cancelled or (self._waiting and progress < WINDOW_BYTES):
            self._armed = False
            raise _Interrupted

    def _fetch(self, url: str, path: str, sha256: str, size: int) -> None:
        if os.path.exists(path):  # the former attempt was interrupted after the rename
            return
        part = f"{path}.part"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "a+b") as file:
            at = os.fstat(file.fileno()).st_size
            if at > size:
                file.truncate(at := 0)
            fresh, hasher = at == 0, _hash(file, at)
            while True:
                if at < size:
                    fresh, hasher = self._download(url, file, hasher, at, size)
                if hasher.hexdigest() == sha256:
                    break
                file.truncate(0)
                if fresh:
                    os.unlink(part)
                    raise FetchError("hash", f"{url} holds other bytes than the order says (SHA-256)", final=True)
                # what was there before may be what is wrong: once more from the start
                at, fresh, hasher = 0, True, hashlib.sha256()
            self._armed = False
            file.flush()
            os.fsync(file.fileno())
            os.rename(part, path)
        sync_folder(os.path.dirname(path))

    def _open(self) -> Web:
        if self._web is None:
            s, parent = self._settings, self._settings.get("parent")
            policy = Policy(s["allowed_hosts"], parent=None if parent is None else parent["url"])
            self._web = Web(policy, s["ca"], s["connect_timeout_s"], s["read_timeout_s"], parent)
        return self._web

    def _download(
        self, url: str, file: BinaryIO, hasher: hashlib._Hash, at: int, size: int
    ) -> tuple[bool, hashlib._Hash]:
        """Append what is missing from byte `at`. Returns whether all came from this download, and the whole's hash."""
        self._window_start, self._waiting = self._got, True
        signal.setitimer(signal.ITIMER_REAL, self._window_s, self._window_s)
        try:
            headers = {"Range": f"bytes={at}-"} if at else {}
            with self._open().get(url, headers) as response:
                if at and not _continues(response, at, size):
                    if response.status_code in {206, 416}:  # another file, or a server that counts otherwise
                        file.truncate(0)
                        return self._download(url, file, hashlib.sha256(), 0, size)
                    if response.status_code == 200:  # a server without Range sends all of it again
                        file.truncate(at := 0)
                        hasher = hashlib.sha256()
                fresh = at == 0
                _check_response(response, url, size - at)
                while block := response.raw.read1(BLOCK, decode_content=False):
                    at += len(block)
                    self._got += len(block)
                    if at > size:
                        file.truncate(0)
                        raise FetchError("size", f"{url} is larger than the {size} bytes of the order", final=True)
                    file.write(block)
                    hasher.update(block)
                if at < size:
                    raise FetchError("broken", f"{url} ended after {at} of {size} bytes")
                return fresh, hasher
        finally:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)


def _hash(file: BinaryIO, count: int) -> hashlib._Hash:
    hasher = hashlib.sha256()
    file.seek(0)
    while count and (block := file.read(min(BLOCK, count))):
        hasher.update(block)
        count -= len(block)
    file.seek(0, os.SEEK_END)
    return hasher


def _continues(response: requests.Response, at: int, size: int) -> bool:
    told = response.headers.get("Content-Range", "")
    return response.status_code == 206 and told in {f"bytes {at}-{size - 1}/{size}", f"bytes {at}-{size - 1}/*"}


def _check_response(response: requests.Response, url: str, missing: int) -> None:
    if response.status_code not in {200, 206}:
        raise FetchError("http", f"{url}: the server answers {response.status_code} {response.reason}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise FetchError("encoding", f"{url}: the server sends it encoded as {encoding}")
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdecimal() and int(length) != missing:
        raise FetchError(
            "size", f"{url} has not the size that the order says ({length}, not {missing} bytes)", final=True
        )


def serve(source: io.RawIOBase, sink: BinaryIO) -> int:
    """Carry out jobs until there has been none for `idle_s`."""
    settings = json.loads(source.readline() or b"null")
    if settings is None:
        return 0
    fetcher = Fetcher(settings)
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: fetcher.alarm())
    owner = threading.get_ident()

    def listen() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        for line in source:
            message = json.loads(line)
            if "cancel" not in message:
                jobs.put(message)
            else:
                fetcher.cancelled.add(message["cancel"])
                signal.pthread_kill(owner, signal.SIGALRM)
        os._exit(0)  # whoever wanted it is gone; what came so far is kept

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            job = jobs.get(timeout=settings["idle_s"])
        except queue.Empty:
            return 0
        sink.write(json.dumps(fetcher.run(job)).encode() + b"\n")
        sink.flush()


def stream(options: argparse.Namespace) -> int:
    """Copy a live stream to stdout until either side ends."""
    try:
        _relay(options)
    except BrokenPipeError:
        return 0
    except FetchError as error:
        told = {"code": error.code, "detail": error.detail, "final": error.final}
        print(json.dumps(told, ensure_ascii=False), file=sys.stderr, flush=True)
        return EXIT[error.code]
    return 0


def _relay(options: argparse.Namespace) -> None:
    url, parent = options.stream, None
    policy = Policy(options.allow, own=url if url in options.source else None)
    if url.startswith(LOCAL):
        if options.parent is None:
            raise FetchError("host", f"{url}: there is no parent station whose library has it", final=True)
        parent = dict(zip(("url", "ca", "cert", "key"), options.parent, strict=True))
        policy = Policy([], parent=parent["url"])
        url = f"{parent['url']}/talk/{quote(url.removeprefix(LOCAL), safe='')}"
    with Web(policy, options.ca, options.connect_timeout, options.read_timeout, parent).get(url, {}) as response:
        if response.status_code != 200:
            raise FetchError("http", f"{url}: the server answers {response.status_code} {response.reason}")
        while block := response.raw.read1(BLOCK, decode_content=False):
            _pass_on(block)
    raise FetchError("ended", f"{url} ended")


def _pass_on(block: bytes) -> None:
    while block:
        block = block[os.write(1, block) :]


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the child."""
    parser = argparse.ArgumentParser(prog="python -m agent.store.fetcher")
    parser.add_argument("--stream", metavar="URL", help="write a live stream to stdout instead of serving jobs")
    parser.add_argument(
        "--source", action="append", default=[], metavar="URL", help="a relay source of this station's own"
    )
    parser.add_argument("--allow", action="append", default=[], metavar="HOST[:PORT]")
    parser.add_argument("--parent", nargs=4, metavar=("URL", "CA", "CERT", "KEY"), help="the station's library")
    parser.add_argument("--ca", help="PEM file of further trusted CAs")
    parser.add_argument("--connect-timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--read-timeout", type=float, default=20.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    if options.stream is not None:
        return stream(options)
    # unbuffered: a thread that waits in a buffered stdin would make the interpreter abort at its end
    with open(0, "rb", buffering=0, closefd=False) as source:
        return serve(source, sys.stdout.buffer)


if __name__ == "__main__":
    raise SystemExit(main())
