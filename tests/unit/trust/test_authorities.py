from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from agent.model.orders import Class, Reason
from agent.trust import keys
from agent.trust.authorities import AuthoritiesError, Trusted
from agent.trust.refusal import Refusal
from agent.trust.signer import sign_authorities
from agent.trust.strict import to_base64url
from tests.unit.trust import world
from tests.unit.trust.world import AUTHORITIES, KEYS, ROOTS, STATION, STRANGER, authority, document, trusted

NEW_ROOTS = [keys.PrivateKey(bytes([n]) * 32) for n in (4, 5, 6)]


def test_the_first_document_gives_keys_ranks_and_version() -> None:
    first = trusted()
    assert (first.version, first.threshold) == (1, 2)
    assert first.holders[KEYS["vinh-long"].kid].authority.id == "vinh-long"
    assert first.authorities["xa-mau"].rank == 20
    assert first.chain == ()


def test_the_lowest_province_sets_the_rank_that_may_silence_local_programmes() -> None:
    assert trusted().province_rank == 80
    others = [authority("xa-mau", level="xã", rank=20), authority("khac", level="tỉnh", rank=70)]
    assert trusted().advance([document(2, authorities=others)]).province_rank == 70


def bad_signature(body: dict[str, Any]) -> dict[str, Any]:
    other = sign_authorities(world.payload(7), ROOTS[:2])
    return {**body, "signatures": other["signatures"]}


def with_header(alg: str = "Ed25519", typ: str = "tram-authorities+jws") -> dict[str, Any]:
    body = document(2)
    for signature, key in zip(body["signatures"], ROOTS, strict=False):
        head = to_base64url(json.dumps({"alg": alg, "kid": key.kid, "typ": typ}).encode())
        signature["protected"] = head
        signature["signature"] = to_base64url(key.sign(f"{head}.{body['payload']}".encode()))
    return body


