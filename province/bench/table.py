"""Every benchmark there is, in the order of the table. A new one is a file with its function, and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from msgspec import Struct

FEW, MANY = 20, 120
"""How often what is steady, and what has a p99, is measured."""


class Benchmark(Struct, frozen=True):
    """Who measures it, and what is to be reached: `judged` (median, p99 or max) at most `bound` `unit`, and the median
    at most `median`. None: no such bound.

    `by`: `module:function` in `province.bench`, called with a folder of its own (not there yet) and `n`; it returns
    rows of its name. Rows that are measured together name the same one, and it is called once.
    `peers`: the same for mpv and MPD, called with a folder, a minute of sound, and `peers_n`.
    """

    unit: str
    by: str
    bound: float | None = None
    judged: str = "median"
    median: float | None = None
    n: int = MANY
    peers: str | None = None
    peers_n: int = FEW


IDLE = "idle:Idle"
"""A station left alone for minutes, while the others are measured."""
BENCHMARKS: dict[str, Benchmark] = {
    "start_error_ms": Benchmark("ms", "station:start_error", 2.0, "p99"),
    "command_to_sample_ms": Benchmark("ms", "voice:command_to_sample", 5.0, peers="peers:command_to_sample"),
    "order_to_sample_ms": Benchmark("ms", "station:order_to_sample", 50.0, "p99"),
    "button_to_sample_ms": Benchmark("ms", "voice:button_to_sample", 30.0, "p99", median=15.0),
    "microphone_ms": Benchmark("ms", "microphone:microphone", 60.0, "p99", n=10),
    "text_to_speech_ms": Benchmark("ms", "alert:text_to_speech", 400.0, "p99", n=FEW),
    "ready_s": Benchmark("s", "voice:ready", 0.4, n=FEW, peers="peers:ready"),
    "pss_idle_mb": Benchmark("MB", IDLE, 45.0),
    "pss_playing_mb": Benchmark("MB", "station:playing", 80.0, n=10, peers="peers:playing", peers_n=10),
    "idle_cpu_percent": Benchmark("%", IDLE, 1.0),
    "idle_writes_mb_day": Benchmark("MB/day", IDLE, 1.0),
    "beat_bytes": Benchmark("B", IDLE, 120.0, "max"),
    "idle_traffic_mb_day": Benchmark("MB/day", IDLE, 0.5),
    "next_occurrence_ms": Benchmark("ms", "arithmetic:next_occurrence", 1.0, n=1000),
    "start_skew_ms": Benchmark("ms", "skew:start_skew", 5.0, "max", n=60),
    "slide_error_ms": Benchmark("ms", "board:slides", 50.0, "p99"),
    "board_pss_mb": Benchmark("MB", "board:slides", 80.0, "max"),
    "alert_to_frame_ms": Benchmark("ms", "board:alert", 300.0, "p99"),
    "film_lost_percent": Benchmark("%", "board:film", n=3),
    "film_fb_lost_percent": Benchmark("%", "board:film", n=3),
    "clusters_online_s": Benchmark("s", "clusters:scale", n=5),
    "clusters_change_s": Benchmark("s", "clusters:scale", 5.0, "max", n=5),
    "clusters_alert_ms": Benchmark("ms", "clusters:scale", n=5),
    "clusters_cpu_percent": Benchmark("%", "clusters:scale", n=5),
    "clusters_pss_mb": Benchmark("MB", "clusters:scale", 512.0, "max", n=5),
}


def found(by: str) -> Callable[..., Any]:
    """The function that a line of the table names."""
    module, _, function = by.partition(":")
    act: Callable[..., Any] = getattr(importlib.import_module(f"province.bench.{module}"), function)
    return act
