"""A station and its clusters: what goes down, what comes up, and what the station says of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.core import commands as do
from agent.core import recurrence
from agent.core.intake import Admitted, Ignored, Intake, Rejected, Verdict
from agent.link import topics
from agent.model import events as ev
from agent.model import voice as vo
from agent.model.config import Station as Config
from agent.model.orders import Media
from agent.trust.replay import ReplayMemory
from tests.unit.core.world import CONFIG, DEVICE, T0, Province, World

GROUP = "group:xa-mau-cum"
CLUSTERS = [
    {"id": "cum-1", "device": "xa-mau-cum-1", "tags": ["ven-song"]},
    {"id": "cum-2", "device": "xa-mau-cum-2", "hamlet": "Ấp 2"},
    {"id": "cum-3", "device": "xa-mau-cum-3"},
    {"id": "cum-day", "zone": "loa"},
]
LINK = {"host": "10.20.0.5", "ca": "ca", "cert": "c", "key": "k", "group": "xa-mau-cum"}
NEWS = {"sha256": "ab" * 32, "size": 10, "url": "https://media.example/x", "type": "audio/mpeg"}


class Commune(World):
    """A station with three clusters on its link; keeps what was published there."""

    def __init__(self, **changes: Any) -> None:
        self.passed: list[do.PassOn] = []
        self.wanted: set[str] = set()
        super().__init__({**CONFIG, "clusters": CLUSTERS, "cluster_link": LINK}, **changes)

    def _passon(self, command: do.PassOn) -> None:
        self.passed.append(command)

    def _want(self, command: do.Want) -> None:
        self.wanted = {need.media.sha256 for need in command.needs}

    def on_group(self, op: str, args: dict[str, Any], *, aud: list[str] | None = None, **claims: Any) -> bytes:
        """An order of the province on the commune's group topic."""
        self.province.ctr["tinh"] += 1
        signer = self.province.signer("tinh")
        ctr, ttl = self.province.ctr["tinh"], claims.pop("ttl", 3600.0)
        raw = signer.order(op, args, aud or [GROUP], now=self.wall, ttl=ttl, ctr=ctr, **claims).encode()
        self._tokens += 1
        self.post(ev.OrderArrived(topics.order("group:tinh-mau"), raw, False, self._tokens))
        return raw

    def says(self, device: str, leaf: str, /, **body: Any) -> None:
        """A cluster's message on the station's link."""
        payload = msgspec.json.encode(body)
        self._tokens += 1
        self.post(ev.ClusterSaid(device, leaf, payload, self._tokens))

    def comes(self, device: str, /, birth: int = 1, since: str = "a", **body: Any) -> None:
        zones = body.pop("zones", [{"id": "loa", "kind": "sound", "tags": []}])
        self.says(device, "state", device=device, online=True, birth=birth, since=since, zones=zones, **body)

    def judged(self, command: do.PassOn, device: str, groups: list[str] | None = None) -> Verdict:
        """What a cluster makes of it."""
        config = {
            **CONFIG,
            "device": {
                "id": device,
                "name": "Cụm",
                "unit": "84/86/xa-mau/ap-1",
                "role": "cluster",
                "groups": groups or ["xa-mau-cum"],
            },
        }
        cluster = msgspec.convert(config, type=Config)
        intake = Intake(cluster, self.province.trusted(), ReplayMemory(0.0), recurrence.check)
        if command.op is None:
            return intake.check(topics.order(command.target), command.payload, False, self.now)
        topic = topics.desired(command.target, command.op, command.iss or "")
        return intake.check(topic, command.payload, True, self.now)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status")["result"]
        return found


def bulletin(**changes: Any) -> dict[str, Any]:
    return {
        "id": "tin",
        "title": "Tin",
        "class": "priority",
        "start": "now",
        "zones": ["*"],
        "resume": "drop",
        "items": [{"chime": "gong"}],
    } | changes


# downwards: the province's orders


