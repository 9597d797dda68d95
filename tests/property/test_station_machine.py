"""Whatever happens, in whatever order: what must hold for the owner after every event and at the end of the day.

A day in the life of a station on a clock that we turn: orders of three authorities, officers, buttons, time, and all
that fails. The longer run is `--hypothesis-profile=deep`.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.programme import Programme, Stage, State
from agent.model import voice as vo
from agent.model.events import MediaFailed, Tick
from agent.model.orders import Class
from tests.property.reference_arbiter import Wish, outranks
from tests.unit.core.world import CONFIG, RATE, T0, Province, Sounding, World, broadcast, media

PROVINCE = Province()
RANK = {"tinh": 100, "khan-cap-huyen": 50, "xa-mau": 10}
OWN = "xa-mau"
PREFERENCE = ["xa-mau", "tinh"]
QUIET_S = (1800.0, 2700.0)
"""12:30 to 12:45, counted from T0."""
LONGEST_S = 60.0
TICK_S = 1.001
"""What has no exact moment in the owner's eyes is seen within a second."""
LOA_2 = {
    **CONFIG["zones"][1],
    "power": [{"relay": "r", "warm_up_s": 2.0}],
    "rules": {"quiet_hours": ["12:30-12:45"], "longest_session_s": LONGEST_S},
}
MACHINE_CONFIG: dict[str, Any] = {
    **CONFIG,
    "zones": [CONFIG["zones"][0], LOA_2, CONFIG["zones"][2]],
    "relays": [{"id": "r", "pin": 1}],
    "priority_order": PREFERENCE,
    "buttons": [
        *CONFIG["buttons"],
        {"id": "khan-cap-2", "pin": 8, "action": {"message": "bao-dong"}, "zones": ["loa-2"]},
        {"id": "micro", "pin": 9, "class": "priority", "action": {"microphone": True}, "zones": ["*"]},
        {"id": "ngat", "pin": 10, "action": {"silence": True}, "zones": ["loa", "bang"]},
    ],
    "microphone": {"device": "m"},
}
LENGTHS = {"a": 1.0, "b": 4.0, "c": 11.0, "d": 30.0}
SHA = {name: media(name, 0)["media"]["sha256"] for name in LENGTHS}
IDS = ["tin-1", "tin-2", "tin-3"]
ZONES = [["*"], ["loa"], ["loa-2"], ["kind:sound"], ["bang"], ["loa", "bang"], ["tag:thon-2"]]
MATCHED = {
    "*": {"loa", "loa-2", "bang"},
    "loa": {"loa"},
    "loa-2": {"loa-2"},
    "kind:sound": {"loa", "loa-2"},
    "bang": {"bang"},
    "tag:thon-2": {"loa-2"},
}

issuers = st.sampled_from(list(RANK))
ids = st.sampled_from(IDS)
zone_lists = st.sampled_from(ZONES)
names = st.sampled_from(list(LENGTHS))
small = st.sampled_from([0.0, 0.004, 0.3, 1.0, 2.0, 2.6])
steps = st.sampled_from([0.0, 0.02, 0.5, 1.0, 2.5, 7.0, 19.0])
kinds_of_item = st.sampled_from(["media", "media", "media", "chime", "text", "local", "relay", "picture"])


