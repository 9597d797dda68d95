"""What the owner makes of boards: rest, power, requisition, brightness, pages in step with the sound."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.core.boards import UNSEEN_S, date_of
from agent.model import screen
from agent.model import voice as vo
from agent.model.config import Zone
from tests.unit.core.world import CONFIG, T0, World, broadcast, media

VI = {"text": "Bão số 9 sắp vào bờ.", "lang": "vi"}
RELAY = {"id": "chuyen-hinh", "pin": 22}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


def world(*, alone: bool = False, **zone: Any) -> World:
    """A station whose board is as given; the clock says 12:00. `alone`: without loudspeakers."""
    sounds = [] if alone else CONFIG["zones"][:2]
    board = {"id": "bang", "kind": "screen", "output": {"driver": "png", "dir": "b"}, **zone}
    return World(zones=[*sounds, board], relays=[RELAY])


def taken_over(hours: list[str], **more: Any) -> World:
    return world(
        alone=True, idle={"source": "external", "relay": "chuyen-hinh"}, rules={"requisition_hours": hours}, **more
    )


def switched(w: World) -> list[tuple[int, bool]]:
    """When (seconds) the board's power was switched, and how."""
    found: list[tuple[int, bool]] = []
    for t, _, on in w.power:
        if not found or found[-1][1] != on:
            found.append((round(t - T0), on))
    return found


def test_a_board_without_a_programme_shows_its_name_the_time_and_what_is_played() -> None:
    w = world(board={"clock": True, "now_playing": True, "welcome": "Xin chào"})
    w.order("broadcast", broadcast("tin", media("a", 30, w), zones=["kind:sound"]))
    w.advance(2)
    rest = w.boards["bang"]
    assert rest == screen.Rest(
        title="Trạm xã Mẫu", body="Xin chào", clock="12:00", date="Thứ hai, 23/11/2026", playing="Đang phát: tin"
    )
    w.advance(60)
    assert w.boards["bang"] == screen.Rest(
        title="Trạm xã Mẫu", body="Xin chào", clock="12:01", date="Thứ hai, 23/11/2026"
    )


def test_the_clock_is_shown_at_the_minute_itself() -> None:
    w = world(board={"clock": True})
    w.advance(125)
    times = [(t - T0, c.clock) for t, _, c in w.told if isinstance(c, screen.Rest)]
    assert times == [(0, "12:00"), (pytest.approx(60, abs=0.01), "12:01"), (pytest.approx(120, abs=0.01), "12:02")]


def test_a_clock_that_cannot_be_believed_is_not_shown() -> None:
    w = world(board={"clock": True})
    w.trusted_clock = False
    w.advance(2)
    assert w.boards["bang"] == screen.Rest(title="Trạm xã Mẫu")


@pytest.mark.parametrize(("day", "said"), [(22, "Chủ nhật, 22/11/2026"), (28, "Thứ bảy, 28/11/2026")])
def test_dates_are_as_people_write_them(day: int, said: str) -> None:
    assert date_of(datetime(2026, 11, day, tzinfo=UTC), "vi") == said


