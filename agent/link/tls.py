"""TLS for the link: the station's certificate, the source's authority, and dates only when the clock is worth it."""

from __future__ import annotations

import ssl
from pathlib import Path

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME (x509_vfy.h), which Python's ssl passes on but has no name for."""


class CredentialError(OSError):
    """A certificate or key file cannot be used; the message is for people."""


def context(ca: str, cert: str | None, key: str | None, *, check_dates: bool, section: str = "mqtt") -> ssl.SSLContext:
    """A client context: TLS 1.2 or later, chain and host name verified, dates too if asked. CredentialError.

    Without `cert` and `key` the client says nothing of who it is. `section` of the configuration is where the files
    are named.
    """
    for name, path in ((f"{section}.ca", ca), (f"{section}.cert", cert), (f"{section}.key", key)):
        if path is None:
            continue
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise CredentialError(f"{name}: cannot read {path}: {error.strerror}") from error
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise CredentialError(f"{section}.ca: {ca} holds no usable certificate") from error
    try:
        if cert is not None:
            made.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise CredentialError(f"{section}.cert and {section}.key: {cert} and {key} do not belong together") from error
    if not check_dates:
        made.verify_flags = ssl.VerifyFlags(made.verify_flags | _NO_CHECK_TIME)
    return made
