"""Who may order what: the authorities document, signed by a threshold of roots, and its chain of successors.

A document is a JWS in General JSON Serialization (RFC 7515 section 7.2.1) whose payload names the roots and their
threshold, and the authorities with their keys and rights (CONTRACT section 4). Rank: the higher number wins. `level`
is a word for people (central, province, commune, …); nothing but `Trusted.province_rank` looks at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent.model.config import Station
from agent.model.orders import MAX_SAFE_INTEGER, AuthorityId, Class, Name, Reason
from agent.trust.keys import BadKeyError, PublicKey, load_public
from agent.trust.refusal import Refusal
from agent.trust.strict import StrictError, from_base64url, load_json

DOCUMENT_TYP = "tram-authorities+jws"
ALGORITHMS = ("Ed25519", "EdDSA")
"""RFC 9864's name, and RFC 8037's older one."""
MAX_SIGNATURES = 64
PROVINCE = "province"

Words = Annotated[list[Name], Meta(max_length=256)] | Literal["*"]
Keys = Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=64)]
Version = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
Threshold = Annotated[int, Meta(ge=1, le=64)]


class AuthoritiesError(ValueError):
    """The local root keys or the first authorities document cannot be used; the message says why."""


class AuthorityEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One authority as written in a document. `ops`, `units` and `zones` are lists, or "*" for all."""

    id: AuthorityId
    level: Name
    rank: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    keys: Keys
    ops: Words
    max_class: Class
    units: Words
    zones: Words


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """The payload of an authorities document; only the last of a chain needs `authorities`."""

    version: Version
    iat: Annotated[float, Meta(ge=0)]
    roots: Keys
    threshold: Threshold
    authorities: Annotated[list[AuthorityEntry], Meta(max_length=4096)] | None = None


class RootKeys(Struct, frozen=True, forbid_unknown_fields=True):
    """The local file `trust.root_keys`."""

    threshold: Threshold
    roots: Keys


class Authority(Struct, frozen=True):
    """An authority and its rights. A higher `rank` goes first."""

    id: str
    level: str
    rank: int
    ops: tuple[str, ...]
    max_class: Class
    units: tuple[str, ...]
    zones: tuple[str, ...]

    def may(self, op: str, classes: Iterable[Class], unit: str) -> None:
        """Refuse (`not-authorised`) an op, a class or a device's unit beyond this authority's right.

        `units` are path prefixes at slash boundaries: "84/86" reaches "84/86/xa-x", not "84/867".
        """
        if "*" not in self.ops and op not in self.ops:
            raise Refusal(Reason.NOT_AUTHORISED, f"{self.id} may not order {op}")
        for class_ in classes:
            if class_.weight > self.max_class.weight:
                raise Refusal(Reason.NOT_AUTHORISED, f"{self.id} may order {self.max_class} at most, not {class_}")
        if not any(u in ("*", unit) or unit.startswith(f"{u}/") for u in self.units):
            raise Refusal(Reason.NOT_AUTHORISED, f"{self.id} has no right over the unit {unit}")

    def resolve(self, station: Station, selectors: Sequence[str]) -> list[str]:
        """The station's zones that an order's selectors mean, in configuration order; may be none.

        `*` means every zone this authority may use. Any other selector that reaches one zone outside its right
        refuses all (`not-authorised`).
        """
        allowed = set(station.match(list(self.zones)))
        named = station.match([s for s in selectors if s != "*"])
        for zone in named:
            if zone not in allowed:
                raise Refusal(Reason.NOT_AUTHORISED, f"{self.id} has no right over the zone {zone}")
        wanted = allowed if "*" in selectors else set(named)
        return [zone.id for zone in station.zones if zone.id in wanted]


class Holder(Struct, frozen=True):
    """A key and the one authority it belongs to."""

    key: PublicKey
    authority: Authority


