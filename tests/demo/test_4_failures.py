"""CONTRACT sections 3, 4, 5 and issue 2: the link, the processes, the clock and the trust may fail or change."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.demo.customer import (
    Authority,
    Bulletin,
    Key,
    Training,
    epoch,
    error_of,
    general,
    number,
    pitch,
    rfc3339,
    rms_dbfs,
    until,
)
from tests.demo.test_2_programmes import NEAR_S, STEP_S, button_entries, scale, silence, siren, steps, tones

__all__ = ["scale", "tones"]

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-failures")]

TEXT = [{"text": "Thử", "lang": "vi"}]
YEAR_S = 365 * 86_400


def back(station: Training, since: int) -> None:
    """Until the device has said that it is online, after message number `since`."""
    station.watcher.wait(
        lambda m: m.topic == f"{station.base}/state" and m.body["online"], "the station online again", since=since
    )


def restart(station: Training, what: str, *, kill: bool) -> None:
    since = len(station.watcher.messages)
    station.control("restart", what=what, kill=kill)
    back(station, since)


def births(station: Training) -> list[int]:
    return [m.body["birth"] for m in station.watcher.all("state")]


# the link


def test_what_happens_without_a_link_arrives_once_when_it_is_back(station: Training, scale: Path, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(scale)], start=rfc3339(time.time() + 6))
    sent.wait("accepted")
    known = len(station.log())
    before = len(button_entries(station))
    station.control("link", up=False)
    until(lambda: not station.status()["online"], "the station knows that it is alone")
    since = len(station.watcher.messages)
    pressed = time.time()
    station.control("press", button="khan-cap", seconds=0.2)
    offline = station.broadcast(station.province, [station.media(tones(4000, 0.5))], class_="emergency")
    heard = station.hear(pressed)
    station.button_sounds("khan-cap")
    station.control("press", button="dung", seconds=0.1)
    until(lambda: sent.id in station.tram("log", "--format", "json").stdout, "the programme in the device's own log")
    assert not station.acks(offline.jti)
    assert not station.watcher.all("event", since), "nothing comes without a link"
    until(lambda: any(f["what"] == "source-silent" for f in station.status()["faults"]), "an alarm on the station")
    station.control("link", up=True)
    back(station, since)
    offline.done()
    sent.done()
    (button,) = until(lambda: button_entries(station)[before:], "the button's entry")
    assert abs(epoch(button["started"]) - heard) < NEAR_S, "the log says when it was heard"
    for on in (True, False):
        station.wait_event("alarm", lambda e, on=on: e["what"] == "source-silent" and e["on"] is on, "alarm", since)
    numbers = [e["n"] for e in station.log()[known:]]
    assert numbers == sorted(set(numbers)), f"each entry once and in order: {numbers}"
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert [a["seq"] for a in _once(sent.acks())] == list(range(1, len(_once(sent.acks())) + 1))


def _once(acks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """QoS 1 may bring an ack twice: the same seq, the same ack."""
    found: dict[int, dict[str, Any]] = {}
    for ack in acks:
        assert found.setdefault(ack["seq"], ack) == ack
    return list(found.values())


def test_a_killed_broker_does_not_disturb_the_programme(station: Training, scale: Path) -> None:
    sent = station.broadcast(station.province, [station.media(scale)])
    sent.running()
    before = births(station)[-1]
    since = len(station.watcher.messages)
    station.control("restart", what="broker", kill=True)
    back(station, since)
    sent.done()
    (entry,) = sent.entries()
    assert entry["result"] == "completed"
    assert steps(station, entry) == list(range(12)), "without a gap"
    assert births(station)[-1] > before, "each connection has its own birth"
    station.order(station.province, "cancel", {"ids": ["x"]}).done()


def test_an_emergency_gets_through_behind_1500_queued_orders(station: Training, tones: Any) -> None:
    item = station.media(tones(4000, 0.4))
    # The content is there already; what is measured is the queue.
    station.broadcast(station.commune, [item]).done()
    pids = station.control("restart", what="agent", kill=True)["pids"]
    os.kill(pids["agent"], signal.SIGKILL)
    until(lambda: not _alive(pids["agent"]), "the agent's end")
    crowd = [station.order(station.commune, "cancel", {"ids": [f"q{n}"]}) for n in range(1500)]
    alarm = station.broadcast(station.province, [item], class_="emergency")
    restart(station, "agent", kill=True)
    alarm.running()
    alarm.done()
    crowd[-1].done()
    done = {m.body["jti"] for m in station.watcher.all("ack") if m.body["state"] == "done"}
    assert {b.jti for b in crowd} <= done, "every queued order was carried out"
    assert pitch(station.heard_entry(alarm.entries()[0])[-9600:]) == pytest.approx(4000, abs=30)


def _alive(pid: int) -> bool:
    """Whether any of its threads is left; a killed process may be a zombie whose threads still hold its sockets."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes() or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


