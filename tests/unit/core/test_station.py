"""The owner as its users see it: what is heard, what is answered, what is logged."""

from __future__ import annotations

import pytest

from tests.unit.core.world import T0, World, broadcast, media

CHIME = {"chime": "gong"}
TEXT = {"text": "Bão số 9 sắp vào bờ.", "lang": "vi"}


def at(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


def test_a_priority_bulletin_plays_now_and_is_acknowledged_to_its_end() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", CHIME, media("a", 10, world)))
    world.advance(1)
    assert world.sounding() == "tin-1"
    assert world.shows() == "tin-1"
    world.advance(12)
    assert world.sounding() is None
    assert world.shows() == "nghỉ"
    assert world.states_of(jti)[:2] == ["received", "accepted"]
    assert world.states_of(jti)[-1] == "done"
    assert [a["seq"] for a in world.acks(jti)] == list(range(1, len(world.acks(jti)) + 1))
    assert world.outcomes() == [("tin-1", "completed", None)]
    assert not world.docs


def test_a_normal_bulletin_from_above_is_offered_and_plays_only_once_accepted() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 5, world), **{"class": "normal"}))
    world.advance(5)
    assert world.sounding() is None
    assert world.states_of(jti) == ["received", "offered"]
    assert [row["id"] for row in world.ask("inbox")["result"]] == ["tin-1"]
    assert world.ask("accept", id="tin-1")["ok"]
    world.advance(1)
    assert world.sounding() == "tin-1"
    world.advance(10)
    assert world.states_of(jti)[-1] == "done"
    assert world.ask("inbox")["result"] == []


def test_a_declined_bulletin_never_plays_and_says_so() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 5, world), **{"class": "normal"}))
    assert world.ask("decline", id="tin-1")["ok"]
    world.advance(10)
    assert world.states_of(jti) == ["received", "offered", "rejected/declined"]
    assert world.outcomes() == [("tin-1", "declined", "declined")]


def test_an_emergency_takes_over_at_once_and_the_interrupted_programme_continues_where_it_was() -> None:
    world = World()
    world.order("broadcast", broadcast("tin-1", media("a", 30, world)))
    world.advance(10)
    jti = world.order("broadcast", broadcast("bao", CHIME, TEXT, **{"class": "emergency"}))
    assert [s.open.play.split("#")[0] for s in world.on.values()] == ["tinh/bao"]
    world.advance(0.1)
    assert world.sounding() == "bao"
    assert world.shows() == "bao"
    world.advance(6)
    assert world.sounding() == "tin-1"
    assert world.shows() == "tin-1"
    world.advance(30)
    assert world.states_of(jti)[-1] == "done"
    assert world.outcomes() == [
        ("tin-1", "interrupted", "outranked"),
        ("bao", "completed", None),
        ("tin-1", "completed", None),
    ]
    first, rest = (e for e in world.log if e["zone"] == "loa" and e["bulletin"] == "tin-1")
    played = sum(_seconds(e) for e in (first, rest))
    assert played == pytest.approx(30, abs=0.05)


def _seconds(entry: dict[str, str]) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(entry["ended"]) - datetime.fromisoformat(entry["started"])).total_seconds()


@pytest.mark.parametrize(
    ("resume", "outcomes", "total"),
    [
        ("drop", [("tin-1", "interrupted", "outranked"), ("bao", "completed", None)], 10.0),
        (
            "restart",
            [("tin-1", "interrupted", "outranked"), ("bao", "completed", None), ("tin-1", "completed", None)],
            40.0,
        ),
    ],
)
def test_an_interrupted_programme_follows_its_own_resume(resume: str, outcomes: list[object], total: float) -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 30, world), resume=resume))
    world.advance(10)
    world.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    world.advance(60)
    assert world.outcomes() == outcomes
    assert sum(_seconds(e) for e in world.log if e["zone"] == "loa" and e["bulletin"] == "tin-1") == pytest.approx(
        total, abs=0.05
    )
    assert world.states_of(jti)[-1] == ("failed/outranked" if resume == "drop" else "done")


