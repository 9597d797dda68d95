"""Why there is no connection, as a sentence for the person who has to mend it."""

from __future__ import annotations

import errno
import socket
import ssl

from agent.link.tls import CredentialError

_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


def explain(error: BaseException, host: str, port: int, section: str = "mqtt") -> str:
    """The sentence for an error of connecting, or of an existing connection, to `host`:`port` of that section."""
    where = f"{host}:{port}"
    match error:
        case CredentialError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return _unverified(error, host)
        case ssl.SSLError():
            return _tls(error, where, section)
        case socket.gaierror():
            return f"the name {host} cannot be resolved (is the network up, and {section}.host right?)"
        case ConnectionRefusedError():
            return f"{where} refuses connections (is the broker running, and {section}.port right?)"
        case TimeoutError():
            return f"{where} does not answer"
        case ConnectionResetError() | BrokenPipeError():
            return f"{where} cut the connection"
        case OSError() if error.errno in _NO_WAY:
            return f"there is no way to {where} (is the network up?)"
        case OSError():
            return f"{where} cannot be reached: {error.strerror or error}"
        case _:
            return f"a fault in the link itself: {type(error).__name__}: {error}"


def _unverified(error: ssl.SSLCertVerificationError, host: str) -> str:
    match error.verify_code:  # OpenSSL's X509_V_ERR_* (x509_vfy.h)
        case 9:
            return "the source's certificate is not valid yet (is this clock right?)"
        case 10:
            return "the source's certificate has expired (is this clock right?)"
        case 62 | 64:
            return f"the source's certificate is for another name than {host}"
        case _:
            return f"the source's certificate was not issued by our authority: {error.verify_message}"


def _tls(error: ssl.SSLError, where: str, section: str) -> str:
    reason = error.reason or ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "ACCESS_DENIED" in reason):
        return f"the source refuses our certificate ({_words(reason)})"
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return f"{where} does not speak TLS (is {section}.port right?)"
    if "PROTOCOL" in reason:
        return f"{where} and this device have no TLS version in common"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"{where} cut the connection"
    return f"TLS with {where} failed: {_words(reason) or error}"


def _words(reason: str) -> str:
    return reason.partition("ALERT_")[2].lower().replace("_", " ") or reason.lower().replace("_", " ")
