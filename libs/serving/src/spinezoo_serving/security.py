"""TLS and tokens of a server: a part of ``ServerSettings``, read by ``GrpcServer``."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

import grpc
from pydantic import model_validator
from spinezoo_contract.certificates import (
    Identity,
    PemFile,
    load_authorities,
    load_identity,
    stamp_of,
)
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.tls import TlsMode, required_file

from spinezoo_serving.variables import EnvironmentSettings, Flag, LowerCase, setting

log = logging.getLogger("spinezoo.security")

_T = TypeVar("_T")

RETRY_SECONDS = 30.0
"""After which files that were refused are looked at again though they have not changed, in s: a
certificate may become valid while it lies there."""

PEM = "the path of a PEM file"


def _file(path: Path | None, variable: str) -> PemFile | None:
    return None if path is None else PemFile(path, variable)


class ServerSecurity(EnvironmentSettings):
    """Servers, TLS and tokens: ``docs/security.md``."""

    tls: Annotated[TlsMode, LowerCase] = setting(
        TlsMode.OFF,
        "off; server: the server shows a certificate; mutual: the caller as well",
    )
    tls_cert: Path | None = setting(
        None, "the server's certificate, those between it and its authority after it", allowed=PEM
    )
    tls_key: Path | None = setting(None, "its key", allowed=PEM)
    tls_ca: Path | None = setting(
        None, "authorities whose certificates callers may show (mutual)", allowed=PEM
    )
    tokens: Path | None = setting(
        None, "gateway and evaluator: the tokens that may call; none lets everybody call"
    )
    tokens_without_tls: Flag = setting(
        False,
        "1: tokens may cross an unencrypted network, as behind a proxy that encrypts",
        allowed="1 to allow it",
    )

    @property
    def certificate(self) -> PemFile | None:
        """Certificate of the server."""
        return _file(self.tls_cert, "SPINEZOO_TLS_CERT")

    @property
    def key(self) -> PemFile | None:
        """Its key."""
        return _file(self.tls_key, "SPINEZOO_TLS_KEY")

    @property
    def authorities(self) -> PemFile | None:
        """Whose certificates clients may show."""
        return _file(self.tls_ca, "SPINEZOO_TLS_CA")

    @property
    def token_file(self) -> PemFile | None:
        """File of the tokens that callers of gateway and evaluator have; None asks for none."""
        return _file(self.tokens, "SPINEZOO_TOKENS")

    @model_validator(mode="after")
    def _files_are_named(self) -> Self:
        """Files themselves are read by :meth:`check`."""
        because = f"SPINEZOO_TLS is {self.tls.value}"
        if self.tls is not TlsMode.OFF:
            required_file(self.certificate, "SPINEZOO_TLS_CERT", because)
            required_file(self.key, "SPINEZOO_TLS_KEY", because)
        if self.tls is TlsMode.MUTUAL:
            required_file(self.authorities, "SPINEZOO_TLS_CA", because)
        return self

    def check(self) -> Identity | None:
        """Reads every file; None where TLS is off.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        if self.tls is TlsMode.OFF:
            return None
        assert self.certificate is not None  # _files_are_named
        assert self.key is not None
        identity = load_identity(self.certificate, self.key)
        self._trusted()
        return identity

    def _trusted(self) -> bytes | None:
        if self.tls is not TlsMode.MUTUAL:
            return None
        assert self.authorities is not None  # _files_are_named
        return load_authorities(self.authorities)

    def credentials(self) -> grpc.ServerCredentials | None:
        """What a gRPC server, blocking or asyncio, binds its port with; None where TLS is off.

        The files are read again when they have changed, at the next connection: a renewed
        certificate needs no restart. Files that are wrong then are refused and logged, and the
        old ones stay.

        Raises:
            ConfigurationError: A file is wrong.
        """
        if self.tls is TlsMode.OFF:
            return None
        watch = Renewed(self._configuration, self.stamp)
        return grpc.dynamic_ssl_server_credentials(
            watch.current(),
            watch.fetch,
            require_client_authentication=self.tls is TlsMode.MUTUAL,
        )

    def context(self) -> ssl.SSLContext:
        """What an HTTP server speaks TLS with.

        Raises:
            ConfigurationError: A file is wrong.
        """
        identity = self.check()
        assert identity is not None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        load_pair(context, identity)
        if authorities := self._trusted():
            context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        identity = self.check()
        assert identity is not None
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.certificates_pem)], root_certificates=self._trusted()
        )

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Something that changes when a file does."""
        return stamp_of(self.certificate, self.key, self.authorities)


def load_pair(context: ssl.SSLContext, identity: Identity) -> None:
    """Gives a context a certificate and key that were found good."""
    # OpenSSL reads files only: what was just checked goes through one that is memory alone.
    handle = os.memfd_create("spinezoo-tls")
    try:
        os.write(handle, identity.certificates_pem + b"\n" + identity.key_pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


class Renewed(Generic[_T]):
    """What is made of certificates' files, made anew when they have changed. Safe in many threads.

    Files that are wrong then are refused and logged, and what was made before stays.

    Args:
        load: Reads and checks the files.
        stamp: Something that changes when they do.

    Raises:
        ConfigurationError: A file is wrong.
    """

    def __init__(self, load: Callable[[], _T], stamp: Callable[[], Any]) -> None:
        self._load = load
        self._read_stamp = stamp
        self._lock = threading.Lock()
        self._stamp = stamp()
        self._retry_at = float("inf")
        self._made = load()

    def current(self) -> _T:
        """What to use now; to be called before every handshake."""
        self.fetch()
        return self._made

    def fetch(self) -> _T | None:
        """What to use from now on, or None for what is in use; as :meth:`current`."""
        with self._lock:
            now, stamp = time.monotonic(), self._read_stamp()
            if stamp == self._stamp and now < self._retry_at:
                return None
            # Before the files are read: a change in between is then seen at the next connection.
            self._stamp = stamp
            try:
                self._made = self._load()
            except ConfigurationError as error:
                self._retry_at = now + RETRY_SECONDS
                log.error("certificates not renewed", extra={"fields": {"reason": str(error)}})
                return None
            self._retry_at = float("inf")
            log.info("certificates renewed")
            return self._made
