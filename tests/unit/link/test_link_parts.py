from __future__ import annotations

import base64
import errno
import os
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link import topics
from agent.link.birth import BirthFile
from agent.link.peek import is_urgent
from agent.link.reasons import explain
from agent.link.settings import Backoff, Settings
from agent.link.tls import CredentialError, context
from agent.link.topics import Topic

ORDER = Topic("tram-a", "order")


def jws(claims: bytes) -> bytes:
    return b"e30." + base64.urlsafe_b64encode(claims).rstrip(b"=") + b".c2ln"


def test_births_grow_over_restarts_and_are_on_the_disk_before_they_are_given_out(tmp_path: Path) -> None:
    births = BirthFile(tmp_path / "birth")
    assert [births(), births()] == [1, 2]
    assert (tmp_path / "birth").read_text() == "2"
    assert BirthFile(tmp_path / "birth")() == 3


@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"12a", b"-"])
def test_a_damaged_birth_file_does_not_stop_the_count(tmp_path: Path, damage: bytes) -> None:
    births = BirthFile(tmp_path / "birth")
    births()
    births()
    (tmp_path / "birth").write_bytes(damage)
    assert births() == 3


def test_a_birth_that_cannot_be_written_is_an_error_and_not_used_twice(tmp_path: Path) -> None:
    births = BirthFile(tmp_path / "away" / "birth")
    with pytest.raises(FileNotFoundError):
        births()
    (tmp_path / "away").mkdir()
    assert births() == 2


def test_a_crash_while_writing_leaves_the_old_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    births = BirthFile(tmp_path / "birth")
    births()

    def crash(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        births()
    assert (tmp_path / "birth").read_text() == "1"


def test_waits_grow_to_the_most_and_start_again_after_a_good_connection() -> None:
    backoff = Backoff(1, 120, jitter=lambda: 1.0)
    assert [backoff.next() for _ in range(9)] == [2, 4, 8, 16, 32, 64, 120, 120, 120]
    backoff.reset()
    assert backoff.next() == 2


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2000))
def test_waits_are_spread_between_the_least_and_the_most(jitter: float, failures: int) -> None:
    backoff = Backoff(1, 120, jitter=lambda: jitter)
    waits = [backoff.next() for _ in range(failures)]
    assert all(1 <= w <= 120 for w in waits)
    assert waits == sorted(waits)


URGENT = {
    "emergency": (ORDER, jws(b'{"args":{"class":"emergency"}}'), True),
    "priority": (ORDER, jws(b'{"args":{"class":"priority"}}'), False),
    "silence": (Topic("tram-a", "desired", "silence", "tinh"), b"anything", True),
    "schedule": (Topic("tram-a", "desired", "schedule", "tinh"), jws(b'{"class":"emergency"}'), False),
    "emergency over 4 KiB": (ORDER, jws(b'{"class":"emergency"}' + b" " * 4096), False),
    "empty": (ORDER, b"", False),
    "no base64": (ORDER, b"..", False),
    "broken base64": (ORDER, b"a.b.c", False),
    "not ASCII": (ORDER, "ă.ă.ă".encode(), False),
}


@pytest.mark.parametrize(("topic", "payload", "urgent"), URGENT.values(), ids=URGENT)
def test_what_claims_to_be_urgent_goes_first(topic: Topic, payload: bytes, urgent: bool) -> None:
    assert is_urgent(topic, payload) is urgent


@given(st.binary(max_size=300))
def test_looking_never_fails(payload: bytes) -> None:
    assert is_urgent(ORDER, payload) in {True, False}
    assert is_urgent(ORDER, jws(payload)) is (b'"emergency"' in payload)


def unverified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "self-signed certificate"
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


REASONS: list[tuple[BaseException, str]] = [
    (socket.gaierror(-2, "Name or service not known"), "the name h cannot be resolved"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "h:1 refuses connections"),
    (TimeoutError(), "h:1 does not answer"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no way to h:1"),
    (OSError(errno.EIO, "Input/output error"), "h:1 cannot be reached: Input/output error"),
    (ConnectionResetError(), "h:1 cut the connection"),
    (unverified(9), "the source's certificate is not valid yet"),
    (unverified(10), "the source's certificate has expired"),
    (unverified(62), "the source's certificate is for another name than h"),
    (unverified(64), "the source's certificate is for another name than h"),
    (unverified(18), "the source's certificate was not issued by our authority: self-signed certificate"),
    (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "the source refuses our certificate (certificate required)"),
    (tls("TLSV1_ALERT_UNKNOWN_CA"), "the source refuses our certificate (unknown ca)"),
    (tls("WRONG_VERSION_NUMBER"), "h:1 does not speak TLS"),
    (tls("TLSV1_ALERT_PROTOCOL_VERSION"), "h:1 and this device have no TLS version in common"),
    (tls("BAD_RECORD"), "TLS with h:1 failed: bad record"),
    (CredentialError("mqtt.key: cannot read k: No such file"), "mqtt.key: cannot read k"),
    (ZeroDivisionError("x"), "a fault in the link itself: ZeroDivisionError: x"),
]


@pytest.mark.parametrize(("error", "sentence"), REASONS, ids=[s for _, s in REASONS])
def test_every_error_becomes_a_sentence(error: BaseException, sentence: str) -> None:
    assert explain(error, "h", 1).startswith(sentence)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(CredentialError, match=r"^mqtt\.ca: .* holds no usable certificate$"):
        context(str(tmp_path / "ca"), str(tmp_path / "cert"), str(tmp_path / "key"), check_dates=True)


def test_the_defaults_are_the_contracts() -> None:
    s = Settings(device="tram-a", host="h", ca="", cert="", key="")
    assert (s.keepalive_s, s.will_delay_s, s.in_flight, s.beat_period_s) == (240, 30, 20, 60)
    assert s.session_expiry_s >= 7 * 86400
    assert (s.backoff_min_s, s.backoff_max_s) == (1, 120)


def test_topics_of_a_beat_are_short_enough_to_alias() -> None:
    assert len(topics.up("x" * 40, "beat")) < 64
