"""The uploader: a child process that puts one document at an https address, and ends.

`python -m agent.store.uploader` reads from stdin a line of JSON, `{"allowed_hosts", "ca", "connect_timeout_s",
"read_timeout_s", "url", "database", "period"}`, and then the document (a JSON object) to its end. With a `period`, two
epoch seconds, the play log's entries of that time become its `entries`. It answers with one line:
`{"code", "detail", "final", "sha256", "size"}`, code "done" or what went wrong (`agent.store.fetcher.FetchError`).
Where it may go is the fetcher's rule (CONTRACT section 4): https, a listed host, no private address that is not listed.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from datetime import datetime
from typing import Any

from agent.store import playlog
from agent.store.fetcher import FetchError, Policy, Web

CPU_S = 60
LARGEST = 16 * 2**20
"""A document that would be larger is not sent: a SIM pays for it."""


def main() -> int:
    """Entry point of the child."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    job = json.loads(sys.stdin.buffer.readline())
    document = sys.stdin.buffer.read()
    answer: dict[str, Any] = {"code": "done", "detail": "", "final": True}
    try:
        if job["period"] is not None:
            document = _with_entries(json.loads(document), job["database"], *job["period"])
        _put(job, document)
        answer |= {"sha256": hashlib.sha256(document).hexdigest(), "size": len(document)}
    except FetchError as error:
        answer |= {"code": error.code, "detail": error.detail, "final": error.final}
    except playlog.PlayLogError as error:
        answer |= {"code": "disk", "detail": str(error)}
    print(json.dumps(answer), flush=True)
    return 0


def _put(job: dict[str, Any], document: bytes) -> None:
    if len(document) > LARGEST:
        raise FetchError("size", f"{len(document)} bytes, at most {LARGEST}: ask for a shorter time", final=True)
    web = Web(Policy(job["allowed_hosts"]), job["ca"], job["connect_timeout_s"], job["read_timeout_s"])
    web.put(job["url"], document, "application/json")


def _with_entries(document: dict[str, Any], database: str, begin: float, end: float) -> bytes:
    log = playlog.read(database)
    document["entries"] = [entry for entry in log.entries if begin <= _moment(entry) < end]
    return json.dumps(document, ensure_ascii=False).encode()


def _moment(entry: dict[str, Any]) -> float:
    """When it was, or was to be; an entry that cannot be read belongs to no time."""
    for name in ("started", "planned", "ended"):
        try:
            return datetime.fromisoformat(entry[name]).timestamp()
        except (KeyError, TypeError, ValueError):
            continue
    return float("nan")


if __name__ == "__main__":
    raise SystemExit(main())
