"""Enrolment over the real network: HTTPS, the commands, and a broker that admits the new certificate only."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.enrolment import identity
from agent.enrolment.machine import Enrolment
from agent.enrolment.office import AwayError, Denied, HttpsOffice
from agent.enrolment.states import State
from agent.link.tls import context
from agent.model.loader import load
from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.broker import Broker
from province.enrol_server import EnrolServer
from province.enrolment import Register
from province.pki import LOCAL_NAMES, Pki, make
from province.store import Province, Settings

ROOT = Path(__file__).parents[3]


class Office:
    """A province with its server, and devices' configurations that point at it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dir = folder, folder / "province"
        Province.create(
            self.dir,
            [AuthorityEntry("tinh", "province", 50, [], "*", Class.EMERGENCY, ["84"], "*")],
            settings=Settings(name="Tỉnh"),
        )
        self.pki = make(self.dir / "pki")
        self.offset = 0.0
        self.changes = 0
        self.server = self.make()
        self.server.start()

    def make(self, **options: Any) -> EnrolServer:
        return EnrolServer(
            self.dir,
            options.pop("pki", self.pki),
            clock=lambda: time.time() + self.offset,
            changed=self._changed,
            **options,
        )

    def _changed(self) -> None:
        self.changes += 1

    def code(self, device: str = "xa-mau") -> str:
        register = Register(self.dir, self.pki)
        code = register.new_code(device, time.time() + self.offset)
        register.close()
        return code

    def device(self, name: str = "board", url: str | None = None, ca: Path | None = None) -> Path:
        """The configuration of a board that is to be xa-mau."""
        folder = self.folder / name
        (folder / "data" / "identity").mkdir(parents=True)
        config = yaml.safe_load((ROOT / "config" / "commune-station.yaml").read_text("utf-8"))
        mine = folder / "data" / "identity"
        config["mqtt"] |= {"ca": str(ca or self.pki.ca), "cert": f"{mine}/device.crt", "key": f"{mine}/device.key"}
        config["enrolment"] = {"url": url or self.server.url}
        config["trust"] |= {
            "root_keys": str(self.dir / "root_keys.json"),
            "authorities": str(self.dir / "authorities.json"),
            "station_key": f"{mine}/station.jwk",
        }
        config["data_dir"] = str(folder / "data")
        path = folder / "station.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
        return path

    def enrolment(self, path: Path, *, check_dates: bool = True) -> Enrolment:
        station = load(path)
        assert station.mqtt is not None
        assert station.enrolment is not None
        return Enrolment(station, HttpsOffice(station.enrolment.url, station.mqtt.ca, check_dates=check_dates))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.server.stop()


def tram(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "--lang", "en", "enrol", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )


def test_the_command_registers_a_device_and_says_until_when(office: Office) -> None:
    path = office.device()
    done = tram(path, "--code", office.code())
    assert done.returncode == 0, done.stderr
    assert "xa-mau is registered" in done.stdout
    assert office.changes == 1
    assert tram(path).returncode == 0
    assert tram(path, "--renew").returncode == 0


@pytest.mark.parametrize(
    ("code", "said"), [("AAAAA-AAAAA-AAAAA-AAAAA", "does not know this code"), ("%" * 400, "does not know this code")]
)
def test_a_wrong_code_is_told_in_a_sentence_and_exit_1(code: str, said: str, office: Office) -> None:
    done = tram(office.device(), "--code", code)
    assert done.returncode == 1
    assert said in done.stderr


def test_without_a_code_the_command_says_what_to_do(office: Office) -> None:
    done = tram(office.device())
    assert done.returncode == 1
    assert "Ask the province" in done.stdout


def test_a_server_that_is_down_is_exit_3_and_is_asked_again(office: Office) -> None:
    path, code = office.device(), office.code()
    port = office.server.port
    office.server.stop()
    done = tram(path, "--code", code)
    assert done.returncode == 3
    assert "Nothing is lost" in done.stderr
    office.server = office.make(port=port)
    office.server.start()
    assert tram(path).returncode == 0


def test_a_name_that_cannot_be_found_is_exit_3(office: Office) -> None:
    done = tram(office.device(url="https://nobody.invalid"), "--code", office.code())
    assert done.returncode == 3
    assert "nobody.invalid" in done.stderr


def test_a_server_with_another_authoritys_certificate_never_gets_the_code(office: Office, tmp_path: Path) -> None:
    stranger = Pki.create(tmp_path / "stranger")
    false = office.make(pki=stranger)
    false.start()
    device = office.enrolment(office.device(url=false.url))
    device.take_code(office.code())
    with pytest.raises(AwayError, match="not the expected one"):
        device.run()
    false.stop()
    assert device.record.state is State.KEYED


def test_a_server_by_another_name_is_not_asked_even_if_dates_do_not_count(office: Office) -> None:
    other = office.make(names=["somebody.else"])
    other.start()
    device = office.enrolment(office.device(url=f"https://localhost:{other.port}"), check_dates=False)
    device.take_code(office.code())
    with pytest.raises(AwayError, match="not the expected one"):
        device.run()
    other.stop()


def test_a_wrong_clock_is_no_hindrance_as_long_as_it_is_not_trusted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's certificate lies in the future, as seen from a device that thinks it is long ago."""
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(days=300)
    issue = Pki.server

    def later(self: Pki, name: str, hosts: Any = LOCAL_NAMES, **_: Any) -> Any:
        return issue(self, name, hosts, starts=soon, ends=soon + timedelta(days=30))

    monkeypatch.setattr(Pki, "server", later)
    future = office.make()
    future.start()
    path = office.device(url=future.url)
    device = office.enrolment(path, check_dates=True)
    device.take_code(office.code())
    with pytest.raises(AwayError, match="not the expected one"):
        device.run()
    assert office.enrolment(path, check_dates=False).run().state is State.ENROLLED
    future.stop()


