"""Files of certificates and keys, and whether they can be used today.

A file that is missing, broken, expired or of another certificate is a ``ConfigurationError`` that
names the setting. Standard library only: what a certificate is good for is found out by a handshake
in memory, the same that a caller will do.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError

MAX_PEM_BYTES = 1 << 20
"""Largest file of certificates that is read, 1 MiB: a bundle of all public authorities has some
200 KiB."""


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file of certificates or of a key.

    Attributes:
        path: Where it lies.
        setting: Variable or argument that names it, for messages.
    """

    path: Path
    setting: str

    def wrong(self, what: str, remedy: str) -> ConfigurationError:
        """An error about this file."""
        return ConfigurationError(f"{self.setting} names {self.path}, {what}; {remedy}")

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            ConfigurationError: It cannot be read or is too large to be what it should be.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_PEM_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self.wrong(
                f"which cannot be read ({reason})",
                "correct the path or the rights (`make certs` makes certificates for development)",
            ) from error
        if len(data) > MAX_PEM_BYTES:
            raise self.wrong(f"which has more than {MAX_PEM_BYTES} bytes", "name a PEM file")
        return data

    def stamp(self) -> tuple[int, int, int] | None:
        """Something that changes when the file does; None where it is absent."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def file_from_env(environment: Mapping[str, str], *variables: str) -> PemFile | None:
    """The file that the first variable with a value names; None where all are unset or empty."""
    for variable in variables:
        text = environment.get(variable, "").strip()
        if text:
            return PemFile(Path(text), variable)
    return None


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, found good.

    Attributes:
        certificates_pem: The certificate, and those between it and its authority.
        key_pem: Its key. Never printed.
        names: Host names and addresses that it holds for.
        not_after: When it ends.
    """

    certificates_pem: bytes
    key_pem: bytes = field(repr=False)
    names: tuple[str, ...]
    not_after: datetime


def load_identity(certificate: PemFile, key: PemFile, *, as_client: bool = False) -> Identity:
    """Reads a certificate and its key and makes sure that they can be used today.

    Args:
        certificate: File of the certificate, and those between it and its authority after it.
        key: File of its key, without a password.
        as_client: Whether it is shown to servers, not to clients: a certificate may be for one.

    Raises:
        ConfigurationError: One of them is missing, broken, expired, or not of the other.
    """
    certificates_pem, key_pem = certificate.read(), key.read()
    if b"-----BEGIN CERTIFICATE-----" not in certificates_pem:
        raise certificate.wrong("which holds no certificate", "name a PEM file of a certificate")
    if b"PRIVATE KEY-----" not in key_pem:
        raise key.wrong("which holds no key", "name a PEM file of a private key")

    if _is_edwards(key_pem):
        raise key.wrong(
            "which is an Ed25519 or Ed448 key, and gRPC shakes no hands with those",
            "get a certificate with an ECDSA (P-256) or RSA key",
        )

    def no_password() -> str:
        raise key.wrong(
            "whose key has a password", "store it without one, readable by this process only"
        )

    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if as_client else ssl.PROTOCOL_TLS_SERVER)
    checks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if as_client else ssl.PROTOCOL_TLS_CLIENT)
    for context in (shows, checks):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        shows.load_cert_chain(certificate.path, key.path, password=no_password)
    except OSError as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise key.wrong(
                f"which is not the key of {certificate.path} ({certificate.setting})",
                "name the two files of one certificate",
            ) from error
        what = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise certificate.wrong(
            f"which cannot be used with {key.path} ({key.setting}): {what}",
            "name PEM files of a certificate and its key",
        ) from error

    # The certificate counts as its own authority here: whether an authority is trusted is the
    # other side's question.
    checks.verify_mode = ssl.CERT_REQUIRED
    checks.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        if as_client:
            # The checking server has to show something; nobody looks at it.
            checks.load_cert_chain(certificate.path, key.path, password=no_password)
        checks.load_verify_locations(cadata=certificates_pem.decode("ascii", "replace"))
        peer = _peer_certificate(shows, checks, as_client=as_client)
    except ssl.SSLCertVerificationError as error:
        ends = "get a new one; `make certs` renews those for development"
        raise certificate.wrong(f"which is no good today ({error.verify_message})", ends) from error
    except ssl.SSLError as error:
        raise certificate.wrong(
            f"which no handshake can be done with ({error.reason or 'ssl'})",
            "name a certificate for TLS with an RSA or ECDSA key",
        ) from error
    if (certificate.read(), key.read()) != (certificates_pem, key_pem):
        raise certificate.wrong("which changed while it was read", "try again")
    return Identity(
        certificates_pem,
        key_pem,
        tuple(str(value) for kind, value in peer.get("subjectAltName", ())),
        datetime.fromtimestamp(ssl.cert_time_to_seconds(peer["notAfter"]), UTC),
    )


def _is_edwards(key_pem: bytes) -> bool:
    """Whether a key is of a kind that Python's TLS takes and gRPC's does not."""
    block = re.search(rb"-----BEGIN PRIVATE KEY-----([^-]+)-----END", key_pem)
    if block is None:
        return False
    with contextlib.suppress(ValueError):
        # PKCS 8 opens with a version and the identifier of the algorithm: 1.3.101.112 and .113.
        return b"\x30\x05\x06\x03\x2b\x65" in base64.b64decode(block.group(1))[:20]
    return False


def _peer_certificate(
    shows: ssl.SSLContext, checks: ssl.SSLContext, *, as_client: bool
) -> Mapping[str, Any]:
    """What one side shows to the other in a handshake that never leaves this process."""
    first, second = ssl.MemoryBIO(), ssl.MemoryBIO()
    showing = shows.wrap_bio(first, second, server_side=not as_client)
    checking = checks.wrap_bio(second, first, server_side=as_client)
    waiting = [checking, showing]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
        if not waiting:
            break
    return checking.getpeercert() or {}


def load_authorities(file: PemFile) -> bytes:
    """Reads the authorities whose certificates are accepted; a single certificate counts as well.

    Raises:
        ConfigurationError: The file is missing or broken, or nothing in it is valid today.
    """
    data = file.read()
    if b"PRIVATE KEY-----" in data:
        raise file.wrong("which holds a private key", "name the certificate of the authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=data.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise file.wrong(
            "which holds no certificate", "name a PEM file with the authority's certificate"
        ) from error
    authorities = context.get_ca_certs()
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in authorities]
    if ends and max(ends) <= time.time():
        raise file.wrong("which has expired", "get the authority's new certificate")
    return data


def stamp_of(*files: PemFile | None) -> tuple[tuple[int, int, int] | None, ...]:
    """Something that changes when one of the files does."""
    return tuple(None if file is None else file.stamp() for file in files)
