from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.core.health import HealthBook
from agent.model.config import Cluster
from agent.model.events import Alarm
from agent.model.health import ClusterSeen, Health, Line, SelfTest, Sensed, Verdict
from tests.unit.voice.rig import station


def book() -> HealthBook:
    return HealthBook(station([{"id": "a"}, {"id": "b"}]).zones, [Cluster(id="cum-1", hamlet="Ấp 1", zone="a")])


def stamp(at: float) -> str:
    return f"t{at:.0f}"


def test_nothing_is_claimed_of_what_nobody_tells() -> None:
    rows = book().cluster_rows(stamp)
    assert rows == {"cum-1": {"name": "", "hamlet": "Ấp 1", "tags": [], "zone": "a", "line": "unknown"}}


def test_a_line_fault_is_an_alarm_that_ends_when_the_line_is_mended() -> None:
    lines = book()
    assert lines.take(Sensed(zone="a", values={"line": "normal", "current_ma": 31.0})) == []
    (begun,) = lines.take(Sensed(zone="a", values={"line": "open"}))
    assert (begun.what, begun.zone, begun.on) == ("line-open", "a", True)
    assert lines.take(Sensed(zone="a", values={"line": "open"})) == []
    over, begun = lines.take(Sensed(zone="a", values={"line": "short"}))
    assert (over.what, over.on, begun.what) == ("line-open", False, "line-short")
    assert lines.take(Sensed(zone="a", values={"line": "normal"})) == [Alarm("line-short", "", "a", on=False)]
    assert lines.zones["a"].current_ma == 31.0
    assert lines.zones["b"].line is Line.UNKNOWN


def test_a_value_that_can_no_longer_be_told_is_absent() -> None:
    lines = book()
    lines.take(Sensed(zone="a", values={"temperature_c": 41.5, "line": "open"}))
    assert lines.take(Sensed(zone="a", values={"temperature_c": None, "line": None})) == [
        Alarm("line-open", "", "a", on=False)
    ]
    assert lines.zones["a"] == Health()


@pytest.mark.parametrize("values", [{"line": "melted"}, {"temperature_c": "hot"}, {"amplifier": 1}])
def test_what_is_no_value_is_refused_and_changes_nothing(values: dict[str, Any]) -> None:
    lines = book()
    with pytest.raises(msgspec.ValidationError):
        lines.take(Sensed(zone="a", values=values))
    assert lines.zones["a"] == Health()


def test_a_cluster_that_goes_away_and_comes_back() -> None:
    clusters = book()
    clusters.take(ClusterSeen(cluster="cum-1", online=True, at=10, health=Health(line=Line.NORMAL, volume_db=-3)))
    assert (
        clusters.cluster_rows(stamp)["cum-1"] | {"online": True, "seen": "t10", "line": "normal"}
        == (clusters.cluster_rows(stamp)["cum-1"])
    )
    (lost,) = clusters.take(ClusterSeen(cluster="cum-1", online=False, at=10))
    assert (lost.what, lost.cluster, lost.on) == ("cluster-lost", "cum-1", True)
    (back,) = clusters.take(ClusterSeen(cluster="cum-1", online=True, at=99))
    assert (back.what, back.on) == ("cluster-lost", False)


def test_what_the_station_does_not_have_is_passed_over() -> None:
    assert book().take(Sensed(zone="nowhere", values={"line": "open"})) == []
    assert book().take(ClusterSeen(cluster="nobody", online=False, at=1)) == []


def test_a_self_test_stands_with_its_number_and_verdict() -> None:
    lines = book()
    lines.tested("a", SelfTest(at=7, verdict=Verdict.SILENT, level_db=0.4))
    from agent.core.health import health_row

    assert health_row(lines.zones["a"], stamp) == {
        "line": "unknown",
        "test": {"at": "t7", "verdict": "silent", "level_db": 0.4},
    }
