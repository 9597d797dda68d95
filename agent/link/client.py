"""The link to the source system over MQTT 5 (CONTRACT section 3): `agent.ports.Link` on paho-mqtt.

One thread owns everything: it resolves, connects, reads, writes and waits. The owner's calls only leave a note and
wake it. What outlives a connection is kept here; a connection itself is `agent.link.connection`.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from paho.mqtt import client as mqtt

from agent.link.connection import Connection, Held
from agent.link.reasons import explain
from agent.link.settings import Backoff, Settings
from agent.model.events import LinkDown
from agent.model.records import PutOut
from agent.ports import Inbox

log = logging.getLogger("tram.link")

_RECHECK = "reconnecting, to check the dates of the source's certificate now that the clock is trusted"


class MqttLink:
    """`agent.ports.Link`. Posts LinkUp, LinkDown, OrderArrived and OutTaken to `inbox`.

    `next_birth` is called in the link's thread after TLS is up and before CONNECT; it returns a number never used
    before and already on the disk (`agent.link.birth`). If it raises OSError the link goes on with the last number
    plus one, and logs: a failed disk must not silence an emergency.
    `clock_trusted`: while False, the source's certificate is verified but for its dates.
    Orders that the broker had queued may arrive before LinkUp. LinkDown comes when a connection ends, and for failed
    attempts when the reason changes.
    """

    def __init__(
        self,
        settings: Settings,
        inbox: Inbox,
        next_birth: Callable[[], int],
        *,
        clock_trusted: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self.settings = settings
        self._inbox = inbox
        self._backoff = backoff or Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._notes: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._stopping = False
        # From here on only the link's thread reads and writes.
        self._trusted = clock_trusted
        self._held = Held(next_birth, settings.settle_s)
        self._connection: Connection | None = None
        self._last_reason: str | None = None

    # The owner's side: callable from any thread, returns at once.

    def start(self) -> None:
        """Begin to connect, and go on for ever with jittered back-off."""
        if self._thread is not None:
            raise RuntimeError("the link was started before")
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Publish the offline state and disconnect; returns within `timeout_s`, whatever the network does."""
        self._stopping = True
        self._note(lambda: None)
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("the link was still connecting when it was stopped")

    def acknowledge(self, token: int) -> None:
        """The order of this token is recorded. A token of an earlier connection is ignored: the order comes again."""
        self._note(lambda: self._with_connection(lambda c: c.acknowledge(token)))

    def offer(self, rows: Sequence[PutOut]) -> None:
        """Rows for the broker, in order. Each is kept until the broker has it, over any number of connections."""
        self._note(lambda: self._take(rows))

    def publish_state(self, body: bytes) -> None:
        """Publish the retained state now and on each later connection.

        `body` is a JSON object; its `device`, `online` and `birth` are set here. The same object is the Will of
        later connections. msgspec.DecodeError when `body` is not one.
        """
        msgspec.json.decode(body, type=dict[str, Any])
        self._note(lambda: self._held.retain("state", body))

    def publish_status(self, body: bytes) -> None:
        """Publish the retained status; without a connection the newest waits for the next one."""
        self._note(lambda: self._held.retain("status", body))

    def publish_beat(self, body: bytes) -> None:
        """Publish a beat; dropped when not connected, or when the network has not taken the last one yet."""
        self._note(lambda: self._with_connection(lambda c: c.beat(body)))

    def set_clock_trusted(self, trusted: bool) -> None:
        """Tell the link what the clock is worth. When it becomes trusted, reconnect once to check the dates too."""
        self._note(lambda: self._set_trusted(trusted))

    def _note(self, what: Callable[[], None]) -> None:
        self._notes.append(what)
        os.eventfd_write(self._wake, 1)

    # The link's thread.

    def _run(self) -> None:
        while not self._stopping:
            reason = self._connect_once()
            if not self._stopping and reason != _RECHECK:
                again_at = time.monotonic() + self._backoff.next()
                while not self._stopping and (left := again_at - time.monotonic()) > 0:
                    self._wait(None, left)

    def _connect_once(self) -> str:
        """One connection from beginning to end; returns why it ended."""
        started = time.monotonic()
        connection: Connection | None = None
        try:
            self._do_notes()
            connection = self._connection = Connection(
                self.settings,
                self._held,
                self._inbox,
                self._wait,
                lambda: self._stopping,
                check_dates=self._trusted,
            )
            reason = connection.run()
        except OSError as error:
            reason = explain(error, self.settings.host, self.settings.port, self.settings.section)
        except Exception as error:
            log.exception("the link failed")
            reason = explain(error, self.settings.host, self.settings.port, self.settings.section)
        self._connection = None
        was_up = connection is not None and connection.up
        if connection is not None:
            connection.close()
        if was_up:
            self._held.lost_at = time.monotonic()
            self._held.revive()
            if self._held.lost_at - started >= self.settings.stable_s:
                self._backoff.reset()
        if was_up or reason != self._last_reason:
            log.info("link down: %s", reason)
            self._inbox(LinkDown(reason))
        self._last_reason = None if was_up else reason
        return reason

    def _wait(self, sock: mqtt.SocketLike | None, timeout_s: float, *, write: bool = False) -> bool:
        """Sleep until the socket or the owner wants something, do what the owner asked; True: the socket is ready."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if sock is not None:
            poll.register(sock.fileno(), select.POLLIN | (select.POLLOUT if write else 0))
        ready = {fd for fd, _ in poll.poll(math.ceil(max(0.0, timeout_s) * 1000))}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        self._do_notes()
        return bool(ready - {self._wake})

    def _do_notes(self) -> None:
        while self._notes:
            self._notes.popleft()()

    def _with_connection(self, what: Callable[[Connection], None]) -> None:
        if self._connection is not None:
            what(self._connection)

    def _take(self, rows: Iterable[PutOut]) -> None:
        for row in rows:
            if row.seq not in self._held.rows:
                self._held.rows[row.seq] = row
                if self._connection:
                    self._connection.waiting.append(row)

    def _set_trusted(self, trusted: bool) -> None:
        self._trusted = trusted
        if trusted and self._connection and not self._connection.check_dates:
            self._connection.leave(_RECHECK)