# processes


@pytest.mark.parametrize("kill", [True, False])
def test_an_agent_that_dies_in_mid_programme_goes_on_after_it(station: Training, scale: Path, kill: bool) -> None:
    underruns = station.underruns()
    sent = station.broadcast(station.province, [station.media(scale)], resume="continue")
    began = sent.running()
    until(lambda: time.time() > began + 1.0, "a second of it")
    restart(station, "agent", kill=kill)
    sent.done()
    first, second = sent.entries(count=2)
    assert (first["result"], second["result"]) == ("interrupted", "completed")
    assert first["reason"]
    before, after = steps(station, first), steps(station, second)
    assert before[0] == 0, f"the log tells what was heard before: {first}"
    assert after == list(range(after[0], 12))
    assert after[0] - before[-1] in (0, 1), f"it continued where it was: {before}, {after}"
    for entry in (first, second):
        torn = station.underruns() - underruns
        assert torn or abs(rms_dbfs(station.heard_entry(entry)) - entry["level_dbfs"]) < 0.5
        assert entry["content"] == [sent.claims["args"]["items"][0]["media"]["sha256"]]
    assert not any(station.heard(epoch(second["ended"]) + 0.1, epoch(second["ended"]) + 0.4))


def test_voice_killed_in_mid_programme_leaves_relays_safe_and_the_programme_comes_back(
    station: Training, scale: Path
) -> None:
    sent = station.broadcast(station.province, [station.media(scale)], resume="continue")
    began = sent.running()
    until(lambda: time.time() > began + 0.8, "some of it")
    assert station.relays()["tang-am"]
    station.control("restart", what="voice", kill=True)
    sent.done()
    entries = sent.entries(count=2)
    assert entries[0]["result"] == "interrupted"
    heard = [steps(station, e) for e in entries]
    claimed = int((epoch(entries[0]["ended"]) - epoch(entries[0]["started"])) / STEP_S)
    assert heard[0] == list(range(len(heard[0])))
    assert len(heard[0]) - 1 <= claimed, "nobody knows to the sample how far a killed voice came"
    assert heard[1] == list(range(heard[1][0], 12))
    assert heard[1][0] in (claimed - 1, claimed, claimed + 1), (heard, claimed)
    until(lambda: not any(station.relays().values()), "relays off after it")


def test_a_button_works_while_the_agent_is_dead(station: Training) -> None:
    pids = station.control("restart", what="agent", kill=True)["pids"]
    until(lambda: station.status().get("voice"), "voice and agent together")
    before = len(button_entries(station))
    os.kill(pids["agent"], signal.SIGKILL)
    until(lambda: not _alive(pids["agent"]), "the agent's end")
    pressed = time.time()
    station.control("press", button="khan-cap", seconds=0.2)
    station.hear(pressed)
    station.control("press", button="dung", seconds=0.1)
    restart(station, "agent", kill=True)
    until(lambda: button_entries(station)[before:], "the button's log entry is written afterwards")