def test_a_group_order_goes_on_unchanged_and_is_admitted_there() -> None:
    world = Commune()
    raw = world.on_group("broadcast", bulletin())
    (command,) = world.passed
    assert command.payload == raw
    assert (command.target, command.op) == ("group:tinh-mau", None)
    assert 3590 <= (command.expiry_s or 0) <= 3600
    assert isinstance(world.judged(command, "xa-mau-cum-1", ["tinh-mau", "xa-mau-cum"]), Admitted)


def test_an_order_to_the_station_that_names_a_cluster_goes_on_to_that_cluster() -> None:
    world = Commune()
    world.province.ctr["tinh"] += 1
    raw = world.province.signer("tinh").order(
        "broadcast", bulletin(), [DEVICE, "xa-mau-cum-2"], now=world.wall, ttl=600, ctr=world.province.ctr["tinh"]
    )
    world.deliver(topics.order(DEVICE), raw.encode())
    assert [c.target for c in world.passed] == ["xa-mau-cum-2"]
    assert isinstance(world.judged(world.passed[0], "xa-mau-cum-2"), Admitted)


def test_an_order_on_a_clusters_own_topic_is_passed_on_and_not_answered_by_the_station() -> None:
    world = Commune()
    world.province.ctr["tinh"] += 1
    raw = world.province.signer("tinh").order(
        "broadcast", bulletin(), ["xa-mau-cum-1"], now=world.wall, ttl=600, ctr=world.province.ctr["tinh"]
    )
    world.deliver(topics.order("xa-mau-cum-1"), raw.encode())
    assert [c.target for c in world.passed] == ["xa-mau-cum-1"]
    assert not any(topic == "ack" for topic, _ in world._sent())
    assert not world.unacknowledged