def test_a_button_sounds_over_a_remote_emergency_which_then_resumes() -> None:
    world = World()
    world.order("broadcast", broadcast("bao", media("a", 20, world), **{"class": "emergency"}))
    world.advance(5)
    world.press("khan-cap", 6)
    world.advance(1)
    assert world.shows() == "Báo động"
    world.advance(6)
    assert world.sounding() == "bao"
    world.advance(30)
    results = [(b.split(":")[0], r, why) for b, r, why in world.outcomes()]
    assert results == [("bao", "interrupted", "local"), ("local", "completed", None), ("bao", "completed", None)]


def test_a_scheduled_programme_begins_at_its_second_and_is_opened_ahead() -> None:
    world = World()
    entry = {
        "id": "thoi-su",
        "title": "Thời sự",
        "class": "priority",
        "dtstart": at(60),
        "rrule": "FREQ=DAILY",
        "zones": ["loa"],
        "items": [media("a", 20, world)],
        "resume": "continue",
        "on_late": "skip",
    }
    world.state_order("schedule", {"version": 1, "entries": [entry]})
    world.advance(59.8)
    assert world.sounding() is None
    assert len(world.on) == 1
    world.advance(1)
    begin = next(t for t, zone, _, what in world.heard if what == "begin" and zone == "loa")
    assert begin == pytest.approx(T0 + 60, abs=0.001)
    world.advance(30)
    assert world.outcomes() == [("thoi-su", "completed", None)]
    assert world.ask("today")["result"][-1]["id"] == "thoi-su"


def test_quiet_hours_are_reported_on_receipt_and_kept_at_the_start() -> None:
    zones = [
        {
            "id": "loa",
            "kind": "sound",
            "output": {"driver": "wav", "path": "s.wav"},
            "rules": {"quiet_hours": ["11:00-13:00"]},
        }
    ]
    world = World(zones=zones, buttons=[])
    jti = world.order("broadcast", broadcast("tin-1", media("a", 20, world), start=at(30)))
    assert world.acks(jti)[0]["zones"]["loa"] == {"state": "received", "reason": "quiet-hours"}
    world.advance(40)
    assert world.outcomes() == [("tin-1", "skipped", "quiet-hours")]
    assert world.states_of(jti)[-1] == "failed/quiet-hours"
    emergency = world.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    world.advance(5)
    assert world.states_of(emergency)[-1] == "done"


def test_a_collision_of_priority_programmes_follows_the_commune() -> None:
    world = World(priority_order=["xa-mau", "tinh"])
    world.order("broadcast", broadcast("cua-tinh", media("a", 20, world), start=at(10), zones=["loa"]))
    world.order("broadcast", broadcast("cua-xa", media("b", 5, world), start=at(10), zones=["loa"]), iss="xa-mau")
    world.advance(11)
    assert world.sounding() == "cua-xa"
    world.advance(6)
    assert world.sounding() == "cua-tinh"


def test_silence_cuts_everything_remote_refuses_what_comes_and_survives_a_restart() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 30, world)))
    world.advance(3)
    world.state_order("silence", {"version": 1, "on": True, "zones": ["*"]})
    world.advance(1)
    assert world.sounding() is None
    assert world.states_of(jti)[-1] == "failed/silenced"
    world.crash()
    late = world.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    assert world.states_of(late) == ["rejected/silenced"]
    world.press("khan-cap")
    world.advance(1)
    assert world.shows() == "Báo động"
    world.advance(10)
    world.state_order("silence", {"version": 2, "on": False, "zones": ["*"]})
    again = world.order("broadcast", broadcast("bao-2", CHIME, **{"class": "emergency"}))
    world.advance(5)
    assert world.states_of(again)[-1] == "done"


def test_a_repeated_alert_releases_the_zone_between_repeats() -> None:
    world = World()
    world.order("broadcast", broadcast("tin-1", media("a", 60, world)))
    world.advance(5)
    jti = world.order(
        "broadcast",
        broadcast("bao", CHIME, **{"class": "emergency"}, repeat={"count": 3, "interval_s": 10}),
    )
    world.advance(5)
    assert world.sounding() == "tin-1"
    world.advance(60)
    assert [b for b, _, _ in world.outcomes()].count("bao") == 3
    assert world.states_of(jti)[-1] == "done"


