"""The form of a benchmark's row, and what its figures mean."""

from __future__ import annotations

import json

import msgspec
import pytest

from province.bench.rows import row, table
from province.bench.table import BENCHMARKS

KEYS = ["name", "unit", "n", "median", "p99", "min", "max", "target", "peer", "note"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_row_has_exactly_the_contracts_members(name: str) -> None:
    encoded = json.loads(msgspec.json.encode(row(name, [1.0, 2.0, 3.0], "how")))
    assert list(encoded) == KEYS
    assert (encoded["n"], encoded["median"], encoded["min"], encoded["max"]) == (3, 2.0, 1.0, 3.0)
    assert encoded["target"] == BENCHMARKS[name].bound
    assert encoded["peer"] is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 1), (2, 2), (99, 99), (100, 99), (101, 100), (200, 198), (1000, 990)],
)
def test_p99_is_the_nearest_rank(count: int, expected: int) -> None:
    assert row("ready_s", [float(v) for v in range(1, count + 1)]).p99 == expected


@pytest.mark.parametrize(
    ("name", "values", "met"),
    [
        ("ready_s", [0.1, 0.3, 9.0], True),
        ("ready_s", [0.1, 0.5, 9.0], False),
        ("start_error_ms", [0.1] * 99 + [9.0], True),
        ("start_error_ms", [0.1] * 98 + [9.0, 9.0], False),
        ("beat_bytes", [74.0, 121.0], False),
        ("button_to_sample_ms", [16.0], False),
        ("button_to_sample_ms", [4.0] * 98 + [31.0, 31.0], False),
        ("button_to_sample_ms", [4.0] * 99 + [29.0], True),
        ("text_to_speech_ms", [90.0, 401.0], False),
        ("order_to_sample_ms", [], False),
    ],
)
def test_a_target_judges_its_own_statistic(name: str, values: list[float], met: bool | None) -> None:
    assert row(name, values).met is met


def test_a_peer_has_no_target() -> None:
    peer = row("ready_s", [5.0], peer="mpd 0.23")
    assert (peer.target, peer.met, peer.peer) == (None, None, "mpd 0.23")


def test_a_figure_that_could_not_be_measured_says_so_and_counts_as_missed() -> None:
    failed = row("pss_idle_mb", [], "not measured: no broker")
    assert (failed.n, failed.median, failed.p99, failed.min, failed.max) == (0, None, None, None, None)
    assert "not measured: no broker" in failed.note
    assert failed.met is False


def test_the_table_shows_figures_targets_peers_and_notes() -> None:
    shown = table([row("ready_s", [0.5], "cold"), row("ready_s", [0.25], peer="mpv 1"), row("ready_s", [0.125])])
    lines = shown.splitlines()
    assert lines[2].split() == ["ready_s", "s", "1", *["0.5"] * 4, "≤", "0.4", "median", "MISSED"]
    assert lines[3].split() == ["ready_s", "s", "1", *["0.25"] * 4, "mpv", "1"]
    assert "reached" in lines[4]
    assert "ready_s: target: median at most 0.4; cold" in lines
