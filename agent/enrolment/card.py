"""The folder on the card's FAT partition that a technician fills on any computer, and taking it into the system.

It is an image of `/etc/tram`: `station.yaml`, the files that it names (certificate authority, root keys, authorities),
and `code.txt`. Everything on it may be damaged or hostile: files are opened without following links and only when they
are plain and small; nothing is taken unless all of it is good, so that a bad card leaves a working station as it was.
Whoever can put a card into the device owns the device: the card may bring new root keys, the network never.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from cryptography import x509
from msgspec import Struct

from agent.enrolment.files import Files
from agent.enrolment.identity import new_station_key
from agent.model.config import Station
from agent.model.loader import PATHS, SECRETS, ConfigError, Problem, Text, examine
from agent.model.yaml_tree import MAX_BYTES
from agent.trust.authorities import AuthoritiesError, Trusted
from agent.trust.keys import BadKeyError

STATION, CODE = "station.yaml", "code.txt"
TAKEN = "station.yaml.taken"
MOST = 1024 * 1024
CODE_MOST = 256
STAGE = ".card"
OWN = frozenset({("mqtt", "cert"), ("mqtt", "key"), ("parent", "cert"), ("parent", "key"), ("trust", "station_key")})
"""What the device makes or gets itself, in its folder `identity`."""


class Taken(Struct, frozen=True):
    """What a card brought; `left` when it could not be written to and still holds it."""

    station: bool = False
    code: bool = False
    left: str | None = None


def take(card: Path, etc: Path, data: Path, run: Path, files: Files | None = None) -> Taken:
    """Take in what is in the folder `card`, if there is anything. ConfigError: it is no good, and nothing changed.

    Can be repeated after a power cut at any moment; `station.yaml` comes last of its files. The code goes to
    `{data}/identity/code`, as the owner of that folder's. What was taken is taken off the card: the code removed, the
    configuration renamed.
    """
    files = files or Files()
    try:
        with _folder(card) as folder:
            station, code = _read(folder, STATION, MAX_BYTES), _read(folder, CODE, CODE_MOST)
            secrets: list[str] = []
            if station is not None:
                secrets = _station(folder, station, etc, data, run, files)
    except (FileNotFoundError, NotADirectoryError):
        return Taken()
    if code is not None:
        digest = hashlib.sha256(code.strip()).hexdigest().encode()
        seen = data / "identity" / "code.taken"
        if not seen.exists() or seen.read_bytes() != digest:  # else the card could not be written to last time
            _give(data / "identity" / "code", code.strip() + b"\n", files)
            _give(seen, digest, files)
    left = None
    try:
        for secret in [*secrets, *([CODE] if code is not None else [])]:
            files.remove(card / secret)
        if station is not None:
            files.replace(card / STATION, card / TAKEN)
    except OSError as error:
        left = error.strerror or str(error)
    return Taken(station is not None, code is not None, left)


def _station(folder: int, text: bytes, etc: Path, data: Path, run: Path, files: Files) -> list[str]:
    """Take the configuration and its files in; the names of those that are secret."""
    stage = etc / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    try:
        (stage / STATION).write_bytes(text)
        station, problems = examine(stage / STATION)
        errors = [p for p in problems if p.level == "error"]
        if station is None or errors:
            raise ConfigError(errors)
        named = dict(_named(station, stage, data, run, errors))
        if errors:
            raise ConfigError(errors)
        brought = {path: _read(folder, name, MOST) for path, name in named.items()}
        _check(station, {path: content or b"" for path, content in brought.items()}, named, errors)
        if errors:
            raise ConfigError(errors)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    for path, name in named.items():
        (etc / name).parent.mkdir(mode=0o750, exist_ok=True)
        files.put(etc / name, brought[path] or b"", 0o640)
    if station.trust.station_key is not None and not Path(station.trust.station_key).exists():
        # Made here and not with the certificate: the agent signs with it from its first start on.
        _give(Path(station.trust.station_key), new_station_key(), files)
    files.put(etc / STATION, text, 0o640)
    return [name for path, name in named.items() if tuple(path.split(".")) in SECRETS]


def _named(station: Station, stage: Path, data: Path, run: Path, errors: list[Problem]) -> Iterator[tuple[str, str]]:
    """(configuration path, name on the card) of the files that must come with it; what is wrong goes to `errors`."""
    for path, value, wanted in (("data_dir", station.data_dir, data), ("run_dir", station.run_dir, run)):
        if value != str(wanted):
            remedy = Text("Leave it out, or write {path}.", path=wanted)
            errors.append(Problem(path, Text("On a card this is a fixed place."), remedy))
    for group in ("mqtt", "parent", "cluster_link", "trust", "content"):
        values = getattr(station, group)
        for member in sorted(PATHS[type(values)]) if values is not None else ():
            value = getattr(values, member)
            if value is None:
                continue
            path, place = f"{group}.{member}", Path(os.path.normpath(value))
            if (group, member) in OWN:
                if place.parent != data / "identity":
                    reason = Text(
                        "The device makes this file itself; it belongs into {folder}.", folder=data / "identity"
                    )
                    errors.append(Problem(path, reason, Text("Write {path}.", path=data / "identity" / place.name)))
            elif place.is_relative_to(stage) and len(name := place.relative_to(stage).parts) <= 2:
                yield path, "/".join(name)
            else:
                reason = Text("On a card the files beside the configuration are in its own folder.")
                errors.append(Problem(path, reason, Text("Put the file there and name it without a path.")))


def _check(station: Station, brought: dict[str, bytes], named: dict[str, str], errors: list[Problem]) -> None:
    """Whether the files that came with the configuration can be used."""

    def wrong(path: str, detail: object) -> None:
        reason = Text("The file {path} on the card cannot be used: {detail}.", path=named[path], detail=detail)
        errors.append(Problem(path, reason, Text("Ask the province for the card's folder anew.")))

    for path in ("mqtt.ca", "content.ca"):
        if path in brought:
            try:
                x509.load_pem_x509_certificates(brought[path])
            except ValueError as error:
                wrong(path, error)
    try:
        Trusted.first(brought["trust.root_keys"], brought["trust.authorities"])
    except (AuthoritiesError, BadKeyError) as error:
        wrong("trust.authorities", error)


def _give(path: Path, data: bytes, files: Files) -> None:
    """A secret file that belongs to the owner of its folder."""
    fresh = files.write(path, data, 0o600)
    owner = path.parent.stat()
    with suppress(PermissionError):  # the owner is whoever does it: not root
        os.chown(fresh, owner.st_uid, owner.st_gid)
    files.replace(fresh, path)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(folder: int, name: str, most: int) -> bytes | None:
    """A plain, small file of the card; None when it is not there. ConfigError for anything else by that name."""
    steps = PurePosixPath(name).parts
    try:
        if len(steps) > 1:
            inner = os.open(steps[0], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                return _read(inner, "/".join(steps[1:]), most)
            finally:
                os.close(inner)
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _bad(name, "it is not a plain file")
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad(name, error.strerror) from error
    if len(data) > most:
        raise _bad(name, f"it is larger than {most} bytes")
    return data


def _bad(name: str, detail: object) -> ConfigError:
    reason = Text("The file {path} on the card cannot be used: {detail}.", path=name, detail=detail)
    return ConfigError([Problem("", reason, Text("Ask the province for the card's folder anew."))])