def test_every_ack_has_the_members_of_the_contract_also_where_no_zone_is_meant() -> None:
    world = World()
    known = world.order("cancel", {"ids": ["x"]})
    refused = world.order("broadcast", broadcast("b", {"chime": "gong"}, zones=["nowhere"]))
    for ack in [*world.acks(known), *world.acks(refused)]:
        assert {"jti", "iss", "seq", "state", "at", "zones"} <= set(ack)


def test_cancel_stops_and_an_unknown_id_leaves_a_tombstone() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 60, world)))
    world.advance(5)
    world.order("cancel", {"ids": ["tin-1", "tin-2"]})
    world.advance(0.1)
    assert world.sounding() is None
    assert world.states_of(jti)[-1] == "failed/cancelled"
    late = world.order("broadcast", broadcast("tin-2", media("a", 60, world)))
    assert world.states_of(late) == ["rejected/cancelled"]


def test_a_replacing_bulletin_takes_over_without_a_gap() -> None:
    world = World()
    first = world.order("broadcast", broadcast("bao-1", media("a", 60, world), **{"class": "emergency"}))
    world.advance(5)
    world.order("broadcast", broadcast("bao-2", media("b", 10, world), **{"class": "emergency"}, replaces=["bao-1"]))
    world.advance(0.1)
    assert world.sounding() == "bao-2"
    assert world.states_of(first)[-1] == "failed/superseded"


def test_media_that_is_still_to_come_delays_a_bulletin_and_a_lost_one_fails_it() -> None:
    world = World()
    waiting = world.order("broadcast", broadcast("cho", media("a", 10, world, present=False), zones=["loa"]))
    world.advance(5)
    assert world.sounding() is None
    from agent.model.events import MediaFailed, MediaReady

    sha = b"a".hex().ljust(64, "0")
    world.media[sha] = 10
    world.post(MediaReady(sha, "/x"))
    world.advance(1)
    assert world.sounding() == "cho"
    world.advance(15)
    assert world.states_of(waiting)[-1] == "done"
    lost = world.order("broadcast", broadcast("mat", media("b", 10, world, present=False), zones=["loa"]))
    world.post(MediaFailed(b"b".hex().ljust(64, "0"), "the hash is wrong", True))
    world.advance(1)
    assert world.states_of(lost)[-1] == "failed/content-unavailable"


def test_power_lost_in_mid_programme_leaves_an_entry_and_the_programme_goes_on() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin-1", media("a", 30, world), zones=["loa"]))
    world.advance(10)
    world.crash()
    world.advance(40)
    assert [(b, r) for b, r, _ in world.outcomes()] == [("tin-1", "interrupted"), ("tin-1", "completed")]
    assert world.states_of(jti)[-1] == "done"
    assert [e["n"] for e in world.log] == list(range(1, len(world.log) + 1))


def test_without_a_trusted_clock_only_emergencies_and_buttons_sound() -> None:
    world = World()
    world.trusted_clock = False
    refused = world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    assert world.states_of(refused) == ["rejected/clock-untrusted"]
    allowed = world.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    world.advance(5)
    assert world.states_of(allowed)[-1] == "done"


def test_with_a_full_disk_only_emergencies_sound_and_the_order_is_not_acknowledged() -> None:
    world = World()
    world.disk_full = True
    world.order("broadcast", broadcast("tin-1", media("a", 5, world)))
    world.advance(2)
    assert world.sounding() is None
    assert world.acknowledged == []
    world.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    world.advance(0.1)
    assert world.sounding() == "bao"