def when(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


class Order:
    """One broadcast as we gave it, and what may be expected of it."""

    def __init__(self, args: dict[str, Any], iss: str, jti: str, wall: float) -> None:
        self.args = args
        self.iss, self.jti, self.id = iss, jti, str(args["id"])
        self.class_ = Class(args["class"])
        self.start = wall if args["start"] == "now" else datetime.fromisoformat(args["start"]).timestamp()
        until = args.get("until")
        self.until = None if until is None else datetime.fromisoformat(until).timestamp()
        self.zones = {zone for selector in args["zones"] for zone in MATCHED[selector]}
        self.offered = self.class_ is Class.NORMAL and RANK[iss] > RANK[OWN]
        self.over: float | None = None
        """Since when it must not be heard: cancelled, superseded, declined, stopped."""
        self.revocable = False
        """What ended it may be forgotten with the power: people's word, or an order that is refused the second time."""
        self.disturbed = False
        """The power or the agent failed in its time: how much was played is not known exactly."""

    def seconds(self) -> float | None:
        """The length of its sound, where it is known for certain."""
        total = 3.0 if self.args.get("drill") else 0.0
        for item in self.args["items"]:
            if "chime" in item:
                total += 1.5
            elif "text" in item or "local" in item:
                total += 3.0
            elif "media" in item and item["media"]["type"].startswith("audio"):
                total += next(LENGTHS[n] for n, sha in SHA.items() if sha == item["media"]["sha256"])
            else:
                return None
        return total


class StationMachine(RuleBasedStateMachine):
    config: ClassVar = MACHINE_CONFIG

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.config, PROVINCE)
        self.world.province.ctr = dict.fromkeys(RANK, 0)
        self.orders: dict[str, Order] = {}
        self.silences: dict[str, tuple[int, set[str], float | None, bool]] = {}
        self.lifted = False
        """Whether anything of a silence was ever lifted."""
        self.versions: Counter[str] = Counter()
        self.entries: dict[str, list[dict[str, Any]]] = {}
        self.failures = False
        self.well = True
        self.world.watch = self.watch
        self.world.meets = self.meets

    # orders

    def item(self, kind: str, name: str) -> dict[str, Any]:
        match kind:
            case "chime":
                return {"chime": "gong"}
            case "text":
                return {"text": f"Bà con chú ý {name}.", "lang": "vi", "dwell_s": 3.0}
            case "local":
                return {"local": "moi-hop"}
            case "relay":
                return {"relay": "voh", "duration_s": 8.0, "fallback": {"chime": "gong"}}
            case "picture":
                picture = media(name, 0)
                picture["media"]["type"] = "image/png"
                return picture
        return media(name, 0)

    @precondition(lambda self: self.world.link_up)
    @rule(
        iss=issuers,
        bulletin=ids,
        class_=st.sampled_from(["normal", "priority", "emergency"]),
        ahead=st.sampled_from([None, None, 0.2, 2.0, 5.0, 40.0]),
        lasts=st.sampled_from([None, None, None, 3.0, 15.0]),
        zones=zone_lists,
        items=st.lists(st.tuples(kinds_of_item, names), min_size=1, max_size=3),
        resume=st.sampled_from(["drop", "restart", "continue", "continue"]),
        repeat=st.sampled_from([None, None, {"count": 2, "interval_s": 3}, {"count": 3}, {"interval_s": 6}]),
        replaces=st.lists(ids, max_size=1),
        volume_db=st.sampled_from([None, -6.0]),
        drill=st.sampled_from([False, False, True]),
    )
    def broadcast(
        self,
        iss: str,
        bulletin: str,
        class_: str,
        ahead: float | None,
        lasts: float | None,
        zones: list[str],
        items: list[tuple[str, str]],
        resume: str,
        repeat: dict[str, int] | None,
        replaces: list[str],
        volume_db: float | None,
        drill: bool,
    ) -> None:
        world = self.world
        begin = world.wall - T0 + (ahead or 0.0)
        args = broadcast(
            bulletin,
            *(self.item(kind, name) for kind, name in items),
            **{"class": class_},
            start="now" if ahead is None else when(begin),
            zones=zones,
            resume=resume,
            drill=drill,
        )
        optional = {"repeat": repeat, "volume_db": volume_db, "until": None if lasts is None else when(begin + lasts)}
        args |= {k: v for k, v in optional.items() if v is not None}
        args["replaces"] = [r for r in replaces if r != bulletin]
        jti = f"{iss}-{world.province.ctr[iss] + 1}"
        self.orders[jti] = Order(args, iss, jti, world.wall)
        former = [o for o in self.orders.values() if (o.iss, o.id) == (iss, bulletin) and o.jti != jti]
        world.order("broadcast", args, iss, jti=jti)
        if self.admitted(jti):
            for order in former:
                self.finish(order, revocable=True)

    @rule(
        iss=issuers,
        bulletin=ids,
        class_=st.sampled_from(["normal", "priority"]),
        zones=zone_lists,
        name=names,
        accept=st.booleans(),
        seconds=st.sampled_from([0.02, 2.5]),
    )
    def everyday_bulletin(
        self, iss: str, bulletin: str, class_: str, zones: list[str], name: str, accept: bool, seconds: float
    ) -> None:
        """What stations do most of the time, and chance would rarely come upon: all is well, and one file plays."""
        self.mend()
        self.media_comes(name)
        self.broadcast(iss, bulletin, class_, None, None, zones, [("media", name)], "continue", None, [], None, False)
        if accept:
            self.answer_an_offer(yes=True, at=None)
        self.world.advance(seconds)

    @rule(iss=issuers, bulletin=ids, zones=zone_lists, name=names)
    def another_bulletin(self, iss: str, bulletin: str, zones: list[str], name: str) -> None:
        self.everyday_bulletin(iss, bulletin, "normal", zones, name, True, 0.5)

    def admitted(self, jti: str) -> bool:
        return any(p.jti == jti for p in self.world.station.programmes.values()) or any(
            s in ("accepted", "offered", "done", "failed") for s in (a["state"] for a in self.world.acks(jti))
        )

    def knows(self, order: Order) -> bool:
        """Not when a failing disk did not take it before a power cut: people stop what is there, and it comes again."""
        alive = any(p.jti == order.jti for p in self.world.station.programmes.values())
        return alive or (order.iss, order.jti) in self.world.orders

    def finish(self, order: Order, *, revocable: bool = False) -> None:
        if order.over is None:
            order.over = self.world.wall
            order.revocable = revocable

    @precondition(lambda self: self.world.link_up)
    @rule(iss=issuers, bulletin=ids)
    def cancel(self, iss: str, bulletin: str) -> None:
        self.world.order("cancel", {"ids": [bulletin]}, iss, jti=f"cancel-{iss}-{self.world.province.ctr[iss] + 1}")
        for order in self.orders.values():
            if (order.iss, order.id) == (iss, bulletin):
                self.finish(order)

    @precondition(lambda self: self.world.link_up)
    @rule(
        iss=issuers,
        entry=st.sampled_from(["sang", "chieu"]),
        ahead=st.sampled_from([-20.0, -3.0, 2.0, 10.0, 30.0]),
        class_=st.sampled_from(["normal", "priority", "emergency"]),
        zones=zone_lists,
        item=st.tuples(st.sampled_from(["media", "relay", "text"]), names),
        on_late=st.sampled_from(["skip", "join", "play"]),
        resume=st.sampled_from(["drop", "restart", "continue"]),
        duration_s=st.sampled_from([None, 6.0, 25.0]),
        fallback=st.booleans(),
        keep=st.booleans(),
    )
    def schedule(
        self,
        iss: str,
        entry: str,
        ahead: float,
        class_: str,
        zones: list[str],
        item: tuple[str, str],
        on_late: str,
        resume: str,
        duration_s: float | None,
        fallback: bool,
        keep: bool,
    ) -> None:
        line = {
            "id": entry,
            "title": entry,
            "class": class_,
            "dtstart": when(round(self.world.wall - T0 + ahead)),
            "zones": zones,
            "items": [self.item(*item)],
            "resume": resume,
            "on_late": on_late,
            "rrule": "FREQ=DAILY",
        }
        if duration_s is not None:
            line["duration_s"] = duration_s
        if fallback:
            line["fallback"] = {"chime": "gong"}
        kept = [e for e in self.entries.get(iss, []) if e["id"] != entry] if keep else []
        self.entries[iss] = [*kept, line]
        self.versions["schedule", iss] += 1  # type: ignore[index]
        self.world.state_order(
            "schedule", {"version": self.versions["schedule", iss], "entries": self.entries[iss]}, iss
        )  # type: ignore[index]

    @precondition(lambda self: self.world.link_up)
    @rule(
        iss=issuers,
        zones=zone_lists,
        lasts=st.sampled_from([None, 5.0, 30.0]),
        include_local=st.booleans(),
    )
    def silence(self, iss: str, zones: list[str], lasts: float | None, include_local: bool) -> None:
        include_local = include_local and iss == "tinh" and lasts is not None
        until = None if lasts is None else self.world.wall + lasts
        matched = {zone for selector in zones for zone in MATCHED[selector]}
        self.silences[iss] = (RANK[iss], matched, until, include_local)
        args: dict[str, Any] = {"on": True, "zones": zones}
        if until is not None:
            args["until"] = when(until - T0)
        if include_local:
            args["include_local"] = True
        self.give_silence(iss, args)

    @precondition(lambda self: self.world.link_up and self.silences)
    @rule(iss=issuers, zones=st.sampled_from([["*"], ["*"], ["loa"]]))
    def lift(self, iss: str, zones: list[str]) -> None:
        matched = {zone for selector in zones for zone in MATCHED[selector]}
        for other, (rank, held, until, local) in list(self.silences.items()):
            if other == iss or rank < RANK[iss]:
                self.silences[other] = (rank, held - matched, until, local)
        self.lifted = True
        self.give_silence(iss, {"on": False, "zones": zones})

    def give_silence(self, iss: str, args: dict[str, Any]) -> None:
        self.versions["silence", iss] += 1  # type: ignore[index]
        self.world.state_order("silence", {"version": self.versions["silence", iss], **args}, iss)  # type: ignore[index]

    # people

    @precondition(lambda self: self.world.voice_up)
    @rule(closed=st.booleans())
    def turn_the_key(self, closed: bool) -> None:
        if closed == self.world.keys.get("ngat", False):
            return
        mine = {"loa", "bang"}
        if closed:
            self.silences["key"] = (2**31, mine, None, False)
            for order in self.orders.values():
                if order.iss == OWN and order.zones <= mine and self.knows(order):
                    self.finish(order, revocable=True)
        else:
            self.lifted = True
            for other, (rank, held, until, local) in list(self.silences.items()):
                self.silences[other] = (rank, held - mine, until, local)
        self.world.turn("ngat", closed)

    @rule(yes=st.booleans(), at=st.sampled_from([None, None, 4.0]))
    def answer_an_offer(self, yes: bool, at: float | None) -> None:
        waiting = [p for p in self.world.station.programmes.values() if p.state is State.OFFERED]
        if not waiting:
            return
        p = waiting[0]
        order = self.orders.get(p.jti or "")
        if yes:
            if order is not None:
                order.offered = False
                order.start = min(order.start, self.world.wall) if at is None else self.world.wall + at
            extra = {} if at is None else {"at": when(self.world.wall - T0 + at)}
            self.world.ask("accept", id=p.key, **extra)
        else:
            if order is not None:
                self.finish(order, revocable=True)
            self.world.ask("decline", id=p.key)

    @rule(button=st.sampled_from(["khan-cap", "khan-cap-2"]), seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def press(self, button: str, seconds: float) -> None:
        self.world.press(button, seconds)

    @precondition(lambda self: self.world.voice_up)
    @rule()
    def everyday_button(self) -> None:
        self.world.advance(0.005)
        self.world.post(vo.ButtonEvent(button="moi-hop", state="pressed", at_ns=self.world.mono))

    @precondition(lambda self: self.world.voice_up)
    @rule(down=st.booleans())
    def everyday_microphone(self, down: bool) -> None:
        self.world.advance(0.005)
        if down:
            self.world.post(vo.ButtonEvent(button="micro", state="pressed", at_ns=self.world.mono))
        else:
            self.world.release("micro")

    @precondition(lambda self: self.world.voice_up)
    @rule(held=st.booleans())
    def stop(self, held: bool) -> None:
        state = "held" if held else "pressed"
        for order in self.orders.values():
            if (order.iss == OWN or (held and order.class_ is Class.EMERGENCY)) and self.knows(order):
                self.finish(order, revocable=True)
        self.world.post(vo.ButtonEvent(button="dung", state=state, at_ns=self.world.mono))

    # time and everything that fails

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=steps)
    def more_time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([120.0, 600.0, 1800.0]))
    def much_time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(name=names)
    def media_comes(self, name: str) -> None:
        self.world.arrive(SHA[name], LENGTHS[name])

    @rule(name=names, final=st.booleans())
    def media_fails(self, name: str, final: bool) -> None:
        sha = SHA[name]
        if sha not in self.world.media:
            self.failures = self.failures or final
            self.world.post(MediaFailed(sha, "not to be had", final))

    @rule(name=names, seconds=st.sampled_from([0.0, 0.5]))
    def media_is_damaged(self, name: str, seconds: float) -> None:
        self.failures = True
        self.world.broken[SHA[name]] = seconds

    @rule(seconds=st.sampled_from([None, 0.0, 5.0]))
    def relay_source(self, seconds: float | None) -> None:
        self.world.relay_seconds = seconds

    @rule(mute=st.booleans())
    def speech(self, mute: bool) -> None:
        self.failures = self.failures or mute
        self.world.mute_speech = mute

    @rule(zone=st.sampled_from(["loa", "loa-2"]), dead=st.booleans())
    def amplifier(self, zone: str, dead: bool) -> None:
        (self.world.dead_amplifiers.add if dead else self.world.dead_amplifiers.discard)(zone)

    @rule()
    def voice_dies(self) -> None:
        self.world.lose_voice()

    @precondition(lambda self: not self.world.voice_up)
    @rule()
    def voice_is_back(self) -> None:
        self.world.voice_back()

    @rule(up=st.booleans())
    def link(self, up: bool) -> None:
        self.world.set_link(up)

    @precondition(lambda self: not self.world.uncommitted)
    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.world.disk_full = full

    @precondition(lambda self: not self.world.disk_full)
    @rule(slow=st.booleans())
    def slow_disk(self, slow: bool) -> None:
        self.world.slow_disk = slow
        if not slow:
            self.world.commit()

    @precondition(lambda self: self.world.uncommitted)
    @rule(batches=st.integers(1, 3))
    def disk_catches_up(self, batches: int) -> None:
        self.world.commit(batches)

    @rule(slow=st.booleans())
    def decoders(self, slow: bool) -> None:
        self.world.slow_decoders = slow
        if not slow:
            self.world.decode()

    @rule(trusted=st.booleans())
    def clock(self, trusted: bool) -> None:
        self.world.earliest = self.world.wall
        self.world.trusted_clock = trusted
        self.world.post(Tick())

    @rule(off_s=st.sampled_from([0.1, 5.0, 400.0]))
    def power_fails(self, off_s: float) -> None:
        self.disturb()
        self.world.watch = lambda: None
        self.world.crash(off_s)
        self.world.watch = self.watch

    @rule()
    def agent_dies(self) -> None:
        self.disturb()
        self.world.watch = lambda: None
        self.world.restart()
        self.world.watch = self.watch

    @precondition(lambda self: self.world.voice_up)
    @rule()
    def agent_is_stopped(self) -> None:
        self.disturb()
        self.world.watch = lambda: None
        self.world.quit()
        self.world.watch = self.watch

    def disturb(self) -> None:
        world = self.world
        forgets = world.disk_full or world.uncommitted or world.station.storage_bad is not None
        for order in self.orders.values():
            order.disturbed = True
            if forgets and order.revocable:
                order.over = None
        if forgets and self.lifted:
            # The broker keeps the newest order of each issuer; what of a silence a partial lift left, it does not tell.
            self.silences = {iss: held for iss, held in self.silences.items() if iss == "key"}

    @rule()
    def mend(self) -> None:
        """Whatever was wrong is put right; nobody silences any more."""
        world = self.world
        world.watch = lambda: None
        world.disk_full = world.slow_disk = world.slow_decoders = world.mute_speech = False
        world.dead_amplifiers.clear()
        world.trusted_clock = True
        world.commit()
        world.decode()
        world.set_link(True)
        if not world.voice_up:
            world.voice_back()
        self.turn_the_key(closed=False)
        self.lift("tinh", ["*"])
        world.watch = self.watch
        world.post(Tick())

    # what must hold after every event

    def watch(self) -> None:
        world = self.world
        self.well = False
        if world.link_up:
            for running in world.on.values():
                if running.started:
                    self.check_authorised(running)
        if world.voice_up:
            for zone in ("loa", "loa-2"):
                self.check_nobody_waits(zone)
        self.well = True

    def meets(self, new: Sounding, old: Sounding) -> None:
        """What begins while another sounds takes over from it: not for a moment is a lower one heard above a higher."""
        station = self.world.station
        keys = [s.open.play if s.local else station.plays[s.open.play].key for s in (new, old)]
        mine, theirs = (station.programmes.get(key) for key in keys)
        if old.local or mine is None or theirs is None or mine.key == theirs.key:
            return
        ducked = all(self.world.ducked(zone, old) or zone not in new.zones for zone in old.zones)
        taken = theirs.iss == mine.iss and theirs.id in [mine.id, *mine.replaces]
        assert ducked or taken or outranks(self.as_wish(mine), self.as_wish(theirs)), f"{mine.key} above {theirs.key}"

    def silenced(self, zone: str, *, local: bool, since: float) -> bool:
        """Whether a silence has held there for so long that it must be quiet."""
        sure = self.world.now.surely
        return any(
            zone in zones and (until is None or sure < until - since) and (include or not local)
            for _, zones, until, include in self.silences.values()
        )

    def check_authorised(self, running: Sounding) -> None:
        world, wall = self.world, self.world.wall
        play = running.open.play
        local = running.local
        if not local:
            key = world.station.plays[play].key
            p = world.station.programmes[key]
            local = p.iss == OWN
            assert p.state is State.RUNNING, f"{play} sounds and is {p.state}"
            order = self.orders.get(p.jti or "")
            if order is not None:
                self.check_order(running, order)
            elif p.class_ is not Class.EMERGENCY:
                self.check_quiet(running)
        for zone in running.zones:
            assert not self.silenced(zone, local=local, since=0.0), f"{play} sounds in {zone}, which is silenced"
        assert wall >= running.begin

    def check_order(self, running: Sounding, order: Order) -> None:
        wall = self.world.wall
        play = running.open.play
        assert not order.offered, f"{play} sounds and was never accepted"
        assert wall >= order.start - 0.002, f"{play} sounds {order.start - wall} s before its start"
        assert order.over is None or wall <= order.over + 0.002, f"{play} sounds after its end at {order.over}"
        assert running.zones <= order.zones, play
        if order.until is not None and self.world.trusted_clock:
            assert wall <= order.until + TICK_S, f"{play} sounds after its until"
        if order.class_ is not Class.EMERGENCY:
            self.check_quiet(running)

    def check_quiet(self, running: Sounding) -> None:
        if "loa-2" in running.zones and self.world.trusted_clock:
            at = self.world.wall - T0
            assert not QUIET_S[0] + TICK_S < at < QUIET_S[1], f"{running.open.play} sounds in quiet hours"

    def check_nobody_waits(self, zone: str) -> None:
        """No programme that is due and may sound waits while what it outranks has the zone."""
        world = self.world
        held = next((s for s in world.on.values() if zone in s.zones and not world.ducked(zone, s)), None)
        if held is not None and held.local:
            return
        owner = None
        if held is not None:
            owner = self.as_wish(world.station.programmes[world.station.plays[held.open.play].key])
        for p in world.station.programmes.values():
            part = p.parts.get(zone)
            if part is None or part.stage is not Stage.WAITING or p.state not in (State.ACCEPTED, State.RUNNING):
                continue
            due = p.start if p.again_at is None else p.again_at
            if due > world.wall or not self.may_begin(p, zone):
                continue
            assert owner is not None, f"{p.key} waits for a free zone"
            assert not outranks(self.as_wish(p), owner), f"{p.key} waits for {owner}"

    def may_begin(self, p: Programme, zone: str) -> bool:
        world = self.world
        if self.silenced(zone, local=p.iss == OWN, since=0.0):
            return False
        if p.class_ is Class.EMERGENCY:
            return True
        at = world.wall - T0
        if zone == "loa-2" and QUIET_S[0] <= at < QUIET_S[1]:
            return False
        present = all(i.media is None or i.media.sha256 in world.media for i in p.items)
        sure = not (world.slow_decoders or world.marks or world.disk_full or world.slow_disk or world.mute_speech)
        return (
            world.trusted_clock
            and present
            and sure
            and not self.failures
            and world.station.storage_bad is None
            and not world.uncommitted
        )

    @staticmethod
    def as_wish(p: Programme) -> Wish:
        return Wish(
            p.key,
            p.class_.value,  # type: ignore[arg-type]
            p.start,  # type: ignore[arg-type]
            0,
            authority_rank=RANK[p.iss],
            preference=PREFERENCE.index(p.iss) if p.iss in PREFERENCE else len(PREFERENCE),
        )

    @invariant()
    def the_books_are_right(self) -> None:
        self.well, well = False, self.well
        problems = self.world.audit()
        assert not problems, "\n".join(problems)
        self.well = well

    # the end of the day

    def teardown(self) -> None:
        world = self.world
        if not self.well or world.stuck:
            return  # it has failed already
        self.mend()
        world.watch = lambda: None
        for iss in RANK:
            self.entries[iss] = []
            self.versions["schedule", iss] += 1  # type: ignore[index]
            world.state_order("schedule", {"version": self.versions["schedule", iss], "entries": []}, iss)  # type: ignore[index]
            world.order("cancel", {"ids": IDS}, iss, jti=f"last-{iss}")
        self.stop(held=True)
        world.advance(1.0)
        world.watch = self.watch
        world.advance(30.0)
        left = list(world.station.programmes)
        assert not left, f"these have no outcome: {left}"
        assert not world.audit(), world.audit()
        assert not world.pipes, world.pipes
        assert not world.decoding, world.decoding
        assert not world.docs, world.docs
        assert not world.unlogged(), world.unlogged()
        for order in self.orders.values():
            self.check_outcome(order)

    def check_outcome(self, order: Order) -> None:
        world = self.world
        told = {a["seq"]: a["state"] for a in world.acks(order.jti)}
        states = [told[seq] for seq in sorted(told)]
        assert states, f"{order.jti} was never answered"
        if order.jti in world.forgotten:
            states = [a["state"] for a in world.acks(order.jti)]  # it was answered twice, from the beginning
        assert states[-1] in ("done", "failed", "rejected"), f"{order.jti}: {states}"
        if set(states) == {"rejected"} or order.jti in world.forgotten:
            return
        for zone in order.zones:
            entries = [e for e in world.log if (e["bulletin"], e["iss"], e["zone"]) == (order.id, order.iss, zone)]
            assert entries, f"{order.jti} left no entry for {zone}"
        if states[-1] == "done":
            self.check_length(order)

    def check_length(self, order: Order) -> None:
        """What `continue` played in all its stretches is its whole sound, once."""
        seconds = order.seconds()
        again = [o for o in self.orders.values() if (o.iss, o.id) == (order.iss, order.id)]
        if order.args["resume"] != "continue" or "repeat" in order.args or seconds is None or len(again) > 1:
            return
        if order.disturbed or self.failures:
            return
        for zone in order.zones - {"bang"}:
            mine = [s for s in self.world.stretches if (s.zone, s.programme) == (zone, f"{order.iss}/{order.id}")]
            if mine and mine[-1].why == "completed":
                played = sum(s.samples for s in mine) / RATE
                assert abs(played - seconds) < 0.01 * len(mine), f"{order.jti} {zone}: {played} s of {seconds}: {mine}"


StationMachine.TestCase.settings = settings(
    max_examples=settings().max_examples // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestStationMachine = StationMachine.TestCase


class DuckingMachine(StationMachine):
    """The same with zones in which a programme goes on under an alert."""

    config: ClassVar = {
        **MACHINE_CONFIG,
        "zones": [{**CONFIG["zones"][0], "duck_db": -18}, {**LOA_2, "duck_db": -30}, CONFIG["zones"][2]],
    }


DuckingMachine.TestCase.settings = StationMachine.TestCase.settings
TestDuckingMachine = DuckingMachine.TestCase
