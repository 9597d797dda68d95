"""The province's folder: keys, authorities, counters, versions, media, and who is where.

```
province.yaml       name, broker, certificates, media address, authorities (id → key file)
keys/*.jwk          private keys, mode 0600: root-1 … root-n, one per authority
authorities.json    the signed document (JWS General JSON); root_keys.json its roots, for `trust.root_keys`
counters/<kid>      the last ctr used; counters/<kid>.lock is held while that key signs
versions.json       the last version of each state order, by iss, scope and op
media/              files by their SHA-256
record.sqlite       what the fleet has reported
```
A counter or version is on the disk before the order that carries it exists: after a crash one is skipped, none is
used twice. Never copy the folder to sign in two places: one key signs in one process at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mimetypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from agent.model.orders import STATE_OPS, Media
from agent.trust.authorities import AuthorityEntry, Trusted
from agent.trust.keys import BadKeyError, PrivateKey, generate, load_private
from agent.trust.signer import Signer, sign_authorities
from agent.trust.strict import from_base64url

LOCK_S = 10.0
"""How long to wait for another process that signs with the same key."""
EMERGENCY_TTL_S = 24 * 3600.0
COMMAND_TTL_S = 30 * 86400.0
DEFAULT_TTL_S = 3600.0
WANTED = ".wanted"
"""Behind the name of a document that may be put into the media folder once; in the file, its largest size in bytes."""


class ProvinceError(Exception):
    """Something about the folder or an order is wrong; the message says what, and what helps."""


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """The broker."""

    host: str = "127.0.0.1"
    port: int = 8883


class Files(Struct, frozen=True, forbid_unknown_fields=True):
    """A client certificate's files, relative to the folder."""

    cert: str
    key: str


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`province.yaml`. Paths are relative to the folder."""

    name: str
    broker: Endpoint = Endpoint()
    ca: str = "pki/ca.crt"
    publisher: Files = Files("pki/publisher.crt", "pki/publisher.key")
    watcher: Files = Files("pki/watcher.crt", "pki/watcher.key")
    media_url: str = "https://127.0.0.1/media"
    """Where the media folder is served; a file's address is this, a slash and its name."""
    media_dir: str = "media"
    keys: dict[str, str] = {}
    """Authority id → private key file."""
    roots: list[str] = []
    """Private root keys kept here; a careful province keeps them elsewhere and signs with `sign_authorities`."""
    devices: list[str] | None = None
    """The devices that belong to this province; others raise an alarm. None: whoever reports."""


class Signed(Struct, frozen=True):
    """An order ready to be published. `exp` epoch seconds; `to` the targets its `aud` names."""

    jws: str
    iss: str
    jti: str
    op: str
    aud: list[str]
    exp: float | None
    scope: str | None = None

    @property
    def is_state(self) -> bool:
        """Whether it is a state order, published retained."""
        return self.op in STATE_OPS


