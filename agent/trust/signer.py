"""The other side of `verify`: signed orders and authorities documents, as the province and the station make them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from agent.trust.authorities import DOCUMENT_TYP
from agent.trust.keys import Jwk, PrivateKey, load_private
from agent.trust.strict import to_base64url
from agent.trust.verify import ORDER_TYP


class Signer:
    """Signs orders as the authority `iss` with one key. `ctr` is the caller's to count and to persist."""

    def __init__(self, private_jwk: Jwk | str | bytes, iss: str) -> None:
        self._key = load_private(private_jwk)
        self.iss = iss

    @property
    def kid(self) -> str:
        """The thumbprint of the signing key."""
        return self._key.kid

    def order(
        self,
        op: str,
        args: Mapping[str, Any] | Struct,
        aud: Sequence[str],
        *,
        now: float,
        ttl: float | None = None,
        exp: float | None = None,
        ctr: int | None = None,
        jti: str | None = None,
        nbf: float | None = None,
    ) -> str:
        """A compact JWS. `now` becomes `iat` in whole seconds; `exp`, or `now` + `ttl`; neither: no `exp`.

        Nothing is checked: an order that a device will refuse can be signed too. `jti` is random unless given.
        """
        iat = int(now)
        claims: dict[str, Any] = {
            "iss": self.iss,
            "aud": list(aud),
            "jti": jti if jti is not None else os.urandom(16).hex(),
            "iat": iat,
        }
        if exp is None and ttl is not None:
            exp = iat + ttl
        for name, value in (("exp", exp), ("nbf", nbf), ("ctr", ctr)):
            if value is not None:
                claims[name] = value
        claims["op"] = op
        claims["args"] = msgspec.to_builtins(args)
        return self.sign(_json(claims))

    def sign(self, body: bytes) -> str:
        """A compact JWS over `body` as it is, with the header of an order."""
        signed = f"{_protected(self._key, ORDER_TYP)}.{to_base64url(body)}"
        return f"{signed}.{to_base64url(self._key.sign(signed.encode()))}"


def sign_authorities(
    payload: Mapping[str, Any], root_private_jwks: Sequence[Jwk | str | bytes | PrivateKey]
) -> dict[str, Any]:
    """An authorities document: JWS General JSON with one signature per root key."""
    body = to_base64url(_json(payload))
    signatures = []
    for root in root_private_jwks:
        key = root if isinstance(root, PrivateKey) else load_private(root)
        protected = _protected(key, DOCUMENT_TYP)
        signature = key.sign(f"{protected}.{body}".encode())
        signatures.append({"protected": protected, "signature": to_base64url(signature)})
    return {"payload": body, "signatures": signatures}


def _protected(key: PrivateKey, typ: str) -> str:
    return to_base64url(_json({"alg": "Ed25519", "kid": key.kid, "typ": typ}))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
