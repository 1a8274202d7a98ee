"""TLS of servers and clients, from settings or from arguments.

Server: :class:`ServerSecurity` is a part of ``ServerSettings`` and is read by ``GrpcServer``.
Client::

    security = ClientSecurity.from_env()
    channel = security.aio_channel("10.0.0.7:50051", options, server_name="pspnet")

A file that is missing, broken, expired or of another certificate is a ``ConfigurationError`` that
names the setting. Standard library and grpc only: what a certificate is good for is found out by a
handshake in memory, the same that a caller will do.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import ipaddress
import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from spinezoo_contract.errors import ConfigurationError

log = logging.getLogger("spinezoo.security")

MAX_PEM_BYTES = 1 << 20
"""Largest file of certificates that is read, 1 MiB: a bundle of all public authorities has some
200 KiB."""

RETRY_SECONDS = 30.0
"""After which files that were refused are looked at again though they have not changed, in s: a
certificate may become valid while it lies there."""

MAX_TOKEN_LENGTH = 1024
"""Most characters of a bearer token; gRPC counts it against an 8 KiB header limit."""

_TOKEN = re.compile(r"[!-~]+")


class TlsMode(enum.Enum):
    """Who has to show a certificate."""

    OFF = "off"
    """Nobody; nothing is encrypted."""

    SERVER = "server"
    """The server."""

    MUTUAL = "mutual"
    """The server and every client."""


def is_loopback(host: str) -> bool:
    """Whether an address or host name never leaves this machine."""
    name = host.strip().strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def target_host(target: str) -> str:
    """Host of a gRPC target such as ``dns:///pspnet:50051``, ``ipv4:10.0.0.7:50051``, ``[::1]:1``.

    A list of addresses has no single host and gives an empty text.
    """
    if target.startswith("unix:"):
        return "localhost"
    rest = re.sub(r"^[a-z][a-z0-9+.-]*:(?://[^/]*/)?(?=.*[:\]])", "", target)
    if "," in rest:
        return ""
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    # An address of version 6 without brackets has no port.
    return rest if rest.count(":") > 1 else rest.partition(":")[0]


# --- files ---------------------------------------------------------------------------------------


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


# --- the server's side ---------------------------------------------------------------------------


def _mode_from_env(environment: Mapping[str, str], variable: str, default: TlsMode) -> TlsMode:
    text = environment.get(variable, "").strip().lower()
    if not text:
        return default
    try:
        return TlsMode(text)
    except ValueError:
        raise ConfigurationError(f"{variable} is {text!r}; set off, server or mutual") from None


def _allowed(environment: Mapping[str, str], variable: str) -> bool:
    text = environment.get(variable, "").strip()
    if text not in ("", "0", "1"):
        raise ConfigurationError(f"{variable} is {text!r}; set 1 to allow it, or unset it")
    return text == "1"


def _required(file: PemFile | None, variable: str, because: str) -> PemFile:
    if file is None:
        raise ConfigurationError(
            f"{variable} is not set, but {because}; set it to the path of a PEM file "
            "(`make certs` makes some for development)"
        )
    return file


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
        tls = _mode_from_env(env, "SPINEZOO_TLS", TlsMode.OFF)
        certificate = file_from_env(env, "SPINEZOO_TLS_CERT")
        key = file_from_env(env, "SPINEZOO_TLS_KEY")
        authorities = file_from_env(env, "SPINEZOO_TLS_CA")
        if tls is not TlsMode.OFF:
            because = f"SPINEZOO_TLS is {tls.value}"
            certificate = _required(certificate, "SPINEZOO_TLS_CERT", because)
            key = _required(key, "SPINEZOO_TLS_KEY", because)
        if tls is TlsMode.MUTUAL:
            _required(authorities, "SPINEZOO_TLS_CA", "SPINEZOO_TLS is mutual")
        return cls(
            tls,
            certificate,
            key,
            authorities,
            file_from_env(env, "SPINEZOO_TOKENS"),
            _allowed(env, "SPINEZOO_TOKENS_WITHOUT_TLS"),
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
        return _stamp(self.certificate, self.key, self.authorities)


def _stamp(*files: PemFile | None) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(None if file is None else file.stamp() for file in files)


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


# --- the client's side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientSecurity:
    """How a client speaks to a server.

    Attributes:
        tls: Who has to show a certificate.
        authorities: Whose certificates servers may show.
        certificate: Certificate of the client; with ``mutual`` only.
        key: Its key.
    """

    tls: TlsMode = TlsMode.OFF
    authorities: PemFile | None = None
    certificate: PemFile | None = None
    key: PemFile | None = None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> ClientSecurity:
        """Settings from environment variables, with files that are found good.

        ``SPINEZOO_CLIENT_TLS`` is what ``SPINEZOO_TLS`` is where it says nothing itself, and so
        are the files ``SPINEZOO_CLIENT_TLS_CA``, ``_CERT`` and ``_KEY``.

        Raises:
            ConfigurationError: A value or a file is wrong; the message names the variable.
        """
        env = os.environ if environment is None else environment
        served = _mode_from_env(env, "SPINEZOO_TLS", TlsMode.OFF)
        tls = _mode_from_env(env, "SPINEZOO_CLIENT_TLS", served)
        if tls is TlsMode.OFF:
            return cls()
        own = env.get("SPINEZOO_CLIENT_TLS", "").strip()
        because = f"{'SPINEZOO_CLIENT_TLS' if own else 'SPINEZOO_TLS'} is {tls.value}"

        def named(kind: str) -> PemFile:
            variable = f"SPINEZOO_CLIENT_TLS_{kind}"
            found = file_from_env(env, variable, f"SPINEZOO_TLS_{kind}")
            return _required(found, variable, because)

        if tls is TlsMode.SERVER:
            security = cls(tls, named("CA"))
        else:
            # Both or none from one place: half a pair from each would never match.
            if bool(env.get("SPINEZOO_CLIENT_TLS_CERT", "").strip()) != bool(
                env.get("SPINEZOO_CLIENT_TLS_KEY", "").strip()
            ):
                raise ConfigurationError(
                    "one of SPINEZOO_CLIENT_TLS_CERT and SPINEZOO_CLIENT_TLS_KEY is set; set both "
                    "or none"
                )
            security = cls(tls, named("CA"), named("CERT"), named("KEY"))
        security.check()
        return security

    @classmethod
    def from_files(
        cls,
        authorities: str | os.PathLike[str] | None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> ClientSecurity:
        """From paths: none for no TLS, the authority for TLS, all three for mutual TLS.

        Raises:
            ConfigurationError: A file is wrong, or one is missing beside another.
        """
        if authorities is None:
            if certificate is not None or key is not None:
                raise ConfigurationError(
                    "a client certificate without ca_file; name the file of the server's authority"
                )
            return cls()
        trusted = PemFile(Path(authorities), "ca_file")
        if certificate is None and key is None:
            security = cls(TlsMode.SERVER, trusted)
        elif certificate is None or key is None:
            raise ConfigurationError(
                "one of certificate_file and key_file is given; give both or none"
            )
        else:
            security = cls(
                TlsMode.MUTUAL,
                trusted,
                PemFile(Path(certificate), "certificate_file"),
                PemFile(Path(key), "key_file"),
            )
        security.check()
        return security

    def check(self) -> None:
        """Reads every file.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        self.credentials()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Credentials of a channel, from the files as they are now; None where TLS is off.

        Raises:
            ConfigurationError: A file is wrong.
        """
        if self.tls is TlsMode.OFF:
            return None
        if self.authorities is None:
            raise ConfigurationError("TLS without an authority; name the file of the server's")
        trusted = load_authorities(self.authorities)
        if self.tls is TlsMode.SERVER:
            return grpc.ssl_channel_credentials(root_certificates=trusted)
        if self.certificate is None or self.key is None:
            raise ConfigurationError("mutual TLS without certificate and key; name both files")
        identity = load_identity(self.certificate, self.key, as_client=True)
        return grpc.ssl_channel_credentials(
            root_certificates=trusted,
            private_key=identity.key_pem,
            certificate_chain=identity.certificates_pem,
        )

    def channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] = (),
        server_name: str | None = None,
    ) -> grpc.Channel:
        """A blocking channel; arguments and errors are those of :meth:`aio_channel`."""
        credentials = self.credentials()
        if credentials is None:
            return grpc.insecure_channel(target, options=list(options))
        return grpc.secure_channel(target, credentials, options=name_options(options, server_name))

    def aio_channel(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] = (),
        server_name: str | None = None,
    ) -> grpc.aio.Channel:
        """An asyncio channel that speaks as these settings say.

        A channel keeps the certificates that it was opened with. Who holds one for long compares
        :meth:`stamp` now and then and opens a new one when it has changed.

        Args:
            target: gRPC target.
            options: gRPC options of the channel.
            server_name: Name that the server's certificate has to hold, where the target is an
                address; None takes the target's own host.

        Raises:
            ConfigurationError: A file is wrong.
        """
        credentials = self.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=list(options))
        return grpc.aio.secure_channel(
            target, credentials, options=name_options(options, server_name)
        )

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Something that changes when a file does; costs a look at each, reads none."""
        return _stamp(self.authorities, self.certificate, self.key)


