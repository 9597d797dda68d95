"""The state of each zone's line and of each cluster, gathered from whoever knows it. Pure.

A line that is open or shorted, and a cluster that went away, are alarms that end by themselves when it is mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from agent.model.config import Cluster, Zone
from agent.model.events import Alarm
from agent.model.health import ClusterSeen, Health, Line, SelfTest, Sensed

SENSED = ("line", "current_ma", "supply_v", "temperature_c")
"""Members of `Health` that only sensors tell."""
BROKEN = (Line.OPEN, Line.SHORT)


class HealthBook:
    """What is known now. `take` returns the alarms that begin or end with the news."""

    def __init__(self, zones: Sequence[Zone], clusters: Sequence[Cluster]) -> None:
        self.zones = {z.id: Health() for z in zones if z.kind == "sound"}
        self._clusters = {c.id: c for c in clusters}
        self._seen: dict[str, ClusterSeen] = {}

    def take(self, news: Sensed | ClusterSeen) -> list[Alarm]:
        """What is known anew. Of what this station does not have nothing is taken."""
        return list(self._reading(news) if isinstance(news, Sensed) else self._cluster(news))

    def tested(self, zone: str, test: SelfTest) -> None:
        """What a self-test found."""
        self.zones[zone] = msgspec.structs.replace(self.zones[zone], test=test)

    def unmeasured(self) -> list[Sensed]:
        """The news that of no zone any sensor tells anything."""
        return [Sensed(zone=zone, values=dict.fromkeys(SENSED)) for zone in self.zones]

    def cluster_rows(self, time: Callable[[float], str]) -> dict[str, dict[str, Any]]:
        """For the status: every configured cluster; of one that never reported nothing is claimed."""
        rows: dict[str, dict[str, Any]] = {}
        for cluster in self._clusters.values():
            seen = self._seen.get(cluster.id)
            row: dict[str, Any] = {"name": cluster.name, "hamlet": cluster.hamlet, "tags": cluster.tags}
            if cluster.zone is not None:
                row["zone"] = cluster.zone
            if seen is not None and seen.online is not None:
                row |= {"online": seen.online, "seen": time(seen.at)}
            rows[cluster.id] = row | health_row(Health() if seen is None else seen.health, time)
        return rows

    def _reading(self, sensed: Sensed) -> Iterator[Alarm]:
        before = self.zones.get(sensed.zone)
        if before is None:
            return
        values = msgspec.to_builtins(before) | sensed.values
        after = msgspec.convert({k: v for k, v in values.items() if v is not None}, Health)
        self.zones[sensed.zone] = after
        yield from _line_alarms(before.line, after.line, zone=sensed.zone)

    def _cluster(self, seen: ClusterSeen) -> Iterator[Alarm]:
        if seen.cluster not in self._clusters:
            return
        before = self._seen.get(seen.cluster)
        self._seen[seen.cluster] = seen
        line = Line.UNKNOWN if before is None else before.health.line
        yield from _line_alarms(line, seen.health.line, cluster=seen.cluster)
        was_lost = before is not None and before.online is False
        if (seen.online is False) != was_lost:
            detail = "the cluster does not report" if not was_lost else ""
            yield Alarm("cluster-lost", detail, on=not was_lost, cluster=seen.cluster)


def health_row(health: Health, time: Callable[[float], str]) -> dict[str, Any]:
    """For the status: what is known, the line always."""
    row: dict[str, Any] = {"line": health.line.value, **msgspec.to_builtins(health)}
    if health.test is not None:
        row["test"]["at"] = time(health.test.at)
    return row


def _line_alarms(before: Line, after: Line, *, zone: str | None = None, cluster: str | None = None) -> Iterator[Alarm]:
    """The end of the former state of a line and the beginning of the new one."""
    if before is after:
        return
    if before in BROKEN:
        yield Alarm(f"line-{before.value}", "", zone, on=False, cluster=cluster)
    if after in BROKEN:
        yield Alarm(f"line-{after.value}", f"the loudspeaker line is {after.value}", zone, cluster=cluster)