def post(office: Office, path: str, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    tls = context(str(office.pki.ca), None, None, check_dates=True)
    connection = http.client.HTTPSConnection("localhost", office.server.port, timeout=10, context=tls)
    connection.request("POST", path, data, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"device": 5, "code": "x", "csr": "x"}',
        b'{"device": "xa-mau"}',
        b"[" * 8000,
        json.dumps({"device": "xa-mau", "code": "x", "csr": "x" * 10_000}).encode(),
    ],
)
def test_hostile_requests_are_refused_and_the_server_goes_on(data: bytes, office: Office) -> None:
    for path in ("/enrol", "/renew"):
        status, body = post(office, path, data)
        assert status == 400
        assert body == {"reason": "bad-request"}
    device = office.enrolment(office.device())
    device.take_code(office.code())
    assert device.run().state is State.ENROLLED


def test_a_body_that_is_too_large_is_not_read(office: Office) -> None:
    assert post(office, "/enrol", b"x" * 100_000)[0] == 413


def test_whoever_tries_codes_out_is_made_to_wait(office: Office) -> None:
    body = {"device": "xa-mau", "code": "A" * 20, "csr": identity.request(identity.new_key(), "xa-mau")}
    answers = [post(office, "/enrol", json.dumps(body).encode())[0] for _ in range(12)]
    assert answers == [403] * 10 + [429] * 2
    device = office.enrolment(office.device())
    device.take_code(office.code())
    with pytest.raises(AwayError, match="429"):
        device.run()
    assert device.record.state is State.KEYED, "a device behind the same address waits, its code stays good"


def test_a_renewal_needs_the_present_certificate_of_that_device(office: Office) -> None:
    device = office.enrolment(office.device())
    device.take_code(office.code())
    device.run()
    mine = device.folder
    https = HttpsOffice(office.server.url, str(office.pki.ca), check_dates=True)
    body = {"device": "xa-khac", "csr": identity.request(identity.new_key(), "xa-khac")}
    with pytest.raises(Denied, match="wrong-name"):
        https.renew(body, f"{mine}/device.crt", f"{mine}/device.key")
    status, answer = post(office, "/renew", json.dumps(body).encode())
    assert (status, answer) == (400, {"reason": "bad-request"})
    assert device.run(renew=True).state is State.ENROLLED


def test_a_renewal_under_an_expired_certificate_is_not_answered(office: Office) -> None:
    """TLS itself refuses it; the device needs a new code."""
    from datetime import UTC, datetime, timedelta

    path = office.device()
    device = office.enrolment(path)
    device.take_code(office.code())
    office.offset = -400 * 86400.0
    device.run()
    assert identity.has_ended((device.folder / "device.crt").read_bytes(), datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(AwayError):
        office.enrolment(path).run(renew=True)


def slow(port: int) -> socket.socket:
    """A connection that says nothing."""
    return socket.create_connection(("127.0.0.1", port))


def test_connections_that_say_nothing_hold_nobody_up(office: Office) -> None:
    idle = [slow(office.server.port) for _ in range(50)]
    device = office.enrolment(office.device())
    device.take_code(office.code())
    assert device.run().state is State.ENROLLED
    for connection in idle:
        connection.close()


def test_an_answer_that_is_endless_or_no_json_is_no_answer(office: Office, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = office.pki.identity("broker")
    tls.load_cert_chain(server.cert, server.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve(answer: bytes) -> None:
            raw, _ = listener.accept()
            with tls.wrap_socket(raw, server_side=True) as client:
                client.recv(65_536)
                with contextlib.suppress(OSError):
                    client.sendall(answer)

        https = HttpsOffice(f"https://localhost:{port}", str(office.pki.ca), check_dates=True)
        for answer in (
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"certificate": 5}',
            b'HTTP/1.1 403 No\r\nContent-Length: 19\r\n\r\n{"reason": "\\u0007"}',
            b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"",
        ):
            thread = threading.Thread(target=serve, args=(answer,))
            thread.start()
            with pytest.raises(AwayError):
                https.enrol({"device": "x"})
            thread.join()


def admitted(broker: Broker, ca: Path, folder: Path) -> bool:
    """Whether the broker lets this certificate in: in TLS 1.3 that shows at the first reading."""
    tls = context(str(ca), str(folder / "device.crt"), str(folder / "device.key"), check_dates=True)
    try:
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=5) as raw,
            tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            connection.settimeout(2)
            connection.sendall(b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x09" + b"xa-mau-00")
            return connection.recv(1) == b"\x20"
    except OSError:
        return False


def wait_for(what: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.broker
def test_the_broker_admits_the_new_board_and_no_more_the_one_it_replaces(office: Office, tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", office.pki, {"xa-mau": []})
    broker.start()
    try:
        first = office.enrolment(office.device("first"))
        first.take_code(office.code())
        first.run()
        assert admitted(broker, office.pki.ca, first.folder)
        second = office.enrolment(office.device("second"))
        second.take_code(office.code())
        second.run()
        broker.allow({"xa-mau": []})  # what `--reload` does
        assert wait_for(lambda: not admitted(broker, office.pki.ca, first.folder))
        assert admitted(broker, office.pki.ca, second.folder)
    finally:
        broker.stop()
