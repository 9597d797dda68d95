from __future__ import annotations

import socket
from typing import Any

import pytest

from agent.store import fetcher
from agent.store.fetcher import FetchError, Policy

PRIVATE = [
    "10.0.0.1",
    "172.16.5.5",
    "192.168.1.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1%2",
    "fd00::1",
    "ff02::1",
    "::ffff:192.168.1.1",
    "2002:c0a8:0101::1",
    "64:ff9b::a00:1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_or_special_address_is_reached_by_name(address: str) -> None:
    assert not Policy(["media.example"]).allows("media.example", address)


@pytest.mark.parametrize("address", ["203.162.4.1", "2001:ee0::1", "64:ff9b::cba2:401"])
def test_public_addresses_are_reached(address: str) -> None:
    assert Policy(["media.example"]).allows("media.example", address)


@pytest.mark.parametrize(
    ("listed", "address"),
    [
        ("192.168.1.1", "192.168.1.1"),
        ("192.168.1.1:8443", "192.168.1.1"),
        ("192.168.1.1", "::ffff:192.168.1.1"),
        ("fd00::1", "fd00::1"),
        ("[fd00::1]:8443", "fd00::1"),
        ("localhost:8443", "127.0.0.1"),
        ("localhost", "::1"),
    ],
)
def test_a_private_address_is_reached_when_listed_literally(listed: str, address: str) -> None:
    policy = Policy(["media.example", listed])
    assert policy.allows("media.example", address)
    assert not policy.allows("media.example", "10.9.9.9")


HOSTS = {
    "the default port": ("media.example", "https://media.example/a", True),
    "the default port written out": ("media.example", "https://media.example:443/a", True),
    "capitals and a final dot": ("Media.Example", "https://MEDIA.example./a", True),
    "a listed port": ("media.example:8443", "https://media.example:8443/a", True),
    "an international name": ("đài.vn", "https://xn--i-rfa0m.vn/a", True),
    "IPv6": ("2001:ee0::1", "https://[2001:ee0::1]/a", True),
    "another port": ("media.example", "https://media.example:8443/a", False),
    "no port where one is listed": ("media.example:8443", "https://media.example/a", False),
    "a subdomain": ("media.example", "https://x.media.example/a", False),
    "a longer name": ("media.example", "https://media.example.evil.example/a", False),
    "http": ("media.example", "http://media.example/a", False),
    "a user": ("media.example", "https://media.example@evil.example/a", False),
    "a password": ("media.example", "https://u:p@media.example/a", False),
    "a backslash": ("media.example", "https://evil.example\\@media.example/a", False),
    "no scheme": ("media.example", "media.example/a", False),
    "nothing": ("media.example", "", False),
}


@pytest.mark.parametrize("case", HOSTS)
def test_hosts_are_matched_exactly(case: str) -> None:
    listed, url, good = HOSTS[case]
    policy = Policy([listed])
    if good:
        policy.check_url(url)
    else:
        with pytest.raises(FetchError) as told:
            policy.check_url(url)
        assert (told.value.code, told.value.final) == ("host", True)


def test_a_source_of_the_configuration_may_be_plain_and_private_but_its_redirects_may_not() -> None:
    policy = Policy(["media.example"], own="http://icecast.xa-mau.lan:8000/voh")
    policy.check_url("http://icecast.xa-mau.lan:8000/voh")
    assert policy.allows("icecast.xa-mau.lan", "192.168.1.9")
    assert not policy.allows("media.example", "192.168.1.9")
    for url in ("http://media.example/x", "http://192.168.1.9/x", "file:///etc/passwd"):
        with pytest.raises(FetchError):
            policy.check_url(url)


def test_a_list_entry_that_is_no_host_is_told() -> None:
    with pytest.raises(FetchError, match="allowed_hosts"):
        Policy(["media.example:abc"])


def test_of_several_addresses_only_allowed_ones_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    answers = ["10.255.255.1", "127.0.0.1"]
    looked_up: list[str] = []

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with fetcher._connect(Policy([f"media.example:{port}", "127.0.0.1"]), "media.example", port, 5.0) as connection:
        assert connection.getpeername() == ("127.0.0.1", port)
    assert looked_up == ["media.example"]  # one look-up: nothing can change between check and use
    with pytest.raises(FetchError) as told:
        fetcher._connect(Policy([f"media.example:{port}"]), "media.example", port, 5.0)
    assert told.value.code == "address"
    with pytest.raises(FetchError) as told:
        fetcher._connect(Policy(["media.example"]), "evil.example", port, 5.0)
    assert told.value.code == "host"  # whatever a URL parser made of the address
    listener.close()