CHAINS: dict[str, tuple[Callable[[], list[Any]], int | Reason]] = {
    "the next version": (lambda: [document(2)], 2),
    "a version far ahead": (lambda: [document(50)], 50),
    "all three roots": (lambda: [document(2, ROOTS)], 2),
    "an extra signature of a stranger": (lambda: [document(2, [*ROOTS[:2], STRANGER])], 2),
    "an extra signature of garbage": (
        lambda: [{**(d := document(2)), "signatures": [{"protected": "?", "signature": "x"}, None, *d["signatures"]]}],
        2,
    ),
    "the older algorithm name": (lambda: [with_header(alg="EdDSA")], 2),
    "another algorithm name": (lambda: [with_header(alg="HS256")], Reason.NOT_AUTHORISED),
    "one signature of two": (lambda: [document(2, ROOTS[:1])], Reason.NOT_AUTHORISED),
    "one root signing twice": (lambda: [document(2, [ROOTS[0], ROOTS[0]])], Reason.NOT_AUTHORISED),
    "signatures of strangers": (lambda: [document(2, [STRANGER, NEW_ROOTS[0]])], Reason.NOT_AUTHORISED),
    "signatures over another payload": (lambda: [bad_signature(document(2))], Reason.NOT_AUTHORISED),
    "an order's typ": (lambda: [with_header(typ="tram-order+jws")], Reason.NOT_AUTHORISED),
    "the held version": (lambda: [document(1)], Reason.STALE_VERSION),
    "the held version, badly signed": (lambda: [document(1, [STRANGER])], Reason.STALE_VERSION),
    "an older version": (lambda: [document(0)], Reason.STALE_VERSION),
    "held ones are skipped": (lambda: [document(0, [STRANGER]), document(1), document(2)], 2),
    "an older one last": (lambda: [document(3), document(2)], Reason.STALE_VERSION),
    "a bad one in the middle": (lambda: [document(2, [STRANGER]), document(3)], Reason.NOT_AUTHORISED),
    "a chain of two": (lambda: [document(2, authorities=None), document(3)], 3),
    "the last without authorities": (lambda: [document(2, authorities=None)], Reason.NOT_AUTHORISED),
    "rotation signed by old and new": (lambda: [document(2, [*ROOTS[:2], *NEW_ROOTS[:2]], roots=NEW_ROOTS)], 2),
    "rotation signed by the old only": (lambda: [document(2, ROOTS, roots=NEW_ROOTS)], Reason.NOT_AUTHORISED),
    "rotation signed by the new only": (lambda: [document(2, NEW_ROOTS, roots=NEW_ROOTS)], Reason.NOT_AUTHORISED),
    "rotation signed by one new": (
        lambda: [document(2, [*ROOTS[:2], NEW_ROOTS[0]], roots=NEW_ROOTS)],
        Reason.NOT_AUTHORISED,
    ),
    "after a rotation the new roots count": (
        lambda: [
            document(2, [*ROOTS[:2], *NEW_ROOTS[:2]], roots=NEW_ROOTS, authorities=None),
            document(3, NEW_ROOTS[1:], roots=NEW_ROOTS),
        ],
        3,
    ),
    "after a rotation the old roots do not": (
        lambda: [
            document(2, [*ROOTS[:2], *NEW_ROOTS[:2]], roots=NEW_ROOTS, authorities=None),
            document(3, ROOTS[:2], roots=NEW_ROOTS),
        ],
        Reason.NOT_AUTHORISED,
    ),
    "a threshold raised beyond its signatures": (lambda: [document(2, threshold=3)], Reason.NOT_AUTHORISED),
    "a threshold raised with all signatures": (lambda: [document(2, ROOTS, threshold=3)], 2),
    "a threshold lowered by enough": (lambda: [document(2, threshold=1)], 2),
    "a threshold lowered by too few": (lambda: [document(2, ROOTS[:1], threshold=1)], Reason.NOT_AUTHORISED),
    "a threshold above the roots": (lambda: [document(2, ROOTS, threshold=4)], Reason.NOT_AUTHORISED),
    "a threshold above the different roots": (
        lambda: [document(2, ROOTS, roots=[ROOTS[0]] * 3)],
        Reason.NOT_AUTHORISED,
    ),
    "a threshold of zero": (lambda: [document(2, threshold=0)], Reason.NOT_AUTHORISED),
    "no roots": (lambda: [document(2, roots=[])], Reason.NOT_AUTHORISED),
    "a private root key": (
        lambda: [sign_authorities({**world.payload(2), "roots": [r.to_jwk() for r in ROOTS]}, ROOTS)],
        Reason.NOT_AUTHORISED,
    ),
    "one key of two authorities": (
        lambda: [
            document(2, authorities=[authority("xa-mau"), {**authority("khac"), "keys": authority("xa-mau")["keys"]}])
        ],
        Reason.NOT_AUTHORISED,
    ),
    "one authority twice": (lambda: [document(2, authorities=[authority("khac")] * 2)], Reason.NOT_AUTHORISED),
    "an unknown member": (lambda: [document(2, hours="5-17")], Reason.NOT_AUTHORISED),
    "an unknown class": (
        lambda: [document(2, authorities=[authority("khac", max_class="top")])],
        Reason.NOT_AUTHORISED,
    ),
    "a version that is no integer": (
        lambda: [sign_authorities({**world.payload(2), "version": "2"}, ROOTS)],
        Reason.NOT_AUTHORISED,
    ),
    "not a document": (lambda: ["x"], Reason.NOT_AUTHORISED),
    "flattened JSON": (
        lambda: [{"payload": (d := document(2))["payload"], **d["signatures"][0]}],
        Reason.NOT_AUTHORISED,
    ),
    "a member too much": (lambda: [{**document(2), "header": {}}], Reason.NOT_AUTHORISED),
    "no signatures": (lambda: [{**document(2), "signatures": []}], Reason.NOT_AUTHORISED),
    "65 signatures": (lambda: [document(2, [*ROOTS, *[STRANGER] * 62])], Reason.NOT_AUTHORISED),
    "nothing": (list, Reason.NOT_AUTHORISED),
}


@pytest.mark.parametrize(("chain", "expected"), CHAINS.values(), ids=CHAINS.keys())
def test_a_chain_of_documents(chain: Callable[[], list[Any]], expected: int | Reason) -> None:
    held = trusted()
    if isinstance(expected, Reason):
        with pytest.raises(Refusal) as caught:
            held.advance(chain())
        assert caught.value.reason is expected
        assert caught.value.detail
    else:
        assert held.advance(chain()).version == expected


def test_what_was_persisted_leads_to_the_same_place_after_rotations() -> None:
    first = trusted()
    now = first
    for version in range(2, 6):
        now = now.advance([document(version)])
    now = now.advance([document(6, [*ROOTS[:2], *NEW_ROOTS[:2]], roots=NEW_ROOTS)])
    for version in range(7, 10):
        now = now.advance([document(version, NEW_ROOTS[:2], roots=NEW_ROOTS)])
    assert len(now.chain) == 2, "only the rotation and the last document need keeping"
    again = first.resume(now.encode_chain())
    assert (again.version, again.roots, again.holders) == (9, now.roots, now.holders)


def test_a_newer_image_wins_over_an_older_persisted_chain() -> None:
    older = trusted().advance([document(2)])
    newer = Trusted.first(world.root_keys(), json.dumps(document(5)))
    assert newer.resume(older.encode_chain()) is newer


@pytest.mark.parametrize("stored", [b"", b"{}", b"[1]", b'[{"payload":"e30","signatures":[]}]', b"\xff", b"[]"])
def test_a_damaged_persisted_chain_is_refused(stored: bytes) -> None:
    with pytest.raises(Refusal, match="not-authorised"):
        trusted().resume(stored)


