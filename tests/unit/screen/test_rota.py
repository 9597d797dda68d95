from agent.screen.rota import Frame, Rota


def frame(name: str, dwell_s: float = 6.0) -> Frame:
    return Frame(name.encode(), name, dwell_s, None)


def names(rota: Rota, times: list[float]) -> list[str | None]:
    return [f.sha256 if (f := rota.turn(t)) else None for t in times]


def test_frames_follow_each_other_and_begin_again() -> None:
    rota = Rota()
    rota.frames, rota.complete = [frame("a"), frame("b", 3)], True
    assert names(rota, [0, 1, 6, 8, 9, 14.9, 15]) == ["a", None, "b", None, "a", None, "b"]


def test_the_first_frame_is_shown_while_the_others_are_painted() -> None:
    rota = Rota()
    rota.frames.append(frame("a"))
    assert names(rota, [0, 7]) == ["a", None]
    assert rota.due() is None
    rota.frames.append(frame("b"))
    assert names(rota, [7.5]) == ["b"]


def test_a_single_frame_needs_no_timer_and_no_memory() -> None:
    rota = Rota()
    rota.frames.append(frame("a"))
    rota.complete = True
    assert names(rota, [0, 100]) == ["a", None]
    rota.trim()
    assert rota.due() is None
    assert rota.frames[0].packed == b""


def test_nothing_is_due_without_frames() -> None:
    rota = Rota()
    assert rota.due() is None
    assert rota.turn(5) is None
