"""Feeds the record from the broker, for as long as it runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.link import topics
from province.alerts import Alerts, alert_of
from province.publish import Access, Connection
from province.record import Alarm, Journal, Message, Record, Taken

FILTER = f"{topics.ROOT}/dev/+/"
ORDERS = [topics.ROOT + "/dev/+/order", topics.ROOT + "/group/+/order"]


class Watcher:
    """Reads everything that devices write, into a Record and, if given, its Journal; and the alerts sent to them.

    With a journal the broker's session is kept for a week under `client_id`, and a message is acknowledged to the
    broker after it is on the disk: nothing is lost when the watcher is off. One watcher per journal.
    `hear` is called for each message that was new and for alarms, in the watcher's thread.
    """

    def __init__(
        self,
        access: Access,
        record: Record,
        journal: Journal | None = None,
        *,
        client_id: str | None = None,
        hear: Callable[[Taken], None] | None = None,
    ) -> None:
        self.record = record
        self.alerts = Alerts()
        self.changed = threading.Condition()
        """Hold it to read the record; notified at each change."""
        self._journal = journal
        self._hear = hear
        self._stop = threading.Event()
        self._connection = Connection(
            access,
            client_id or ("watcher-record" if journal else f"watcher-{os.getpid()}-{os.urandom(4).hex()}"),
            subscribe=[*(FILTER + leaf for leaf in topics.UP), *ORDERS],
            on_messages=self._take,
            keep_s=7 * 86400 if journal else 0,
        )
        self._clock = threading.Thread(target=self._tick, name="watcher-clock", daemon=True)

    def start(self, timeout_s: float = 15.0) -> None:
        """Connect; LinkError when the broker does not answer. Afterwards it reconnects by itself."""
        self._connection.open(timeout_s)
        self._clock.start()

    def stop(self) -> None:
        """Disconnect and close the journal. May be called twice."""
        self._stop.set()
        self._connection.close()
        if self._clock.is_alive():
            self._clock.join(5.0)
        journal, self._journal = self._journal, None
        if journal is not None and self.failure is None:
            journal.close()

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def up(self) -> bool:
        """Whether the broker is there now."""
        return self._connection.up

    @property
    def failure(self) -> str | None:
        """Why it has stopped taking messages (the journal's disk), None while all is well."""
        return self._connection.failure

    def wait_for(self, condition: Callable[[Record], bool], timeout_s: float) -> bool:
        """Wait until the record satisfies the condition; False when the time is over first."""
        with self.changed:
            return self.changed.wait_for(lambda: condition(self.record), timeout_s)

    def export(self) -> dict[str, Any]:
        """The record's export, of one moment."""
        with self.changed:
            return self.record.export()

    def _take(self, messages: list[Message]) -> None:
        news: list[Taken] = []
        with self.changed:
            for message in messages:
                alert = alert_of(message.topic, message.payload, message.at)
                if alert is not None:
                    self.alerts.take(alert)
                    if self._journal is not None:
                        self._journal.keep(message)
                    continue
                taken = self.record.take(message)
                if self._journal is not None:
                    self._journal.write(message, taken, self.record)
                if taken.new or taken.alarms:
                    news.append(taken)
            if self._journal is not None:
                self._journal.commit()
            self.changed.notify_all()
        self._tell(news)

    def _tick(self) -> None:
        while not self._stop.wait(min(1.0, self.record.period_s / 4)):
            with self.changed:
                alarms: list[Alarm] = self.record.tick(time.time())
                if self._journal is not None and alarms:
                    self._journal.note(alarms)
                    self._journal.commit()
                if alarms:
                    self.changed.notify_all()
            self._tell([Taken(a.device, None, None, new=False, alarms=[a]) for a in alarms])

    def _tell(self, news: list[Taken]) -> None:
        for taken in news if self._hear else ():
            if self._hear:
                self._hear(taken)