class Province:
    """An opened province folder."""

    def __init__(self, folder: Path) -> None:
        """Open it; ProvinceError when it is none. The folder of `tram demo --hold` is one as well."""
        self.dir = folder
        if (folder / "province.yaml").is_file():
            self.settings = _settings(folder / "province.yaml")
        elif (folder / "connection.json").is_file():
            self.settings = _from_connection(folder / "connection.json")
        else:
            raise ProvinceError(f"{folder} holds no province: make one with tram province --dir {folder} init")

    @classmethod
    def create(
        cls,
        folder: Path,
        authorities: Sequence[AuthorityEntry],
        *,
        settings: Settings,
        roots: int = 3,
        threshold: int = 2,
        now: float | None = None,
    ) -> Province:
        """Make a folder with new keys. The entries' own `keys` are replaced by the new ones.

        ProvinceError when there is a province already: keys are never overwritten.
        """
        if (folder / "province.yaml").exists() or any((folder / "keys").glob("*.jwk")):
            raise ProvinceError(f"{folder} holds a province already; keys are never overwritten")
        if not 1 <= threshold <= roots <= 64:
            raise ProvinceError(f"a threshold of {threshold} needs at least as many root keys, at most 64, not {roots}")
        (folder / "keys").mkdir(parents=True, exist_ok=True, mode=0o700)
        root_keys = [generate() for _ in range(roots)]
        root_files = [f"keys/root-{n}.jwk" for n in range(1, roots + 1)]
        for file, key in zip(root_files, root_keys, strict=True):
            _write_key(folder / file, key)
        held: dict[str, PrivateKey] = {entry.id: generate() for entry in authorities}
        for name, key in held.items():
            _write_key(folder / "keys" / f"{name}.jwk", key)
        entries = [msgspec.structs.replace(entry, keys=[dict(held[entry.id].public.jwk)]) for entry in authorities]
        settings = msgspec.structs.replace(settings, keys={name: f"keys/{name}.jwk" for name in held}, roots=root_files)
        public = [dict(key.public.jwk) for key in root_keys]
        replace_file(folder / "root_keys.json", _pretty({"threshold": threshold, "roots": public}))
        document = sign_authorities(
            {
                "version": 1,
                "iat": int(time.time() if now is None else now),
                "roots": public,
                "threshold": threshold,
                "authorities": msgspec.to_builtins(entries),
            },
            [key.to_jwk() for key in root_keys[:threshold]],
        )
        replace_file(folder / "authorities.json", _pretty(document))
        (folder / settings.media_dir).mkdir(exist_ok=True)
        text = yaml.safe_dump(msgspec.to_builtins(settings), sort_keys=False, allow_unicode=True)
        replace_file(folder / "province.yaml", text.encode())
        return cls(folder)

    def path(self, relative: str) -> Path:
        """A path of the settings."""
        return self.dir / relative

    @property
    def media_dir(self) -> Path:
        """Where media are served from."""
        return self.path(self.settings.media_dir)

    def trusted(self) -> Trusted:
        """The authorities as a device reads them; AuthoritiesError when the document does not verify."""
        return Trusted.first((self.dir / "root_keys.json").read_bytes(), (self.dir / "authorities.json").read_bytes())

    def enlist(self, device: str) -> None:
        """Add a device to those of this province, where it keeps a list of them (`devices`)."""
        listed = self.settings.devices
        if listed is None or device in listed or not (self.dir / "province.yaml").exists():
            return
        self.settings = msgspec.structs.replace(self.settings, devices=[*listed, device])
        self._keep_settings()

    def _keep_settings(self) -> None:
        text = yaml.safe_dump(msgspec.to_builtins(self.settings), sort_keys=False, allow_unicode=True)
        replace_file(self.dir / "province.yaml", text.encode())

    def admit(
        self, authority: str, key: Mapping[str, str], *, instead_of: Sequence[Mapping[str, str]] = ()
    ) -> tuple[int, dict[str, Any]]:
        """Give an authority one more key, take others from it, and sign the list's next version with the roots here.

        Returns (version, document). ProvinceError: no such authority, or too few root keys are kept here.
        """
        path = self.dir / "authorities.json"
        payload = json.loads(from_base64url(json.loads(path.read_bytes())["payload"]))
        entry = next((e for e in payload["authorities"] if e["id"] == authority), None)
        if entry is None:
            known = ", ".join(e["id"] for e in payload["authorities"])
            raise ProvinceError(f"there is no authority {authority!r} (there are: {known})")
        gone = [dict(old) for old in (*instead_of, key)]
        entry["keys"] = [*(k for k in entry["keys"] if k not in gone), dict(key)]
        roots = [load_private(self.path(file).read_bytes()) for file in self.settings.roots if self.path(file).exists()]
        if len(roots) < payload["threshold"]:
            raise ProvinceError(f"{payload['threshold']} root keys must sign, {len(roots)} are kept here")
        payload |= {"version": payload["version"] + 1, "iat": int(time.time())}
        document = sign_authorities(payload, [root.to_jwk() for root in roots[: payload["threshold"]]])
        self.trusted().advance([document])
        replace_file(path, _pretty(document))
        return payload["version"], document

    def key(self, iss: str) -> dict[str, Any]:
        """The private JWK of an authority; ProvinceError when it is not kept here or is damaged."""
        try:
            path = self.path(self.settings.keys[iss])
        except KeyError:
            known = ", ".join(sorted(self.settings.keys)) or "none"
            raise ProvinceError(f"no key of the authority {iss!r} is kept here (there are: {known})") from None
        try:
            if path.stat().st_mode & 0o077:
                raise ProvinceError(f"{path} can be read by others: chmod 600 {path}")
            return load_private(path.read_bytes()).to_jwk()
        except OSError as error:
            raise ProvinceError(f"{path}: {error.strerror}") from error
        except BadKeyError as error:
            raise ProvinceError(f"{path}: {error}") from error

    def sign(
        self,
        iss: str,
        op: str,
        args: Mapping[str, Any],
        aud: Sequence[str],
        *,
        ttl_s: float | None = None,
        jti: str | None = None,
        nbf: float | None = None,
        now: float | None = None,
    ) -> Signed:
        """Sign an order. A command gets the key's next `ctr`; a state order its next `version` unless it has one.

        `ttl_s` is an hour unless given (state orders: no end). Whether a device will accept it is not checked here.
        """
        at = time.time() if now is None else now
        signer = Signer(self.key(iss), iss)
        given = dict(args)
        scope = str(given["scope"]) if isinstance(given.get("scope"), str) else None
        ctr: int | None = None
        if op in STATE_OPS:
            if scope is None:
                scope = given["scope"] = aud[0]
            if "version" not in given:
                given["version"] = self.next_version(iss, scope, op)
        else:
            ttl_s = DEFAULT_TTL_S if ttl_s is None else ttl_s
            ctr = self.next_ctr(signer.kid)
        jti = jti or os.urandom(16).hex()
        exp = None if ttl_s is None else int(at) + ttl_s
        jws = signer.order(op, given, aud, now=at, exp=exp, ctr=ctr, jti=jti, nbf=nbf)
        return Signed(jws, iss, jti, op, list(aud), exp, scope)

    def next_ctr(self, kid: str) -> int:
        """The next counter of a key, on the disk before it is returned."""
        with self._locked(kid):
            path = self.dir / "counters" / kid
            value = (_number(path) if path.exists() else 0) + 1
            replace_file(path, b"%d\n" % value)
            return value

    def next_version(self, iss: str, scope: str, op: str) -> int:
        """The next version of a state order, on the disk before it is returned."""
        with self._locked("versions"):
            path = self.dir / "versions.json"
            try:
                versions = json.loads(path.read_bytes()) if path.exists() else {}
                name = f"{iss} {scope} {op}"
                versions[name] = int(versions.get(name, 0)) + 1
            except (ValueError, AttributeError, TypeError) as error:
                raise ProvinceError(f"{path} is damaged: {error}; a lower version than before is refused") from error
            replace_file(path, _pretty(versions))
            return int(versions[name])

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        folder = self.dir / "counters"
        folder.mkdir(exist_ok=True, mode=0o700)
        with (folder / f"{name}.lock").open("a") as lock:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ProvinceError(
                            f"another process has been signing with {name} for {LOCK_S:.0f} s"
                        ) from None
                    time.sleep(0.02)
            yield

    def awaited(self, limit: int) -> tuple[str, Path]:
        """An address in the media folder at which one document of at most `limit` bytes may be put, and the file that
        it becomes. Nobody can guess it; whoever serves the folder takes it in while its `.wanted` file is there."""
        self.media_dir.mkdir(parents=True, exist_ok=True)
        name = f"{os.urandom(16).hex()}.json"
        (self.media_dir / f"{name}{WANTED}").write_text(f"{limit}\n", "ascii")
        return f"{self.settings.media_url.rstrip('/')}/{name}", self.media_dir / name

    def media(self, file: Path) -> Media:
        """Copy a file into the media folder under its SHA-256 and return what an order says of it.

        The type comes from the name; the duration from ffprobe where it is installed. ProvinceError: unreadable.
        """
        self.media_dir.mkdir(parents=True, exist_ok=True)
        part = self.media_dir / f".{os.getpid()}.part"
        digest = hashlib.sha256()
        try:
            with file.open("rb") as source, part.open("wb") as copy:
                while block := source.read(1 << 20):
                    digest.update(block)
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
            size = part.stat().st_size
            if not size:
                raise ProvinceError(f"{file} is empty")
            name = digest.hexdigest() + file.suffix.lower()
            part.chmod(0o644)
            part.replace(self.media_dir / name)
        except OSError as error:
            raise ProvinceError(f"{file}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
        return Media(
            sha256=digest.hexdigest(),
            size=size,
            url=f"{self.settings.media_url.rstrip('/')}/{name}",
            type=_TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0] or "application/octet-stream",
            duration_s=_duration(self.media_dir / name),
        )