def test_a_state_order_stays_retained_until_a_newer_one_replaces_it() -> None:
    world = Commune()
    for version in (1, 2, 1):
        args = {"scope": "group:tinh-mau", "version": version, "on": True, "zones": ["*"]}
        raw = world.province.signer("tinh").order("silence", args, ["group:tinh-mau"], now=world.wall).encode()
        world.post(ev.OrderArrived(topics.desired("group:tinh-mau", "silence", "tinh"), raw, True, 0))
    assert len(world.passed) == 2
    assert all((c.op, c.iss, c.expiry_s) == ("silence", "tinh", None) for c in world.passed)
    world.passed.clear()
    world.post(ev.ClustersUp())
    (again,) = world.passed
    assert msgspec.json.decode(_claims(again.payload))["args"]["version"] == 2


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iat_shift": -10_000, "ttl": 60.0}, "expired"),
        ({"forged": True}, "signed by nobody we know"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_no_cluster_would_take_goes_nowhere_and_costs_no_write(claims: dict[str, Any], why: str) -> None:
    world = Commune()
    signer = (Province() if claims.get("forged") else world.province).signer("tinh")
    raw = signer.order(
        "broadcast",
        bulletin(),
        [GROUP],
        now=world.wall + claims.get("iat_shift", 0),
        ttl=claims.get("ttl", 60.0),
        ctr=9,
    )
    world.post(ev.OrderArrived(topics.order("group:tinh-mau"), raw.encode(), False, 1))
    assert world.passed == []
    assert not [key for key in world.values if key.startswith("pass/")]


def test_the_same_order_again_is_passed_on_once() -> None:
    world = Commune()
    raw = world.on_group("broadcast", bulletin())
    world.post(ev.OrderArrived(topics.order("group:tinh-mau"), raw, False, 77))
    assert len(world.passed) == 1


def test_an_everyday_order_waits_for_the_disk_and_an_emergency_does_not() -> None:
    world = Commune()
    world.slow_disk = True
    world.on_group("broadcast", bulletin())
    assert world.passed == []
    world.on_group("broadcast", bulletin(**{"id": "bao", "class": "emergency"}))
    assert len(world.passed) == 2


def test_an_order_reaches_the_clusters_after_the_agent_was_killed_in_the_middle_of_passing_it_on() -> None:
    world = Commune()
    world.slow_disk = True
    raw = world.on_group("broadcast", bulletin())
    world.commit(1)
    world.passed.clear()  # it died before the link had it
    world.slow_disk = False
    world.crash()
    world.post(ev.ClustersUp())
    assert [c.payload for c in world.passed] == [raw]


def test_a_cluster_that_comes_back_is_given_what_it_has_not_acknowledged() -> None:
    world = Commune()
    world.post(ev.ClustersUp())
    for device in ("xa-mau-cum-1", "xa-mau-cum-2", "xa-mau-cum-3"):
        world.comes(device)
    raw = world.on_group("broadcast", bulletin(), jti="j-1")
    world.says("xa-mau-cum-1", "ack", jti="j-1", iss="tinh", seq=1, state="received", at="x")
    world.passed.clear()
    world.comes("xa-mau-cum-1", birth=2)
    assert world.passed == []
    world.comes("xa-mau-cum-2", birth=2)
    assert [(c.target, c.payload) for c in world.passed] == [("xa-mau-cum-2", raw)]
    assert isinstance(world.judged(world.passed[0], "xa-mau-cum-2"), Admitted)


def test_what_all_have_acknowledged_or_what_has_expired_is_forgotten() -> None:
    world = Commune()
    world.on_group("broadcast", bulletin(), jti="j-1")
    world.on_group("broadcast", bulletin(id="b"), jti="j-2", ttl=60.0)
    assert len([k for k in world.values if k.startswith("pass/")]) == 2
    for device in ("xa-mau-cum-1", "xa-mau-cum-2", "xa-mau-cum-3"):
        world.says(device, "ack", jti="j-1", iss="tinh", seq=1, state="received", at="x")
    assert len([k for k in world.values if k.startswith("pass/")]) == 1
    world.advance(70)
    assert not [k for k in world.values if k.startswith("pass/")]


def test_media_for_clusters_alone_is_fetched_here_once_and_kept_until_they_are_through() -> None:
    world = Commune(content={"allowed_hosts": ["media.example"]})
    world.on_group("broadcast", bulletin(zones=["cum-9"], items=[{"media": NEWS}]), jti="j-1")
    assert NEWS["sha256"] in world.wanted
    for state in ("received", "done"):
        assert NEWS["sha256"] in world.wanted
        for device in ("xa-mau-cum-1", "xa-mau-cum-2", "xa-mau-cum-3"):
            world.says(device, "ack", jti="j-1", iss="tinh", seq=1, state=state, at="x")
    world.advance(61)
    assert NEWS["sha256"] not in world.wanted


# downwards: the commune's own


def test_a_pressed_button_sounds_at_all_clusters_at_once_by_the_stations_own_key() -> None:
    world = Commune()
    world.slow_disk = True
    for device in ("xa-mau-cum-1", "xa-mau-cum-2"):
        world.comes(device)
    world.post(ev.MessageShared("bao-dong", Media("cd" * 32, 99, "local:" + "cd" * 32, "audio/wav")))
    world.press("khan-cap")
    (command,) = world.passed
    assert command.target == GROUP
    verdict = world.judged(command, "xa-mau-cum-3")
    assert isinstance(verdict, Admitted)
    assert verdict.order.iss == "xa-mau"
    args = verdict.order.members
    assert (args["class"], args["start"], args["zones"]) == ("emergency", "now", ["kind:sound"])
    assert args["items"] == [
        {"chime": "siren"},
        {"media": {"sha256": "cd" * 32, "size": 99, "url": "local:" + "cd" * 32, "type": "audio/wav"}},
    ]
    assert len(command.payload) <= 4096
    assert "cd" * 32 in world.wanted


def test_boards_on_the_link_show_the_words_of_a_pressed_button() -> None:
    world = Commune()
    world.comes("xa-mau-cum-3", zones=[{"id": "bang", "kind": "screen", "tags": []}])
    world.press("khan-cap")
    shown = {c.target: world.judged(c, "xa-mau-cum-3") for c in world.passed}
    texts = [v.order.members for v in shown.values() if isinstance(v, Admitted)]
    assert any(t["zones"] == ["kind:screen"] and t["items"][0]["text"].startswith("Khẩn cấp") for t in texts)


def test_no_counter_of_the_stations_key_is_used_twice_even_when_power_fails_right_after_the_press() -> None:
    world = Commune()
    counters = []
    for _ in range(5):
        world.slow_disk = True
        world.press("khan-cap")
        verdict = world.judged(world.passed[-1], "xa-mau-cum-1")
        assert isinstance(verdict, Admitted)
        counters.append(world.station.take_ctr())
        world.slow_disk = False
        world.crash()
        world.advance(1)
    assert len(set(counters)) == len(counters)
    assert counters == sorted(counters)


def test_stop_ends_at_the_clusters_what_the_station_started_there() -> None:
    world = Commune()
    world.press("khan-cap")
    started = world.judged(world.passed[-1], "xa-mau-cum-1")
    world.post(_button("dung", "pressed", world))
    cancel = world.judged(world.passed[-1], "xa-mau-cum-1")
    assert isinstance(cancel, Admitted)
    assert isinstance(started, Admitted)
    assert cancel.order.op == "cancel"
    assert cancel.order.members["ids"] == [started.order.members["id"]]
    world.passed.clear()
    world.comes("xa-mau-cum-2", birth=9, since="z")
    assert all(b"cancel" in _claims(c.payload) for c in world.passed), "what was stopped is not given to who comes back"


def _button(button: str, state: str, world: World) -> Any:
    from agent.model import voice as vo

    return vo.ButtonEvent(button=button, state=state, at_ns=world.mono)


def _claims(payload: bytes) -> bytes:
    import base64

    return base64.urlsafe_b64decode(payload.split(b".")[1] + b"==")


@pytest.mark.parametrize(
    ("zones", "here", "there"),
    [
        (["*"], True, [GROUP]),
        (["cum-2"], False, ["xa-mau-cum-2"]),
        (["tag:ven-song"], False, ["xa-mau-cum-1"]),
        (["loa", "cum-3"], True, ["xa-mau-cum-3"]),
        (["cum-1", "cum-2", "cum-3"], False, [GROUP]),
        (["loa"], True, []),
    ],
)
def test_an_everyday_programme_is_heard_where_it_is_meant_and_in_no_other_hamlet(
    zones: list[str], here: bool, there: list[str]
) -> None:
    world = Commune()
    answer = world.ask("add", text="Mời họp", lang="vi", title="Họp", zones=zones, approved_by="Chủ tịch")
    assert answer["ok"], answer
    assert any(p.title == "Họp" for p in world.station.programmes.values()) is here
    auds = [msgspec.json.decode(_claims(c.payload))["aud"] for c in world.passed]
    assert auds == ([there] if there else [])
    for command in world.passed:
        meant = {d for d in ("xa-mau-cum-1", "xa-mau-cum-2", "xa-mau-cum-3") if there == [GROUP] or d in there}
        for device in ("xa-mau-cum-1", "xa-mau-cum-2", "xa-mau-cum-3"):
            assert isinstance(world.judged(command, device), Admitted) is (device in meant)


def test_what_begins_at_once_here_and_there_begins_together() -> None:
    world = Commune()
    world.ask("add", text="Mời họp", lang="vi", title="Họp", zones=["*"], approved_by="Chủ tịch")
    verdict = world.judged(world.passed[0], "xa-mau-cum-1")
    assert isinstance(verdict, Admitted)
    (programme,) = [p for p in world.station.programmes.values() if p.title == "Họp"]
    assert verdict.order.members["start"] == world.station.ledger.time(programme.start)
    assert programme.start == pytest.approx(T0 + 2.0, abs=0.01)


def test_a_programme_for_clusters_alone_is_refused_for_the_same_reasons() -> None:
    world = Commune()
    answer = world.ask("add", text="x", lang="vi", title="H", at="hôm qua", zones=["cum-1"], approved_by="A")
    assert (answer["ok"], answer["reason"]) == (False, "bad-args")
    assert world.passed == []


def test_a_silence_by_the_officer_reaches_all_clusters_and_is_lifted_there() -> None:
    world = Commune()
    versions = []
    for on in (True, False):
        assert world.ask("silence", on=on, zones=["*"])["ok"]
        command = next(c for c in reversed(world.passed) if c.op == "silence")
        verdict = world.judged(command, "xa-mau-cum-2")
        assert isinstance(verdict, Admitted)
        assert verdict.order.members["on"] is on
        versions.append(verdict.order.members["version"])
    assert versions[1] > versions[0]


def silences(world: Commune, device: str = "xa-mau-cum-2") -> list[tuple[bool, int]]:
    verdicts = [world.judged(c, device) for c in world.passed if c.op == "silence"]
    assert all(isinstance(v, Admitted) for v in verdicts)
    return [(v.order.members["on"], v.order.members["version"]) for v in verdicts if isinstance(v, Admitted)]


def test_a_held_stop_ends_what_came_from_above_at_the_clusters_and_what_comes_next_is_heard_there() -> None:
    world = Commune()
    world.on_group("broadcast", bulletin(id="bao", **{"class": "emergency"}))
    world.passed.clear()
    world.post(vo.ButtonEvent(button="dung", state="held", at_ns=world.mono))
    (on, first), (off, second) = silences(world)
    assert (on, off) == (True, False)
    assert second > first
    world.passed.clear()
    world.comes("xa-mau-cum-1")
    assert [c for c in world.passed if c.op is None] == [], "it is over for one that comes back, too"
    world.on_group("broadcast", bulletin(id="bao-2", **{"class": "emergency"}))
    assert [c.op for c in world.passed if c.op is None] == [None]


def test_a_tapped_stop_leaves_alone_what_came_from_above() -> None:
    world = Commune()
    world.post(vo.ButtonEvent(button="dung", state="pressed", at_ns=world.mono))
    assert silences(world) == []


def test_a_held_stop_does_not_lift_an_officers_silence() -> None:
    world = Commune()
    world.ask("silence", on=True, zones=["*"])
    world.passed.clear()
    world.post(vo.ButtonEvent(button="dung", state="held", at_ns=world.mono))
    assert silences(world) == []


@pytest.mark.parametrize(
    ("zones", "reached"), [(["*"], True), (["kind:sound"], True), (["cum-2"], True), (["loa"], False)]
)
def test_the_key_that_silences_reaches_the_clusters_of_its_zones_and_lifts_there(
    zones: list[str], reached: bool
) -> None:
    key = {"id": "ngat", "pin": 9, "action": {"silence": True}, "zones": zones}
    world = Commune(buttons=[*CONFIG["buttons"], key])
    world.turn("ngat", True)
    assert [on for on, _ in silences(world)] == ([True] if reached else [])
    world.turn("ngat", False)
    told = silences(world)
    assert [on for on, _ in told] == ([True, False] if reached else [])
    assert [version for _, version in told] == sorted({version for _, version in told})


TALK = {"id": "micro", "pin": 9, "action": {"microphone": True, "longest_s": 60}}


def talking(**changes: Any) -> tuple[Commune, dict[str, Any]]:
    """The officer speaks; what the clusters were told of it."""
    world = Commune(buttons=[*CONFIG["buttons"], TALK], microphone={"device": "m"}, **changes)
    world.press("micro", 20)
    (command,) = world.passed
    verdict = world.judged(command, "xa-mau-cum-1")
    assert isinstance(verdict, Admitted)
    return world, verdict.order.members


def test_an_emergency_microphone_is_taken_by_the_clusters_from_the_station_and_they_have_words_if_they_cannot() -> None:
    world, told = talking()
    chime, live = told["items"]
    assert (told["class"], told["title"], told["resume"]) == ("emergency", world.config.talk_title, "drop")
    assert chime == {"chime": "gong"}
    assert live["stream"] == "local:local:micro:1"
    assert live["lease_s"] > 60
    assert live["fallback"] == {"text": world.config.talk_words, "lang": "vi"}


def test_boards_show_that_the_station_speaks_and_are_given_no_sound() -> None:
    world = Commune(buttons=[*CONFIG["buttons"], TALK], microphone={"device": "m"})
    for device in ("xa-mau-cum-1", "xa-mau-cum-2"):
        world.comes(device)
    world.comes("xa-mau-cum-3", zones=[{"id": "bang", "kind": "screen", "tags": []}])
    world.passed.clear()
    world.press("micro", 5)
    verdicts = [world.judged(c, "xa-mau-cum-3") for c in world.passed]
    (shown,) = [v.order.members for v in verdicts if isinstance(v, Admitted)]
    assert (shown["zones"], shown["items"]) == (
        ["kind:screen"],
        [{"text": world.config.talk_words, "lang": "vi"}],
    )


def test_what_was_spoken_to_its_end_is_not_cut_short_and_given_to_nobody_who_comes_back() -> None:
    world, _ = talking()
    world.passed.clear()
    world.advance(25)
    assert world.on == {}
    assert world.passed == []
    world.comes("xa-mau-cum-1")
    assert world.passed == []


@pytest.mark.parametrize("cut", ["stopped", "voice lost", "power"])
def test_what_was_cut_off_here_is_cut_off_there(cut: str) -> None:
    world, told = talking()
    world.advance(5)
    world.passed.clear()
    if cut == "stopped":
        (running,) = world.on.values()
        world.post(*(world._ended(running, zone, "local") for zone in sorted(running.zones)))
    elif cut == "voice lost":
        world.post(ev.VoiceLost("gone"))
    else:
        world.crash()
    world.advance(2)
    assert ("cancel", {"ids": [told["id"]]}) in passed_on(world)
    world.comes("xa-mau-cum-1")
    assert "broadcast" not in [op for op, _ in passed_on(world)]


def test_the_agent_dies_while_she_speaks_and_the_clusters_that_still_hear_her_are_not_cut_off() -> None:
    world, _ = talking()
    world.advance(5)
    world.restart()
    world.post(ev.ClustersUp())
    passed_on(world)
    world.advance(20)
    assert world.on == {}
    world.comes("xa-mau-cum-1")
    assert passed_on(world) == []


def passed_on(world: Commune) -> list[tuple[str, dict[str, Any]]]:
    """What the first cluster has been given meanwhile, and takes."""
    commands, world.passed = world.passed, []
    verdicts = [world.judged(command, "xa-mau-cum-1") for command in commands]
    return [(v.order.op, v.order.members) for v in verdicts if isinstance(v, Admitted)]


def test_a_drill_at_the_microphone_is_a_drill_at_the_clusters() -> None:
    world = Commune(buttons=[*CONFIG["buttons"], TALK], microphone={"device": "m"})
    world.ask("drill", on=True)
    world.press("micro", 5)
    (command,) = world.passed
    verdict = world.judged(command, "xa-mau-cum-1")
    assert isinstance(verdict, Admitted)
    assert verdict.order.members["drill"] is True


def test_an_everyday_microphone_reaches_the_clusters_when_it_is_on_the_air_and_keeps_its_class() -> None:
    button = {**TALK, "class": "normal", "zones": ["loa", "tag:ven-song"], "approved_by": "Lan"}
    world = Commune(buttons=[*CONFIG["buttons"], button], microphone={"device": "m"})
    world.post(vo.ButtonEvent(button="micro", state="pressed", at_ns=world.mono))
    world.advance(2)
    (command,) = world.passed
    assert isinstance(world.judged(command, "xa-mau-cum-2"), Ignored)
    verdict = world.judged(command, "xa-mau-cum-1")
    assert isinstance(verdict, Admitted)
    told = verdict.order.members
    (play,) = world.on
    assert (told["class"], told["approved_by"], told["items"][1]["stream"]) == ("normal", "Lan", f"local:{play}")
    world.passed.clear()
    world.release("micro")
    world.advance(2)
    assert (world.on, world.passed) == ({}, [])


def test_an_everyday_microphone_that_never_gets_on_the_air_is_no_news_for_the_clusters() -> None:
    button = {**TALK, "class": "normal", "zones": ["loa"], "approved_by": "Lan"}
    quiet = [{**CONFIG["zones"][0], "rules": {"quiet_hours": ["00:00-23:59"]}}]
    world = Commune(buttons=[*CONFIG["buttons"], button], microphone={"device": "m"}, zones=quiet)
    world.post(vo.ButtonEvent(button="micro", state="pressed", at_ns=world.mono))
    world.advance(10)
    assert world.passed == []


def test_a_station_without_a_key_passes_on_and_its_buttons_sound_here() -> None:
    world = Commune()
    world.station.sign = None
    world.press("khan-cap")
    assert world.sounding() is not None
    assert world.passed == []


# upwards


def test_what_a_cluster_says_to_the_province_goes_up_unchanged_on_its_own_topic() -> None:
    world = Commune()
    world.says("xa-mau-cum-1", "ack", jti="j", iss="tinh", seq=1, state="received", at="x")
    world.says("xa-mau-cum-1", "event", kind="alarm", seq=4, what="line-open")
    rows = {row.topic: row.body for row in world._outbox.values() if "/" in row.topic}
    assert msgspec.json.decode(rows["xa-mau-cum-1/ack"])["jti"] == "j"
    assert msgspec.json.decode(rows["xa-mau-cum-1/event"]) == {"kind": "alarm", "seq": 4, "what": "line-open"}


def test_it_is_acknowledged_to_the_cluster_only_when_it_is_on_the_disk() -> None:
    world = Commune()
    world.slow_disk = True
    world.says("xa-mau-cum-1", "event", kind="alarm", seq=4, what="line-open")
    token = world._tokens
    assert token not in world.acknowledged
    world.commit()
    assert token in world.acknowledged


def test_the_status_shows_each_cluster_and_claims_nothing_of_one_without_a_return_channel() -> None:
    world = Commune()
    world.comes("xa-mau-cum-2")
    world.says(
        "xa-mau-cum-2",
        "status",
        device="xa-mau-cum-2",
        temperature_c=41.5,
        zones={"loa": {"line": "normal", "owner": {"bulletin": "tin-1"}}},
        faults=[{"what": "x", "detail": "y"}],
    )
    rows = world.status()["clusters"]
    assert rows["cum-2"] | {"seen": 0} == {
        "name": "",
        "hamlet": "Ấp 2",
        "tags": [],
        "device": "xa-mau-cum-2",
        "online": True,
        "seen": 0,
        "line": "normal",
        "temperature_c": 41.5,
        "faults": 1,
        "plays": {"loa": "tin-1"},
    }
    assert "online" not in rows["cum-1"], "it has never been heard of"
    assert "online" not in rows["cum-day"]
    assert rows["cum-day"]["line"] == "unknown"


def test_coming_going_and_a_broken_line_are_alarms_that_end() -> None:
    world = Commune()
    world.comes("xa-mau-cum-2")
    world.says("xa-mau-cum-2", "status", device="xa-mau-cum-2", zones={"loa": {"line": "short"}})
    world.says("xa-mau-cum-2", "state", device="xa-mau-cum-2", online=False, birth=1, since="a")
    told = [(e["what"], e["on"], e.get("cluster")) for e in world.events("alarm")]
    assert told == [("line-short", True, "cum-2"), ("cluster-lost", True, "cum-2")]
    world.comes("xa-mau-cum-2", birth=2)
    assert [(e["what"], e["on"]) for e in world.events("alarm")][-1] == ("cluster-lost", False)


def test_a_late_will_of_a_former_connection_takes_nobody_offline() -> None:
    world = Commune()
    world.comes("xa-mau-cum-2", birth=7)
    world.says("xa-mau-cum-2", "state", device="xa-mau-cum-2", online=False, birth=6, since="a")
    assert world.status()["clusters"]["cum-2"]["online"] is True


def test_one_that_does_not_come_is_missed_two_minutes_after_the_link_serves() -> None:
    world = Commune()
    world.post(ev.ClustersUp())
    world.comes("xa-mau-cum-1")
    world.advance(130)
    lost = {e["cluster"] for e in world.events("alarm") if e["what"] == "cluster-lost"}
    assert lost == {"cum-2", "cum-3"}
    assert "seen" not in world.status()["clusters"]["cum-3"]


@pytest.mark.parametrize(
    ("leaf", "payload", "what"),
    [
        ("status", b'{"device": "xa-mau-cum-1"}', "cluster-lies"),
        ("state", b'{"device": "xa-mau", "online": true, "birth": 1}', "cluster-lies"),
        ("status", b"\xff\xfe", "cluster-garbage"),
        ("status", b"[" * 100_000, "cluster-garbage"),
        ("state", b'{"online": 1}', "cluster-garbage"),
        ("ack", b"", "cluster-garbage"),
    ],
    ids=["another's status", "another's state", "no UTF-8", "deep nesting", "no birth", "too large"],
)
def test_a_cluster_that_lies_or_sends_garbage_is_told_once_and_the_rest_goes_on(
    leaf: str, payload: bytes, what: str
) -> None:
    world = Commune()
    for _ in range(3):
        world.post(ev.ClusterSaid("xa-mau-cum-2", leaf, payload, 1))
    assert [(e["what"], e["cluster"]) for e in world.events("alarm")] == [(what, "cum-2")]
    world.comes("xa-mau-cum-1")
    assert world.status()["clusters"]["cum-1"]["online"] is True


@pytest.mark.parametrize(
    "status",
    [
        {"zones": {"loa": {"line": "purple", "temperature_c": "hot", "test": {"at": "x"}}}},
        {"zones": [1, 2], "faults": {"a": 1}},
        {"zones": {"x": 7}, "temperature_c": True, "volume_db": 1e9},
        {"zones": {f"z{i}": {"owner": {"bulletin": "b" * 9999}} for i in range(500)}},
    ],
)
def test_a_foolish_status_says_nothing_and_breaks_nothing(status: dict[str, Any]) -> None:
    world = Commune()
    world.comes("xa-mau-cum-2")
    world.says("xa-mau-cum-2", "status", device="xa-mau-cum-2", **status)
    row = world.status()["clusters"]["cum-2"]
    assert row["line"] == "unknown"
    assert not {"temperature_c", "volume_db", "test"} & row.keys()
    assert len(msgspec.json.encode(row)) < 4096


def test_two_devices_with_one_certificate_are_found_when_the_first_speaks_again() -> None:
    world = Commune()
    world.comes("xa-mau-cum-2", birth=5, since="a")
    world.comes("xa-mau-cum-2", birth=3, since="b")
    assert not world.events("alarm"), "a device whose memory was lost begins anew"
    world.comes("xa-mau-cum-2", birth=6, since="a")
    assert [e["what"] for e in world.events("alarm")] == ["cluster-twin"]


def test_an_order_refused_here_for_its_zones_still_goes_on_to_who_has_them() -> None:
    world = Commune()
    world.on_group("broadcast", bulletin(zones=["loa-cum"]), aud=["group:tinh-mau"])
    assert len(world.passed) == 1
    assert isinstance(world.judged(world.passed[0], "xa-mau-cum-1", ["tinh-mau"]), Rejected)
