"""The reference broker: Mosquitto with a configuration of its own, made for a run, a test or a training station.

Who a client is, is the name in its certificate; what it may do is written per name (CONTRACT section 3). Mosquitto
does not tie the MQTT client id to that name: a holder of a valid certificate can disturb another device's connection
by using its client id. It cannot read that device's orders, and nothing it does can sound.
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.link import mosquitto, topics
from province.pki import Pki


class BrokerError(RuntimeError):
    """The broker cannot run; the message says why and what helps."""


def acl(devices: Mapping[str, Sequence[str]], clusters: Mapping[str, Sequence[str]] | None = None) -> str:
    """Mosquitto's access list for devices and their groups (without `all`, which everyone belongs to).

    `clusters`: station → the clusters and boards on its own link, for which it reads and writes.
    """
    lines = ["user watcher", f"topic read {topics.ROOT}/#", "", "user publisher", f"topic read {topics.ROOT}/#"]
    for kind in ("dev", "group"):
        lines += [f"topic write {topics.ROOT}/{kind}/+/order", f"topic write {topics.ROOT}/{kind}/+/desired/+/+"]
    lines += mosquitto.device_access(devices, clusters)
    return "\n".join(lines) + "\n"


class Broker:
    """A Mosquitto process in `folder`, on `host` with TLS. Its persistence survives `kill` and `stop`.

    `devices` maps device ids to their groups, `clusters` stations to the devices on their own links. `port` None takes
    a free one, which stays the same over restarts.
    What was queued or retained less than about `save_every_s` before a `kill` may be lost: Mosquitto saves all of
    its state at that interval and when it is stopped.
    """

    def __init__(
        self,
        folder: Path,
        pki: Pki,
        devices: Mapping[str, Sequence[str]],
        *,
        clusters: Mapping[str, Sequence[str]] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        max_queued: int = 20_000,
        max_packet_bytes: int = 2**20,
        save_every_s: int = 1,
        start_timeout_s: float = 10.0,
    ) -> None:
        self.dir = folder
        self.host = host
        self.port = port or 0
        self._pki = pki
        self._devices = devices
        self._clusters = clusters
        self._max_queued = max_queued
        self._max_packet_bytes = max_packet_bytes
        self._save_every_s = save_every_s
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None when it does not run."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What Mosquitto has said, over all its starts."""
        path = self.dir / "mosquitto.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> None:
        """Start and wait until TLS connections are accepted. Does nothing when it runs. BrokerError when it cannot."""
        if self.running:
            return
        program = _program()
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.port = _free_port(self.host, self.port)
        except OSError as error:
            raise BrokerError(f"{self.host}:{self.port} cannot be listened on: {error.strerror}") from error
        self._write_configuration()
        if not self._launch(program):
            raise BrokerError(f"mosquitto did not start: {self._last_words() or 'it said nothing'}")

    def stop(self) -> None:
        """Stop it in order, saving its state."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) and start again on the same port, with what it had kept."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def allow(self, devices: Mapping[str, Sequence[str]]) -> None:
        """Replace the devices; a running broker reads the new access list at once."""
        self._devices = devices
        self._write_configuration()
        if self.running and self._process:
            self._process.send_signal(signal.SIGHUP)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _launch(self, program: str) -> bool:
        """Start the process; True when it accepts TLS, False when it ended."""
        with (self.dir / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self.dir / mosquitto.CONFIGURATION)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return False
            if self._accepts():
                return True
            time.sleep(0.02)
        self._end(signal.SIGKILL)
        raise BrokerError(f"mosquitto does not accept connections on {self.host}:{self.port}: {self._last_words()}")

    def _accepts(self) -> bool:
        watcher = self._pki.identity("watcher")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # An expired broker certificate is a case under test; here only "does it answer" is asked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(watcher.cert, watcher.key)
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=1.0) as plain,
                context.wrap_socket(plain, server_hostname=self.host),
            ):
                return True
        except OSError:
            return False

    def _last_words(self) -> str:
        return " / ".join(line for line in self.log.splitlines()[-20:] if "rror" in line)

    def _write_configuration(self) -> None:
        server = self._pki.identity("broker")
        mosquitto.write(
            self.dir,
            acl(self._devices, self._clusters),
            mosquitto.Listener(
                host=self.host,
                port=self.port,
                ca=str(self._pki.ca),
                cert=str(server.cert),
                key=str(server.key),
                crl=str(self._pki.crl),
            ),
            settings=[
                "log_timestamp_format %Y-%m-%dT%H:%M:%S",
                "persistence true",
                f"persistence_location {self.dir}/",
                f"autosave_interval {self._save_every_s}",
                "persistent_client_expiration 30d",
                f"max_queued_messages {self._max_queued}",
                # Without this bound an event is on its way to the watcher as soon as the broker has acknowledged it.
                "max_inflight_messages 0",
            ],
            max_packet_bytes=self._max_packet_bytes,
        )


def _program() -> str:
    found = mosquitto.program()
    if found is None:
        raise BrokerError("mosquitto is not installed (Debian: apt install mosquitto)")
    return found


def _free_port(host: str, wanted: int) -> int:
    """`wanted` if it is free, any free one for 0; OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, wanted))
        port: int = probe.getsockname()[1]
        return port