def test_a_cancel_that_a_full_disk_lost_with_the_power_counts_when_the_broker_sends_it_again() -> None:
    world = World()
    world.order("broadcast", broadcast("bao", media("a", 60, world), zones=["loa"], **{"class": "emergency"}))
    world.advance(2)
    world.disk_full = True
    world.order("cancel", {"ids": ["bao"]})
    assert world.sounding() is None
    world.set_link(False)
    world.crash()
    world.disk_full = False
    world.advance(1)
    assert world.sounding() == "bao"  # the station cannot know
    heard: list[str | None] = []
    world.watch = lambda: heard.append(world.sounding())
    world.set_link(True)
    world.advance(6)
    assert set(heard) == {None}
    assert world.outcomes()[-1] == ("bao", "interrupted", "cancelled")


def test_an_order_that_comes_while_a_disk_catches_up_is_acknowledged_when_it_is_written() -> None:
    world = World()
    world.order("broadcast", broadcast("bao", media("a", 60, world), zones=["loa"], **{"class": "emergency"}))
    world.advance(1)
    world.disk_full = True
    world.press("khan-cap", 0.5)
    world.advance(1)
    world.disk_full, world.slow_disk = False, True
    world.advance(6)  # what was not taken is on its way
    world.press("khan-cap", 0.5)
    world.commit(1)
    assert world.station.storage_bad is None
    world.order("cancel", {"ids": ["bao"]})
    assert len(world.unacknowledged) == 1
    world.slow_disk = False
    world.crash()
    world.advance(2)
    assert world.sounding() is None
    assert world.unacknowledged == {}


def test_a_zone_that_voice_kept_for_a_message_is_free_when_voice_is_another() -> None:
    world = World()
    world.press("khan-cap", 9)
    world.restart()  # the agent knows nothing of the message any more
    world.order("broadcast", broadcast("tin-1", media("a", 5, world), zones=["loa"]))
    world.advance(0.1)
    assert world.sounding() == "local:khan-cap:1"
    world.lose_voice()
    world.voice_back()
    assert world.sounding() == "tin-1"


def test_a_lift_that_the_broker_brings_after_a_later_silence_does_not_end_it() -> None:
    world = World()
    world.state_order("silence", {"on": False, "zones": ["*"], "version": 1})
    world.advance(60)
    world.state_order("silence", {"on": True, "zones": ["*"], "version": 1}, "khan-cap-huyen")
    anew = World(province=world.province)  # another card
    anew.set_link(False)
    anew.advance(60)
    anew.retained = dict(reversed(world.retained.items()))
    anew.set_link(True)
    anew.order("broadcast", broadcast("bao", CHIME, **{"class": "emergency"}))
    anew.advance(1)
    assert anew.sounding() is None


def test_the_communes_own_programme_is_signed_and_names_who_approved_it() -> None:
    world = World()
    answer = world.ask(
        "add",
        text="Mời bà con ấp 3 đi tiêm.",
        lang="vi",
        title="Tiêm vắc-xin",
        at=at(30),
        zones=["loa"],
        **{"class": "normal"},
        approved_by="Nguyễn Văn A",
    )
    assert answer["ok"], answer
    world.advance(40)
    entry = next(e for e in world.log if e["zone"] == "loa")
    assert (entry["result"], entry["iss"], entry["approved_by"]) == ("completed", "xa-mau", "Nguyễn Văn A")


def test_voice_lost_in_mid_programme_resumes_when_it_is_back() -> None:
    from agent.model import voice as vo
    from agent.model.events import VoiceLost

    world = World()
    world.order("broadcast", broadcast("tin-1", media("a", 30, world), zones=["loa"]))
    world.advance(10)
    world.on.clear()
    world.post(VoiceLost("it was killed"))
    world.advance(1)
    world.post(vo.Hello(version="0", pid=2, armed_ns=0, zones=[], pinned=[], relays={}))
    world.advance(40)
    assert world.outcomes() == [("tin-1", "interrupted", "voice-lost"), ("tin-1", "completed", None)]


def test_a_stopped_emergency_needs_a_held_button() -> None:
    from agent.model import voice as vo

    world = World()
    world.order("broadcast", broadcast("bao", media("a", 60, world), **{"class": "emergency"}))
    world.advance(2)
    world.post(vo.ButtonEvent(button="dung", state="pressed", at_ns=world.mono))
    world.advance(1)
    assert world.sounding() == "bao"
    world.post(vo.ButtonEvent(button="dung", state="held", at_ns=world.mono))
    world.advance(0.1)
    assert world.sounding() is None


