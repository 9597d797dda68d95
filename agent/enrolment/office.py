"""The province's registration office as the device calls it: HTTPS, its certificate pinned by the configured CA."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from typing import Any, Protocol

from agent.link.tls import CredentialError, context

TIMEOUT_S = 30.0
MOST = 64 * 1024


class Denied(Exception):  # noqa: N818 - an answer, not a fault
    """The province says no, and will say so again: `reason` is a word of `agent.enrolment.states.REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AwayError(Exception):
    """The province could not be asked; trying again later may help. The message says why."""


class Office(Protocol):
    """What the device asks for. Both raise Denied and AwayError."""

    def enrol(self, body: dict[str, Any]) -> bytes:
        """A first certificate (PEM) for `{device, code, csr, station_key?}`."""

    def renew(self, body: dict[str, Any], cert: str, key: str) -> bytes:
        """The next certificate (PEM) for `{device, csr}`, asked with the present one's files."""


class HttpsOffice:
    """The office at `url`. `check_dates` only with a clock that is worth it."""

    def __init__(self, url: str, ca: str, *, check_dates: bool) -> None:
        self._url = urllib.parse.urlsplit(url)
        self._ca = ca
        self._check_dates = check_dates

    def enrol(self, body: dict[str, Any]) -> bytes:
        """See Office."""
        return self._post("/enrol", body, context(self._ca, None, None, check_dates=self._check_dates))

    def renew(self, body: dict[str, Any], cert: str, key: str) -> bytes:
        """See Office."""
        return self._post("/renew", body, context(self._ca, cert, key, check_dates=self._check_dates))

    def _post(self, path: str, body: dict[str, Any], tls: ssl.SSLContext) -> bytes:
        connection = http.client.HTTPSConnection(
            self._url.hostname or "", self._url.port or 443, timeout=TIMEOUT_S, context=tls
        )
        try:
            connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read(MOST + 1)
        except CredentialError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"{self._url.netloc}: {_why(error)}") from error
        finally:
            connection.close()
        answer = _object(data)
        if response.status == 200 and isinstance(answer.get("certificate"), str):
            return str(answer["certificate"]).encode()
        reason = answer.get("reason")
        if response.status in {400, 403, 409, 410} and isinstance(reason, str) and reason.isprintable():
            raise Denied(reason[:40])
        raise AwayError(f"{self._url.netloc}: HTTP {response.status}")


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MOST:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not the expected one ({error.verify_message})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