def test_in_quiet_hours_and_under_a_silence_the_board_is_dark_and_without_power() -> None:
    w = world(power=[{"relay": "chuyen-hinh"}], rules={"quiet_hours": ["12:10-12:20"]})
    w.advance(60)
    w.state_order("silence", {"version": 1, "on": True, "zones": ["*"]})
    w.advance(60)
    assert w.boards["bang"] == screen.Rest(dark=True)
    w.state_order("silence", {"version": 2, "on": False, "zones": ["*"]})
    w.advance(1200)
    assert [(t // 60, on) for t, on in switched(w)] == [(0, True), (1, False), (2, True), (10, False), (20, True)]


def test_a_board_counts_as_showing_only_when_it_has_power() -> None:
    w = taken_over([])
    w.voice_up = False
    jti = w.order("broadcast", broadcast("tin", {**VI, "dwell_s": 5}))
    w.advance(UNSEEN_S - 1)
    assert w.states_of(jti)[-1] != "failed/not-shown"
    w.advance(2)
    assert w.states_of(jti)[-1] == "failed/not-shown"
    w.voice_back()
    jti = w.order("broadcast", broadcast("tin-2", {**VI, "dwell_s": 5}))
    w.advance(6)
    assert w.states_of(jti)[-1] == "done"


def test_a_requisitioned_board_is_taken_over_and_given_back() -> None:
    w = taken_over(["12:00-13:00"])
    assert w.boards["bang"] == screen.Rest(dark=True)
    w.order("broadcast", broadcast("tin", {**VI, "dwell_s": 40}))
    w.advance(60)
    assert switched(w) == [(0, True), (40, False)]
    assert w.outcomes("bang") == [("tin", "completed", None)]


def test_outside_the_agreed_hours_only_an_emergency_takes_it_and_the_log_says_so() -> None:
    w = taken_over(["06:00-08:00"])
    jti = w.order("broadcast", broadcast("tin", VI))
    received = w.acks(jti)[0]
    assert received["zones"]["bang"]["reason"] == "requisition-hours"
    w.advance(5)
    assert w.states_of(jti)[-1] == "failed/requisition-hours"
    w.order("broadcast", broadcast("bao", {**VI, "dwell_s": 5}, **{"class": "emergency"}))
    w.advance(6)
    assert w.outcomes("bang") == [
        ("tin", "skipped", "requisition-hours"),
        ("bao", "completed", "overrides requisition-hours"),
    ]
    assert [on for _, on in switched(w)] == [True, False]


def test_when_the_agreed_hours_end_the_board_goes_back_at_once() -> None:
    w = taken_over(["11:00-12:02"])
    w.order("broadcast", broadcast("tin", {**VI, "dwell_s": 600}))
    w.advance(300)
    assert switched(w) == [(0, True), (120, False)]
    assert w.outcomes("bang") == [("tin", "interrupted", "requisition-hours")]


def test_brightness_follows_the_hours() -> None:
    w = world(board={"brightness": [{"hours": "12:01-12:03", "percent": 40}]})
    w.advance(240)
    told = [(round(t - T0), c.percent) for t, _, c in w.told if isinstance(c, screen.Dim)]
    assert told == [(60, 40), (180, 100)]


def test_the_board_knows_itself_when_a_notice_is_over() -> None:
    w = world(alone=True)
    w.order("broadcast", broadcast("tin", VI, until=at(90)))
    w.advance(1)
    show = w.boards["bang"]
    assert isinstance(show, screen.Show)
    assert show.until_ns is not None
    assert w.now.wall_of(show.until_ns) == pytest.approx(T0 + 90)
    w.advance(100)
    assert w.boards["bang"] == screen.Rest(title="Trạm xã Mẫu")


def test_a_clock_that_is_set_moves_that_moment_too() -> None:
    w = world(alone=True)
    w.order("broadcast", broadcast("tin", VI, until=at(900)))
    w.advance(1)
    w.wall += 300
    w.advance(1)
    show = w.boards["bang"]
    assert isinstance(show, screen.Show)
    assert show.until_ns is not None
    assert w.now.wall_of(show.until_ns) == pytest.approx(T0 + 900)


def test_a_long_text_on_boards_alone_stays_until_all_its_sheets_were_seen() -> None:
    w = world(alone=True)
    w.order("broadcast", broadcast("tin", VI))
    w.advance(1)
    show = w.boards["bang"]
    assert isinstance(show, screen.Show)
    w.post(screen.Lasts(play=show.play, seconds=42, zone="bang"))
    w.advance(40)
    assert w.shows() == "tin"
    w.advance(2)
    assert w.shows() == "nghỉ"


def test_a_short_alert_stays_until_a_slow_board_has_painted_it_and_then_its_whole_time() -> None:
    w = world(alone=True)
    w.boards_paint = False
    jti = w.order("broadcast", broadcast("bao", {**VI, "dwell_s": 0.5}, **{"class": "emergency"}))
    w.advance(9)
    show = w.boards["bang"]
    assert isinstance(show, screen.Show), "it was taken down before anybody saw it"
    w.post(screen.Shown(at_ns=w.mono, sha256="0" * 64, play=show.play, zone="bang"))
    w.boards_paint = True
    w.advance(0.4)
    assert w.shows() == "bao"
    w.advance(0.2)
    assert w.shows() == "nghỉ"
    assert w.states_of(jti)[-1] == "done"


def test_a_film_that_begins_late_stays_as_long_as_the_board_said() -> None:
    w = world(alone=True)
    w.boards_paint = False
    w.order("broadcast", broadcast("phim", VI))
    w.advance(3)
    show = w.boards["bang"]
    assert isinstance(show, screen.Show)
    w.post(screen.Lasts(play=show.play, seconds=42, zone="bang"))
    w.advance(2)
    w.post(screen.Shown(at_ns=w.mono, sha256="0" * 64, play=show.play, zone="bang"))
    w.advance(41)
    assert w.shows() == "phim"
    w.advance(2)
    assert w.shows() == "nghỉ"


def test_the_pages_follow_what_is_heard() -> None:
    w = world()
    picture, recorded = media("km-chu", 1, w), media("km", 8, w)
    picture["media"]["type"] = "image/png"
    items = [{"chime": "gong"}, VI, picture, recorded, VI]
    w.order("broadcast", broadcast("bao", *items, **{"class": "emergency"}))
    w.advance(30)
    turns = [(round(t - T0), c.first, c.last) for t, _, c in w.told if isinstance(c, screen.Turn)]
    # The picture is not heard: it stays with the text before it. The recording has no page.
    assert turns == [(2, 0, 1), (12, 2, 2)]


def test_a_drill_turns_its_pages_too() -> None:
    w = world()
    w.order("broadcast", broadcast("bao", VI, VI, **{"class": "emergency"}, drill=True))
    w.advance(30)
    turns = [(c.first, c.last) for _, _, c in w.told if isinstance(c, screen.Turn)]
    assert turns == [(0, 0), (1, 1)]


def test_faults_of_what_is_shown_end_with_it_those_of_the_board_when_it_says_so() -> None:
    w = world(alone=True)

    def faults() -> list[str]:
        return [f["what"] for f in w.ask("status")["result"]["faults"] if f["what"].startswith("screen")]

    w.post(screen.ScreenFault(what="picture", detail="page 0: truncated", zone="bang"))
    w.post(screen.ScreenFault(what="display", detail="unplugged", zone="bang"))
    assert faults() == ["screen-display@bang", "screen-picture@bang"]
    w.order("broadcast", broadcast("tin", VI))
    w.advance(1)
    assert faults() == ["screen-display@bang"]
    w.post(screen.ScreenFault(what="display", detail="", zone="bang", on=False))
    assert faults() == []
    told = [(e["what"], e["on"]) for e in w.events("alarm") if e["what"].startswith("screen")]
    assert told == [("screen-picture", True), ("screen-display", True), ("screen-display", False)]


def test_a_new_voice_is_told_which_boards_have_power() -> None:
    w = taken_over([])
    w.order("broadcast", broadcast("tin", {**VI, "dwell_s": 60}))
    w.advance(5)
    w.power.clear()
    w.post(vo.Hello(version="0", pid=2, armed_ns=w.mono, zones=[], pinned=[], relays={}))
    assert [(z, on) for _, z, on in w.power] == [("bang", True)]


def test_a_zone_of_the_configuration_is_a_board_with_defaults() -> None:
    import msgspec

    zone = msgspec.convert({"id": "b", "kind": "screen", "output": {"driver": "hdmi"}}, Zone)
    assert (zone.board.fit, zone.board.clock, zone.board.brightness) == ("whole", False, [])