def test_a_beat_of_three_zones_is_at_most_120_bytes_and_tells_as_much_of_the_ids_as_fits() -> None:
    import msgspec

    world = World()
    idle = world.station.reporter.beat(world.station, world.now)
    assert len(msgspec.json.encode({**idle, "n": 525_600, "log": [1_000_000, "0" * 8], "rev": 100_000})) <= 120
    world.order("broadcast", broadcast("tin-dai-ten-1", media("a", 30, world), zones=["loa"]))
    world.advance(1)
    assert world.station.reporter.beat(world.station, world.now)["zones"] == {"loa": "tin-dai-"}
    world.order("broadcast", broadcast("tin-dai-ten-2", media("b", 30, world), **{"class": "emergency"}))
    world.advance(1)
    beat = world.station.reporter.beat(world.station, world.now)
    assert len(msgspec.json.encode(beat)) <= 120
    assert set(beat["zones"]) == {"loa", "loa-2", "bang"}
    assert all("tin-dai-ten-2".startswith(part) and part for part in beat["zones"].values())


# -- zones that cannot be on together, and power chains that fail ------------------------------------------------------

RELAYS = [{"id": "amp", "pin": 1}, {"id": "line-1", "pin": 2, "excludes": ["line-2"]}, {"id": "line-2", "pin": 3}]


def one_amplifier(*, excluded: bool) -> World:
    """Two hamlets on one amplifier. `excluded`: it is too weak for both lines at once."""
    zones = [
        {
            "id": zone,
            "kind": "sound",
            "output": {"driver": "wav", "path": "s.wav"},
            "amplifier": "amp",
            "power": [{"relay": "amp"}, {"relay": line}],
        }
        for zone, line in (("loa", "line-1"), ("loa-2", "line-2"))
    ]
    relays = RELAYS if excluded else [{k: v for k, v in r.items() if k != "excludes"} for r in RELAYS]
    return World(zones=zones, relays=relays)


def test_lines_that_are_never_on_together_get_a_programme_for_both_one_after_the_other() -> None:
    world = one_amplifier(excluded=True)
    jti = world.order("broadcast", broadcast("tin", media("a", 10, world)))
    world.advance(5)
    assert (world.sounding("loa"), world.sounding("loa-2")) == ("tin", None)
    world.advance(10)
    assert (world.sounding("loa"), world.sounding("loa-2")) == (None, "tin")
    world.advance(10)
    assert world.states_of(jti)[-1] == "done"
    assert world.outcomes("loa") == world.outcomes("loa-2") == [("tin", "completed", None)]
    second = next(e for e in world.log if e["zone"] == "loa-2")
    assert abs(second["start_error_ms"]) < 100  # against the moment the line came free


def test_of_two_lines_that_are_never_on_together_the_emergency_has_its_own_at_once() -> None:
    world = one_amplifier(excluded=True)
    world.order("broadcast", broadcast("tin", media("a", 20, world), zones=["loa"]))
    world.advance(5)
    world.order("broadcast", broadcast("bao", media("b", 10, world), zones=["loa-2"], **{"class": "emergency"}))
    world.advance(0.1)
    assert (world.sounding("loa"), world.sounding("loa-2")) == (None, "bao")
    world.advance(11)
    assert (world.sounding("loa"), world.sounding("loa-2")) == ("tin", None)
    world.advance(30)
    assert world.outcomes("loa") == [("tin", "interrupted", "outranked"), ("tin", "completed", None)]


def test_two_lines_of_one_amplifier_carry_one_programme_together_and_two_one_after_the_other() -> None:
    world = one_amplifier(excluded=False)
    world.order("broadcast", broadcast("ca-hai", media("a", 10, world)))
    world.advance(5)
    assert (world.sounding("loa"), world.sounding("loa-2")) == ("ca-hai", "ca-hai")
    world.advance(10)
    world.order("broadcast", broadcast("mot", media("b", 10, world), zones=["loa"]))
    world.order("broadcast", broadcast("hai", media("c", 10, world), zones=["loa-2"]))
    world.advance(5)
    assert (world.sounding("loa"), world.sounding("loa-2")) == ("mot", None)
    world.advance(10)
    assert (world.sounding("loa"), world.sounding("loa-2")) == (None, "hai")


