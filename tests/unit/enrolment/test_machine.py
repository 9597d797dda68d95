"""A device enrols: whatever fails, and whenever the power goes."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.enrolment import identity
from agent.enrolment.office import AwayError
from agent.enrolment.states import REASONS, TRANSITIONS, Record, State, Step, read
from tests.unit.enrolment.world import DAY, NOW, Cut, PowerCut, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def pair_fits(world: World) -> bool:
    assert world.config.mqtt is not None
    key = serialization.load_pem_private_key(Path(world.config.mqtt.key).read_bytes(), None)
    return key.public_key() == world.cert.public_key()


def test_a_code_becomes_a_certificate_and_is_gone(world: World) -> None:
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", NOW))
    assert device.run().state is State.ENROLLED
    assert pair_fits(world)
    assert sorted(p.name for p in device.folder.iterdir()) == [
        "device.crt",
        "device.key",
        "enrolment.json",
        "station.jwk",
    ]
    assert {p.name: p.stat().st_mode & 0o777 for p in device.folder.iterdir()} == dict.fromkeys(
        ["device.crt", "device.key", "enrolment.json", "station.jwk"], 0o600
    )


def test_the_private_keys_never_leave_the_device_and_the_public_station_key_does(world: World) -> None:
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", NOW))
    device.run()
    sent = json.dumps(world.desk.asked)
    assert "PRIVATE" not in sent
    assert '"d"' not in sent
    assert world.register.station_keys("xa-mau") == [identity.public_jwk((device.folder / "station.jwk").read_bytes())]


@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_a_power_cut_at_any_operation_of_the_disk_is_made_good_at_the_next_start(how: str, tmp_path: Path) -> None:
    for at in itertools.count():
        world = World(tmp_path / f"{at}")
        world.boot().take_code(world.register.new_code("xa-mau", NOW))
        try:
            world.boot(Cut(at, how)).run()
        except PowerCut:
            assert world.boot().run().state is State.ENROLLED, f"cut {how} operation {at}"
        else:
            assert at > 8, "every operation was cut"
            return
        assert pair_fits(world)
        assert world.boot().code is None
        assert len({json.dumps(b["csr"]) and b["code"] for b in world.desk.asked}) == 1
        live = [k for k in world.register.known(NOW) if k.until is not None]
        assert len(live) == 1
        assert world.revoked() == set(), "no certificate was issued twice"


@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_a_power_cut_at_any_operation_of_a_renewal_leaves_a_pair_that_fits(how: str, tmp_path: Path) -> None:
    for at in itertools.count():
        world = World(tmp_path / f"{at}")
        world.boot().take_code(world.register.new_code("xa-mau", NOW))
        world.boot().run()
        first = world.cert.serial_number
        try:
            world.boot(Cut(at, how)).run(renew=True)
        except PowerCut:
            assert world.boot().run(renew=True).state is State.ENROLLED
        else:
            assert at > 6
            return
        assert pair_fits(world)
        assert world.cert.serial_number != first


def test_an_answer_that_is_lost_is_asked_for_again_and_is_the_same(world: World) -> None:
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", NOW))
    world.desk.lose = 2
    for _ in range(2):
        with pytest.raises(AwayError):
            world.boot().run()
    assert world.boot().run().state is State.ENROLLED
    assert world.revoked() == set()


def test_without_a_network_the_state_waits_and_nothing_is_lost(world: World) -> None:
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    world.desk.away = True
    for _ in range(3):
        with pytest.raises(AwayError):
            world.boot().run()
    assert world.boot().record.state is State.KEYED
    world.desk.away = False
    assert world.boot().run().state is State.ENROLLED


@pytest.mark.parametrize("reason", ["wrong-code", "used-code", "expired-code"])
def test_a_code_that_is_refused_is_told_and_a_new_one_begins_anew(reason: str, world: World, tmp_path: Path) -> None:
    code = world.register.new_code("xa-mau", NOW)
    if reason == "wrong-code":
        code = code[:-1] + ("A" if code[-1] != "A" else "B")
    elif reason == "expired-code":
        world.desk.now = NOW + 15 * DAY
    else:
        other = world.boot(config=world.station("xa-mau", tmp_path / "thief"))
        other.take_code(code)
        assert other.run().state is State.ENROLLED
    device = world.boot()
    device.take_code(code)
    assert device.run() == Record(State.REFUSED, reason=reason)
    assert device.code is None
    assert world.boot().run().state is State.REFUSED, "it is not asked again without a new code"
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", world.desk.now))
    assert device.run().state is State.ENROLLED


def test_a_code_for_another_device_is_a_wrong_one_and_stays_good(world: World) -> None:
    code = world.register.new_code("xa-khac", NOW)
    device = world.boot()
    device.take_code(code)
    assert device.run().reason == "wrong-code"
    assert world.register.known(NOW)[0].code == "open"


def test_a_new_board_gets_the_name_and_the_old_ones_certificate_is_revoked(world: World, tmp_path: Path) -> None:
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    world.boot().run()
    old = world.cert.serial_number
    world.config = world.station("xa-mau", tmp_path / "new-board")
    world.boot().take_code(world.register.new_code("xa-mau", NOW + DAY))
    world.desk.now = NOW + DAY
    assert world.boot().run().state is State.ENROLLED
    assert world.revoked() == {old}
    assert len(world.register.station_keys("xa-mau")) == 2


def test_a_withdrawn_device_cannot_renew_and_a_code_helps(world: World) -> None:
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    world.boot().run()
    assert world.register.revoke("xa-mau", NOW) == 1
    assert world.boot().run(renew=True).reason == "revoked"
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    assert world.boot().run().state is State.ENROLLED


def test_a_code_that_comes_while_a_renewal_waits_is_used_instead(world: World) -> None:
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    world.boot().run()
    world.desk.away = True
    with pytest.raises(AwayError):
        world.boot().run(renew=True)
    world.desk.away = False
    world.register.revoke("xa-mau", NOW)
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    assert world.boot().run().state is State.ENROLLED


def test_a_certificate_for_another_key_name_or_of_another_authority_is_refused(world: World, tmp_path: Path) -> None:
    key, other = identity.new_key(), identity.new_key()
    authority = world.pki.ca.read_bytes()
    pem = world.register.enrol(
        "xa-mau", world.register.new_code("xa-mau", NOW), identity.request(key, "xa-mau"), None, NOW
    ).encode()
    identity.check(pem, key, "xa-mau", authority)
    from province.pki import Pki

    stranger = Pki.create(tmp_path / "stranger").ca.read_bytes()
    for wrong in [
        (pem, other, "xa-mau", authority),
        (pem, key, "xa-khac", authority),
        (pem, key, "xa-mau", stranger),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key, "xa-mau", authority),
        (b"", key, "xa-mau", authority),
    ]:
        with pytest.raises(identity.BadCertificateError):
            identity.check(*wrong)


def test_a_certificate_is_due_when_a_third_of_its_life_is_left(world: World) -> None:
    world.boot().take_code(world.register.new_code("xa-mau", NOW))
    world.boot().run()
    assert world.config.mqtt is not None
    pem = Path(world.config.mqtt.cert).read_bytes()
    at = datetime.fromtimestamp(NOW, UTC)
    assert not identity.is_due(pem, at + timedelta(days=260))
    assert identity.is_due(pem, at + timedelta(days=270))
    assert identity.has_ended(pem, at + timedelta(days=398))


@pytest.mark.parametrize("damage", [b"", b"{", b'{"state": "flying"}', b"[1]", b"\xff" * 99])
def test_a_damaged_record_counts_as_new_and_the_key_that_waits_is_used(damage: bytes, world: World) -> None:
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", NOW))
    world.desk.lose = 1
    with pytest.raises(AwayError):
        device.run()
    (device.folder / "enrolment.json").write_bytes(damage)
    assert read(damage) == Record()
    assert world.boot().run().state is State.ENROLLED
    assert world.revoked() == set()


def test_a_damaged_waiting_key_is_made_again(world: World) -> None:
    device = world.boot()
    device.take_code(world.register.new_code("xa-mau", NOW))
    world.desk.away = True
    with pytest.raises(AwayError):
        device.run()
    world.desk.away = False
    (device.folder / "pending.key").write_bytes(b"-----BEGIN")
    assert world.boot().run().state is State.ENROLLED
    assert pair_fits(world)


def test_every_state_but_the_first_is_reached_and_no_step_leads_out_of_the_table() -> None:
    assert set(TRANSITIONS.values()) == set(State) - {State.NEW}
    for state, step in itertools.product(State, Step):
        if (state, step) not in TRANSITIONS:
            with pytest.raises(KeyError):
                Record(state).after(step)


def test_every_refusal_of_the_register_has_a_sentence() -> None:
    from province.enrol_server import STATUS

    assert set(STATUS) <= set(REASONS)
