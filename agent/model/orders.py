"""Orders as signed by an authority: the claims of CONTRACT section 4, as types.

`agent.trust` makes a `VerifiedOrder` out of bytes; nothing else may. The JSON Schemas are generated from these
types. Times in orders are RFC 3339 strings with offset (claims: JWT NumericDate, epoch seconds).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,64}\Z")]
AuthorityId = Annotated[str, Meta(pattern=r"\A[a-z0-9.-]{1,40}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Selector = Annotated[str, Meta(min_length=1, max_length=64)]
Selectors = Annotated[list[Selector], Meta(min_length=1, max_length=128)]
MAX_SAFE_INTEGER = 2**53 - 1


class Class(StrEnum):
    """Classes of Circular 39/2020/TT-BTTTT: thông thường, ưu tiên, khẩn cấp."""

    NORMAL = "normal"
    PRIORITY = "priority"
    EMERGENCY = "emergency"

    @property
    def weight(self) -> int:
        """0 normal, 1 priority, 2 emergency: the first key of a programme's rank."""
        return _WEIGHT[self]


_WEIGHT = {Class.NORMAL: 0, Class.PRIORITY: 1, Class.EMERGENCY: 2}


class Resume(StrEnum):
    """What an interrupted programme does when its zone is free again."""

    DROP = "drop"
    RESTART = "restart"
    CONTINUE = "continue"


class OnLate(StrEnum):
    """What a scheduled occurrence does when its time passed while it could not start."""

    SKIP = "skip"
    JOIN = "join"
    PLAY = "play"


