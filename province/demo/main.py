"""`tram demo`: a province, a broker and a commune station on this machine, a day in 75 seconds, and the proof of it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from province.broker import BrokerError
from province.demo.recorded import epoch
from province.demo.sounds import SoundError
from province.demo.stage import StageError

PATIENT_BUFFER_MS = 100
"""A voice that may not have real-time priority is not always run in time: then the card writes further ahead."""
TAKEOVER_MS = 70
"""What an emergency may take to the card on a busy machine; what the card has in its buffer comes on top."""


class Teller:
    """Takes what happens from any thread; one thread tells it, in order, on the terminal and in `events.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self.lines: queue.SimpleQueue[tuple[float, str, str, str]] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def __call__(self, what: str, text: str, figure: str = "", **more: Any) -> None:
        """Tell one thing that happened just now; `more` are the members that the pictures read."""
        at = time.time()
        line = {"at": at, "what": what, "text": text, **({"figure": figure} if figure else {}), **more}
        with self._lock:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        self.lines.put((at, what, text, figure))


def _link(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter("HOST:PORT")
    return host, int(port)


@click.command("demo")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-out"), help="Output folder."
)
@click.option("--seconds", type=float, default=None, help="Stop the day after so many seconds.")
@click.option("--hold", is_flag=True, help="Keep a training station running; no script.")
@click.option("--card", is_flag=True, help="Sound also goes to the default sound card.")
@click.option("--broker-via", default=None, metavar="HOST:PORT", help="Send the device through a proxy.")
def demo(out: Path, seconds: float | None, hold: bool, card: bool, broker_via: str | None) -> None:
    """A commune station's day in 75 seconds, from the signing province to recorded sound and pictures."""
    via = None if broker_via is None else _link(broker_via)
    out = out.resolve()
    try:
        if out.exists() and any(out.iterdir()) and not (out / "events.jsonl").exists():
            raise click.ClickException(f"{out} holds something else; choose an empty folder with --out")
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        out.chmod(0o755)
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be made anew ({error.strerror}: {error.filename}): it may be another user's; "
            "choose another folder with --out"
        ) from error
    try:
        code = _hold(out, seconds, card, via) if hold else _day(out, seconds, card, via)
    except (StageError, BrokerError, SoundError) as error:
        raise click.ClickException(str(error)) from error
    raise SystemExit(code)


def _day(out: Path, seconds: float | None, card: bool, via: tuple[str, int] | None) -> int:
    from province.demo.day import END_S, Day, Sounds, hear
    from province.demo.stage import BUFFER_MS, Stage
    from province.demo.terminal import Terminal

    say = Teller(out / "events.jsonl")
    with Terminal() as terminal:
        say("order", "Chuẩn bị: khóa, chứng thư, giọng đọc")
        _pump(say, terminal)
        made = Sounds(out)
        live = {"dai-tinh": made.live}
        buffer_ms = BUFFER_MS if may_be_prompt() else PATIENT_BUFFER_MS
        more: dict[str, Any] = {"buffer_ms": buffer_ms, "requisition": True}
        with Stage(out, live=live, card=card, broker_via=via, hear=hear(say), **more) as stage:
            stage.wait_ready()
            day = Day(stage, made, say, seconds or END_S)
            watch = StationWatch(stage, say)
            player = threading.Thread(target=_guard(day.play, say), name="day", daemon=True)
            player.start()
            while player.is_alive():
                _pump(say, terminal)
                watch.look(terminal)
                player.join(0.1)
            stage.watcher.wait_for(lambda record: True, 1.0)
            _collect(stage, day)
        _pump(say, terminal)
        checks = _prove(out, day, say)
        _pump(say, terminal)
        terminal.table(checks)
    click.echo(f"{out / 'index.html'}")
    return 0 if all(check.ok for check in checks) else 1


def may_be_prompt() -> bool:
    """Whether this user's processes may have real-time priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:
        return False
    return True


def _guard(play: Any, say: Teller) -> Any:
    def run() -> None:
        try:
            play()
        except Exception as error:
            say("fault", f"{type(error).__name__}: {error}")
            raise

    return run


def _pump(say: Teller, terminal: Any) -> None:
    while not say.lines.empty():
        terminal.line(*say.lines.get())


class StationWatch:
    """Looks at the station a few times a second, as `tram status` does, and tells what has changed."""

    def __init__(self, stage: Any, say: Teller) -> None:
        self._stage = stage
        self._say = say
        self._relays: dict[str, bool] = {}
        self._owners: dict[str, str] = {}

    def look(self, terminal: Any) -> None:
        """One look."""
        from province.demo.terminal import ZoneView

        try:
            status = self._stage.ask("status")["result"]
        except (OSError, ValueError, KeyError):
            return
        for relay, on in status.get("relays", {}).items():
            if self._relays.get(relay, False) != on:
                self._relays[relay] = on
                self._say("relay", f"rơ-le {relay} {'đóng' if on else 'ngắt'}", relay=relay, on=on)
        views = []
        for zone, row in status["zones"].items():
            owner = row.get("owner") or {}
            title = owner.get("title", "") if owner.get("state") == "playing" else ""
            if self._owners.get(zone, "") != title:
                self._owners[zone] = title
                self._say("start" if title else "end", f"{zone}: {title or 'nghỉ'}")
            views.append(
                ZoneView(
                    zone=zone,
                    owner=title,
                    class_=owner.get("class", "normal"),
                    level_dbfs=row.get("level_dbfs"),
                    power=row.get("power", ""),
                )
            )
        terminal.status(views, self._relays, bool(status.get("online")))


def _collect(stage: Any, day: Any) -> None:
    """Put what the run left where CONTRACT section 9 says, while its processes still run; then end them."""
    from agent.store.playlog import read
    from province.demo import sounds
    from province.record import dumps

    out: Path = stage.out
    data = Path(stage.config.data_dir)
    day.record = stage.watcher.export()
    (out / "province.json").write_text(dumps(day.record), "utf-8")
    log = read(data / "tram.db")
    body: dict[str, Any] = {"entries": log.entries}
    if log.checkpoint is not None:
        import msgspec

        body["checkpoint"] = msgspec.to_builtins(log.checkpoint)
    (out / "playlog.json").write_text(json.dumps(body, ensure_ascii=False, indent=1), "utf-8")
    sent = out / "sent"
    for path in _references(stage):
        sounds.reference(path, sent)
    for path in (*day.made.bulletin, day.made.notice):
        sounds.reference(path, sent)
    sounds.reference(day.made.attack, sent / "forbidden")
    sounds.reference(day.made.radio, sent / "live", "dai-tinh")
    day.expect["gain_db"] = {z.id: z.gain_db for z in stage.config.zones}
    day.expect["takeover_limit_ms"] = TAKEOVER_MS + stage.buffer_ms
    day.expect["delay_ms"] = {z.id: z.delay_ms for z in stage.config.zones}
    day.expect["warm_up_s"] = {z.id: sum(s.warm_up_s for s in z.power) for z in stage.config.zones}
    day.expect["bounded"] = ["tiep-am-chieu"]
    day.expect["live"] = {"tiep-am-chieu": "dai-tinh"}
    press = day.expect["triggers"].pop("press", None)
    if press is not None:
        button = next((e["bulletin"] for e in log.entries if e["by"].startswith("button:")), None)
        if button is not None:
            day.expect["triggers"][button] = press
            day.expect["heard"].append(button)
    (out / "expect.json").write_text(json.dumps(day.expect, ensure_ascii=False, indent=1), "utf-8")


def _references(stage: Any) -> Iterable[Path]:
    from agent.sound import chimes

    data = Path(stage.config.data_dir)
    yield from (chimes.path(name) for name in chimes.names())
    yield from sorted((data / "speech").glob("*.wav"))
    yield from sorted((data / "messages").glob("*.wav"))
    yield from sorted((data / "pinned").glob("*.wav"))


def _prove(out: Path, day: Any, say: Teller) -> list[Any]:
    from province.demo import boards, page, pictures, proof
    from province.demo.day import END_S
    from province.demo.recorded import read_run

    checks = list(proof.check_run(out))
    checks += _checks_of_the_day(out, day)
    run = read_run(out)
    if day.seconds >= END_S:
        checks += boards.checks(run)
    proof.write_summary(out, checks)
    geometry = pictures.draw_timeline(run, out / "timeline.png")
    pictures.draw_contact(run, out / "contact.png")
    page.write_page(run, checks, geometry)
    return checks


def _checks_of_the_day(out: Path, day: Any) -> Iterable[Any]:
    """What the files alone cannot show: it takes knowing what was tried."""
    from province.demo.day import verdict
    from province.demo.proof import Check

    answers = [(attack, verdict(attack, day.record)) for attack in day.attacks]
    if answers:
        wrong = [f"{a.name}: {got or 'no answer'} instead of {a.expected}" for a, got in answers if got != a.expected]
        said = ", ".join(a.expected for a in day.attacks)
        refused = (f"{len(answers)} attempts: {said}", f"{len(answers)} lần thử: {said}")
        yield Check("attacks", not wrong, *(("; ".join(wrong),) * 2 if wrong else refused))
    if day.outage is not None and day.outage[1]:
        begin, end = day.outage
        log = json.loads((out / "playlog.json").read_text("utf-8"))["entries"]
        during = [e["n"] for e in log if begin < epoch(e["ended"]) < end]
        arrived = [row["body"]["entry"]["n"] for row in day.record["events"] if row["body"]["kind"] == "log"]
        lost = [n for n in during if arrived.count(n) != 1]
        told = (
            f"{end - begin:.1f} s without a broker: {len(during)} log entries made meanwhile, each arrived once",
            f"{end - begin:.1f} s mất máy chủ: {len(during)} mục nhật ký ghi trong lúc đó, mỗi mục về tỉnh một lần",
        )
        missing = (f"entries {lost} did not arrive once", f"các mục {lost} không về tỉnh đúng một lần")
        yield Check("outage", bool(during) and not lost, *(missing if lost else told))
    said_by = {lang: _verified(out, lang) for lang in ("en", "vi")}
    yield Check("verify", all(code == 0 for code, _ in said_by.values()), said_by["en"][1], said_by["vi"][1])


def _verified(out: Path, lang: str) -> tuple[int, str]:
    """What `tram log --verify` says of the run, and its exit code."""
    command = [sys.executable, "-m", "agent", "--lang", lang, "log", "--config", str(out / "station.yaml"), "--verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[0] if lines else "–"


def _hold(out: Path, seconds: float | None, card: bool, via: tuple[str, int] | None) -> int:
    from province.demo.day import Sounds
    from province.demo.stage import Stage

    made = Sounds(out)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Stage(out, live={"dai-tinh": made.live}, card=card, broker_via=via) as stage:
        stage.wait_ready()
        fresh = out / "connection.json.new"
        fresh.write_text(json.dumps(stage.connection(), ensure_ascii=False, indent=1), "utf-8")
        fresh.replace(out / "connection.json")
        click.echo(f"{out / 'connection.json'}")
        ended.wait(seconds)
        from province.record import dumps

        (out / "province.json").write_text(dumps(stage.watcher.export()), "utf-8")
    return 0
