"""The province's register: what a code gives, to whom, once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from agent.enrolment import identity
from province.enrol_server import Limiter
from province.enrolment import ALPHABET, RefusedError, Register
from province.pki import Pki

NOW, DAY = 1_800_000_000.0, 86_400.0


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    made = Register(tmp_path, Pki.create(tmp_path / "pki"))
    yield made
    made.close()


def csr(name: str = "xa-mau", key: bytes | None = None) -> str:
    return identity.request(key or identity.new_key(), name)


def test_a_code_has_a_hundred_bits_and_is_kept_as_a_hash_only(register: Register, tmp_path: Path) -> None:
    code = register.new_code("xa-mau", NOW)
    assert len(code.replace("-", "")) == 20
    assert set(code) <= {*ALPHABET, "-"}
    assert len(ALPHABET) == 32
    kept = (tmp_path / "enrolment.sqlite").read_bytes()
    assert code.encode() not in kept
    assert code.replace("-", "").encode() not in kept
    assert (tmp_path / "enrolment.sqlite").stat().st_mode & 0o077 == 0


def test_people_may_write_a_code_in_small_letters_and_without_dashes(register: Register) -> None:
    code = register.new_code("xa-mau", NOW)
    assert register.enrol("xa-mau", f" {code.lower().replace('-', ' ')}\n", csr(), None, NOW)


def test_a_certificate_is_for_the_requested_key_and_name_and_passes_strict_checks(
    register: Register, tmp_path: Path
) -> None:
    key = identity.new_key()
    pem = register.enrol("xa-mau", register.new_code("xa-mau", NOW), csr(key=key), None, NOW).encode()
    identity.check(pem, key, "xa-mau", (tmp_path / "pki" / "ca.crt").read_bytes())
    cert = x509.load_pem_x509_certificate(pem)
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [u.dotted_string for u in usage] == ["1.3.6.1.5.5.7.3.2"]


def _other(kind: str) -> str:
    """Requests that nobody should grant."""
    if kind == "rsa":
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = rsa.generate_private_key(65537, 2048)
    else:
        key = ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "xa-mau")]
    if kind == "two names":
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, "publisher"))
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    if kind == "forged":
        lines = pem.splitlines()
        lines[-3] = lines[-3][:4] + ("AAAA" if lines[-3][4:8] != "AAAA" else "BBBB") + lines[-3][8:]
        pem = "\n".join(lines)
    return pem


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (csr("xa-khac"), "wrong-name"),
        (csr("publisher"), "wrong-name"),
        (_other("two names"), "wrong-name"),
        (_other("rsa"), "bad-request"),
        (_other("p384"), "bad-request"),
        (_other("forged"), "bad-request"),
        ("", "bad-request"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "bad-request"),
        ("ă" * 100, "bad-request"),
    ],
    ids=[
        "another device's name",
        "the publisher's name",
        "two names",
        "an RSA key",
        "another curve",
        "a forged signature",
        "nothing",
        "no request within",
        "no PEM",
    ],
)
def test_a_bad_request_is_refused_and_does_not_use_the_code_up(request_: str, reason: str, register: Register) -> None:
    code = register.new_code("xa-mau", NOW)
    with pytest.raises(RefusedError) as refused:
        register.enrol("xa-mau", code, request_, None, NOW)
    assert refused.value.reason == reason
    assert register.enrol("xa-mau", code, csr(), None, NOW)


@pytest.mark.parametrize("jwk", [{"kty": "OKP"}, {"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}, "key", [1], 5])
def test_a_station_key_that_is_none_or_a_secret_is_refused(jwk: object, register: Register) -> None:
    with pytest.raises(RefusedError):
        register.enrol("xa-mau", register.new_code("xa-mau", NOW), csr(), jwk, NOW)
    assert register.station_keys("xa-mau") == []


def test_a_newer_code_voids_the_one_that_was_not_used(register: Register) -> None:
    first = register.new_code("xa-mau", NOW)
    register.new_code("xa-mau", NOW)
    with pytest.raises(RefusedError) as refused:
        register.enrol("xa-mau", first, csr(), None, NOW)
    assert refused.value.reason == "wrong-code"


def test_of_two_devices_with_one_code_the_second_is_refused(register: Register) -> None:
    code = register.new_code("xa-mau", NOW)
    register.enrol("xa-mau", code, csr(), None, NOW)
    with pytest.raises(RefusedError) as refused:
        register.enrol("xa-mau", code, csr(), None, NOW)
    assert refused.value.reason == "used-code"


def test_two_processes_with_one_code_at_the_same_time_give_one_certificate(register: Register, tmp_path: Path) -> None:
    code = register.new_code("xa-mau", NOW)
    other = Register(tmp_path, Pki(tmp_path / "pki"))
    register.enrol("xa-mau", code, csr(), None, NOW)
    with pytest.raises(RefusedError):
        other.enrol("xa-mau", code, csr(), None, NOW)
    other.close()


def test_a_certificate_of_init_is_revoked_too_when_the_board_is_replaced(register: Register, tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.client("xa-mau")
    old = x509.load_pem_x509_certificate(pki.identity("xa-mau").cert.read_bytes())
    register.enrol("xa-mau", register.new_code("xa-mau", NOW), csr(), None, NOW)
    assert [e.serial_number for e in x509.load_pem_x509_crl(pki.crl.read_bytes())] == [old.serial_number]


def test_the_revocation_list_lasts_as_long_as_the_authority_and_is_signed_by_it(
    register: Register, tmp_path: Path
) -> None:
    register.write_crl(NOW)
    pki = Pki(tmp_path / "pki")
    authority = x509.load_pem_x509_certificate(pki.ca.read_bytes())
    crl = x509.load_pem_x509_crl(pki.crl.read_bytes())
    assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert crl.next_update_utc == authority.not_valid_after_utc


def test_a_failure_in_the_middle_of_an_enrolment_changes_nothing(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = register.new_code("xa-mau", NOW)

    def broken(*_: object, **__: object) -> x509.Certificate:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Pki, "sign_client", broken)
        with pytest.raises(sqlite3.OperationalError):
            register.enrol("xa-mau", code, csr(), None, NOW)
    assert register.known(NOW)[0].code == "open"
    assert register.enrol("xa-mau", code, csr(), None, NOW)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100)), max_size=80))
def test_an_address_that_fails_waits_and_others_do_not(tries: list[tuple[str, float]]) -> None:
    limiter, now = Limiter(burst=3, pause_s=10), 0.0
    failed: dict[str, list[float]] = {"a": [], "b": []}
    for address, wait in tries:
        now += wait
        if limiter.allows(address, now):
            limiter.failed(address, now)
            failed[address].append(now)
    for times in failed.values():
        for first, fifth in zip(times, times[4:], strict=False):
            assert fifth - first > 5, "five failures took at least the pause of one of them"
    assert limiter.allows("c", now)


def test_the_limiters_memory_is_bounded() -> None:
    limiter = Limiter(addresses=100)
    for n in range(1000):
        limiter.failed(f"10.0.{n // 256}.{n % 256}", 0.0)
    assert len(limiter._debts) == 100
