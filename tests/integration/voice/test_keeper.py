from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from agent.model import voice as v
from agent.model.events import ChildDied, VoiceLost
from agent.model.loader import load
from agent.voice.keeper import VoiceKeeper
from tests.integration.voice.process import Process


@pytest.fixture
def keeper(prepared: Process) -> Iterator[VoiceKeeper]:
    config = str(prepared.folder / "station.yaml")
    keeper = VoiceKeeper(config, load(config), prepared.post)
    yield keeper
    keeper.stop()
    keeper.stop()


def test_starts_a_voice_when_none_answers_and_ends_it(prepared: Process, keeper: VoiceKeeper) -> None:
    keeper.start()
    hello = prepared.wait(v.Hello)
    assert hello.pid == keeper.pid
    keeper.send(v.Open(play="p", zones=["hall"], pinned=["message:fire"]))
    keeper.send(v.Close(play="p"))
    assert prepared.wait(v.Ended).reason == "completed"
    keeper.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(hello.pid, 0)


def test_a_killed_voice_is_told_and_started_again(prepared: Process, keeper: VoiceKeeper) -> None:
    keeper.start()
    first = prepared.wait(v.Hello)
    os.kill(first.pid, signal.SIGKILL)
    assert prepared.wait(v.Hello).pid != first.pid
    assert [e.name for e in prepared.seen if isinstance(e, ChildDied)] == ["voice"]
    assert len([e for e in prepared.seen if isinstance(e, VoiceLost)]) == 1


def test_uses_the_voice_that_is_there_and_leaves_it_alone(prepared: Process, keeper: VoiceKeeper) -> None:
    prepared.start()
    assert prepared.child is not None
    prepared.connect()
    assert prepared.client is not None
    prepared.client.close()
    keeper.start()
    assert prepared.wait(v.Hello).pid == prepared.child.pid
    keeper.stop()
    assert prepared.child.poll() is None


def test_what_is_sent_while_there_is_no_voice_is_dropped_and_its_pipe_closed(keeper: VoiceKeeper) -> None:
    read, write = os.pipe()
    keeper.send(v.Feed(play="p", segment=0), read)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)


def test_a_voice_that_is_a_unit_of_its_own_is_only_connected_to_and_never_started(prepared: Process) -> None:
    config = str(prepared.folder / "station.yaml")
    keeper = VoiceKeeper(config, load(config), prepared.post, elsewhere=True)
    keeper.start()
    prepared.start()
    assert prepared.child is not None
    assert prepared.wait(v.Hello).pid == prepared.child.pid
    prepared.child.kill()
    prepared.wait(VoiceLost)
    assert keeper.pid is None
    assert not [e for e in prepared.seen if isinstance(e, ChildDied)]
    keeper.stop()
