"""The pictures and the page of a run, made from a synthetic day with hostile titles."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from province.demo.page import write_page
from province.demo.pictures import CLASS_COLOURS, LEFT, Geometry, _heard_with, _spread, draw_contact, draw_timeline
from province.demo.proof import Check, check_run
from province.demo.recorded import Run, RunError, read_run

from .chromium import opened
from .synthetic import demonstration

CHECKS = [Check("level", True, "within 0.1 dB", "lệch 0,1 dB"), Check("clicks", False, "<script>alert(2)</script>")]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demonstration(tmp_path_factory.mktemp("day")).save()


@pytest.fixture(scope="module")
def run(day: Path) -> Run:
    return read_run(day)


@pytest.fixture(scope="module")
def drawn(run: Run) -> Geometry:
    geometry = draw_timeline(run, run.out / "timeline.png", "Trạm xã Mẫu")
    draw_contact(run, run.out / "contact.png")
    write_page(run, CHECKS, geometry, "Trạm <xã> Mẫu")
    return geometry


def test_the_synthetic_day_is_right(day: Path) -> None:
    assert [check.detail for check in check_run(day) if not check.ok] == []


def test_the_timeline_shows_each_class_where_it_sounded(run: Run, drawn: Geometry) -> None:
    with Image.open(run.out / "timeline.png") as file:
        picture = file.convert("RGB")
    assert picture.size == (drawn.width, drawn.height)

    def colours(at_s: float) -> set[str]:
        x = round(drawn.width * (drawn.left + (drawn.right - drawn.left) * at_s / run.seconds))
        return {"#{:02x}{:02x}{:02x}".format(*picture.getpixel((x, y))) for y in range(190, 540)}

    assert CLASS_COLOURS["normal"] in colours(26.0)
    assert CLASS_COLOURS["emergency"] in colours(36.0)
    assert CLASS_COLOURS["emergency"] in colours(62.0)
    assert not set(CLASS_COLOURS.values()) & colours(54.0)


def test_a_run_without_board_relays_and_sound_is_still_drawn(run: Run, tmp_path: Path) -> None:
    bare = msgspec.structs.replace(run, entries=[], happenings=[], frames=[], sound=run.sound[:0])
    geometry = draw_timeline(bare, tmp_path / "timeline.png")
    draw_contact(bare, tmp_path / "contact.png")
    assert geometry.height < 900
    assert "Không có mục nào" in write_page(msgspec.structs.replace(bare, out=tmp_path), [], geometry).read_text()


def test_a_missing_frame_is_named(run: Run, tmp_path: Path) -> None:
    lost = msgspec.structs.replace(run.frames[0], file="../../etc/none.png")
    with pytest.raises(RunError, match=r"none\.png"):
        draw_contact(msgspec.structs.replace(run, frames=[lost]), tmp_path / "contact.png")


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (59.0, 63.0, "BÃO"),
        (40.0, 59.0, "không"),
        (45.0, 48.0, "không"),
        (68.0, 70.3, "BÃO"),
        (70.1, 75.0, "Ngắt"),
        (75.0, 75.0, "không"),
    ],
    ids=["under an alert", "an alert's first moment only", "between", "up to the cut", "after the cut", "no time"],
)
def test_a_frame_is_named_by_what_was_heard_for_a_good_part_of_its_time(
    run: Run, begin: float, end: float, said: str
) -> None:
    storm = msgspec.structs.replace(
        run.entries[0], title="BÃO", zone=run.station.zones[0], started=_time(run, 58.0), ended=_time(run, 70.0)
    )
    only = msgspec.structs.replace(run, entries=[storm])
    expected = {"BÃO": "BÃO", "không": "Không có chương trình", "Ngắt": "Ngắt toàn bộ"}[said]
    assert _heard_with(only, run.station.t0 + begin, run.station.t0 + end) == expected


def _time(run: Run, seconds: float) -> str:
    return datetime.fromtimestamp(run.station.t0 + seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("lefts", "expected"),
    [
        ([], []),
        ([50, 400], [50, 400]),
        ([50, 60, 70], [50, 150, 250]),
        ([780, 790, 800], [600, 700, 800]),
        ([-40, 900], [0, 800]),
    ],
)
def test_thumbnails_keep_their_distance_and_stay_on_the_sheet(lefts: list[float], expected: list[float]) -> None:
    assert _spread(lefts, 100, 0, 800) == expected


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_titles_are_only_text_and_nothing_comes_from_elsewhere(run: Run, drawn: Geometry) -> None:
    reader = Reader()
    reader.feed((run.out / "index.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 2
    assert tags.count("img") == 2
    assert "b" not in tags
    assert "<img src=x onerror=alert(1)>" in reader.text
    assert "<script>alert(2)</script>" in reader.text
    sources = {attrs.get("src") for _, attrs in reader.tags} - {None}
    assert sources == {"station.wav", "timeline.png", "contact.png"}
    assert LEFT / drawn.width == drawn.left


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1366])
def test_the_page_fits_says_nothing_to_the_console_and_plays_from_a_click(
    run: Run, drawn: Geometry, tmp_path: Path, width: int
) -> None:
    async def look() -> None:
        async with opened(run.out / "index.html", width, tmp_path / "profile") as page:
            wide = await page.run("[document.documentElement.scrollWidth, window.innerWidth]")
            assert wide[0] <= wide[1] == width
            place = await page.run(
                """new Promise((done) => {
                  const button = [...document.querySelectorAll("button.at")].find((b) => b.dataset.s > 30);
                  player.addEventListener("seeked", () => done([player.currentTime, +button.dataset.s, cursor.hidden]));
                  button.click();
                })"""
            )
            assert place[0] == pytest.approx(place[1], abs=0.5)
            assert place[2] is False
            assert page.complaints == []
            assert [r for r in page.requests if not r.startswith((run.out.as_uri(), "data:"))] == []

    asyncio.run(look())


def test_the_page_allows_only_its_own_script(run: Run, drawn: Geometry) -> None:
    import base64

    page = (run.out / "index.html").read_text(encoding="utf-8")
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in page