class Trusted(Struct, frozen=True):
    """What this device believes: roots, authorities, version. A value: `advance` makes the next one.

    `iat` is when the roots say they wrote it (epoch seconds). `chain` are the documents from the first one here to
    this one, those that rotated roots and the last, to be persisted and given to `resume` at the next boot.
    """

    roots: tuple[PublicKey, ...]
    threshold: int
    version: int
    iat: float
    authorities: Mapping[str, Authority]
    holders: Mapping[str, Holder]
    chain: tuple[dict[str, Any], ...] = ()
    rotated: bool = False
    """Whether this document replaced the roots before it: later ones cannot be verified without it."""

    @classmethod
    def first(cls, root_keys_json: str | bytes, document_json: str | bytes) -> Trusted:
        """From the local root keys `{"threshold", "roots"}` and the first signed document; AuthoritiesError."""
        try:
            local = msgspec.convert(load_json(_utf8(root_keys_json)), RootKeys)
            roots = _roots(local.roots, local.threshold)
        except (StrictError, msgspec.ValidationError, BadKeyError) as error:
            raise AuthoritiesError(f"root keys: {error}") from error
        bare = cls(roots=roots, threshold=local.threshold, version=-1, iat=0.0, authorities={}, holders={})
        try:
            document = load_json(_utf8(document_json))
            trusted = bare.advance([document])
        except StrictError as error:
            raise AuthoritiesError(f"authorities document: {error}") from error
        except Refusal as error:
            raise AuthoritiesError(f"authorities document: {error.detail}") from error
        return msgspec.structs.replace(trusted, chain=())

    def advance(self, documents: Sequence[Any]) -> Trusted:
        """Follow a chain of documents, oldest first.

        Documents at or below the held version are skipped. Each other must be signed by the threshold of the roots
        held before it and by its own roots' threshold (the same thing unless they were rotated); the last must be
        complete. Refusal `not-authorised` when one fails, `stale-version` when the last is not newer.
        """
        held = self
        opened = [_open(document, f"documents[{n}]") for n, document in enumerate(documents)]
        if not opened:
            raise Refusal(Reason.NOT_AUTHORISED, "no documents")
        for n, (document, envelope) in enumerate(opened):
            if document.version > held.version:
                held = held._next(document, envelope, f"documents[{n}]", last=n == len(opened) - 1)
        if opened[-1][0].version != held.version or held.version == self.version:
            raise Refusal(
                Reason.STALE_VERSION, f"version {opened[-1][0].version} is not newer than the held {held.version}"
            )
        return held

    def resume(self, stored: bytes) -> Trusted:
        """Follow a persisted `chain` (see `encode_chain`) at boot; older than what is held: held stays.

        Raises Refusal when it does not verify: the store was tampered with, or the root keys were replaced.
        """
        try:
            documents = load_json(stored)
        except StrictError as error:
            raise Refusal(Reason.NOT_AUTHORISED, f"stored authorities: {error}") from error
        if not isinstance(documents, list):
            raise Refusal(Reason.NOT_AUTHORISED, "stored authorities: not a list")
        try:
            return self.advance(documents)
        except Refusal as error:
            if error.reason is Reason.STALE_VERSION:
                return self
            raise

    def encode_chain(self) -> bytes:
        """The bytes to persist for `resume`."""
        return json.dumps(self.chain, separators=(",", ":")).encode()

    @property
    def province_rank(self) -> int:
        """The rank from which `silence` may include local programmes.

        That of the lowest authority of level "province"; where no such level exists, of the highest authority.
        """
        ranks = [a.rank for a in self.authorities.values()]
        province = [a.rank for a in self.authorities.values() if a.level == PROVINCE]
        return min(province) if province else max(ranks, default=0)

    def _next(self, document: Document, envelope: Envelope, where: str, *, last: bool) -> Trusted:
        try:
            roots = _roots(document.roots, document.threshold)
        except BadKeyError as error:
            raise Refusal(Reason.NOT_AUTHORISED, f"{where}: {error}") from error
        rotated = (set(roots), document.threshold) != (set(self.roots), self.threshold)
        parties = [("held roots", self.roots, self.threshold)]
        if rotated:
            parties.append(("new roots", roots, document.threshold))
        for whose, keys, threshold in parties:
            signers = envelope.signers(keys)
            if len(signers) < threshold:
                raise Refusal(
                    Reason.NOT_AUTHORISED, f"{where}: signed by {len(signers)} of the {whose}, {threshold} must"
                )
        if last and document.authorities is None:
            raise Refusal(Reason.NOT_AUTHORISED, f"{where}: the last document must name the authorities")
        try:
            authorities, holders = _authorities(document.authorities or [])
        except BadKeyError as error:
            raise Refusal(Reason.NOT_AUTHORISED, f"{where}: {error}") from error
        return Trusted(
            roots=roots,
            threshold=document.threshold,
            version=document.version,
            iat=document.iat,
            authorities=authorities,
            holders=holders,
            chain=(*(self.chain if self.rotated else self.chain[:-1]), envelope.document),
            rotated=rotated,
        )


