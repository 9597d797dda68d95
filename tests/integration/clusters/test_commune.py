"""A station and its clusters as machines of their own on one network, with sound cards that drift apart."""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.clusters.commune import (
    MACHINES,
    NET,
    Commune,
    Machine,
    entries,
    noise,
    owned,
    paused,
    skew_s,
    until,
)

pytestmark = MACHINES
DRIFT_PPM = 180
STEP_S = 0.005
DELAY_MS = 40.0
"""14 m to the neighbouring horn."""


@pytest.fixture(scope="module")
def commune() -> Iterator[Commune]:
    """Two clusters: the first has the station alone, the second a SIM too, and a horn further away. Their cards drift
    apart."""
    with Commune([DRIFT_PPM, -DRIFT_PPM], sims=[1], delays_ms=[0.0, DELAY_MS]) as made:
        made.wait_ready()
        yield made


@pytest.fixture(autouse=True)
def quiet(commune: Commune) -> Iterator[None]:
    """Each test begins when all are there and nothing sounds."""
    yield
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), lambda m=machine: f"{m.name} is free; {m.log[-1500:]}", 60)
        until(lambda m=machine: m.heard(time.time()) is None, f"{machine.name} is silent")
    commune.wait_ready()


def receipts(commune: Commune, jti: str) -> dict[str, str]:
    with commune.watcher.changed:
        found = commune.record.receipt("tinh", jti).devices.items()
        return {device: f"{r.state} {r.reason}" if r.reason else r.state for device, r in found}


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def media_of(commune: Commune, seconds: float, seed: int) -> dict[str, Any]:
    import msgspec

    made: dict[str, Any] = msgspec.to_builtins(
        commune.province.media(noise(commune.dir / f"noise-{seed}.wav", seconds, seed))
    )
    return made


def test_a_pressed_button_is_heard_at_the_clusters_with_the_officers_own_words(commune: Commune) -> None:
    recording = noise(commune.dir / "officer.wav", 2.0, 3)
    folder = commune.station.dir / "data" / "messages"
    folder.mkdir(exist_ok=True)
    shutil.copy(recording, folder / "so-tan.wav")
    assert commune.station.ask("recorded", message="so-tan")["ok"]
    until(lambda: _library(commune.station), "the recording is in the station's library")
    before = time.time()
    commune.station.press("khan-cap")
    for machine in commune.machines:
        until(lambda m=machine: m.heard(before), f"{machine.name} sounds")
    for cluster in commune.clusters:
        until(lambda c=cluster: _library(c), f"{cluster.name} has the recording from the station")
    entry = until(lambda: _logged(commune.clusters[0], "so-tan", before), "the cluster's play log")
    assert entry["iss"] == "xa"
    assert len(entry["content"]) == 2, "siren and words"


def _library(machine: Machine) -> bool:
    import hashlib

    return any(
        hashlib.sha256(f.read_bytes()).hexdigest() == f.name and f.stat().st_size > 150_000
        for f in (machine.dir / "data" / "content").glob("??/*")
        if len(f.name) == 64
    )


def _logged(machine: Machine, title: str, after: float) -> dict[str, Any] | None:
    found = [e for e in entries(machine) if e["started"] and datetime.fromisoformat(e["started"]).timestamp() > after]
    return found[-1] if found else None


def test_stop_at_the_station_silences_the_clusters(commune: Commune) -> None:
    before = time.time()
    commune.station.press("khan-cap")
    for machine in commune.machines:
        until(lambda m=machine: owned(m), f"{machine.name} plays")
    commune.station.press("dung")
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), f"{machine.name} is silent")
    entry = until(lambda: _logged(commune.clusters[0], "", before), "the log")
    assert (entry["result"], entry["reason"]) == ("interrupted", "cancelled")


def test_stop_held_for_five_seconds_ends_the_provinces_alert_at_the_clusters_too(commune: Commune) -> None:
    alert: dict[str, Any] = {"class": "emergency", "items": [{"chime": "siren"}], "repeat": {"interval_s": 1}}
    signed = commune.order(["group:tinh-mau"], **alert)
    for machine in commune.machines:
        until(lambda m=machine: owned(m), f"{machine.name} plays")
    commune.station.press("dung", 5.5)
    names = {m.name for m in commune.machines}
    until(
        lambda: {d for d, s in receipts(commune, signed.jti).items() if s.split()[0] in ("done", "failed")} == names,
        lambda: f"it is over everywhere: {receipts(commune, signed.jti)}",
    )
    over = time.time() + 1
    time.sleep(4)
    assert [m.name for m in commune.machines if m.heard(over)] == []
    again = commune.order(["group:tinh-mau"], **{"class": "emergency"})
    until(
        lambda: {d for d, s in receipts(commune, again.jti).items() if s == "done"} == names,
        lambda: f"the next is heard: {receipts(commune, again.jti)}",
    )


