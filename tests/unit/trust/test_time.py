from __future__ import annotations

import pytest

from agent.model.time import Instant
from agent.trust.time import NEAR_S, Alarm, TrustedTime

IMAGE = 1_700_000_000.0
FLOOR = 1_800_000_000.0
DAY = 86_400.0


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def whats(alarms: list[Alarm]) -> list[str]:
    return [alarm.what for alarm in alarms]


@pytest.mark.parametrize(("image", "floor", "rtc"), [(5.0, 3.0, 1.0), (3.0, 5.0, 1.0), (1.0, 3.0, 5.0)])
def test_the_time_at_boot_is_the_latest_of_chip_floor_and_image(image: float, floor: float, rtc: float) -> None:
    time = TrustedTime(image, floor)
    time.observe(ns(1), rtc, synchronised=False)
    assert time.now(ns(1)).wall == 5.0
    assert not time.now(ns(1)).trusted


def test_a_clock_chip_is_a_guess_that_expires_nothing() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(1), FLOOR + 400 * DAY, synchronised=False)
    now = time.now(ns(1))
    assert (now.wall, now.trusted, now.surely) == (FLOOR + 400 * DAY, False, FLOOR)


def test_an_unsynchronised_clock_is_never_trusted() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    for second in range(100):
        assert time.observe(ns(second), FLOOR + second, synchronised=False) == []
    assert not time.trusted


def test_a_synchronised_clock_within_a_day_of_the_floor_is_trusted() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    assert time.observe(ns(1), FLOOR + NEAR_S, synchronised=True) == []
    assert time.now(ns(11)) == Instant(ns(11), FLOOR + NEAR_S + 10, True, time.now(ns(11)).earliest)


def test_the_floor_rises_with_uptime_so_that_a_long_wait_for_ntp_does_no_harm() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(1), FLOOR, synchronised=False)
    assert time.observe(ns(40 * DAY), FLOOR + 40 * DAY + 1000, synchronised=True) == []
    assert time.trusted


def test_a_larger_jump_is_an_alarm_once_and_not_followed() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    assert whats(time.observe(ns(1), FLOOR + 3 * DAY, synchronised=True)) == ["clock-jump"]
    assert whats(time.observe(ns(2), FLOOR + 3 * DAY + 1, synchronised=True)) == []
    assert not time.trusted
    assert whats(time.observe(ns(3), FLOOR + 9 * DAY, synchronised=True)) == ["clock-jump"]


def test_a_synchronised_clock_behind_the_floor_is_not_followed() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    assert whats(time.observe(ns(1), FLOOR - 3600, synchronised=True)) == ["clock-jump"]
    assert not time.trusted


def test_a_larger_jump_is_followed_where_the_clock_chip_agrees() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(1), FLOOR + 30 * DAY, synchronised=False)
    assert time.observe(ns(61), FLOOR + 30 * DAY + 80, synchronised=True) == []
    assert time.trusted


def test_a_saved_clock_is_no_second_source() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(1), FLOOR + 10, synchronised=False)
    assert whats(time.observe(ns(61), FLOOR + 30 * DAY, synchronised=True)) == ["clock-jump"]


def test_a_larger_jump_is_followed_after_a_signed_time() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(1), FLOOR + 30 * DAY, synchronised=True)
    assert time.signed(FLOOR + 30 * DAY - 3600, ns(2)) == []
    assert not time.trusted, "an order may have waited: alone it is no clock"
    assert time.observe(ns(3), FLOOR + 30 * DAY + 2, synchronised=True) == []
    assert time.trusted


def test_an_old_signed_time_changes_nothing() -> None:
    time = TrustedTime(IMAGE, FLOOR)
    time.signed(FLOOR - 100 * DAY, ns(1))
    assert time.floor == FLOOR


def trusted() -> TrustedTime:
    time = TrustedTime(IMAGE, FLOOR)
    time.observe(ns(0), FLOOR + 100, synchronised=True)
    assert time.trusted
    return time


