"""`tram record`: the officer's own voice in place of the spoken text of a stored message."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import click
from msgspec import Struct

from agent.cli.asking import NotRunning, Refused
from agent.cli.context import Context, common, pass_context
from agent.cli.language import _
from agent.cli.programmes import FILE
from agent.model.events import FeedMark
from agent.model.voice import BYTES_PER_SAMPLE, RATE
from agent.ports import Piece

SHORTEST_S = 0.5
LONGEST_S = 600
USUAL_S = 60.0
"""There must be room for so much before somebody speaks, where she does not say how long."""
COPIES = 3
"""What lies on the card of one recording: itself, the copy that voice loads, the one that clusters fetch."""


@click.command(
    help=_(
        "Record the stored message NAME in one's own voice, from the microphone or from a FILE. The former one is kept."
    )
)
@click.argument("name")
@click.option("--file", type=FILE, help=_("A recording instead of the microphone."))
@click.option("--device", default="default", show_default=True, help=_("The microphone, by its ALSA name."))
@click.option(
    "--seconds", type=click.FloatRange(1, LONGEST_S), help=_("Stop by itself after so long; else with Enter.")
)
@common()
@pass_context
def record(context: Context, name: str, file: Path | None, device: str, seconds: float | None) -> None:
    """Put the recording in place, then tell the agent."""
    known = [m.id for m in context.station.stored]
    if name not in known:
        raise click.UsageError(
            _("There is no message “{name}” in the configuration. Messages there: {known}.").format(
                name=name, known=", ".join(known) or "–"
            )
        )
    folder = Path(context.station.data_dir) / "messages"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file is None:
            _room_for(seconds or USUAL_S, folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
            sound = Path(scratch) / "sound.wav"
            if file is None:
                _microphone(sound, device, seconds)
            else:
                _convert(file, sound)
            length = _length(sound)
            _level(sound)
            _put(sound, folder / f"{name}.wav")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(folder) from None
        raise click.ClickException(_("The recording cannot be kept: {detail}.").format(detail=error)) from None
    click.echo(_("“{name}” is recorded: {seconds:.1f} s.").format(name=name, seconds=length))
    try:
        context.ask("recorded", {"message": name})
    except (NotRunning, Refused):
        click.echo(_("The station does not use it yet; it will from its next start on."))


def _room_for(seconds: float, folder: Path) -> None:
    """Refuse what could not be kept before somebody has spoken it."""
    if shutil.disk_usage(folder).free < COPIES * seconds * RATE * BYTES_PER_SAMPLE:
        raise _full(folder)


def _full(folder: Path) -> click.ClickException:
    return click.ClickException(
        _(
            "The card is full ({free:.1f} MB free at {folder}): the recording cannot be kept, the former one stays. "
            "Delete what is not needed there or lower content.max_mb, then record again."
        ).format(free=shutil.disk_usage(folder).free / 1024**2, folder=folder)
    )


def _microphone(target: Path, device: str, seconds: float | None) -> None:
    """Record with ALSA's own tool until Enter is pressed or the time is over."""
    command = ["arecord", "-q", "-D", device, "-f", "S16_LE", "-r", str(RATE), "-c", "1", "-t", "wav", str(target)]
    try:
        recorder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise click.ClickException(
            _("There is no “arecord” here: install it with “apt install alsa-utils”, or give a recording with --file.")
        ) from None
    try:
        if seconds is None:
            click.echo(_("Speak now. Press Enter when you have finished."))
            sys.stdin.readline()
        else:
            click.echo(_("Speak now, for {seconds:g} s.").format(seconds=seconds))
            recorder.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        early = recorder.poll()
        recorder.terminate()
        _out, complaint = recorder.communicate()
    if early is not None or not target.exists():
        if os.strerror(errno.ENOSPC) in complaint:
            raise OSError(errno.ENOSPC, complaint)
        raise click.ClickException(
            _("The microphone cannot be read: {detail}. List the devices with “arecord -L”.").format(
                detail=complaint.strip() or early
            )
        )


def _convert(source: Path, target: Path) -> None:
    """Any sound file as a WAV of the station's form, decoded by a child that may crash on it."""
    if _fits(source):
        target.write_bytes(source.read_bytes())
        return
    from agent.sound.feeds import DecoderFeeds

    complaints: list[str] = []

    def post(event: Struct, *, urgent: bool = False) -> None:
        if isinstance(event, FeedMark) and event.what == "failed":
            complaints.append(event.detail)

    feeds = DecoderFeeds(post)
    room = LONGEST_S * RATE * BYTES_PER_SAMPLE
    with (
        wave.open(str(target), "wb") as sound,
        open(feeds.open("record", 0, [Piece(item=0, path=str(source.resolve()))]), "rb") as decoded,
    ):
        sound.setparams((1, BYTES_PER_SAMPLE, RATE, 0, "NONE", ""))
        while room > 0 and (block := decoded.read(min(65536, room))):
            sound.writeframes(block)
            room -= len(block)
    feeds.stop()
    if complaints:
        raise click.ClickException(
            _("{file} cannot be read as sound: {detail}.").format(file=source, detail=complaints[0])
        )
    if not room:
        raise click.ClickException(_("The recording is longer than {seconds} s.").format(seconds=LONGEST_S))


def _fits(path: Path) -> bool:
    try:
        with wave.open(str(path), "rb") as sound:
            return (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, BYTES_PER_SAMPLE)
    except (wave.Error, EOFError):
        return False


def _length(path: Path) -> float:
    """Seconds of sound; refuses what is too short to be a message."""
    with wave.open(str(path), "rb") as sound:
        seconds = sound.getnframes() / sound.getframerate()
    if seconds < SHORTEST_S:
        raise click.ClickException(_("The recording is shorter than {seconds} s.").format(seconds=SHORTEST_S))
    return seconds


def _level(path: Path) -> None:
    """As loud as what the station speaks itself; as it is where loudness cannot be measured."""
    import audioop

    from agent.model.loudness import gain
    from drivers import ebur128

    with wave.open(str(path), "rb") as sound:
        pcm = sound.readframes(sound.getnframes())
    try:
        change = gain(*ebur128.measure(pcm, RATE))
    except OSError:
        return
    with wave.open(str(path), "wb") as levelled:
        levelled.setparams((1, BYTES_PER_SAMPLE, RATE, 0, "NONE", ""))
        levelled.writeframes(audioop.mul(pcm, BYTES_PER_SAMPLE, 10 ** (change / 20)))


def _put(sound: Path, target: Path) -> None:
    """Replace the message so that a power cut leaves either the old or the new one; the old one stays beside it."""
    os.chmod(sound, 0o644)
    with sound.open("rb") as file:
        os.fsync(file.fileno())
    if target.exists():
        kept = target.with_name(f"{target.stem}.old.wav")
        kept.unlink(missing_ok=True)
        os.link(target, kept)
    sound.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
