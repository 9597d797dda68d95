from __future__ import annotations

import json
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.jwk import OKPKey

from agent.model.orders import Broadcast, Class, Reason, Resume
from agent.trust import keys
from agent.trust.refusal import Refusal
from agent.trust.signer import Signer
from agent.trust.strict import from_base64url, to_base64url
from agent.trust.verify import VerifiedOrder, decoded, recall, verify
from tests.unit.trust import world
from tests.unit.trust.world import DEVICE, KEYS, NOW, claims, dump, trusted

KEY = KEYS["vinh-long"]
HEADER = {"alg": "Ed25519", "kid": KEY.kid, "typ": "tram-order+jws"}


def by_hand(header: bytes, body: bytes, secret: bytes = bytes([10]) * 32) -> bytes:
    """A compact JWS made with nothing but cryptography."""
    signed = f"{to_base64url(header)}.{to_base64url(body)}"
    signature = Ed25519PrivateKey.from_private_bytes(secret).sign(signed.encode())
    return f"{signed}.{to_base64url(signature)}".encode()


def refusal(payload: bytes, *, command: bool = True) -> Reason:
    with pytest.raises(Refusal) as caught:
        verify(payload, trusted(), command=command)
    assert caught.value.detail
    return caught.value.reason


def test_an_order_of_ours_is_read_by_hand_and_by_another_library() -> None:
    token = Signer(KEY.to_jwk(), "vinh-long").order(
        "broadcast", world.broadcast(), [DEVICE], now=NOW, ttl=60, ctr=7, jti="j"
    )
    head, body, signature = token.split(".")
    Ed25519PublicKey.from_public_bytes(from_base64url(KEY.public.jwk["x"])).verify(
        from_base64url(signature), f"{head}.{body}".encode()
    )
    assert json.loads(from_base64url(head)) == HEADER
    read = jws.deserialize_compact(token, OKPKey.import_key(KEY.public.jwk), algorithms=["Ed25519"])
    assert json.loads(read.payload) == claims(jti="j", ctr=7, exp=int(NOW) + 60)