def test_an_offer_and_a_future_programme_survive_a_power_cut(station: Training, tones: Any) -> None:
    offered = station.broadcast(station.province, [station.media(tones(900, 0.3))], class_="normal")
    offered.wait("offered")
    start = time.time() + 12
    coming = station.broadcast(station.province, [station.media(tones(1100, 0.3))], start=rfc3339(start))
    coming.wait("accepted")
    restart(station, "agent", kill=True)
    assert offered.id in station.tram("inbox").stdout
    assert station.tram("accept", offered.id).returncode == 0
    offered.done()
    coming.done()
    (entry,) = coming.entries()
    error_of(entry, start)


def test_replay_memory_survives_a_power_cut(station: Training) -> None:
    sent = station.order(station.province, "cancel", {"ids": ["once"]})
    last = sent.done()
    restart(station, "agent", kill=True)
    assert station.broadcast(station.province, TEXT, id="once").ended()["reason"] == "cancelled", "so does a tombstone"
    since = station.publish(sent.raw)
    assert station.wait_ack(sent.jti, lambda _: True, "the recorded ack", since=since) == last
    again = station.order(station.province, "cancel", {"ids": ["twice"]}, ctr=sent.claims["ctr"]).ended()
    assert again["reason"] == "replayed"


def test_a_retained_command_is_not_played_after_a_restart_either(station: Training) -> None:
    claims = station.province.claims(
        "broadcast",
        {
            "id": f"retained-{number()}",
            "title": "Không được phát",
            "class": "emergency",
            "start": "now",
            "zones": [station.sound_zone],
            "items": [{"chime": "gong"}],
            "resume": "drop",
        },
    )
    station.publish(station.province.sign(claims), retain=True)
    try:
        restart(station, "agent", kill=False)
        station.order(station.province, "cancel", {"ids": ["x"]}).done()
        assert not [a for a in station.acks(claims["jti"]) if a["state"] != "rejected"]
        assert not [e for e in station.log() if e["bulletin"] == claims["args"]["id"]]
    finally:
        station.publish(b"", f"{station.base}/order", retain=True)


def test_an_orderly_stop_says_offline_and_a_kill_leaves_the_will(station: Training) -> None:
    since = len(station.watcher.messages)
    restart(station, "agent", kill=False)
    states = [m.body for m in station.watcher.all("state", since)]
    assert states[0]["online"] is False, "the farewell"
    assert states[-1]["online"] is True
    assert states[-1]["birth"] > states[0]["birth"]


def test_silence_cuts_every_remote_class_at_once_and_holds_over_a_restart(
    station: Training, scale: Path, tones: Any
) -> None:
    alarm = station.broadcast(station.province, [station.media(scale)], class_="emergency", resume="continue")
    alarm.running()
    silence(station, station.province, True)
    try:
        ack = alarm.ended()
        assert (ack["state"], ack["reason"]) == ("failed", "silenced")
        entry = alarm.entries()[0]
        assert (entry["result"], entry["reason"]) == ("interrupted", "silenced")
        until(lambda: not any(station.relays().values()), "amplifiers off")
        assert not station.heard(epoch(entry["ended"]) + 0.1, epoch(entry["ended"]) + 0.4).any()
        for class_ in ("priority", "emergency"):
            refused = station.broadcast(station.province, TEXT, class_=class_).ended()
            assert (refused["state"], refused["reason"]) == ("rejected", "silenced")
        restart(station, "agent", kill=True)
        refused = station.broadcast(station.province, TEXT, class_="emergency").ended()
        assert refused["reason"] == "silenced", "silence survives a restart"
        assert station.status()["silences"]
        silence(station, station.commune, False)
        assert station.broadcast(station.province, TEXT).ended()["reason"] == "silenced", "a lower rank lifts nothing"
        silence(station, station.emergency, True)
    finally:
        silence(station, station.province, False)
    assert not station.status()["silences"], "the province lifts its own and the lower-ranked ones"
    station.broadcast(station.province, [station.media(tones(900, 0.2))]).done()


# the clock


