"""Every small case of who owns a zone, against a reference made from the contract alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import settings

from agent.core.programme import Programme
from agent.model.voice import RATE
from tests.property.reference_arbiter import Heard, Wish, outranks, play_through
from tests.unit.core.world import CONFIG, Province, Sounding, World, broadcast, media

DEEP = settings().max_examples > 1000
PREFERENCE = ["xa-mau", "tinh"]
RANK = {"tinh": 100, "khan-cap-huyen": 50, "xa-mau": 10}
CLASSES = ["normal", "priority", "emergency"]
ISSUERS = list(RANK)
RESUMES = ["drop", "restart", "continue"]
ZONES = [["loa"], ["loa-2"], ["loa", "loa-2"]]
LENGTH = 4
BUTTON_S = 3
PROVINCE = Province()
SOUND_ONLY = [z for z in CONFIG["zones"] if z["kind"] == "sound"]

Case = tuple[tuple[str, str, int, str, list[str]], ...]
"""(class, issuer, start, resume, zones) of each programme."""


def station() -> World:
    config = {**CONFIG, "zones": SOUND_ONLY, "normal_from_above": "auto", "priority_order": PREFERENCE}
    world = World(config, PROVINCE)
    world.meets = partial(takes_over, world)
    return world


def takes_over(world: World, new: Sounding, old: Sounding) -> None:
    """What begins while another sounds must outrank it: not for a moment is a lower one heard above a higher."""
    if old.local:
        return
    mine, theirs = (world.station.programmes[world.station.plays[s.open.play].key] for s in (new, old))
    assert outranks(wish(mine), wish(theirs)), (new.open.play, old.open.play)


def wish(p: Programme) -> Wish:
    place = PREFERENCE.index(p.iss) if p.iss in PREFERENCE else len(PREFERENCE)
    return Wish(p.key, p.class_.value, round(p.start), 0, RANK[p.iss], place)  # type: ignore[arg-type]


def owners(world: World, since: float) -> dict[str, list[Heard]]:
    """What was heard of each zone, in seconds from `since`; the offsets from the samples that were sent before."""
    found: dict[str, list[Heard]] = {"loa": [], "loa-2": []}
    for stretch in world.stretches:
        if stretch.begin < since or stretch.end is None or stretch.end - stretch.begin < 0.001:
            continue
        name = "button" if stretch.programme.startswith("local:") else stretch.programme.split("/")[1].split("-")[0]
        begin, end = stretch.begin - since, stretch.end - since
        assert begin == pytest.approx(round(begin), abs=0.002), stretch
        assert end == pytest.approx(round(end), abs=0.002), stretch
        assert stretch.samples == pytest.approx((end - begin) * RATE, abs=200), stretch
        found[stretch.zone].append(Heard(name, round(begin), round(end)))
    return found


def expected(case: Case, button: int | None) -> dict[str, list[Heard]]:
    answer = {}
    for zone in ("loa", "loa-2"):
        wishes: list[Wish] = [
            Wish(
                name=f"p{n}",
                class_=class_,  # type: ignore[arg-type]
                start=start,
                length=LENGTH,
                authority_rank=RANK[iss],
                preference=PREFERENCE.index(iss) if iss in PREFERENCE else len(PREFERENCE),
                resume=resume,  # type: ignore[arg-type]
            )
            for n, (class_, iss, start, resume, zones) in enumerate(case)
            if zone in zones
        ]
        if button is not None:
            wishes.append(Wish("button", "button", button, BUTTON_S, resume="drop"))
        answer[zone] = [Heard(h.name, h.begin, h.end) for h in play_through(wishes)] if wishes else []
    return answer


def run(world: World, case: Case, button: int | None, tag: int, *, ahead: bool = True) -> None:
    """One case on a station that has come to rest: all ordered at once for its own second, or each at its second."""
    since = world.wall + 5
    todo: list[tuple[int, Callable[[], object]]] = []
    for n, (class_, iss, start, resume, zones) in enumerate(case):
        at = datetime.fromtimestamp(since + start, UTC).isoformat() if ahead else "now"
        args: dict[str, Any] = {"class": class_, "start": at, "resume": resume, "zones": zones}
        order = broadcast(f"p{n}-{tag}", media(f"s{n}", LENGTH, world), **args)
        todo.append((-5 if ahead else start, partial(world.order, "broadcast", order, iss)))
    if button is not None:
        todo.append((button, partial(world.press, "khan-cap", BUTTON_S)))
    for second, act in sorted(todo, key=lambda t: t[0]):
        world.advance(since + second - world.wall)
        act()
    world.advance(since + 60 - world.wall)
    assert not world.station.programmes
    assert owners(world, since) == expected(case, button), f"{case} button={button}"


def go_through(cases: Iterator[tuple[Case, int | None]], *, ahead: bool = True) -> int:
    """Many cases on one station, one after the other; a new one now and then, for its log grows."""
    world, count = station(), 0
    for count, (case, button) in enumerate(cases, start=1):
        if count % 50 == 0:
            assert world.audit() == []
            world = station()
        run(world, case, button, count, ahead=ahead)
    assert world.audit() == []
    return count


@pytest.mark.parametrize("ahead", [True, False], ids=["ordered ahead", "ordered for now"])
def test_any_two_programmes_share_a_zone_as_the_contract_says(ahead: bool) -> None:
    kinds = list(itertools.product(CLASSES, ISSUERS))
    resumes = RESUMES if ahead or DEEP else ["continue"]
    buttons = (None, 3) if ahead or DEEP else (None,)
    cases = (
        (((*a, 0, resume, ["loa"]), (*b, start, "continue", ["loa"])), button)
        for a, b in itertools.product(kinds, kinds)
        for start in (0, 2)
        for resume in (resumes if start else ["continue"])
        for button in buttons
    )
    assert go_through(cases, ahead=ahead) == 81 * (1 + len(resumes)) * len(buttons)


def test_two_programmes_meet_in_part_of_their_zones() -> None:
    cases = (
        (((a, "tinh", 0, resume, here), (b, "tinh", 2, "continue", there)), button)
        for a, b in itertools.product(CLASSES, CLASSES)
        for here, there in itertools.product(ZONES, ZONES)
        for resume in RESUMES
        for button in ((None, 1) if DEEP else (None,))
    )
    go_through(cases)


def triples(kinds: Sequence[tuple[str, str]], starts: Sequence[tuple[int, int, int]]) -> Iterator[Case]:
    for trio in itertools.product(kinds, repeat=3):
        for begin in starts:
            a, b, c = ((*kind, start, "continue", ["loa"]) for kind, start in zip(trio, begin, strict=True))
            yield a, b, c


def test_three_programmes_share_a_zone_as_the_contract_says() -> None:
    few = [
        ("normal", "tinh"),
        ("priority", "xa-mau"),
        ("priority", "tinh"),
        ("emergency", "khan-cap-huyen"),
        ("emergency", "tinh"),
    ]
    kinds = list(itertools.product(CLASSES, ISSUERS)) if DEEP else few
    starts = [(0, 1, 2), (0, 0, 2), (0, 2, 2), (0, 0, 0)] if DEEP else [(0, 1, 2), (0, 2, 2)]
    go_through((case, button) for case in triples(kinds, starts) for button in ((None, 3) if DEEP else (None,)))


def test_three_programmes_meet_in_part_of_their_zones() -> None:
    trios: Iterator[tuple[str, ...]] = itertools.product(CLASSES, repeat=3)
    places = list(itertools.product(ZONES, repeat=3)) if DEEP else [(ZONES[0], ZONES[2], ZONES[1])]
    cases: Iterator[tuple[Case, int | None]] = (
        (
            tuple(
                (c, "tinh", n, "restart" if n == 1 else "continue", z)
                for n, (c, z) in enumerate(zip(t, p, strict=True))
            ),
            button,
        )
        for t in trios
        for p in places
        for button in (None, 2)
    )
    go_through(cases)
