from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link import topics
from agent.link.topics import Topic

NAMES = {
    "tram/1/dev/tram-a/state": Topic("tram-a", "state"),
    "tram/1/dev/tram-a/beat": Topic("tram-a", "beat"),
    "tram/1/dev/tram-a/status": Topic("tram-a", "status"),
    "tram/1/dev/tram-a/event": Topic("tram-a", "event"),
    "tram/1/dev/tram-a/ack": Topic("tram-a", "ack"),
    "tram/1/dev/tram-a/order": Topic("tram-a", "order"),
    "tram/1/group/xa.mau-1/order": Topic("group:xa.mau-1", "order"),
    "tram/1/dev/tram-a/desired/silence/so.tttt": Topic("tram-a", "desired", "silence", "so.tttt"),
    "tram/1/group/all/desired/schedule/xa-mau": Topic("group:all", "desired", "schedule", "xa-mau"),
}


def build(t: Topic) -> str:
    if t.leaf in topics.UP:
        return topics.up(t.target, t.leaf)
    return topics.order(t.target) if t.leaf == "order" else topics.desired(t.target, t.op or "", t.iss or "")


@pytest.mark.parametrize(("name", "topic"), NAMES.items(), ids=NAMES)
def test_the_contracts_topics_are_built_and_taken_apart(name: str, topic: Topic) -> None:
    assert topics.parse(name) == topic
    assert build(topic) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tram/1",
        "tram/2/dev/tram-a/order",
        "tram/1/dev/tram-a",
        "tram/1/dev/ab/order",
        "tram/1/dev/TRAM-A/order",
        "tram/1/dev/tram-a/order/x",
        "tram/1/dev/tram-a/desired/silence",
        "tram/1/dev/tram-a/desired/silence/so/x",
        "tram/1/group/all/state",
        "tram/1/group/all/ack",
        "tram/1/other/tram-a/order",
        "tram/1/dev/tram-a/order\n",
        "/tram/1/dev/tram-a/order",
    ],
)
def test_other_topics_are_not_ours(name: str) -> None:
    assert topics.parse(name) is None


@given(st.text(max_size=60))
def test_taking_a_topic_apart_never_fails_and_what_it_gives_can_be_built(name: str) -> None:
    for candidate in (name, f"tram/1/dev/{name}", f"tram/1/group/{name}/order", f"tram/1/dev/tram-a/desired/{name}"):
        topic = topics.parse(candidate)
        assert topic is None or build(topic) == candidate


@pytest.mark.parametrize("target", ["", "a", "group:", "group:A", "group:a/b", "tram-a/#", "+", "tram a", "x:tram-a"])
def test_a_malformed_target_has_no_topic(target: str) -> None:
    with pytest.raises(ValueError, match="neither a device id nor group"):
        topics.order(target)


def test_a_device_does_not_write_orders() -> None:
    with pytest.raises(ValueError, match="does not write 'order'"):
        topics.up("tram-a", "order")


def test_a_device_listens_to_itself_to_all_and_to_its_groups_once() -> None:
    assert topics.targets("tram-a", ["ven-bien", "all"]) == ["tram-a", "group:all", "group:ven-bien"]
    assert topics.inbound("group:all") == ("tram/1/group/all/order", "tram/1/group/all/desired/+/+")
