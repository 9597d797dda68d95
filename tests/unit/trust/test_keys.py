from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from agent.trust import keys
from agent.trust.keys import BadKeyError
from agent.trust.strict import to_base64url

RFC8037_PRIVATE = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def test_the_thumbprint_is_that_of_rfc_8037_appendix_a_3() -> None:
    assert keys.load_private(RFC8037_PRIVATE).kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_signature_is_that_of_rfc_8037_appendix_a_4() -> None:
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    signature = to_base64url(keys.load_private(RFC8037_PRIVATE).sign(message))
    assert signature == "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"


def test_a_generated_key_survives_its_own_jwk_as_mapping_and_as_text() -> None:
    key = keys.generate()
    for jwk in (key.to_jwk(), json.dumps(key.to_jwk())):
        assert keys.load_private(jwk).kid == key.kid
    assert keys.load_public(json.dumps(key.public.jwk)) == key.public


def test_keys_of_another_library_are_read_with_the_same_thumbprint() -> None:
    theirs = OKPKey.generate_key("Ed25519", {"use": "sig", "kid": "a-name-of-theirs"})
    assert keys.load_private(theirs.as_dict(private=True)).kid == theirs.thumbprint()
    assert keys.load_public(theirs.as_dict(private=False)).kid == theirs.thumbprint()


def test_a_signature_verifies_for_its_message_and_key_only() -> None:
    key, other = keys.generate(), keys.generate()
    signature = key.sign(b"message")
    assert key.public.signed(signature, b"message")
    assert not key.public.signed(signature, b"massage")
    assert not other.public.signed(signature, b"message")
    assert not key.public.signed(signature[:-1], b"message")
    assert not key.public.signed(b"", b"message")


def test_the_text_form_of_a_private_key_hides_the_secret() -> None:
    key = keys.load_private(RFC8037_PRIVATE)
    assert RFC8037_PRIVATE["d"] not in repr(key) + str(key)


X = RFC8037_PRIVATE["x"]
D = RFC8037_PRIVATE["d"]
BAD_PUBLIC = {
    "not JSON": ("{", "not a JWK"),
    "a list": ("[]", "object is wanted"),
    "a repeated member": (f'{{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"{X}"}}', "repeated"),
    "an RSA key": ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "only Ed25519"),
    "an X25519 key": ({"kty": "OKP", "crv": "X25519", "x": X}, "only Ed25519"),
    "a key for encryption": ({"kty": "OKP", "crv": "Ed25519", "x": X, "use": "enc"}, "another use"),
    "no x": ({"kty": "OKP", "crv": "Ed25519"}, "x is missing"),
    "a short x": ({"kty": "OKP", "crv": "Ed25519", "x": X[:-4]}, "32 bytes"),
    "a padded x": ({"kty": "OKP", "crv": "Ed25519", "x": X + "="}, "base64url"),
    "a private key": (RFC8037_PRIVATE, "private key"),
}


@pytest.mark.parametrize(("jwk", "said"), BAD_PUBLIC.values(), ids=BAD_PUBLIC.keys())
def test_a_public_key_that_cannot_be_used_is_explained(jwk: object, said: str) -> None:
    with pytest.raises(BadKeyError, match=said):
        keys.load_public(jwk)  # type: ignore[arg-type]


BAD_PRIVATE = {
    "a public key": ({"kty": "OKP", "crv": "Ed25519", "x": X}, "d is missing"),
    "x of another key": ({**RFC8037_PRIVATE, "x": "A" * 43}, "belong together"),
    "a short d": ({**RFC8037_PRIVATE, "d": D[:-3]}, "32 bytes"),
}


@pytest.mark.parametrize(("jwk", "said"), BAD_PRIVATE.values(), ids=BAD_PRIVATE.keys())
def test_a_private_key_that_cannot_be_used_is_explained_without_the_secret(jwk: dict[str, str], said: str) -> None:
    with pytest.raises(BadKeyError, match=said) as caught:
        keys.load_private(jwk)
    assert D[:-4] not in str(caught.value)


def test_raw_keys_of_cryptography_are_the_same_keys() -> None:
    raw = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    ours = keys.PrivateKey(b"\x07" * 32)
    assert ours.sign(b"x") == raw.sign(b"x")