_TYPES = {".opus": "audio/ogg", ".ogg": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4", ".wav": "audio/wav"}
"""Types on which Python's versions and the machine's tables differ."""


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that after a power cut it holds either the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temp.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_key(path: Path, key: PrivateKey) -> None:
    replace_file(path, _pretty(key.to_jwk()), 0o600)


def _pretty(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _number(path: Path) -> int:
    try:
        return int(path.read_text("ascii"))
    except ValueError as error:
        raise ProvinceError(
            f"{path} is damaged; write a number into it that is higher than any ctr this key has used"
        ) from error


def _settings(path: Path) -> Settings:
    try:
        return msgspec.convert(yaml.safe_load(path.read_text("utf-8")), Settings)
    except (OSError, yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ProvinceError(f"{path}: {error}") from error


def _from_connection(path: Path) -> Settings:
    """The settings of a training station (`tram demo --hold`)."""
    try:
        told = json.loads(path.read_bytes())
        return Settings(
            name="training",
            broker=msgspec.convert(told["broker"], Endpoint),
            ca=str(told["ca"]),
            media_url=str(told["media"]["url"]),
            media_dir=str(told["media"]["dir"]),
            keys={name: str(about["key"]) for name, about in told["authorities"].items()},
            devices=[str(device["id"]) for device in told["devices"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProvinceError(f"{path}: {type(error).__name__}: {error}") from error


def _duration(path: Path) -> float | None:
    """Seconds, when ffprobe is there and knows; 0 and less count as unknown."""
    program = shutil.which("ffprobe")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        seconds = float(done.stdout.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return round(seconds, 3) if 0 < seconds <= 86400 else None