@pytest.mark.parametrize("step", [-7200.0, -60.0, 60.0, 7200.0, 30 * DAY])
def test_a_stepped_os_clock_moves_nothing_once_trusted(step: float) -> None:
    time = trusted()
    assert whats(time.observe(ns(10), FLOOR + 110 + step, synchronised=True)) == ["clock-jump"]
    assert whats(time.observe(ns(20), FLOOR + 120 + step, synchronised=True)) == []
    assert time.now(ns(20)).wall == FLOOR + 120
    assert time.observe(ns(30), FLOOR + 130, synchronised=True) == []
    assert whats(time.observe(ns(40), FLOOR + 140 + step, synchronised=True)) == ["clock-jump"]


def test_a_lost_synchronisation_leaves_the_anchor() -> None:
    time = trusted()
    time.observe(ns(10), 0.0, synchronised=False)
    assert time.now(ns(3600)) == Instant(ns(3600), FLOOR + 3700, True, time.now(ns(3600)).earliest)


def test_a_small_slew_is_followed_both_ways() -> None:
    time = trusted()
    for at, slew in ((10, 1.5), (20, 0.5), (30, -1.0)):
        assert time.observe(ns(at), FLOOR + 100 + at + slew, synchronised=True) == []
        assert time.now(ns(at)).wall == pytest.approx(FLOOR + 100 + at + slew)


def test_small_steps_cannot_lead_us_away_by_their_number() -> None:
    time = trusted()
    alarms: list[Alarm] = []
    for n in range(1, 101):
        alarms += time.observe(ns(n), FLOOR + 100 + n + n * 2.0, synchronised=True)
    assert time.now(ns(100)).wall - (FLOOR + 200) <= 6
    assert alarms


def test_a_crystal_off_by_50_ppm_is_followed_for_days() -> None:
    time = trusted()
    for minute in range(1, 3 * 1440):
        wall = FLOOR + 100 + minute * 60 * (1 + 50e-6)
        assert time.observe(ns(minute * 60), wall, synchronised=True) == []
        assert time.now(ns(minute * 60)).wall == pytest.approx(wall)


def test_a_clock_that_creeps_back_is_not_followed_below_the_floor() -> None:
    time, alarms = trusted(), []
    for minute in range(1, 1441):
        alarms += time.observe(ns(minute * 60), FLOOR + 100 + minute * 60 * (1 - 400e-6), synchronised=True)
    assert whats(alarms) == ["clock-jump"]


@pytest.mark.parametrize("ppm", [-50, 50])
def test_a_month_without_ntp_does_not_make_its_return_a_jump(ppm: int) -> None:
    time = trusted()
    time.observe(ns(15 * DAY), 0.0, synchronised=False)
    wall = FLOOR + 100 + 30 * DAY * (1 + ppm * 1e-6)
    assert time.observe(ns(30 * DAY), wall, synchronised=True) == []
    assert time.now(ns(30 * DAY)).wall == pytest.approx(wall)


def test_a_signed_time_confirms_a_jump_forwards() -> None:
    time = trusted()
    assert whats(time.signed(FLOOR + 7300, ns(5))) == ["clock-behind"], "alone it moves nothing"
    assert time.now(ns(5)).wall == FLOOR + 105
    assert whats(time.observe(ns(10), FLOOR + 7310, synchronised=True)) == ["clock-jump"]
    assert time.signed(FLOOR + 7305, ns(11)) == []
    assert time.now(ns(11)).wall == FLOOR + 7311


def test_a_signed_time_from_before_never_moves_us_back() -> None:
    time = trusted()
    time.observe(ns(10), FLOOR - 7090, synchronised=True)
    assert time.signed(FLOOR - 7090, ns(11)) == []
    assert time.now(ns(11)).wall == FLOOR + 111


def test_the_persisted_floor_follows_trusted_time() -> None:
    time = trusted()
    time.observe(ns(3600), FLOOR + 3700, synchronised=True)
    assert FLOOR + 3600 < time.floor <= FLOOR + 3700
    again = TrustedTime(IMAGE, time.floor)
    assert again.observe(ns(1), FLOOR + 3705, synchronised=True) == []
    assert again.trusted
