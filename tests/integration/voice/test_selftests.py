"""Self-tests from the province's order to the number in its ack: real agent, voice and ear, and microphones that hear
what the virtual sound card has really put out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
import yaml

from province.demo.stage import DEVICE, Stage, exchange
from tests.integration.voice.loopback import Loopback

pytestmark = pytest.mark.broker
HEARD = ("ap-1", "ap-2", "ap-3")
ZONES = (*HEARD, "ap-4", "ap-5")
"""The first three have a microphone each, the fourth a sensor, the fifth nothing."""
AHEAD_S = 20
"""So long before it the station is started."""
WAIT_S = 120.0
BUSY_S = 4.0
"""4 s are the bound; a busy test machine gets some more."""


class Station(Stage):
    """Five hamlets on one card, in the last of which it is quiet now. The tests' hour is the next full minute."""

    def _write_config(self) -> None:
        super()._write_config()
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        output = {"driver": "wav", "path": str(self.out / "station.wav"), "buffer_ms": 60}
        config["zones"] = [{"id": z, "kind": "sound", "output": dict(output)} for z in ZONES]
        config["buttons"], config["relays"], config["messages"], config["clusters"] = [], [], [], []
        config["monitors"] = [
            {"id": f"nghe-{z}", "zone": z, "kind": "microphone", "driver": "pipe", "path": str(self.out / f"{z}.pipe")}
            for z in HEARD
        ]
        config["sensors"] = [
            {"id": "dong-4", "zone": "ap-4", "driver": "virtual", "open_below_ma": 5, "short_above_ma": 100}
        ]
        soon = datetime.now(ZoneInfo(config["timezone"])) + timedelta(seconds=AHEAD_S + 60)
        self.at = soon.replace(second=0, microsecond=0)
        config["self_test"] = {"at": [f"{self.at:%H:%M}"]}
        begin = self.at - timedelta(hours=1)
        config["zones"][4]["rules"] = {"quiet_hours": [f"{begin:%H:%M}-{begin + timedelta(hours=2):%H:%M}"]}
        config.pop("microphone", None)
        config.pop("sources", None)
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")

    def __enter__(self) -> Self:
        super().__enter__()
        channels = len(ZONES)
        self.microphones = {
            zone: Loopback(self.out / "station.wav", ZONES.index(zone), channels, self.out / f"{zone}.pipe")
            for zone in HEARD
        }
        for microphone in self.microphones.values():
            self._stack.callback(microphone.close)
        return self

    def zone(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status")["result"]["zones"][name]
        return found

    def events(self, what: str) -> list[dict[str, Any]]:
        bodies = [e["body"] for e in self.watcher.export()["events"]]
        return [b for b in bodies if b.get("what") == what]

    def until(self, what: str, fits: Any) -> Any:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if found := fits():
                return found
            time.sleep(0.1)
        raise AssertionError(f"never: {what}")

    def tested(self, zones: tuple[str, ...]) -> dict[str, Any]:
        """A test by order: the zones of its last ack."""
        signed = self.province.sign("province", "test", {"zones": list(zones)}, [DEVICE], ttl_s=600)
        self.publisher.send(signed)

        def last() -> Any:
            acks = [a["body"] for a in self.watcher.export()["acks"] if a["body"]["jti"] == signed.jti]
            return next((a["zones"] for a in acks if a["state"] in ("done", "failed", "rejected")), None)

        found: dict[str, Any] = self.until("the ack", last)
        return found


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    with Station(tmp_path_factory.mktemp("station")) as made:
        made.wait_ready()
        exchange(made.hardware, {"do": "set", "sensor": "dong-4", "value": 30})
        made.until("the line is known", lambda: made.zone("ap-4")["line"] == "normal")
        yield made


def test_at_its_hour_each_zone_is_tested_within_four_seconds_and_number_and_verdict_are_told(station: Station) -> None:
    told = station.until("all are tested", lambda: found if len(found := station.events("self-test")) >= 5 else None)
    assert {e["zone"]: e["verdict"] for e in told[:5]} == {
        "ap-1": "ok",
        "ap-2": "ok",
        "ap-3": "ok",
        "ap-4": "ok",  # by its line's sensor
        "ap-5": "not-played",
    }
    assert told[4]["reason"] == "quiet-hours"
    at = {e["zone"]: datetime.fromisoformat(e["at"]) for e in told}
    zones = [station.at, *(at[z] for z in ZONES[:4])]
    for before, after in itertools.pairwise(zones):
        took = (after - before).total_seconds()
        print(f"{took:.1f} s for a zone, verdict included")
        assert took <= 4 + BUSY_S
    for zone in HEARD:
        test = station.zone(zone)["test"]
        assert test["verdict"] == "ok"
        assert test["level_db"] > 10
    assert station.zone("ap-4")["test"]["current_ma"] == 30
    assert "level_db" not in station.zone("ap-4")["test"]
    assert station.zone("ap-5")["line"] == "unknown"
    assert not station.events("howl")


def test_by_order_the_silent_and_the_shrieking_speaker_are_found_and_then_found_well(station: Station) -> None:
    station.microphones["ap-2"].state = "silent"
    station.microphones["ap-3"].state = "shrieking"
    station.until("the shriek is heard", lambda: [e for e in station.events("howl") if e["on"]])
    acked = station.tested(HEARD)
    verdicts = {zone: row["test"]["verdict"] for zone, row in acked.items()}
    assert verdicts == {"ap-1": "ok", "ap-2": "silent", "ap-3": "howl"}
    assert acked["ap-1"]["test"]["level_db"] > 10 > acked["ap-2"]["test"]["level_db"]
    faults = {f["what"] for f in station.ask("status")["result"]["faults"]}
    assert {"self-test@ap-2", "self-test@ap-3", "howl@nghe-ap-3@ap-3"} <= faults
    for microphone in station.microphones.values():
        microphone.state = "well"
    station.until("the shriek is over", lambda: [e for e in station.events("howl") if not e["on"]])
    station.tested(HEARD)
    ends = {(e["zone"], e["on"]) for e in station.events("self-test") if "on" in e}
    assert {("ap-2", False), ("ap-3", False)} <= ends
    assert not [f for f in station.ask("status")["result"]["faults"] if f["what"].startswith(("self-test", "howl"))]


def test_an_open_line_explains_a_test_and_without_hardware_nothing_is_claimed(station: Station) -> None:
    exchange(station.hardware, {"do": "line", "zone": "ap-4", "state": "open"})
    station.until("the open line", lambda: station.zone("ap-4")["line"] == "open")
    assert station.tested(("ap-4",))["ap-4"]["test"]["verdict"] == "open"
    exchange(station.hardware, {"do": "line", "zone": "ap-4", "state": "normal"})
    station.until("the mended line", lambda: station.zone("ap-4")["line"] == "normal")
    bare = station.zone("ap-5")
    assert not {"current_ma", "supply_v", "temperature_c", "amplifier"} & set(bare)