def name_options(
    options: Sequence[tuple[str, Any]], server_name: str | None
) -> list[tuple[str, Any]]:
    """Channel options that call the server by a name and check its certificate for it."""
    if server_name is None:
        return list(options)
    # The first is checked against the certificate, the second is what the server is called.
    name = [
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.default_authority", server_name),
    ]
    return [*options, *name]


# --- bearer tokens -------------------------------------------------------------------------------


def check_token(token: str, setting: str = "token") -> str:
    """A bearer token as it goes into a call's metadata.

    Raises:
        ConfigurationError: It is empty, too long, or has a blank or a character beyond ASCII. The
            message does not hold it.
    """
    if not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN_LENGTH:
        raise ConfigurationError(
            f"{setting} is not a token: 1 to {MAX_TOKEN_LENGTH} printable ASCII characters without "
            "blanks; copy it again from `python -m spinezoo_contract.tokens new`"
        )
    return token


def token_from_env(environment: Mapping[str, str] | None = None) -> str | None:
    """The bearer token of this client: ``SPINEZOO_TOKEN``, or the file ``SPINEZOO_TOKEN_FILE``.

    Raises:
        ConfigurationError: The file cannot be read or holds no token.
    """
    env = os.environ if environment is None else environment
    given = env.get("SPINEZOO_TOKEN", "").strip()
    if given:
        return check_token(given, "SPINEZOO_TOKEN")
    file = file_from_env(env, "SPINEZOO_TOKEN_FILE")
    return None if file is None else token_from_file(file.path, file.setting)


def client_settings(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the environment says of TLS and token, as arguments of a client of ``client``.

    ::

        EnsembleClient(target, **client_settings())

    Raises:
        ConfigurationError: A value or a file is wrong; the message names the variable.
    """
    env = os.environ if environment is None else environment
    return {
        "security": ClientSecurity.from_env(env),
        "token": token_from_env(env),
        "plain_token": _allowed(env, "SPINEZOO_TOKENS_WITHOUT_TLS"),
    }


def token_from_file(path: str | os.PathLike[str], setting: str = "the token file") -> str:
    """The bearer token that is all there is in a file.

    Raises:
        ConfigurationError: The file cannot be read or holds no token.
    """
    data = PemFile(Path(path), setting).read()
    return check_token(data.decode("utf-8", "replace").strip(), setting)
