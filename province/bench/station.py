"""What a whole station is measured by while it works: scheduled starts, emergencies under load, memory."""

from __future__ import annotations

import array
import json
import random
import subprocess
import sys
import time
import wave
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent.model import voice as v
from province.bench import flood, proc
from province.bench.rows import Row, row
from province.bench.stages import DirectStage, TappedStage
from province.bench.voice_rig import BenchError
from province.demo import sounds
from province.demo.stage import DEVICE

_RANDOM = random.Random(7)  # noqa: S311 - moments that do not fall into step with anything
SPACING_S = 1.0
PAUSE_EVERY, PAUSE_S = 12, 6.0
"""After so many starts a pause in which the amplifier goes off, so that its chain is timed too."""
HEARD_AFTER_S = 0.6
_FETCHER_S = 8.0


def burst(path: Path) -> Path:
    """0.25 s of sound that begins at full strength with its very first sample, as a WAV file."""
    samples = array.array("h", [9000 if k // 24 % 2 else -9000 for k in range(v.RATE // 4)])
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(v.RATE)
        out.writeframes(samples.tobytes())
    return path


def minute(folder: Path) -> Path:
    """A minute of sound as a 64 kbit/s MP3."""
    return sounds.encode(
        sounds.tune(folder / "minute.wav", [262.0, 330.0, 392.0, 523.0] * 3, 5.0), folder / "minute.mp3"
    )


def start_error(folder: Path, n: int) -> list[Row]:
    """`start_error_ms`: signed bulletins with a start time; their first sample in the recording against that time."""
    with DirectStage(folder) as stage:
        stage.wait_ready()
        item = stage.media(burst(folder / "burst.wav"))
        due = []
        at = time.time() + 12.0
        for k in range(n):
            at += SPACING_S + _RANDOM.uniform(0.0, 0.1) + (PAUSE_S if k % PAUSE_EVERY == PAUSE_EVERY - 1 else 0.0)
            due.append(round(at, 3))
        late = 0
        for k, moment in enumerate(due):
            # A few at a time, as a day's schedule comes near.
            time.sleep(max(0.0, moment - time.time() - 10.0))
            late += time.time() > moment - 5.0
            start = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
            stage.order("commune", stage.broadcast("commune", f"start-{k}", [item], start=start, zones=["kind:sound"]))
        time.sleep(max(0.0, due[-1] + HEARD_AFTER_S + 0.5 - time.time()))
        errors = recorded_errors(folder / "station.wav", due)
        results = Counter(
            r["body"]["entry"]["reason"] or r["body"]["entry"]["result"]
            for r in stage.watcher.export()["events"]
            if r["body"].get("kind") == "log"
        )
    missing = n - len(errors)
    note = "greatest distance in either direction, from the recording's samples"
    if errors:
        note += f"; signed mean {sum(errors) / len(errors):+.3f}; every {PAUSE_EVERY}th with the amplifier off before"
    if missing:
        note += f"; {missing} of {n} did not sound ({dict(results)})"
    if late:
        note += f"; {late} were published less than 5 s ahead because this machine was busy"
    return [row("start_error_ms", [abs(e) for e in errors], note)]


def recorded_errors(recording: Path, due: list[float]) -> list[float]:
    """For each due time (epoch seconds) how many ms later the recording's next sound after silence begins.

    A start that is not found from 0.5 s before to HEARD_AFTER_S after its due time is left out.
    """
    told = json.loads(recording.with_suffix(".json").read_text("utf-8"))
    frames = np.memmap(recording, dtype="<i2", mode="r", offset=44)
    channel = frames[: len(frames) // len(told["zones"]) * len(told["zones"])].reshape(-1, len(told["zones"]))[:, 0]
    errors = []
    for moment in due:
        centre = (moment - told["t0"]) * told["rate"]
        first = max(0, round(centre - 0.5 * told["rate"]))
        window = np.asarray(channel[first : round(centre + HEARD_AFTER_S * told["rate"])])
        sounding = np.flatnonzero(window)
        if len(sounding) and sounding[0] > 0:
            errors.append((first + int(sounding[0]) - centre) / told["rate"] * 1000)
    return errors


def order_to_sample(folder: Path, n: int) -> list[Row]:
    """`order_to_sample_ms`: an emergency is given to the MQTT client, until voice has submitted its first sample."""
    with TappedStage(folder) as stage:
        stage.wait_ready()
        background = stage.broadcast("commune", "nen", [stage.media(minute(folder))], resume="restart")
        stage.order("commune", background | {"repeat": {"count": 1000, "interval_s": 0}})
        if stage.hear(v.Started, lambda e: e.zone == "loa-xa", 20) is None:
            raise BenchError("the background programme did not start")
        quiet, _, lost_quiet = _emergencies(stage, "yen", max(2, n // 5))
        load = subprocess.Popen(
            [sys.executable, "-m", "province.bench.flood", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        begun = time.monotonic()
        try:
            time.sleep(5.0)
            faults, underruns = len(stage.faults), stage.underruns
            before = proc.cpu_ns([stage.agent_pid()]), time.monotonic()
            times, inside, lost = _emergencies(stage, "bao", n)
            busy = (proc.cpu_ns([stage.agent_pid()]) - before[0]) / 1e7 / (time.monotonic() - before[1])
        finally:
            said, _ = load.communicate(input="", timeout=30)
        told = json.loads(said or "{}")
        seconds = time.monotonic() - begun
        xruns = sum(f.what == "xrun" for f in stage.faults[faults:])
        stretched = stage.underruns - underruns
    parts = [
        "from publish() to submit, broker and TLS included, while an MP3 plays",
        f"{xruns} xruns, {stretched} samples late",
        f"load: {told.get('acknowledged', 0) / seconds:.0f} orders of 15 or 200 KB a second, always "
        f"{flood.WINDOW} under way; the agent at {busy:.0f} % of a core, {proc.load_note()}",
    ]
    if quiet:
        calm = row("order_to_sample_ms", quiet)
        parts.append(f"without load: median {calm.median}, p99 {calm.p99} (n {calm.n})")
    if inside:
        parts.append(f"of which voice {sum(inside) / len(inside):.1f} in the mean")
    if lost or lost_quiet:
        parts.append(f"{lost + lost_quiet} emergencies were not heard within 10 s")
    return [row("order_to_sample_ms", times, "; ".join(parts)), cited()]


def cited() -> Row:
    """The only published peer of this figure: it cannot be installed beside us, so it is cited, and says so."""
    note = "not from this run: measured before, alert received to its tone, two x86 processors, a null sink"
    return row("order_to_sample_ms", [23_200.0], note, peer="OBPlayer, cited")


def _emergencies(stage: TappedStage, name: str, n: int) -> tuple[list[float], list[float], int]:
    """One after the other: their times, what of each was spent in voice, and how many were not heard."""
    times, inside, lost = [], [], 0
    for k in range(n):
        args = stage.broadcast("province", f"{name}-{k}", [{"chime": "info"}])
        order = stage.province.sign("province", "broadcast", args, [DEVICE], ttl_s=600)
        begun = time.monotonic_ns()
        stage.publisher.send(order)
        prefix = f"province/{name}-{k}#"
        started = stage.hear(v.Started, lambda e, prefix=prefix: e.play.startswith(prefix), 10)  # type: ignore[misc]
        if started is None:
            lost += 1
            continue
        times.append((started.submitted_ns - begun) / 1e6)
        inside.append((started.submitted_ns - started.at_ns) / 1e6 + started.error_ms)
        # The background programme must be on again before the next.
        if stage.hear(v.Started, lambda e: "/nen#" in e.play, 15) is None:
            raise BenchError("the background programme did not come back")
        time.sleep(_RANDOM.uniform(0.3, 0.6))
    return times, inside, lost


def playing(folder: Path, n: int) -> list[Row]:
    """`pss_playing_mb`: all processes of a station with sound zone and board while a fetched MP3 plays."""
    live = sounds_live(folder)
    with DirectStage(folder, live={"dai-tinh": live}) as stage:
        stage.wait_ready()
        file = _memory_while(stage, n, "tep", [stage.media(minute(folder))])
        stage.publisher.send(stage.province.sign("commune", "cancel", {"ids": ["tep"]}, [DEVICE], ttl_s=60))
        try:
            relay = _memory_while(stage, n, "tiep-am", [{"relay": "dai-tinh", "duration_s": 600}])
            live_note = f"while relaying a live stream {max(m.pss for m in relay) / 1e6:.1f} MB"
        except BenchError as error:
            live_note = f"while relaying a live stream not measured: {error}"
    last = file[-1]
    each = ", ".join(f"{role} {size / 1e6:.1f}" for role, size in sorted(last.each.items()))
    note = f"a 64 kbit/s MP3; {each}; alone on a machine {last.alone / 1e6:.1f} MB; {live_note}"
    return [row("pss_playing_mb", [m.pss / 1e6 for m in file], note)]


def sounds_live(folder: Path) -> Any:
    """The stream of a radio station."""
    from province.content_server import Live, encode_live

    folder.mkdir(parents=True, exist_ok=True)
    return Live(encode_live(minute(folder).with_suffix(".wav"), folder / "live.mp3"), 64)


def _memory_while(stage: DirectStage, n: int, name: str, items: list[dict[str, Any]]) -> list[proc.Memory]:
    stage.order("commune", stage.broadcast("commune", name, items))
    stage.wait_for(
        f"{name} did not start to play",
        lambda status: any(
            (zone.get("owner") or {}).get("bulletin") == name and zone["owner"]["state"] == "playing"
            for zone in status["zones"].values()
            if zone["kind"] == "sound"
        ),
        40,
    )
    # Content is fetched long before it is due: the fetcher, which ends after some idle seconds, is not part of it.
    time.sleep(_FETCHER_S)
    taken = []
    for _ in range(n):
        taken.append(proc.memory(proc.tree(stage.agent_pid())))
        time.sleep(0.5)
    return taken