def test_the_key_that_silences_is_turned_for_the_clusters_too(commune: Commune) -> None:
    commune.order(["group:tinh-mau"], **{"class": "emergency", "repeat": {"interval_s": 0, "count": 40}})
    for machine in commune.machines:
        until(lambda m=machine: owned(m), f"{machine.name} plays")
    commune.station.press("ngat", 12)
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), f"{machine.name} is silent")
    refused = commune.order(["group:tinh-mau"], **{"class": "emergency"})
    names = {m.name for m in commune.machines}
    told = dict.fromkeys(names, "rejected silenced")
    until(lambda: receipts(commune, refused.jti) == told, lambda: f"{receipts(commune, refused.jti)}")
    until(
        lambda: all(not m.status().get("silences") for m in commune.machines),
        lambda: f"nobody is silenced: {[m.status().get('silences') for m in commune.machines]}",
    )
    heard = commune.order(["group:tinh-mau"], **{"class": "emergency"})
    until(lambda: receipts(commune, heard.jti) == dict.fromkeys(names, "done"), "all speak again")


def test_a_province_order_reaches_a_cluster_over_its_station_and_the_receipts_come_back(commune: Commune) -> None:
    signed = commune.order(["group:tinh-mau"])
    names = {m.name for m in commune.machines}
    until(
        lambda: {d for d, s in receipts(commune, signed.jti).items() if s == "done"} == names,
        lambda: f"all are through: {receipts(commune, signed.jti)}",
    )


def test_the_same_order_over_both_ways_is_played_once(commune: Commune) -> None:
    both = commune.clusters[1]
    before = len(entries(both))
    signed = commune.order(["group:tinh-mau"])
    until(lambda: receipts(commune, signed.jti).get(both.name) == "done", "it is through")
    assert len(entries(both)) == before + 1


def test_an_order_to_one_cluster_alone_is_heard_there_alone(commune: Commune) -> None:
    before = time.time()
    signed = commune.order([commune.clusters[0].name])
    until(lambda: receipts(commune, signed.jti) == {commune.clusters[0].name: "done"}, "its receipt")
    assert commune.clusters[0].heard(before)
    assert commune.clusters[1].heard(before) is None
    assert commune.station.heard(before) is None


def test_neighbours_stay_in_step_though_their_cards_drift_apart_but_for_the_distance_delay(commune: Commune) -> None:
    seconds = 18
    media = media_of(commune, seconds, 11)
    start = time.time() + 6
    signed = commune.order(["group:tinh-mau"], start=iso(start), items=[{"media": media}])
    names = {m.name for m in commune.machines}
    until(
        lambda: {d for d, s in receipts(commune, signed.jti).items() if s == "done"} == names,
        "all are through",
        seconds + 40,
    )
    for at in (start + 0.5, start + seconds - 2):
        for one, other in itertools.combinations(commune.machines, 2):
            apart = skew_s(one, other, at) - (_delay_s(commune, other) - _delay_s(commune, one))
            print(f"{at - start:.1f} s after the start: {other.name} {1000 * apart:+.2f} ms after {one.name}")
            assert abs(apart) < STEP_S, [_xruns(m) for m in (one, other)]
    assert 2 * DRIFT_PPM * 1e-6 * seconds > STEP_S, "without correction they would not be"


def _xruns(machine: Machine) -> list[str]:
    return [f["detail"] for f in machine.status()["faults"] if f["what"].startswith("voice-xrun")]


def _delay_s(commune: Commune, machine: Machine) -> float:
    return DELAY_MS / 1000 if machine is commune.clusters[1] else 0.0


def test_a_cluster_whose_station_is_gone_takes_the_provinces_order_over_its_own_sim(commune: Commune) -> None:
    both = commune.clusters[1]
    with paused(commune.station):
        before = time.time()
        signed = commune.order(["group:tinh-mau"], **{"class": "emergency"})
        until(lambda: receipts(commune, signed.jti).get(both.name) == "done", "its receipt")
        assert both.heard(before)