def test_an_emergency_on_one_line_of_an_amplifier_stops_what_the_other_carries() -> None:
    world = one_amplifier(excluded=False)
    world.order("broadcast", broadcast("tin", media("a", 20, world)))
    world.advance(5)
    world.order("broadcast", broadcast("bao", media("b", 10, world), zones=["loa-2"], **{"class": "emergency"}))
    world.advance(1)
    assert (world.sounding("loa"), world.sounding("loa-2")) == (None, "bao")
    world.advance(12)
    assert (world.sounding("loa"), world.sounding("loa-2")) == ("tin", "tin")


def fail_power(world: World, zone: str = "loa") -> None:
    """Voice ends what plays there, as it does when a relay of the chain has failed."""
    for running in [s for s in world.on.values() if zone in s.zones]:
        world.post(world._ended(running, zone, "relay-fault"))


def test_a_programme_whose_relay_fails_ends_with_that_reason_and_the_other_zone_goes_on() -> None:
    world = World()
    jti = world.order("broadcast", broadcast("tin", media("a", 20, world), zones=["kind:sound"]))
    world.advance(5)
    fail_power(world)
    world.advance(1)
    assert (world.sounding("loa"), world.sounding("loa-2")) == (None, "tin")
    assert world.outcomes("loa") == [("tin", "interrupted", "relay-fault")]
    world.advance(20)
    (last,) = [a for a in world.acks(jti) if a["state"] == "done"]
    assert last["zones"]["loa"] | {"state": "failed", "reason": "relay-fault"} == last["zones"]["loa"]


def test_an_emergency_is_tried_again_in_a_zone_whose_relay_failed() -> None:
    world = World()
    world.order("broadcast", broadcast("bao", media("a", 8, world), **{"class": "emergency"}))
    world.advance(2)
    fail_power(world)
    world.advance(5)
    assert world.sounding("loa") is None
    world.advance(6)
    assert world.sounding("loa") == "bao"
    world.advance(30)
    assert world.outcomes("loa")[-1] == ("bao", "completed", None)


def test_what_is_wrong_with_a_relay_is_an_alarm_until_it_is_mended() -> None:
    from agent.model import voice as vo

    world = World(relays=[{"id": "amp", "pin": 1, "switches": "amplifier", "feedback": {"pin": 2}}])
    for fault in ("not-following", None, "stuck", "stuck", None):
        world.post(vo.RelayEvent(relay="amp", on=False, at_ns=world.mono, fault=fault))
    told = [(e["what"], e["on"], e["device"]) for e in world.events("alarm") if e["what"].startswith("relay-")]
    assert told == [
        ("relay-not-following", True, "amp"),
        ("relay-not-following", False, "amp"),
        ("relay-stuck", True, "amp"),
        ("relay-stuck", False, "amp"),
    ]


def test_an_external_source_is_heard_inside_its_hours_only_and_not_while_silenced() -> None:
    idle = {"source": "external", "relay": "over", "power": [{"relay": "amp"}], "hours": ["12:01-12:02"]}
    zone = {"id": "loa", "kind": "sound", "output": {"driver": "wav", "path": "s.wav"}, "idle": idle}
    world = World(zones=[zone], relays=[{"id": "over", "pin": 1}, {"id": "amp", "pin": 2}], buttons=[])
    assert world.idle == []
    world.advance(65)
    assert world.idle == ["loa"]
    world.state_order("silence", {"on": True, "zones": ["*"], "version": 1, "scope": "tram-xa-mau"})
    world.advance(1)
    assert world.idle == []
    world.state_order("silence", {"on": False, "zones": ["*"], "version": 2, "scope": "tram-xa-mau"})
    world.advance(1)
    assert world.idle == ["loa"]
    world.advance(60)
    assert world.idle == []