FIRSTS = {
    "root keys that are no JSON": ("{", json.dumps(document()), "root keys"),
    "a threshold above the keys": (world.root_keys(4), json.dumps(document()), "threshold 4"),
    "one root key twice": (
        json.dumps({"threshold": 2, "roots": [ROOTS[0].public.jwk] * 2}),
        json.dumps(document()),
        "root keys: threshold 2",
    ),
    "a document that is no JSON": (world.root_keys(), "{", "authorities document"),
    "a document of strangers": (world.root_keys(), json.dumps(document(1, [STRANGER])), "signed by 0"),
    "one signature too few": (world.root_keys(), json.dumps(document(1, ROOTS[:1])), "2 must"),
    "no authorities in it": (world.root_keys(), json.dumps(document(1, authorities=None)), "must name"),
}


@pytest.mark.parametrize(("roots", "first", "said"), FIRSTS.values(), ids=FIRSTS.keys())
def test_a_first_document_that_cannot_be_used_is_explained(roots: str, first: str, said: str) -> None:
    with pytest.raises(AuthoritiesError, match=said):
        Trusted.first(roots, first)


RIGHTS = {
    "within": ("vinh-long", "broadcast", [Class.EMERGENCY], "86/xa-mau", True),
    "the unit itself": ("xa-mau", "broadcast", [Class.PRIORITY], "86/xa-mau", True),
    "below the unit": ("xa-mau", "broadcast", [], "86/xa-mau/ap-3", True),
    "an op not listed": ("bao-tinh", "reboot", [], "86/xa-mau", False),
    "a class too high": ("xa-mau", "broadcast", [Class.EMERGENCY], "86/xa-mau", False),
    "one class of several too high": ("xa-mau", "schedule", [Class.NORMAL, Class.EMERGENCY], "86/xa-mau", False),
    "another unit": ("khac", "broadcast", [], "86/xa-mau", False),
    "a prefix that is no slash boundary": ("khac", "broadcast", [], "86/xa-maul", False),
    "the unit above": ("xa-mau", "broadcast", [], "86", False),
}


@pytest.mark.parametrize(("who", "op", "classes", "unit", "allowed"), RIGHTS.values(), ids=RIGHTS.keys())
def test_rights_by_op_class_and_unit(who: str, op: str, classes: list[Class], unit: str, allowed: bool) -> None:
    authority = trusted().authorities[who]
    if allowed:
        authority.may(op, classes, unit)
    else:
        with pytest.raises(Refusal, match="not-authorised"):
            authority.may(op, classes, unit)


ZONES: dict[str, tuple[str, list[str], list[str] | None]] = {
    "everything of one who may all": ("vinh-long", ["*"], ["ap-1", "ap-2", "bang"]),
    "everything means all it may": ("xa-mau", ["*"], ["ap-1", "ap-2"]),
    "in configuration order, once": ("vinh-long", ["bang", "tag:loa", "ap-1"], ["ap-1", "ap-2", "bang"]),
    "one zone outside refuses all": ("xa-mau", ["ap-1", "bang"], None),
    "a kind outside": ("xa-mau", ["kind:screen"], None),
    "all it may, and one outside": ("xa-mau", ["*", "bang"], None),
    "what is not here is ignored": ("xa-mau", ["ap-1", "ap-77", "tag:none", "kind:smell"], ["ap-1"]),
    "none": ("vinh-long", ["ap-77"], []),
    "all, for one who may none here": ("anh-huong", ["*"], []),
}


@pytest.mark.parametrize(("who", "selectors", "expected"), ZONES.values(), ids=ZONES.keys())
def test_zones_by_right(who: str, selectors: list[str], expected: list[str] | None) -> None:
    authority = trusted().authorities[who]
    if expected is None:
        with pytest.raises(Refusal, match="not-authorised"):
            authority.resolve(STATION, selectors)
    else:
        assert authority.resolve(STATION, selectors) == expected


def test_documents_signed_with_another_library_are_followed() -> None:
    parts = [
        ({"alg": "Ed25519", "typ": "tram-authorities+jws", "kid": root.kid}, OKPKey.import_key(root.to_jwk()))
        for root in ROOTS[:2]
    ]
    body = world.payload(2)
    encoded = json.dumps(body).encode()
    signed = [
        jws.serialize_json([{"protected": head}], encoded, key, algorithms=["Ed25519"])["signatures"][0]  # type: ignore[list-item,typeddict-item]
        for head, key in parts
    ]
    assert trusted().advance([{"payload": to_base64url(encoded), "signatures": signed}]).version == 2


def test_our_documents_are_read_by_another_library() -> None:
    ours = document(2, ROOTS[:1])
    key = OKPKey.import_key(ROOTS[0].public.jwk)
    read = jws.deserialize_json(ours, key, algorithms=["Ed25519"])  # type: ignore[arg-type]
    assert json.loads(read.payload or b"")["authorities"] == AUTHORITIES
