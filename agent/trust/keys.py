"""Ed25519 keys as JWKs (RFC 8037), named by their RFC 7638 thumbprint.

Signatures are libsodium's, by PyNaCl: a JOSE library on cryptography costs the agent 20 MB and 60 ms more, and what is
left for it to do after the contract's strict checks is one call. The tests prove interoperability with joserfc.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from agent.trust.strict import StrictError, from_base64url, load_json, to_base64url

Jwk = Mapping[str, Any]
KEY_BYTES = 32


class BadKeyError(ValueError):
    """A key or a file of keys cannot be used; the message says what is wrong, never the secret itself."""


class PublicKey:
    """An Ed25519 public key. Equal to another of the same thumbprint; `kid` is that thumbprint."""

    __slots__ = ("_key", "jwk", "kid")

    def __init__(self, x: bytes) -> None:
        if len(x) != KEY_BYTES:
            raise BadKeyError(f"x of an Ed25519 key is {KEY_BYTES} bytes, not {len(x)}")
        self._key = VerifyKey(x)
        self.jwk: dict[str, str] = {"crv": "Ed25519", "kty": "OKP", "x": to_base64url(x)}
        self.kid = thumbprint(self.jwk)

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over `message`."""
        try:
            self._key.verify(message, signature)
        except CryptoError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.kid == self.kid

    def __hash__(self) -> int:
        return hash(self.kid)

    def __repr__(self) -> str:
        return f"PublicKey({self.kid})"


class PrivateKey:
    """An Ed25519 private key; its text form never shows the secret."""

    __slots__ = ("_d", "_key", "public")

    def __init__(self, d: bytes) -> None:
        if len(d) != KEY_BYTES:
            raise BadKeyError(f"d of an Ed25519 key is {KEY_BYTES} bytes, not {len(d)}")
        self._d = d
        self._key = SigningKey(d)
        self.public = PublicKey(bytes(self._key.verify_key))

    @property
    def kid(self) -> str:
        """The thumbprint of the public half."""
        return self.public.kid

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return self._key.sign(message).signature

    def to_jwk(self) -> dict[str, str]:
        """The private JWK, secret included: for a file of mode 0600."""
        return {**self.public.jwk, "d": to_base64url(self._d)}

    def __repr__(self) -> str:
        return f"PrivateKey({self.kid})"


def thumbprint(jwk: Jwk) -> str:
    """RFC 7638 thumbprint (SHA-256, base64url) of an OKP key's required members."""
    required = json.dumps({m: jwk[m] for m in ("crv", "kty", "x")}, separators=(",", ":"), sort_keys=True)
    return to_base64url(hashlib.sha256(required.encode()).digest())


def generate() -> PrivateKey:
    """A new private key from the system's random source."""
    return PrivateKey(bytes(SigningKey.generate()))


def load_public(jwk: Jwk | str | bytes) -> PublicKey:
    """A public key from a JWK (mapping or JSON text), or BadKeyError.

    A private JWK is refused: a secret in a public place is a mistake to be told, not to be passed over. A `kid`
    member is not believed; the thumbprint is always computed.
    """
    members = _members(jwk)
    if "d" in members:
        raise BadKeyError("this is a private key (it has the member d); a public one is wanted")
    return PublicKey(_bytes(members, "x"))


def load_private(jwk: Jwk | str | bytes) -> PrivateKey:
    """A private key from a JWK (mapping or JSON text), or BadKeyError; its `x` must belong to its `d`."""
    members = _members(jwk)
    if "d" not in members:
        raise BadKeyError("this is a public key (the member d is missing); a private one is wanted")
    key = PrivateKey(_bytes(members, "d"))
    if key.public.jwk["x"] != to_base64url(_bytes(members, "x")):
        raise BadKeyError("x and d do not belong together")
    return key


def _members(jwk: Jwk | str | bytes) -> Jwk:
    if isinstance(jwk, str | bytes):
        try:
            jwk = load_json(jwk.encode() if isinstance(jwk, str) else jwk)
        except (StrictError, UnicodeEncodeError) as error:
            raise BadKeyError(f"not a JWK: {error}") from error
    if not isinstance(jwk, Mapping):
        raise BadKeyError("not a JWK: a JSON object is wanted")
    if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
        raise BadKeyError('only Ed25519 keys are used: kty "OKP", crv "Ed25519"')
    if jwk.get("alg", "Ed25519") not in ("Ed25519", "EdDSA") or jwk.get("use", "sig") != "sig":
        raise BadKeyError("this key is marked for another use (alg, use)")
    return jwk


def _bytes(jwk: Jwk, member: str) -> bytes:
    text = jwk.get(member)
    if not isinstance(text, str):
        raise BadKeyError(f"the member {member} is missing")
    try:
        return from_base64url(text)
    except StrictError as error:
        raise BadKeyError(f"the member {member} is {error}") from error
