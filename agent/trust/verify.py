"""Steps 2 to 4 of the order path (CONTRACT section 4): from bytes to a verified order, or the reason why not.

Strict, so that the same order has exactly one spelling: a compact JWS whose three parts are canonical unpadded
base64url with nothing before or after, a header of exactly alg, kid and typ, and claims of exactly the named members.
The claims are parsed only after the signature has been verified.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from agent.model.orders import ARGS_OF, MAX_SAFE_INTEGER, STATE_OPS, Args, AuthorityId, Class, Id, Reason
from agent.trust.authorities import Authority, Trusted
from agent.trust.refusal import Refusal
from agent.trust.strict import StrictError, from_base64url, load_json

ORDER_TYP = "tram-order+jws"
EMERGENCY_BYTES = 4 * 1024
EMERGENCY_LIFE_S = 24 * 3600
COMMAND_LIFE_S = 30 * 24 * 3600
AUTHORITIES_OP = "authorities"

Moment = Annotated[float, Meta(ge=0)]
_SEAL = object()


class Claims(Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of an order. Times are epoch seconds (JWT NumericDate)."""

    iss: AuthorityId
    aud: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=4096)]
    jti: Id
    iat: Moment
    op: Annotated[str, Meta(min_length=1, max_length=64)]
    args: dict[str, Any]
    exp: Moment | UnsetType = UNSET
    nbf: Moment | UnsetType = UNSET
    ctr: Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)] | UnsetType = UNSET


class VerifiedOrder(Struct, frozen=True, kw_only=True):
    """An order that passed steps 2 to 4. Only this module can make one.

    `sha256` is of `raw`, in hex. `members` are the args as sent; `args` is their typed form, None until `decoded`.
    `authority` is the issuer's entry, None for an `authorities` order of an unknown issuer, which needs none.
    `authentic` is False where an `authorities` order's own envelope did not verify: nothing but its documents may be
    believed then, its `iss` and `jti` least of all.
    """

    raw: bytes
    sha256: str
    kid: str
    iss: str
    jti: str
    iat: float
    exp: float | None
    nbf: float | None
    aud: tuple[str, ...]
    op: str
    ctr: int | None
    members: dict[str, Any]
    authority: Authority | None
    authentic: bool
    seal: object
    args: Args | None = None

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("a VerifiedOrder is made by agent.trust.verify only")

    @property
    def class_(self) -> Class | None:
        """The class of a broadcast; None for other ops and for an unknown word."""
        word = self.members.get("class") if self.op == "broadcast" else None
        return Class(word) if isinstance(word, str) and word in set(Class) else None

    @property
    def id(self) -> str | None:
        """The bulletin id of a broadcast, for its acks; None for other ops and for what is not an id."""
        try:
            return msgspec.convert(self.members.get("id"), Id) if self.op == "broadcast" else None
        except msgspec.ValidationError:
            return None


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["Ed25519", "EdDSA"]
    kid: str
    typ: Literal["tram-order+jws"]


def verify(payload: bytes, trusted: Trusted, *, command: bool, unsigned_authorities: bool = False) -> VerifiedOrder:
    """Steps 2 to 4: the order, or Refusal (malformed, unknown-authority, bad-signature, too-large).

    `command`: it came on an order topic (False: on a desired one); it decides which claims an unknown op must carry.
    `unsigned_authorities`: it came on a topic desired/authorities/…: an `authorities` order is let through whatever
    its envelope's key and signature are, because only the roots' signatures in it count.
    """
    header, signed, signature, body = _take_apart(payload)
    holder = trusted.holders.get(header.kid)
    envelope: Refusal | None = None
    if holder is None:
        envelope = Refusal(Reason.UNKNOWN_AUTHORITY, f"no authority has the key {header.kid!r}")
    elif not holder.key.signed(signature, signed):
        envelope = Refusal(Reason.BAD_SIGNATURE, f"the signature is not that of {header.kid}")
    if envelope is not None and not unsigned_authorities:
        raise envelope
    try:
        claims = _claims(body)
    except Refusal as malformed:
        raise (envelope or malformed) from None
    if envelope is not None and claims.op != AUTHORITIES_OP:
        raise envelope
    authority = trusted.authorities.get(claims.iss)
    _check_size(payload, claims)
    _check_kind(claims, command=command)
    _check_life(claims)
    authentic = holder is not None and envelope is None and holder.authority.id == claims.iss
    if not authentic and claims.op != AUTHORITIES_OP:
        raise Refusal(Reason.UNKNOWN_AUTHORITY, f"the key {header.kid} does not belong to {claims.iss}")
    return _order(payload, header.kid, claims, authority, authentic=authentic)