def test_the_commune_downloads_once(commune: Commune) -> None:
    media = media_of(commune, 2.0, 13)
    signed = commune.order(["group:tinh-mau"], start=iso(time.time() + 70), items=[{"media": media}])
    for machine in commune.machines:
        until(
            lambda m=machine: (m.dir / "data" / "content" / media["sha256"][:2] / media["sha256"]).exists(),
            f"{machine.name} has it",
        )
    asked = [r for r in commune.content.requests if media["sha256"] in r.path]
    assert len(asked) == 1
    cancel = commune.province.sign("tinh", "cancel", {"ids": [_id(signed)]}, ["group:tinh-mau"], ttl_s=300)
    commune.publisher.send(cancel)


def _id(signed: Any) -> str:
    import base64
    import json

    body = signed.jws.split(".")[1]
    found: str = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["args"]["id"]
    return found


def test_an_order_survives_the_station_being_killed_in_the_middle_of_passing_it_on(commune: Commune) -> None:
    cluster = commune.clusters[0]
    cluster.cable(plugged=False)
    signed = commune.order(["group:tinh-mau"])
    until(lambda: receipts(commune, signed.jti).get(commune.station.name), "the station has it")
    commune.station.stop(signal.SIGKILL)
    commune.station.start()
    cluster.cable(plugged=True)
    until(lambda: receipts(commune, signed.jti).get(cluster.name) == "done", "the cluster played it")


def test_a_cluster_that_loses_power_in_the_middle_of_a_programme_goes_on_with_it(commune: Commune) -> None:
    cluster = commune.clusters[0]
    media = media_of(commune, 6.0, 17)
    signed = commune.order(["group:tinh-mau"], resume="restart", items=[{"media": media}])
    until(lambda: receipts(commune, signed.jti).get(cluster.name) == "running", "it plays")
    cluster.power_off()
    off = time.time()
    cluster.start()
    until(lambda: receipts(commune, signed.jti).get(cluster.name) == "done", "it went on", 60)
    assert cluster.heard(off + 0.5)


def test_alone_a_cluster_plays_its_schedule_from_its_own_cache(commune: Commune) -> None:
    cluster = commune.clusters[0]
    media = media_of(commune, 1.5, 19)
    start = datetime.now(UTC) + timedelta(seconds=12)
    entry = {
        "id": "ban-tin-chieu",
        "title": "Bản tin chiều",
        "class": "normal",
        "dtstart": start.isoformat(timespec="seconds"),
        "zones": ["*"],
        "items": [{"media": media}],
        "resume": "drop",
        "on_late": "skip",
    }
    signed = commune.province.sign("tinh", "schedule", {"entries": [entry]}, ["group:tinh-mau"])
    commune.publisher.send(signed)
    place = cluster.dir / "data" / "content" / media["sha256"][:2] / media["sha256"]
    until(place.exists, "it is fetched ahead")
    commune.broker.stop()
    try:
        with paused(commune.station):
            until(lambda: cluster.heard(start.timestamp() - 1), "it plays alone")
    finally:
        commune.broker.start()
    until(lambda: any(e["bulletin"] == "ban-tin-chieu" for e in entries(cluster)), "its log")


def test_a_cluster_that_goes_is_told_and_told_again_when_it_is_back(commune: Commune) -> None:
    cluster = commune.clusters[0]
    cluster.power_off()

    def told() -> list[bool]:
        events = commune.watcher.export()["events"]
        bodies = [e["body"] for e in events if e["device"] == commune.station.name]
        return [b["on"] for b in bodies if b.get("what") == "cluster-lost" and b.get("cluster") == "cum-1"]

    count = len(told())
    until(lambda: len(told()) > count and told()[-1] is True, "its absence is an alarm", 90)
    cluster.start()
    until(lambda: told()[-1] is False, "and ends", 60)
    assert commune.station.status()["clusters"]["cum-1"]["online"] is True


def test_the_library_gives_nothing_to_strangers_and_lists_nothing(commune: Commune) -> None:
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cafile=str(commune.pki.ca))
    with pytest.raises(OSError):  # noqa: PT011 - whichever way TLS says no
        urllib.request.urlopen(f"https://{NET}.2:8443/media/{'0' * 64}", context=context, timeout=5)
    identity = commune.pki.identity(commune.clusters[0].name)
    context.load_cert_chain(identity.cert, identity.key)
    for path in ("/", "/media/", "/media", f"/media/{'0' * 64}", "/media/../tram.db", "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"https://{NET}.2:8443{path}", context=context, timeout=5)
        assert refused.value.code == 404
