"""The proof finds what is right, and each fault is caught by the check that is named for it, and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from province.demo.listening import level_dbfs, locate
from province.demo.proof import NOT_FROM_FILES, TITLES, Check, check_run, write_summary

from .synthetic import RATE, Synthetic, gong, quantised, seconds, siren, small_day, speech


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


@pytest.fixture
def run(tmp_path: Path) -> Synthetic:
    return small_day(tmp_path)


def test_a_right_run_passes_every_check(run: Synthetic) -> None:
    checks = check_run(run.save())
    assert failed(checks) == {}
    assert [check.name for check in checks] == [name for name in TITLES if name not in NOT_FROM_FILES]
    assert all(check.detail and check.vi for check in checks)


def move(run: Synthetic, begin: float, end: float, by: float) -> None:
    first, last, step = seconds(begin), seconds(end), seconds(by)
    part = run.tape[first:last].copy()
    run.tape[first:last] = 0
    run.tape[first + step : last + step] = part


def shifted_by_30_ms(run: Synthetic) -> None:
    move(run, 15.0, 18.2, 0.03)


def another_programme(run: Synthetic) -> None:
    first, last = seconds(7.0), seconds(8.5)
    other = speech(99, 1.5)
    true = run.tape[first:last, 0]
    run.tape[first:last, 0] = other * np.sqrt(np.mean(true**2) / np.mean(other**2))


def gap_of_20_ms_at_a_join(run: Synthetic) -> None:
    move(run, 16.05, 18.1, 0.02)


def gap_of_20_ms_within_a_sound(run: Synthetic) -> None:
    move(run, 17.1, 18.1, 0.02)


def a_click_within_a_sound(run: Synthetic) -> None:
    run.tape[seconds(2.7), 0] += 0.2


def a_click_at_a_join(run: Synthetic) -> None:
    run.tape[seconds(16.05) - 3, 0] -= 0.3


def a_hard_cut_at_the_takeover(run: Synthetic) -> None:
    # Where the fade was: the full signal up to the cut, and there a value far from the siren's beginning.
    run.tape[seconds(3.5) - 40 : seconds(3.5), 0] = 0.3 * np.linspace(0, 1, 40)


def six_decibels_too_quiet(run: Synthetic) -> None:
    run.tape[seconds(15.0) : seconds(18.2)] *= 0.5
    quiet = run.log[-1].level_dbfs
    assert quiet is not None
    change(run, -1, level_dbfs=quiet - 6.02)


def another_level_in_the_log(run: Synthetic) -> None:
    level = run.log[1].level_dbfs
    assert level is not None
    change(run, 1, level_dbfs=level + 2)


def the_attacker_at_minus_30_db(run: Synthetic) -> None:
    run.tape[seconds(15.05) : seconds(18.05), 0] += speech(66, 3.0) * 10 ** (-30 / 20)


def the_attacker_under_the_relay(run: Synthetic) -> None:
    run.tape[seconds(10.9) : seconds(13.9), 0] += speech(66, 3.0) * 10 ** (-20 / 20)


def a_sound_where_nothing_is_authorised(run: Synthetic) -> None:
    run.tape[seconds(8.9) : seconds(9.0), 0] = 0.001


def a_sound_under_an_order_of_silence(run: Synthetic) -> None:
    run.expect["silent"].append((run.expect["due"]["tiep-am"] + 1, run.expect["due"]["tiep-am"] + 3))


def a_relay_that_is_dead_air(run: Synthetic) -> None:
    quiet = run.log[3]
    run.tape[seconds(11.0) : seconds(14.0)] = 0
    level = level_dbfs(run.tape[seconds(10.0) : seconds(14.0), 0])
    assert quiet.bulletin == "tiep-am"
    change(run, 3, level_dbfs=level)


def another_station_in_the_relay(run: Synthetic) -> None:
    first, last = seconds(11.0), seconds(14.0)
    other = speech(55, 3.0)
    other *= np.sqrt(np.mean(run.tape[first:last] ** 2) / np.mean(other**2))
    run.tape[first:last, 0] = quantised(other)
    change(run, 3, level_dbfs=level_dbfs(run.tape[seconds(10.0) : last, 0]))


def a_continuation_from_200_ms_later(run: Synthetic) -> None:
    begin, end = seconds(6.2), seconds(8.7)
    news = quantised(speech(1, 4.0))
    run.tape[begin:end] = 0
    rest = news[seconds(1.7) :]
    run.tape[begin : begin + len(rest), 0] = rest
    run.tape[begin : begin + 240, 0] *= np.linspace(0, 1, 240)
    change(run, 2, ended=stamp_of(begin + len(rest)), level_dbfs=level_dbfs(run.tape[begin : begin + len(rest), 0]))


def a_restart_instead_of_a_continuation(run: Synthetic) -> None:
    bell, news = run.log[0].content
    run.tape[seconds(6.2) : seconds(9.9)] = 0
    del run.log[2]
    later = run.log[2:]
    del run.log[2:]
    run.expect["bounded"] = ["tin"]
    run.play("tin", 6.2, [bell, news], stop_s=9.7)
    change(run, 2, result="completed")
    run.log += later


def an_emergency_that_came_late(run: Synthetic) -> None:
    run.acks.clear()
    run.acked("j2", "bao", ["received", "running", "done"], 14.5, 15.05)


def an_occurrence_that_missed_its_time(run: Synthetic) -> None:
    run.expect["due"]["tin"] -= 0.004


def an_event_that_arrived_twice(run: Synthetic) -> None:
    run.events += [{"kind": "alarm", "seq": 50, "what": "x"}, {"kind": "alarm", "seq": 50, "what": "x"}]


def an_ack_out_of_order(run: Synthetic) -> None:
    run.acked("j3", "tin", ["received", "done", "running"], 1.0)


def an_ack_that_is_missing(run: Synthetic) -> None:
    del run.acks[1]


def a_receipt_that_boasts(run: Synthetic) -> None:
    run.acks.clear()
    run.acked("j2", "bao", ["received", "running", "done"], 15.0, 15.03)


def a_bulletin_that_never_sounded(run: Synthetic) -> None:
    run.expect["heard"].append("hop-ap")


def a_completed_programme_without_its_end(run: Synthetic) -> None:
    run.tape[seconds(17.5) : seconds(18.2)] = 0
    change(run, -1, ended=stamp_of(seconds(17.5)), level_dbfs=level_dbfs(run.tape[seconds(15.05) : seconds(17.5), 0]))


def another_start_error_in_the_log(run: Synthetic) -> None:
    change(run, 0, start_error_ms=40.0)


def change(run: Synthetic, index: int, **values: Any) -> None:
    import msgspec

    run.log[index] = msgspec.structs.replace(run.log[index], **values)


def stamp_of(sample: int) -> str:
    from .synthetic import T0, stamp

    return stamp(T0 + sample / RATE)


FAULTS: list[tuple[Callable[[Synthetic], None], str]] = [
    (shifted_by_30_ms, "times"),
    (another_start_error_in_the_log, "times"),
    (another_programme, "programme"),
    (a_bulletin_that_never_sounded, "programme"),
    (a_completed_programme_without_its_end, "programme"),
    (an_occurrence_that_missed_its_time, "due"),
    (gap_of_20_ms_at_a_join, "joins"),
    (gap_of_20_ms_within_a_sound, "joins"),
    (six_decibels_too_quiet, "level"),
    (another_level_in_the_log, "logged-level"),
    (a_relay_that_is_dead_air, "relay"),
    (another_station_in_the_relay, "relay"),
    (a_click_within_a_sound, "clicks"),
    (a_click_at_a_join, "clicks"),
    (a_hard_cut_at_the_takeover, "clicks"),
    (a_continuation_from_200_ms_later, "resume"),
    (a_restart_instead_of_a_continuation, "resume"),
    (a_sound_where_nothing_is_authorised, "silence"),
    (a_sound_under_an_order_of_silence, "silence"),
    (the_attacker_at_minus_30_db, "nobody-else"),
    (the_attacker_under_the_relay, "nobody-else"),
    (an_emergency_that_came_late, "takeover"),
    (an_event_that_arrived_twice, "events-once"),
    (an_ack_out_of_order, "acks"),
    (an_ack_that_is_missing, "acks"),
    (a_receipt_that_boasts, "receipts"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_caught_by_the_check_named_for_it_and_by_no_other(
    run: Synthetic, fault: Callable[[Synthetic], None], name: str
) -> None:
    fault(run)
    assert list(failed(check_run(run.save()))) == [name]


def test_an_entry_taken_out_of_the_log_breaks_its_chain(run: Synthetic) -> None:
    log = run.chained()
    del log[1]
    run.expect["heard"].remove("nut")
    assert list(failed(check_run(run.save(log)))) == ["log-chain"]


def test_an_altered_entry_breaks_the_chain(run: Synthetic) -> None:
    log = run.chained()
    log[2]["title"] = "Bản tin khác"
    assert list(failed(check_run(run.save(log)))) == ["log-chain"]


def test_a_log_cut_off_at_its_end_is_shown_by_what_the_province_knows(run: Synthetic) -> None:
    run.expect["heard"].remove("bao")
    run.acks.clear()
    assert list(failed(check_run(run.save(run.chained()[:-1])))) == ["log-head"]


def test_an_entry_that_was_never_written_leaves_an_unauthorised_sound(run: Synthetic) -> None:
    run.expect["heard"].remove("nut")
    del run.log[1]
    assert list(failed(check_run(run.save()))) == ["silence"]


def test_a_chime_repeated_while_the_speech_is_awaited_is_a_bridge_and_no_gap(run: Synthetic) -> None:
    alarm, storm = run.log[-1].content
    run.tape[seconds(15.0) :] = 0
    del run.log[-1]
    run.play("bao", 15.05, [alarm, alarm, storm], class_="emergency")
    run.expect["silent"].clear()
    change(run, -1, content=[alarm, storm])
    checks = check_run(run.save())
    assert failed(checks) == {}
    assert "1 bridged" in next(check.detail for check in checks if check.name == "joins")


def test_a_sound_after_a_relay_is_found_wherever_the_relay_ended(run: Synthetic) -> None:
    news = run.log[0].content[1]
    first = seconds(14.0)
    change(run, 3, content=[*run.log[3].content, news], ended=stamp_of(first + seconds(0.9)))
    run.tape[first : first + seconds(0.9), 0] = run.sounds[news][: seconds(0.9)]
    run.tape[first + seconds(0.9) - 480 : first + seconds(0.9), 0] *= np.linspace(1, 0, 480)
    change(run, 3, level_dbfs=level_dbfs(run.tape[seconds(10.0) : first + seconds(0.9), 0]))
    run.expect["bounded"] = ["tiep-am"]
    assert failed(check_run(run.save())) == {}


def test_an_entry_that_lists_nothing_is_live(run: Synthetic) -> None:
    run.expect["live"] = {}
    change(run, 3, content=[], started=stamp_of(seconds(11.0)), planned=stamp_of(seconds(11.0)))
    change(run, 3, level_dbfs=level_dbfs(run.tape[seconds(11.0) : seconds(14.0), 0]))
    run.expect["due"]["tiep-am"] += 1.0
    run.tape[seconds(10.0) : seconds(11.0)] = 0
    assert failed(check_run(run.save())) == {}


def test_a_fallback_counts_as_the_relay_s_sound(run: Synthetic) -> None:
    news = run.sounds[run.log[0].content[1]][: seconds(3.0)]
    run.tape[seconds(11.0) : seconds(14.0), 0] = news * np.clip((seconds(3.0) - np.arange(seconds(3.0))) / 480, 0, 1)
    change(run, 3, level_dbfs=level_dbfs(run.tape[seconds(10.0) : seconds(14.0), 0]))
    assert list(failed(check_run(run.save()))) == ["relay"]
    change(run, 3, reason="fallback")
    assert failed(check_run(run.save())) == {}


def test_a_gain_that_is_stated_is_no_fault(run: Synthetic) -> None:
    run.expect["gain_db"] = {"loa": -6.0}
    run.expect["volume_db"] = {}
    run.tape *= 10 ** (-6 / 20)
    for index, entry in enumerate(run.log):
        assert entry.level_dbfs is not None
        change(run, index, level_dbfs=entry.level_dbfs - 6.0)
    assert failed(check_run(run.save())) == {}


def test_the_same_ack_again_is_no_fault(run: Synthetic) -> None:
    run.acks.append(dict(run.acks[-1]))
    assert failed(check_run(run.save())) == {}


def test_a_forbidden_sound_that_is_also_allowed_proves_nothing_and_is_said(run: Synthetic) -> None:
    run.send(run.sounds[run.log[1].content[1]], "forbidden")
    assert list(failed(check_run(run.save()))) == ["nobody-else"]


def test_a_word_that_attacker_and_officer_share_is_no_intruder(run: Synthetic) -> None:
    shared = run.sounds[run.log[0].content[1]][: seconds(1.0)]
    run.send(np.concatenate((shared, speech(67, 2.0))), "forbidden")
    assert failed(check_run(run.save())) == {}


def test_an_empty_log_proves_nothing(run: Synthetic) -> None:
    run.log.clear()
    run.tape[:] = 0
    run.expect = {}
    run.acks.clear()
    assert list(failed(check_run(run.save()))) == ["programme"]


def damaged(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        (out / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (damaged("station.wav", b"RIFF"), "station.wav"),
        (damaged("station.json", b"{}"), "station.json"),
        (damaged("playlog.json", b"[1"), "playlog.json"),
        (damaged("playlog.json", b'{"entries": [{"n": 1}]}'), "playlog.json"),
        (damaged("events.jsonl", b'{"at": 1, "what": "x"}\n{'), "events.jsonl, line 2"),
        (lambda out: (out / "station.json").unlink(), "station.json"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_failed_check_with_the_place(
    run: Synthetic, damage: Callable[[Path], None], place: str
) -> None:
    out = run.save()
    damage(out)
    checks = check_run(out)
    assert [(check.name, check.ok) for check in checks] == [("inputs", False)]
    assert place in checks[0].detail


def test_the_summary_is_the_contract_s(run: Synthetic) -> None:
    out = run.save()
    path = write_summary(out, [Check("level", True, "within 0.1 dB", "x"), Check("clicks", False, "a click")])
    assert json.loads(path.read_text()) == {
        "checks": [
            {"name": "level", "ok": True, "detail": "within 0.1 dB"},
            {"name": "clicks", "ok": False, "detail": "a click"},
        ]
    }


@pytest.mark.parametrize("offset", [0, 1, 47_999, 60_123])
@pytest.mark.parametrize("sound", [speech(1, 1.0), siren(), gong()], ids=["speech", "siren", "gong"])
def test_a_sound_is_located_to_the_sample_whatever_its_gain(offset: int, sound: np.ndarray) -> None:
    tape = np.zeros(seconds(4))
    tape[offset : offset + len(sound)] = sound * 0.25
    match = locate(tape, sound, offset + 700, 0.1)
    assert match.offset_samples == offset
    assert match.gain_db == pytest.approx(-12.04, abs=0.01)
    assert match.similarity == pytest.approx(1.0, abs=1e-6)


def test_nothing_is_located_in_silence_or_outside_the_recording() -> None:
    assert locate(np.zeros(1000), speech(1, 1.0), 0, 1.0).similarity == 0
    assert locate(speech(2, 1.0), speech(1, 1.0), 10_000_000, 0.1).similarity == 0
    assert locate(speech(2, 1.0), speech(1, 1.0), -10_000_000, 0.1).similarity == 0
    assert locate(speech(2, 1.0), speech(1, 1.0), 0, 0.1).similarity < 0.3


def test_a_full_scale_sine_is_minus_3_01_dbfs_and_pauses_do_not_count() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert level_dbfs(np.concatenate((sine, np.zeros(RATE)))) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(np.zeros(RATE)) is None


@pytest.mark.parametrize("sound", [speech(1, 2.0), siren(), gong(), speech(4, 1.5, 0.01)])
def test_the_level_is_measured_as_the_station_measures_it(sound: np.ndarray) -> None:
    from agent.voice.pcm import Meter

    meter = Meter()
    meter.add(np.round(sound * 32768).astype("<i2").tobytes())
    assert level_dbfs(sound) == pytest.approx(meter.dbfs(), abs=0.02)
