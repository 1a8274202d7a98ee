"""TLS and tokens of a server: a part of ``ServerSettings``, read by ``GrpcServer``."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from spinezoo_contract.certificates import (
    Identity,
    PemFile,
    file_from_env,
    load_authorities,
    load_identity,
    stamp_of,
)
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.tls import TlsMode, allowed_by_env, mode_from_env, required_file

log = logging.getLogger("spinezoo.security")

RETRY_SECONDS = 30.0
"""After which files that were refused are looked at again though they have not changed, in s: a
certificate may become valid while it lies there."""


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """How a server is protected; the table stands in ``docs/security.md``.

    Attributes:
        tls: Who has to show a certificate.
        certificate: Certificate of the server.
        key: Its key.
        authorities: Whose certificates clients may show.
        tokens: File of the tokens that callers of gateway and evaluator have; None asks for none.
        tokens_without_tls: Whether tokens may cross a network that is not encrypted here.
    """

    tls: TlsMode = TlsMode.OFF
    certificate: PemFile | None = None
    key: PemFile | None = None
    authorities: PemFile | None = None
    tokens: PemFile | None = None
    tokens_without_tls: bool = False

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> ServerSecurity:
        """Settings from environment variables; files are read by :meth:`check`.

        Raises:
            ConfigurationError: A value is wrong or a file is not named; the message names the
                variable.
        """
        env = os.environ if environment is None else environment
        tls = mode_from_env(env, "SPINEZOO_TLS", TlsMode.OFF)
        certificate = file_from_env(env, "SPINEZOO_TLS_CERT")
        key = file_from_env(env, "SPINEZOO_TLS_KEY")
        authorities = file_from_env(env, "SPINEZOO_TLS_CA")
        if tls is not TlsMode.OFF:
            because = f"SPINEZOO_TLS is {tls.value}"
            certificate = required_file(certificate, "SPINEZOO_TLS_CERT", because)
            key = required_file(key, "SPINEZOO_TLS_KEY", because)
        if tls is TlsMode.MUTUAL:
            required_file(authorities, "SPINEZOO_TLS_CA", "SPINEZOO_TLS is mutual")
        return cls(
            tls,
            certificate,
            key,
            authorities,
            file_from_env(env, "SPINEZOO_TOKENS"),
            allowed_by_env(env, "SPINEZOO_TOKENS_WITHOUT_TLS"),
        )

    def check(self) -> Identity | None:
        """Reads every file; None where TLS is off.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        if self.tls is TlsMode.OFF:
            return None
        if self.certificate is None or self.key is None:
            raise ConfigurationError("TLS without certificate and key; name both files")
        identity = load_identity(self.certificate, self.key)
        self._trusted()
        return identity

    def _trusted(self) -> bytes | None:
        if self.tls is not TlsMode.MUTUAL:
            return None
        if self.authorities is None:
            raise ConfigurationError("mutual TLS without an authority; name its file")
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
        watch = _CertificateWatch(self._configuration, self.stamp)
        return grpc.dynamic_ssl_server_credentials(
            watch.first,
            watch.fetch,
            require_client_authentication=self.tls is TlsMode.MUTUAL,
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        identity = self.check()
        assert identity is not None
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.certificates_pem)], root_certificates=self._trusted()
        )

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Something that changes when a file does."""
        return stamp_of(self.certificate, self.key, self.authorities)


class _CertificateWatch:
    """Hands gRPC the certificates anew when their files have changed.

    Args:
        load: Reads and checks the files.
        stamp: Something that changes when they do.
    """

    def __init__(
        self,
        load: Callable[[], grpc.ServerCertificateConfiguration],
        stamp: Callable[[], Any],
    ) -> None:
        self._load = load
        self._read_stamp = stamp
        self._lock = threading.Lock()
        self._stamp = stamp()
        self._retry_at = float("inf")
        self.first = load()

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What to use from now on, or None for what is in use; called before every handshake."""
        with self._lock:
            now, stamp = time.monotonic(), self._read_stamp()
            if stamp == self._stamp and now < self._retry_at:
                return None
            # Before the files are read: a change in between is then seen at the next connection.
            self._stamp = stamp
            try:
                fresh = self._load()
            except ConfigurationError as error:
                self._retry_at = now + RETRY_SECONDS
                log.error("certificates not renewed", extra={"fields": {"reason": str(error)}})
                return None
            self._retry_at = float("inf")
            log.info("certificates renewed")
            return fresh