@pytest.mark.parametrize("years", [1, -1])
def test_a_clock_that_is_a_year_off_stops_neither_emergencies_nor_buttons(
    station: Training, tones: Any, years: int
) -> None:
    """Set while running, and again from boot: normal programmes are `clock-untrusted` then, emergencies sound."""
    item = station.media(tones(4000, 0.4))
    try:
        station.control("clock", offset_s=years * YEAR_S)
        running = station.broadcast(station.province, [item], class_="emergency")
        running.done()
        siren(station)
        restart(station, "agent", kill=True)
        until(lambda: station.status().get("voice"), "voice and agent together")
        assert station.status()["clock"]["trusted"] is False
        refused = station.broadcast(station.province, [item]).ended()
        assert (refused["state"], refused["reason"]) == ("rejected", "clock-untrusted")
        alarm = station.broadcast(station.province, [item], class_="emergency")
        alarm.done()
        assert alarm.entries()[0]["result"] == "completed"
        siren(station)
    finally:
        station.control("clock", offset_s=0)
        restart(station, "agent", kill=True)
    until(lambda: station.status()["clock"]["trusted"], "a trusted clock")
    station.broadcast(station.province, [item]).done()


def test_a_clock_that_comes_right_while_running_lets_programmes_play(station: Training, tones: Any) -> None:
    item = station.media(tones(900, 0.3))
    try:
        station.control("clock", offset_s=-YEAR_S)
        restart(station, "agent", kill=True)
        assert station.broadcast(station.province, [item]).ended()["reason"] == "clock-untrusted"
    finally:
        since = len(station.watcher.messages)
        station.control("clock", offset_s=0)
    until(lambda: station.status()["clock"]["trusted"], "a trusted clock")
    back(station, since)
    station.broadcast(station.province, [item]).done()


# who may speak


def authorities(station: Training, **changes: Any) -> tuple[dict[str, Any], list[Key], list[Key]]:
    """The document now in force as far as a customer can know it, with the roots; and one with another set of roots."""
    roots = [Key.read(p) for p in sorted((station.out / "keys").glob("root-*.jwk"))]
    entries = [
        {
            "id": who["id"],
            "level": who["level"],
            "rank": who["rank"],
            "keys": [station.authorities[name].key.jwk],
            "ops": ["*"],
            "max_class": "priority" if name == "commune" else "emergency",
            "units": ["84/86"] if who["rank"] >= 50 else [station.device["unit"]],
            "zones": ["*"],
        }
        for name, who in station.connection["authorities"].items()
    ]
    payload = {
        "version": number(),
        "iat": int(time.time()),
        "roots": [r.jwk for r in roots],
        "threshold": station.connection["root_threshold"],
        "authorities": entries,
    } | changes
    return payload, roots, [Key() for _ in range(3)]


def give(station: Training, documents: list[dict[str, Any]], version: int, signer: Authority) -> dict[str, Any]:
    args = {"version": version, "documents": documents}
    return station.state(signer, "authorities", args).ended()


