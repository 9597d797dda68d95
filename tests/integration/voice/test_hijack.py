"""Nobody else's sound comes through us: two stations of the ready configurations, with real agent, voice and ear, while
a foreign station sends on our frequency."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml

from drivers.virtual_gpio import positions
from province.bench.stages import DirectStage
from province.demo.stage import EXAMPLES
from tests.integration.voice.test_ear import Air
from tests.unit.ear.babble import babble

pytestmark = pytest.mark.broker
WAIT_S = 40.0
BOUND_S, BUSY_S = 10.0, 10.0
"""An alarm is to be there within `BOUND_S`; a busy test machine gets some more."""


class Station(DirectStage):
    """Zones, relays and monitors of a ready configuration, with short warm-ups and virtual hardware."""

    example: str
    hours: str
    """Of an external source."""
    air: Air

    def _write_config(self) -> None:
        super()._write_config()
        config = yaml.safe_load(self.config_path.read_text("utf-8"))
        ready = yaml.safe_load((EXAMPLES / f"{self.example}.yaml").read_text("utf-8"))
        zones, relays = ready["zones"], ready["relays"]
        for relay in relays:
            relay.pop("min_on_s", None)
            relay.pop("min_off_s", None)
        for zone in zones:
            zone["output"] = {"driver": "wav", "path": str(self.out / "station.wav"), "buffer_ms": 60}
            zone["power"] = [step | {"warm_up_s": 0.2, "cool_down_s": 0.2} for step in zone["power"]]
            zone.pop("rules", None)
            if "idle" in zone:
                zone["idle"]["hours"] = [self.hours]
        config |= {"zones": zones, "relays": relays, "buttons": [], "messages": [], "clusters": [], "sensors": []}
        config["monitors"] = [
            {"id": "thu-fm", "zone": "fm", "kind": "air", "driver": "pipe", "path": str(self.out / "air")}
        ]
        config.pop("sources", None)
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")

    def relays(self) -> dict[str, bool]:
        return positions(str(self.hardware), self.config.relays)

    def alarms(self, what: str) -> list[bool]:
        return [b["on"] for e in self.watcher.export()["events"] if (b := e["body"]).get("what") == what]

    def until(self, what: str, fits: Callable[[], Any]) -> float:
        begun = time.monotonic()
        while time.monotonic() < begun + WAIT_S:
            if fits():
                return time.monotonic() - begun
            time.sleep(0.05)
        told = [e["body"] for e in self.watcher.export()["events"]][-10:]
        raise AssertionError(f"never: {what}; {self.relays()}; {told}")


def hours(begin: int, end: int) -> str:
    now = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh"))
    return f"{now + timedelta(hours=begin):%H:%M}-{now + timedelta(hours=end):%H:%M}"


@pytest.fixture(params=["fm-transmitter", "fm-pole-receivers"])
def station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    made.example, made.hours = request.param, hours(3, 4)
    with made:
        made.wait_ready()
        made.air = Air(tmp_path / "air")
        yield made
        made.air.close()


def test_a_foreign_station_on_our_frequency_is_an_alarm_and_comes_through_no_relay_of_ours(station: Station) -> None:
    air = station.air
    off = dict.fromkeys(station.relays(), False)
    time.sleep(5)
    assert station.relays() == off
    air.carry(babble(3, 120), time.monotonic())
    took = station.until("the alarm", lambda: station.alarms("air-foreign") == [True])
    print(f"{station.example}: foreign sound is an alarm after {took:.1f} s")
    assert took < BOUND_S + BUSY_S
    assert station.relays() == off  # no carrier, no code, the office's amplifier without mains
    air.carry(None, 0)
    station.until("its end", lambda: station.alarms("air-foreign") == [True, False])


def test_the_transmitter_is_on_the_air_only_while_something_authorised_plays(station: Station) -> None:
    seen: list[dict[str, bool]] = []
    off = dict.fromkeys(station.relays(), False)
    chain = {"fm-transmitter": {"nguon", "kich-thich", "phat-song"}, "fm-pole-receivers": {"may-phat", "ma-hoa"}}
    wanted = chain[station.example]
    station.order("commune", station.broadcast("commune", "tin", [{"chime": "gong"}], zones=["fm"]))

    def on_air() -> bool:
        seen.append(station.relays())
        return all(seen[-1][r] for r in wanted)

    station.until("the carrier", on_air)
    assert not {r for r, on in seen[-1].items() if on} - wanted  # the other zone stays as it was
    station.until("off again", lambda: station.relays() == off)
    assert not station.ask("status")["result"]["zones"]["fm"].get("owner")


def test_a_receivers_amplifier_is_on_inside_its_hours_alone_and_a_silence_cuts_it(tmp_path: Path) -> None:
    made = Station(tmp_path)
    made.example, made.hours = "fm-pole-receivers", hours(-1, 1)
    with made:
        made.wait_ready()
        inside = {"may-phat": False, "ma-hoa": False, "chuyen-mach": False, "tang-am": True}
        made.until("the old source is heard", lambda: made.relays() == inside)
        made.ask("silence", on=True, zones=["*"])
        made.until("mute", lambda: not any(made.relays().values()))


def test_a_dead_carrier_and_a_programme_of_others_are_alarms_within_ten_seconds(tmp_path: Path) -> None:
    made = Station(tmp_path)
    made.example, made.hours = "fm-transmitter", hours(3, 4)
    with made:
        made.wait_ready()
        air = Air(tmp_path / "air")
        try:
            sound = babble(11, 150)
            media = made.media(_wav(made.out / "programme.wav", sound))
            made.order("commune", made.broadcast("commune", "tin", [media], zones=["fm"]))
            made.until("it plays", lambda: "since" in made.ask("status")["result"]["zones"]["fm"].get("owner", {}))
            begun = datetime.fromisoformat(made.ask("status")["result"]["zones"]["fm"]["owner"]["since"]).timestamp()
            air.carry(sound, time.monotonic() - (time.time() - begun) + 0.12)
            time.sleep(8)
            assert not made.alarms("air-dead")
            assert not made.alarms("air-wrong")
            for what, carried in (("air-dead", None), ("air-wrong", babble(12, 150))):
                air.carry(carried, time.monotonic())
                took = made.until(what, lambda what=what: made.alarms(what)[:1] == [True])
                print(f"{what} after {took:.1f} s")
                assert took < BOUND_S + BUSY_S
        finally:
            air.close()


def _wav(path: Path, sound: np.ndarray[Any, Any]) -> Path:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path