class Envelope:
    """The signatures of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        payload, signatures = document.get("payload"), document.get("signatures")
        if set(document) != {"payload", "signatures"} or not isinstance(payload, str):
            raise StrictError("not a JWS in General JSON Serialization: exactly payload and signatures")
        if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
            raise StrictError(f"signatures: a list of 1 to {MAX_SIGNATURES}")
        self.payload = from_base64url(payload)
        self._signatures = [s for s in (_signature(entry, payload) for entry in signatures) if s is not None]

    def signers(self, keys: Iterable[PublicKey]) -> set[str]:
        """The kids of those keys that signed; each key counts once, however often it signed."""
        by_kid = {key.kid: key for key in keys}
        return {s.kid for s in self._signatures if s.kid in by_kid and by_kid[s.kid].signed(s.signature, s.message)}


class _Signature(Struct, frozen=True):
    kid: str
    signature: bytes
    message: bytes


class _Protected(Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["Ed25519", "EdDSA"]
    typ: Literal["tram-authorities+jws"]
    kid: str | None = None


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    kid: str


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    protected: str
    signature: str
    header: _Header | None = None


def _signature(entry: object, payload: str) -> _Signature | None:
    """One entry of `signatures`, None when it is not one of ours: it then does not count, and harms nobody.

    `kid` may stand in the protected or the unprotected header: a wrong one only finds no key.
    """
    try:
        parts = msgspec.convert(entry, _Entry)
        protected = msgspec.convert(load_json(from_base64url(parts.protected)), _Protected)
        signature = from_base64url(parts.signature)
    except (StrictError, msgspec.ValidationError):
        return None
    kid = protected.kid if protected.kid is not None else (parts.header.kid if parts.header else None)
    if kid is None:
        return None
    return _Signature(kid, signature, f"{parts.protected}.{payload}".encode())


def version_of(document: object) -> int | None:
    """The version a document claims, unverified; None when it is not a document at all."""
    try:
        return _open(document, "document")[0].version
    except Refusal:
        return None


def _open(document: object, where: str) -> tuple[Document, Envelope]:
    try:
        if not isinstance(document, dict):
            raise StrictError("not a JSON object")  # noqa: TRY301 - one place turns all of these into a Refusal
        envelope = Envelope(document)
        return msgspec.convert(load_json(envelope.payload), Document), envelope
    except (StrictError, msgspec.ValidationError) as error:
        raise Refusal(Reason.NOT_AUTHORISED, f"{where}: {error}") from error


def _roots(jwks: Sequence[Mapping[str, Any]], threshold: int) -> tuple[PublicKey, ...]:
    roots = tuple(dict.fromkeys(load_public(jwk) for jwk in jwks))
    if threshold > len(roots):
        raise BadKeyError(f"threshold {threshold} is more than the {len(roots)} different root keys")
    return roots


def _authorities(entries: Sequence[AuthorityEntry]) -> tuple[dict[str, Authority], dict[str, Holder]]:
    authorities: dict[str, Authority] = {}
    holders: dict[str, Holder] = {}
    for entry in entries:
        if entry.id in authorities:
            raise BadKeyError(f"the authority {entry.id} is named twice")
        authority = Authority(
            id=entry.id,
            level=entry.level,
            rank=entry.rank,
            ops=tuple(entry.ops),
            max_class=entry.max_class,
            units=tuple(u.rstrip("/") for u in entry.units),
            zones=tuple(entry.zones),
        )
        authorities[entry.id] = authority
        for jwk in entry.keys:
            key = load_public(jwk)
            if key.kid in holders and holders[key.kid].authority.id != entry.id:
                raise BadKeyError(f"the key {key.kid} belongs to {holders[key.kid].authority.id} and to {entry.id}")
            holders[key.kid] = Holder(key, authority)
    return authorities, holders


def _utf8(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
