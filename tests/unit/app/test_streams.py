"""What the agent's command for live streams may read: relay sources at any address, an order's stream by the rules."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.app import _fetcher
from agent.model.config import Content, Source
from agent.model.loader import load

STATION = Path(__file__).resolve().parents[3] / "config" / "commune-station.yaml"


@dataclass
class Told:
    code: int
    why: str


def read(url: str) -> Told:
    config = replace(
        load(STATION),
        sources=[Source(id="voh", url="http://127.0.0.1:9/live")],
        content=Content(allowed_hosts=["radio.example.vn", "127.0.0.1:9"]),
    )
    done = subprocess.run([*_fetcher(config), url], capture_output=True, timeout=30, check=False)
    return Told(done.returncode, json.loads(done.stderr.splitlines()[-1])["code"])


def test_a_source_of_the_configuration_is_asked_at_any_address_over_plain_http() -> None:
    assert read("http://127.0.0.1:9/live") == Told(4, "broken")  # nobody listens there


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/other", "http://radio.example.vn/live", "https://elsewhere.example.vn/live"]
)
def test_an_orders_stream_needs_https_and_a_listed_host(url: str) -> None:
    assert read(url) == Told(3, "host")
