from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent.link import topics
from province.broker import acl
from province.pki import Identity, Pki, make


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make(tmp_path_factory.mktemp("pki") / "deep" / "er", ["tram-a"], hosts=["nguon.example", "10.1.2.3"])


def cert(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.cert.read_bytes())


def handshake(pki: Pki, server: str, client: str, host: str) -> ssl.SSLObject:
    """A whole mutual handshake in memory, under OpenSSL's strict rules."""
    contexts = []
    for name, side in ((server, ssl.PROTOCOL_TLS_SERVER), (client, ssl.PROTOCOL_TLS_CLIENT)):
        made = ssl.SSLContext(side)
        made.load_verify_locations(pki.ca)
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.load_cert_chain(pki.identity(name).cert, pki.identity(name).key)
        contexts.append(made)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    c = contexts[1].wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side_ in (c, s):
            try:
                side_.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return s


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "nguon.example", "10.1.2.3"])
def test_both_sides_are_verified_under_strict_rules(pki: Pki, host: str) -> None:
    peer = handshake(pki, "broker", "tram-a", host).getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "tram-a"),),)


@pytest.mark.parametrize(
    ("server", "client", "host"),
    [("tram-a", "watcher", "localhost"), ("broker", "content", "localhost"), ("broker", "tram-a", "other.example")],
    ids=["a device is no server", "a server is no client", "another name"],
)
def test_a_certificate_serves_one_purpose(pki: Pki, server: str, client: str, host: str) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(pki, server, client, host)


def test_keys_are_private_and_the_common_name_is_the_device(pki: Pki) -> None:
    for key in pki.dir.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    assert pki.dir.stat().st_mode & 0o777 == 0o700
    assert cert(pki.identity("tram-a")).subject.rfc4514_string() == "CN=tram-a"
    assert {p.name for p in pki.dir.glob("*.crt")} == {
        f"{n}.crt" for n in ("ca", "broker", "content", "watcher", "publisher", "tram-a")
    }


def test_certificates_are_valid_now_and_for_a_bounded_time(pki: Pki) -> None:
    now = datetime.now(UTC)
    leaf = cert(pki.identity("tram-a"))
    assert now - timedelta(hours=1) < leaf.not_valid_before_utc < now
    assert leaf.not_valid_after_utc < now + timedelta(days=398)


def test_an_authority_is_opened_again_and_goes_on_issuing(pki: Pki) -> None:
    again = Pki(pki.dir)
    again.client("tram-b")
    handshake(again, "broker", "tram-b", "localhost")


@pytest.mark.parametrize("device", ["ca", "broker", "content", "watcher", "publisher"])
def test_a_device_cannot_take_a_name_with_rights_of_its_own(tmp_path: Path, device: str) -> None:
    with pytest.raises(ValueError, match="cannot be a device id"):
        make(tmp_path / "pki", [device])


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "Tram", "ca"])
def test_a_name_that_is_no_file_name_is_refused(pki: Pki, name: str) -> None:
    with pytest.raises(ValueError, match="no certificate for the name"):
        pki.client(name)


def test_the_access_list_gives_a_device_its_own_and_nothing_else() -> None:
    own = acl({"tram-a": ["ven-bien"]}).partition("user tram-a\n")[2].splitlines()
    assert own == [
        *(f"topic write tram/1/dev/tram-a/{leaf}" for leaf in topics.UP),
        "topic read tram/1/dev/tram-a/state",
        "topic read tram/1/dev/tram-a/order",
        "topic read tram/1/dev/tram-a/desired/+/+",
        "topic read tram/1/group/all/order",
        "topic read tram/1/group/all/desired/+/+",
        "topic read tram/1/group/ven-bien/order",
        "topic read tram/1/group/ven-bien/desired/+/+",
    ]


def test_a_station_reads_and_writes_for_its_clusters_too_and_for_nobody_elses() -> None:
    lines = acl({"tram-a": [], "tram-b": []}, {"tram-a": ["cum-1"]})
    own, other = lines.partition("user tram-a\n")[2].split("user tram-b\n")
    assert "topic write tram/1/dev/cum-1/ack" in own
    assert "topic read tram/1/dev/cum-1/order" in own
    assert "cum-1" not in other


@pytest.mark.parametrize("device", ["tram-a\nuser watcher", "+", "#", ""])
def test_an_access_list_cannot_be_widened_by_a_devices_name(device: str) -> None:
    with pytest.raises(ValueError, match="neither a device id"):
        acl({device: []})
