"""What the province asks to see (`report`), as the owner carries it out."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from agent.core.inspection import CAPTURE_NS, WAITING
from agent.model import screen
from agent.model.events import Uploaded
from agent.trust.signer import sign_authorities
from agent.trust.strict import from_base64url
from tests.unit.core.world import CONFIG, Province, World

PERIOD = {"from": "2026-11-23T00:00:00+07:00", "to": "2026-11-24T00:00:00+07:00"}
UPLOAD = "https://media.example/gui/5f3a.json"
PNG = b"\x89PNG a small picture"
BOARDS = [{"id": name, "kind": "screen", "output": {"driver": "png", "dir": name}} for name in ("bang", "bang-2")]


def args(what: str = "diagnostics", **changes: Any) -> dict[str, Any]:
    return {"what": what, **PERIOD, "upload": UPLOAD, **changes}


def province(**rights: Any) -> Province:
    """A province whose district has other rights."""
    made = Province()
    payload = json.loads(from_base64url(made.document["payload"]))
    next(a for a in payload["authorities"] if a["id"] == "khan-cap-huyen").update(rights)
    made.document = sign_authorities(payload, [made.root])
    return made


def captures(world: World) -> dict[str, int]:
    """The boards that were asked for a picture, and the token of the question."""
    return {zone: c.token for _, zone, c in world.told if isinstance(c, screen.Capture)}


def answer(world: World, zone: str, png: bytes = PNG, detail: str = "") -> None:
    token = captures(world)[zone]
    world.post(screen.Captured(token=token, png=b64encode(png).decode(), detail=detail, zone=zone))


def sent(world: World) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(world.uploads[-1].document)
    return found


def test_diagnostics_go_up_with_a_picture_of_each_board_and_the_ack_has_the_hashes() -> None:
    world = World(zones=[*CONFIG["zones"][:2], *BOARDS])
    jti = world.order("report", args())
    assert captures(world).keys() == {"bang", "bang-2"}
    answer(world, "bang")
    assert not world.uploads, "the other board has not answered yet"
    answer(world, "bang-2", b"", "no display is plugged in")
    (upload,) = world.uploads
    assert upload.url == UPLOAD
    assert upload.period is not None
    assert upload.period[1] - upload.period[0] == 86400
    document = sent(world)
    sha256 = hashlib.sha256(PNG).hexdigest()
    assert document["boards"]["bang"] | {"sha256": sha256, "png": b64encode(PNG).decode()} == document["boards"]["bang"]
    assert document["boards"]["bang-2"]["detail"] == "no display is plugged in"
    assert document["status"]["zones"].keys() == {"loa", "loa-2", "bang", "bang-2"}
    assert world.states_of(jti) == ["received"]
    world.post(Uploaded(upload.key, "ab" * 32, 4711))
    last = world.acks(jti)[-1]
    assert (last["state"], last["report"]) == ("done", {"sha256": "ab" * 32, "size": 4711})
    assert last["zones"]["bang"] == {"state": "done", "picture": sha256}
    assert last["zones"]["bang-2"]["state"] == "failed"
    assert not [key for key in world.values if key.startswith("report/")]


@pytest.mark.parametrize(("what", "members"), [("playlog", set()), ("health", {"status"})])
def test_other_kinds_ask_no_board(what: str, members: set[str]) -> None:
    world = World()
    world.order("report", args(what))
    assert not captures(world)
    assert sent(world).keys() == {"device", "at", "what"} | members
    assert (world.uploads[-1].period is None) == (what == "health")


def test_a_board_that_does_not_answer_does_not_keep_the_rest_back() -> None:
    world = World()
    world.order("report", args())
    world.advance(CAPTURE_NS / 1e9 + 1)
    assert sent(world)["boards"]["bang"]["detail"] == "the board does not answer"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (args("screenshot"), "bad-args"),
        (args(frm="x"), "bad-args"),
        (args(to="2026-11-22T00:00:00+07:00"), "bad-args"),
        (args(upload="https://elsewhere.example/x"), "content-unavailable"),
        (args(upload="http://media.example/x"), "content-unavailable"),
        (args(upload="local:" + "0" * 64), "content-unavailable"),
        (args(upload="https://user@media.example/x"), "content-unavailable"),
    ],
    ids=["unknown what", "unknown member", "to before from", "host not listed", "no https", "no address", "password"],
)
def test_what_cannot_be_is_rejected_and_nothing_is_asked_or_sent(given: dict[str, Any], reason: str) -> None:
    world = World()
    jti = world.order("report", given)
    world.advance(30)
    assert world.states_of(jti) == [f"rejected/{reason}"]
    assert not captures(world)
    assert not world.uploads


def test_who_has_no_right_to_reports_gets_none() -> None:
    world = World(province=province(ops=["broadcast"]))
    jti = world.order("report", args(), iss="khan-cap-huyen")
    assert world.states_of(jti) == ["rejected/not-authorised"]
    assert not captures(world)


def test_only_boards_within_the_right_of_who_asks_are_pictured() -> None:
    world = World(zones=[*CONFIG["zones"][:2], *BOARDS], province=province(zones=["bang-2"]))
    world.order("report", args(), iss="khan-cap-huyen")
    assert captures(world).keys() == {"bang-2"}


def test_an_upload_that_fails_is_told_with_its_reason() -> None:
    world = World()
    jti = world.order("report", args("health"))
    world.post(Uploaded(world.uploads[-1].key, detail="media.example: the server answers 403 Forbidden"))
    assert world.states_of(jti) == ["received", "failed/content-unavailable"]
    assert "403" in world.acks(jti)[-1]["detail"]


def test_reports_follow_each_other_and_one_too_many_is_refused() -> None:
    world = World()
    many = [world.order("report", args("health")) for _ in range(WAITING)]
    refused = world.order("report", args("health"))
    assert world.states_of(refused) == ["rejected/rate-limited"]
    for n, jti in enumerate(many, 1):
        assert len(world.uploads) == n
        world.post(Uploaded(world.uploads[-1].key, "ab" * 32, 1))
        assert world.states_of(jti) == ["received", "done"]


def test_a_report_begins_anew_after_a_power_cut() -> None:
    world = World()
    jti = world.order("report", args())
    world.crash()
    world.told.clear()
    world.advance(1)
    world.crash()
    answer(world, "bang")
    world.post(Uploaded(world.uploads[-1].key, "ab" * 32, 1))
    assert world.states_of(jti)[-1] == "done"
    world.told.clear()
    world.crash()
    assert not captures(world)


def test_a_report_whose_order_expired_while_the_power_was_off_is_not_sent() -> None:
    world = World()
    jti = world.order("report", args(), ttl=600.0)
    world.crash(off_s=700)
    assert world.states_of(jti)[-1] == "failed/expired"
    assert not world.uploads


def test_a_damaged_note_of_a_report_is_dropped() -> None:
    world = World()
    world.values["report/tinh/x"] = b"{"
    world.crash()
    world.advance(1)
    assert "report/tinh/x" not in world.values