def recall(raw: bytes, trusted: Trusted) -> VerifiedOrder:
    """An order once admitted and kept in our own store (`PutState.raw`), at boot; Refusal when it is damaged.

    Its signature is not asked again: keys are rotated, and a schedule stays in force when its signer's key is.
    `authority` is the issuer's present entry, None when the issuer is no longer an authority.
    """
    header, _, _, body = _take_apart(raw)
    claims = _claims(body)
    return decoded(_order(raw, header.kid, claims, trusted.authorities.get(claims.iss), authentic=True))


def decoded(order: VerifiedOrder) -> VerifiedOrder:
    """The order with its `args` typed; Refusal `unknown-op`, or `bad-args` with the path of the first fault."""
    kind = ARGS_OF.get(order.op)
    if kind is None:
        raise Refusal(Reason.UNKNOWN_OP, f"there is no op {order.op!r}")
    try:
        args = msgspec.convert(order.members, kind)
    except msgspec.ValidationError as error:
        raise Refusal(Reason.BAD_ARGS, f"args: {error}") from error
    return msgspec.structs.replace(order, args=args)


def _take_apart(payload: bytes) -> tuple[_Header, bytes, bytes, bytes]:
    """Step 2: header, signing input, signature and body; Refusal `malformed`."""
    try:
        parts = payload.decode("ascii").split(".")
        if len(parts) != 3:
            raise StrictError("not a compact JWS: three parts are wanted")  # noqa: TRY301 - turned into a Refusal here
        head, body, signature = (from_base64url(part) for part in parts)
        header = msgspec.convert(load_json(head), _Header)
    except UnicodeDecodeError as error:
        raise Refusal(Reason.MALFORMED, "not a compact JWS: not ASCII") from error
    except (StrictError, msgspec.ValidationError) as error:
        raise Refusal(Reason.MALFORMED, f"JWS: {error}") from error
    return header, payload[: payload.rindex(b".")], signature, body


def _claims(body: bytes) -> Claims:
    try:
        return msgspec.convert(load_json(body), Claims)
    except (StrictError, msgspec.ValidationError) as error:
        raise Refusal(Reason.MALFORMED, f"claims: {error}") from error


def _is_emergency(claims: Claims) -> bool:
    return claims.op == "broadcast" and claims.args.get("class") == Class.EMERGENCY


def _check_size(payload: bytes, claims: Claims) -> None:
    if len(payload) > EMERGENCY_BYTES and _is_emergency(claims):
        raise Refusal(Reason.TOO_LARGE, f"{len(payload)} bytes; an emergency has at most {EMERGENCY_BYTES}")


def _check_kind(claims: Claims, *, command: bool) -> None:
    """Commands carry ctr and exp, state orders no ctr.

    Not asked where a known op came on the wrong kind of topic: that is `bad-args`, whichever way it was signed.
    """
    if claims.op in ARGS_OF and command != (claims.op not in STATE_OPS):
        return
    if command and claims.ctr is UNSET:
        raise Refusal(Reason.MALFORMED, "claims: ctr is missing")
    if command and claims.exp is UNSET:
        raise Refusal(Reason.MALFORMED, "claims: exp is missing")
    if not command and claims.ctr is not UNSET:
        raise Refusal(Reason.MALFORMED, "claims: a state order has no ctr")


def _check_life(claims: Claims) -> None:
    if claims.exp is UNSET:
        return
    life = claims.exp - claims.iat
    longest = EMERGENCY_LIFE_S if _is_emergency(claims) else COMMAND_LIFE_S
    if life <= 0:
        raise Refusal(Reason.MALFORMED, "claims: exp is not after iat")
    if life > longest and claims.op not in STATE_OPS:
        raise Refusal(Reason.MALFORMED, f"claims: exp is {life:.0f} s after iat, {longest} s at most")


def _order(raw: bytes, kid: str, claims: Claims, authority: Authority | None, *, authentic: bool) -> VerifiedOrder:
    return VerifiedOrder(
        raw=raw,
        sha256=hashlib.sha256(raw).hexdigest(),
        kid=kid,
        iss=claims.iss,
        jti=claims.jti,
        iat=claims.iat,
        exp=None if claims.exp is UNSET else claims.exp,
        nbf=None if claims.nbf is UNSET else claims.nbf,
        aud=tuple(claims.aud),
        op=claims.op,
        ctr=None if claims.ctr is UNSET else claims.ctr,
        members=claims.args,
        authority=authority,
        authentic=authentic,
        seal=_SEAL,
    )