class Media(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file fetched ahead over HTTPS and named by its SHA-256. `size` in bytes, `type` a MIME type."""

    sha256: Sha256
    size: Annotated[int, Meta(ge=1, le=4 * 2**30)]
    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    type: Annotated[str, Meta(min_length=1, max_length=100)]
    duration_s: Annotated[float, Meta(gt=0, le=86400)] | None = None


class Item(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One item of a programme: exactly one of media, text, chime, local, relay, stream.

    `lang` belongs to text (BCP 47, e.g. "vi", "km"); `duration_s` bounds a relay; `lease_s` a stream; `dwell_s`
    is how long a screen shows the item; `fallback` replaces a silent or unreachable relay.
    """

    media: Media | None = None
    text: Annotated[str, Meta(min_length=1, max_length=20000)] | None = None
    lang: Annotated[str, Meta(pattern=r"\A[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")] | None = None
    chime: Name | None = None
    local: Name | None = None
    relay: Name | None = None
    stream: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    duration_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    lease_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    dwell_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    fallback: Item | list[Item] | None = None

    def __post_init__(self) -> None:
        """Refuse an item of no kind, of two kinds, or with a member that belongs to another kind."""
        kinds = [k for k in ITEM_KINDS if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(f"an item has exactly one of {', '.join(ITEM_KINDS)}")
        kind = kinds[0]
        for member, owner in _MEMBER_OF.items():
            if getattr(self, member) is not None and kind not in owner:
                raise ValueError(f"{member} does not belong to an item of kind {kind}")
        if kind == "text" and self.lang is None:
            raise ValueError("text needs lang")
        if kind == "relay" and self.duration_s is None:
            raise ValueError("relay needs duration_s")
        if kind == "stream" and self.lease_s is None:
            raise ValueError("stream needs lease_s")

    @property
    def kind(self) -> str:
        """Which of the six kinds this item is."""
        return next(k for k in ITEM_KINDS if getattr(self, k) is not None)

    def fallbacks(self) -> list[Item]:
        """The fallback as a list, whichever way it was written."""
        return as_items(self.fallback)


ITEM_KINDS = ("media", "text", "chime", "local", "relay", "stream")
_MEMBER_OF = {
    "lang": ("text",),
    "duration_s": ("relay",),
    "lease_s": ("stream",),
    "fallback": ("relay", "stream"),
}
Items = Annotated[list[Item], Meta(min_length=1, max_length=100)]


def as_items(value: Item | list[Item] | None) -> list[Item]:
    """One item, several or none, as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class Repeat(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A repeated alert: `count` plays in all (None: until cancelled or expired), `interval_s` from end to start."""

    count: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    interval_s: Annotated[float, Meta(ge=0, le=86400)] | None = None


class Broadcast(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`broadcast`: one bulletin. `start` is "now" or an RFC 3339 time."""

    id: Id
    title: Title
    class_: Class = msgspec.field(name="class")
    start: str
    zones: Selectors
    items: Items
    resume: Resume
    until: str | None = None
    repeat: Repeat | None = None
    replaces: Annotated[list[Id], Meta(max_length=64)] = []
    volume_db: Annotated[float, Meta(ge=-60, le=12)] | None = None
    drill: bool = False
    approved_by: Title | None = None


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a schedule (lịch phát). `dtstart` RFC 3339; `rrule` RFC 5545, read in the station's time zone."""

    id: Id
    title: Title
    class_: Class = msgspec.field(name="class")
    dtstart: str
    zones: Selectors
    items: Items
    resume: Resume
    on_late: OnLate
    rrule: Annotated[str, Meta(max_length=1000)] | None = None
    exdate: Annotated[list[str], Meta(max_length=366)] = []
    duration_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    fallback: Item | list[Item] | None = None
    approved_by: Title | None = None


class Schedule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`schedule`, a state order: the issuer's whole schedule for the scope, replacing its former one."""

    scope: str
    version: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    entries: Annotated[list[Entry], Meta(max_length=300)]


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`cancel`: own bulletins by `ids`, or one bulletin of a lower-ranked issuer by `iss` and `id`."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=64)] | None = None
    iss: AuthorityId | None = None
    id: Id | None = None
    occurrence: str | None = None

    def __post_init__(self) -> None:
        """Refuse a mixture of the two forms."""
        if self.ids is not None:
            if self.iss is not None or self.id is not None or self.occurrence is not None:
                raise ValueError("cancel has either ids, or iss and id")
        elif self.iss is None or self.id is None:
            raise ValueError("cancel has either ids, or iss and id")


class Silence(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`silence` (ngắt toàn bộ), a state order: survives a restart until lifted or `until`."""

    scope: str
    version: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    on: bool
    zones: Selectors
    until: str | None = None
    include_local: bool = False


class Configure(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`configure`, a state order: dotted configuration keys, only those marked remote."""

    scope: str
    version: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    set: dict[str, Any]


class Authorities(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`authorities`, a state order: a chain of documents, each JWS General JSON, oldest first."""

    scope: str
    version: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    documents: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=64)]


class Update(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`update`, a state order: a TUF target to install."""

    scope: str
    version: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    target: Name
    not_before: str | None = None
    deadline: str | None = None


class Test(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`test`: a short self-test of each zone."""

    zones: Selectors


class Report(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`report`: upload of a play log, health or diagnostics for a period.

    `upload`: the https address at which one JSON document is put.
    """

    what: str
    from_: str = msgspec.field(name="from")
    to: str
    upload: str

    def __post_init__(self) -> None:
        """Refuse a report of an unknown kind."""
        if self.what not in {"playlog", "health", "diagnostics"}:
            raise ValueError("what is one of playlog, health, diagnostics")


class Reboot(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`reboot`: no arguments."""


Args = Broadcast | Schedule | Cancel | Silence | Configure | Authorities | Update | Test | Report | Reboot
ARGS_OF: dict[str, type[Args]] = {
    "broadcast": Broadcast,
    "schedule": Schedule,
    "cancel": Cancel,
    "silence": Silence,
    "configure": Configure,
    "authorities": Authorities,
    "update": Update,
    "test": Test,
    "report": Report,
    "reboot": Reboot,
}
STATE_OPS = frozenset({"schedule", "silence", "configure", "authorities", "update"})


class Reason(StrEnum):
    """Why something was refused or did not play: the contract's words, nothing else leaves the device."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    UNKNOWN_AUTHORITY = "unknown-authority"
    BAD_SIGNATURE = "bad-signature"
    NOT_FOR_THIS_DEVICE = "not-for-this-device"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    REPLAYED = "replayed"
    UNKNOWN_OP = "unknown-op"
    BAD_ARGS = "bad-args"
    NOT_AUTHORISED = "not-authorised"
    CONTENT_UNAVAILABLE = "content-unavailable"
    NO_SUCH_ZONE = "no-such-zone"
    NO_VOICE = "no-voice"
    SILENCED = "silenced"
    QUIET_HOURS = "quiet-hours"
    REQUISITION_HOURS = "requisition-hours"
    CLOCK_UNTRUSTED = "clock-untrusted"
    OUTRANKED = "outranked"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    STALE_VERSION = "stale-version"
    VERSION_CONFLICT = "version-conflict"
    STORAGE = "storage"
    RATE_LIMITED = "rate-limited"