def test_authorities_change_by_the_roots_alone_and_the_roots_can_be_rotated(station: Training, tones: Any) -> None:
    payload, roots, fresh = authorities(station)
    threshold = payload["threshold"]
    newcomer = Authority("moi", Key(), [station.id])
    narrow = Authority("hep", Key(), [station.id])
    elsewhere = Authority("xa-khac", Key(), [station.id])
    payload["authorities"] += [
        {
            "id": "moi",
            "level": "province",
            "rank": 90,
            "keys": [newcomer.key.jwk],
            "ops": ["*"],
            "max_class": "emergency",
            "units": ["84"],
            "zones": ["*"],
        },
        {
            "id": "hep",
            "level": "district",
            "rank": 20,
            "keys": [narrow.key.jwk],
            "ops": ["broadcast"],
            "max_class": "emergency",
            "units": ["84/86"],
            "zones": [station.screen_zone],
        },
        {
            "id": "xa-khac",
            "level": "commune",
            "rank": 20,
            "keys": [elsewhere.key.jwk],
            "ops": ["*"],
            "max_class": "emergency",
            "units": ["84/86/xa-mau-2", "84/8"],
            "zones": ["*"],
        },
    ]
    stranger = Authority("province", Key(), [station.id])
    version = payload["version"]
    item = station.media(tones(900, 0.3))
    assert not station.acks(_forgotten(station, newcomer, item).jti), "a stranger before the update"

    few = give(station, [general(payload, roots[: threshold - 1])], version, station.province)
    assert (few["state"], few["reason"]) == ("rejected", "not-authorised")
    twice = give(station, [general(payload, [roots[0]] * threshold)], version, station.province)
    assert twice["reason"] == "not-authorised", "one root twice is one signature"
    others = give(station, [general(payload, fresh)], version, station.province)
    assert others["reason"] == "not-authorised"
    wrong = give(station, [general(payload, roots, "tram-order+jws")], version, station.province)
    assert wrong["state"] == "rejected", "typ of an order"
    mismatch = give(station, [general(payload, roots)], version + 1, station.province)
    assert mismatch["reason"] == "bad-args"

    # The roots rotate in an earlier document that carries only version, iat, roots and threshold.
    turned = {k: payload[k] for k in ("iat",)} | {
        "version": version - 1,
        "roots": [k.jwk for k in fresh],
        "threshold": 2,
    }
    final = payload | {"roots": [k.jwk for k in fresh], "threshold": 2}
    half = give(station, [general(turned, roots), general(final, fresh)], version, station.province)
    assert half["reason"] == "not-authorised", "the new roots must sign their own coming"
    alone = give(station, [general(final, fresh)], version, station.province)
    assert alone["reason"] == "not-authorised", "the chain does not skip its roots"
    accepted = give(
        station,
        [general(turned, roots[:threshold] + fresh[:2]), general(final, fresh[1:])],
        version,
        stranger,
    )
    assert accepted["state"] == "done", f"an envelope of an unknown key is no reason: {accepted}"
    stale = give(station, [general(final, fresh)], version, station.province)
    assert stale["reason"] == "stale-version"

    welcome = station.broadcast(newcomer, [item], class_="emergency")
    welcome.done()
    board = station.broadcast(narrow, TEXT, zones=[station.screen_zone])
    assert board.wait("accepted", "running")["zones"].keys() == {station.screen_zone}
    starred = station.broadcast(narrow, TEXT, zones=["*"], start=rfc3339(time.time() + 3600))
    assert set(starred.wait("accepted")["zones"]) == {station.screen_zone}, "* is every zone it may use"
    for op, args in (("cancel", {"ids": ["x"]}), ("reboot", {})):
        assert station.order(narrow, op, args).ended()["reason"] == "not-authorised", op
    for zones in ([station.sound_zone], [station.screen_zone, station.sound_zone], ["kind:sound"]):
        assert station.broadcast(narrow, TEXT, zones=zones).ended()["reason"] == "not-authorised", zones
    assert station.broadcast(elsewhere, TEXT).ended()["reason"] == "not-authorised", "unit as path prefix"

    for sent in (board, starred):
        station.order(station.province, "cancel", {"iss": "hep", "id": sent.id}).done()
    restart(station, "agent", kill=True)
    station.broadcast(newcomer, [item], class_="emergency").done()
    last = (
        payload
        | {"version": number(), "authorities": final["authorities"][:-3]}
        | {k: final[k] for k in ("roots", "threshold")}
    )
    assert give(station, [general(last, roots)], last["version"], station.province)["reason"] == "not-authorised"
    assert give(station, [general(last, fresh[:2])], last["version"], station.province)["state"] == "done"
    assert not station.acks(_forgotten(station, newcomer, item).jti), "who has left may not speak any more"
    station.publish(b"", f"{station.base}/desired/authorities/province", retain=True)


def _forgotten(station: Training, authority: Authority, item: dict[str, Any]) -> Bulletin:
    """An order of somebody who is no authority; everything before it has been judged."""
    sent = station.broadcast(authority, [item], class_="emergency")
    station.sent.remove(sent)
    station.order(station.province, "cancel", {"ids": ["x"]}).done()
    return sent