@pytest.mark.parametrize("alg", ["Ed25519", "EdDSA"])
def test_an_order_of_another_library_is_verified(alg: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        token = jws.serialize_compact(
            {**HEADER, "alg": alg}, dump(claims()), OKPKey.import_key(KEY.to_jwk()), algorithms=[alg]
        )
    order = verify(token.encode(), trusted(), command=True)
    assert (order.iss, order.jti, order.ctr, order.op, order.aud) == ("vinh-long", "j-1", 1, "broadcast", (DEVICE,))
    assert order.authority is trusted().authorities["vinh-long"] or order.authority is not None


def test_an_order_made_by_hand_is_verified_and_decoded() -> None:
    order = decoded(verify(by_hand(dump(HEADER), dump(claims())), trusted(), command=True))
    assert order.authentic
    assert order.exp == NOW + 3600
    assert isinstance(order.args, Broadcast)
    assert (order.args.class_, order.args.resume) == (Class.PRIORITY, Resume.DROP)


def test_typed_args_are_signed_as_the_contract_writes_them() -> None:
    order = decoded(verify(world.sign(claims()), trusted(), command=True))
    assert order.args is not None
    again = Signer(KEY.to_jwk(), "vinh-long").order("broadcast", order.args, [DEVICE], now=NOW, ttl=60, ctr=2)
    assert verify(again.encode(), trusted(), command=True).members == world.broadcast()


def test_nobody_but_trust_makes_a_verified_order() -> None:
    order = verify(world.sign(claims()), trusted(), command=True)
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    with pytest.raises(TypeError, match="only"):
        VerifiedOrder(**{**fields, "seal": object()})


GOOD = by_hand(dump(HEADER), dump(claims()))
PARTS = GOOD.split(b".")
MALFORMED = {
    "nothing": b"",
    "white space before": b" " + GOOD,
    "a line end after": GOOD + b"\n",
    "a dot after": GOOD + b".",
    "a fourth part": GOOD + b".AAAA",
    "two parts": b".".join(PARTS[:2]),
    "padding": GOOD + b"==",
    "a byte that is no ASCII": GOOD[:-1] + b"\xff",
    "the standard alphabet": GOOD[:-1] + b"/",
    "stray bits at the end": GOOD[:-1] + (b"x" if GOOD[-1:] != b"x" else b"y"),
    "a JSON serialization": dump({"payload": "", "signatures": []}),
    "a header that is no JSON": by_hand(b"{", dump(claims())),
    "a header that is a list": by_hand(b"[]", dump(claims())),
    "no kid": by_hand(dump({k: v for k, v in HEADER.items() if k != "kid"}), dump(claims())),
    "no typ": by_hand(dump({k: v for k, v in HEADER.items() if k != "typ"}), dump(claims())),
    "no alg": by_hand(dump({k: v for k, v in HEADER.items() if k != "alg"}), dump(claims())),
    "alg none": by_hand(dump({**HEADER, "alg": "none"}), dump(claims())),
    "alg HS256": by_hand(dump({**HEADER, "alg": "HS256"}), dump(claims())),
    "alg in lower case": by_hand(dump({**HEADER, "alg": "ed25519"}), dump(claims())),
    "typ of another thing": by_hand(dump({**HEADER, "typ": "JWT"}), dump(claims())),
    "typ with its prefix": by_hand(dump({**HEADER, "typ": "application/tram-order+jws"}), dump(claims())),
    "a crit member": by_hand(dump({**HEADER, "crit": ["b64"], "b64": False}), dump(claims())),
    "a jwk member": by_hand(dump({**HEADER, "jwk": KEY.public.jwk}), dump(claims())),
    "a kid that is no text": by_hand(dump({**HEADER, "kid": 1}), dump(claims())),
    "a header member twice": by_hand(dump(HEADER)[:-1] + f',"kid":"{KEY.kid}"'.encode() + b"}", dump(claims())),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_jws_that_is_not_exactly_ours_is_malformed(payload: bytes) -> None:
    assert refusal(payload) is Reason.MALFORMED


def test_the_payload_part_is_canonical_too() -> None:
    odd = dump(claims()) + b" " * ((1 - len(dump(claims()))) % 3)
    good = by_hand(dump(HEADER), odd)
    head, body, signature = good.split(b".")
    assert len(body) % 4
    stray = head + b"." + body[:-1] + bytes([body[-1] + 1]) + b"." + signature
    assert refusal(stray) is Reason.MALFORMED
    assert refusal(head + b"." + body + b"=" * (-len(body) % 4) + b"." + signature) is Reason.MALFORMED


def test_an_unknown_kid_comes_before_the_signature_and_the_claims() -> None:
    stranger = keys.generate()
    assert refusal(by_hand(dump({**HEADER, "kid": stranger.kid}), b"no claims")) is Reason.UNKNOWN_AUTHORITY


def test_a_bad_signature_comes_before_the_claims() -> None:
    assert refusal(by_hand(dump(HEADER), b"no claims", secret=bytes(32))) is Reason.BAD_SIGNATURE
    head, _, signature = PARTS
    other = to_base64url(dump(claims(jti="j-2"))).encode()
    assert refusal(b".".join((head, other, signature))) is Reason.BAD_SIGNATURE
    assert refusal(b".".join((head, PARTS[1], b""))) is Reason.BAD_SIGNATURE


LONG = {"text": "x" * 4096, "lang": "vi"}
BAD_CLAIMS = {
    "no JSON": b"{",
    "a list": b"[]",
    "a byte order mark": b"\xef\xbb\xbf" + dump(claims()),
    "a repeated name": dump(claims())[:-1] + b',"ctr":2}',
    "a repeated name in args": dump(claims()).replace(b'"id": "bt-1"', b'"id": "bt-1", "id": "bt-2"'),
    "NaN": dump(claims()).replace(b'"ctr": 1', b'"ctr": NaN'),
    "a lone surrogate": dump(claims()).replace(b"bt-1", b"\\ud800"),
    "2^53": dump(claims()).replace(b'"ctr": 1', b'"ctr": 9007199254740992'),
    "33 levels": dump(claims(args={"x": json.loads("[" * 31 + "]" * 31)})),
    "an unknown claim": dump(claims(sub="x")),
    "no iss": dump(claims(iss=None)),
    "no aud": dump(claims(aud=None)),
    "an aud that is a text": dump(claims(aud=DEVICE)),
    "an empty aud": dump(claims(aud=[])),
    "an aud of numbers": dump(claims(aud=[1])),
    "no jti": dump(claims(jti=None)),
    "a jti with a space": dump(claims(jti="a b")),
    "a jti with a line end": dump(claims(jti="a\n")),
    "a jti of 65 characters": dump(claims(jti="a" * 65)),
    "an empty jti": dump(claims(jti="")),
    "no iat": dump(claims(iat=None)),
    "an iat that is a text": dump(claims(iat="1800000000")),
    "an iat that is true": dump(claims(iat=True)),
    "no exp": dump(claims(exp=None)),
    "exp null": dump(claims()).replace(str(int(NOW) + 3600).encode(), b"null"),
    "no op": dump(claims(op=None)),
    "no args": dump(claims(args=None)),
    "args that are a list": dump(claims(args=[])),
    "no ctr": dump(claims(ctr=None)),
    "ctr 0": dump(claims(ctr=0)),
    "ctr 1.0": dump(claims()).replace(b'"ctr": 1', b'"ctr": 1.0'),
    "ctr as a text": dump(claims(ctr="1")),
    "no ctr in an unknown op": dump(claims(op="sing", ctr=None)),
    "exp at iat": dump(claims(exp=int(NOW))),
    "exp before iat": dump(claims(exp=int(NOW) - 1)),
    "a life over 30 days": dump(claims(exp=int(NOW) + 30 * 86400 + 1)),
    "an emergency's life over 24 h": dump(claims(args=world.broadcast(**{"class": "emergency"}), exp=int(NOW) + 86401)),
}


@pytest.mark.parametrize("body", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_claims_that_are_not_exactly_ours_are_malformed(body: bytes) -> None:
    assert refusal(world.sign(body)) is Reason.MALFORMED


def test_a_state_order_carries_no_ctr_and_needs_no_exp() -> None:
    args = {"scope": DEVICE, "version": 1, "entries": []}
    body = claims(op="schedule", args=args, ctr=None, exp=None)
    assert verify(world.sign(body), trusted(), command=False).exp is None
    assert verify(world.sign({**body, "exp": NOW + 86400 * 400}), trusted(), command=False).exp is not None
    assert refusal(world.sign({**body, "ctr": 1}), command=False) is Reason.MALFORMED
    assert refusal(world.sign({**body, "exp": NOW - 1}), command=False) is Reason.MALFORMED


def test_a_life_of_exactly_the_most_is_accepted() -> None:
    assert verify(world.sign(claims(exp=int(NOW) + 30 * 86400)), trusted(), command=True)
    emergency = claims(args=world.broadcast(**{"class": "emergency"}), exp=int(NOW) + 86400)
    assert verify(world.sign(emergency), trusted(), command=True)


def test_an_emergency_over_4_kib_is_too_large_and_a_priority_order_is_not() -> None:
    for class_, large in (("emergency", True), ("priority", False)):
        order = world.sign(claims(args=world.broadcast(**{"class": class_, "items": [LONG]})))
        assert len(order) > 4096
        if large:
            assert refusal(order) is Reason.TOO_LARGE
        else:
            assert verify(order, trusted(), command=True)


def test_malformed_claims_come_before_the_size_of_an_emergency() -> None:
    order = claims(args=world.broadcast(**{"class": "emergency", "items": [LONG]}), sub="x")
    assert refusal(world.sign(order)) is Reason.MALFORMED


def test_the_issuer_must_own_the_key() -> None:
    assert refusal(world.sign(claims(iss="bao-tinh"))) is Reason.UNKNOWN_AUTHORITY
    assert refusal(world.sign(claims(iss="nobody"))) is Reason.UNKNOWN_AUTHORITY


def test_a_recalled_order_outlives_its_signer() -> None:
    raw = world.sign(claims(op="schedule", args={"scope": DEVICE, "version": 1, "entries": []}, ctr=None))
    without = trusted().advance([world.document(2, authorities=world.AUTHORITIES[1:])])
    order = recall(raw, without)
    assert (order.op, order.authority) == ("schedule", None)
    with pytest.raises(Refusal, match="malformed"):
        recall(raw[1:], without)


def test_a_detail_quotes_no_more_than_300_characters_of_a_stranger() -> None:
    with pytest.raises(Refusal) as caught:
        verify(world.sign(claims(**{"x" * 5000: 1})), trusted(), command=True)
    assert len(caught.value.detail) <= 300
