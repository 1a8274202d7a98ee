"""TLS and bearer tokens of clients, from settings or from arguments.

::

    security = ClientSecurity.from_env()
    channel = security.aio_channel("10.0.0.7:50051", options, server_name="pspnet")
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from spinezoo_contract.certificates import (
    PemFile,
    file_from_env,
    load_authorities,
    load_identity,
    stamp_of,
)
from spinezoo_contract.errors import ConfigurationError

MAX_TOKEN_LENGTH = 1024
"""Most characters of a bearer token; gRPC counts it against an 8 KiB header limit."""

_TOKEN = re.compile(r"[!-~]+")


class TlsMode(enum.Enum):
    """Who has to show a certificate."""

    OFF = "off"
    """Neither side; nothing is encrypted."""

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


CALLER_VARIABLES = (
    (
        "SPINEZOO_CLIENT_TLS",
        "SPINEZOO_TLS",
        "off, server or mutual",
        "TLS when calling: the gateway to the networks, benchmark, real check, health, example",
    ),
    (
        "SPINEZOO_CLIENT_TLS_CA",
        "SPINEZOO_TLS_CA",
        "the path of a PEM file",
        "authorities whose certificates servers may show",
    ),
    (
        "SPINEZOO_CLIENT_TLS_CERT",
        "SPINEZOO_TLS_CERT",
        "the path of a PEM file",
        "the caller's own certificate (mutual); with the key or not at all",
    ),
    (
        "SPINEZOO_CLIENT_TLS_KEY",
        "SPINEZOO_TLS_KEY",
        "the path of a PEM file",
        "its key",
    ),
    (
        "SPINEZOO_TOKEN_FILE",
        "",
        "the path of a file",
        "file of the caller's token",
    ),
    (
        "SPINEZOO_TOKEN",
        "",
        "a token",
        "the caller's token itself; other processes of the machine may see it",
    ),
)
"""Variables of a caller: name, default, what may be set, meaning. :func:`client_settings` reads
them, and ``SPINEZOO_TOKENS_WITHOUT_TLS``."""


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


def mode_from_env(environment: Mapping[str, str], variable: str, default: TlsMode) -> TlsMode:
    """Who has to show a certificate, from one variable.

    Raises:
        ConfigurationError: The value is none of the three.
    """
    text = environment.get(variable, "").strip().lower()
    if not text:
        return default
    try:
        return TlsMode(text)
    except ValueError:
        raise ConfigurationError(f"{variable} is {text!r}; set off, server or mutual") from None


def allowed_by_env(environment: Mapping[str, str], variable: str) -> bool:
    """Whether a variable allows something: 1; unset, empty or 0 forbids it.

    Raises:
        ConfigurationError: It has another value.
    """
    text = environment.get(variable, "").strip()
    if text not in ("", "0", "1"):
        raise ConfigurationError(f"{variable} is {text!r}; set 1 to allow it, or unset it")
    return text == "1"


def required_file(file: PemFile | None, variable: str, because: str) -> PemFile:
    """The file, which has to be named.

    Raises:
        ConfigurationError: It is not.
    """
    if file is None:
        raise ConfigurationError(
            f"{variable} is not set, but {because}; set it to the path of a PEM file "
            "(`make certs` makes some for development)"
        )
    return file


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
        served = mode_from_env(env, "SPINEZOO_TLS", TlsMode.OFF)
        tls = mode_from_env(env, "SPINEZOO_CLIENT_TLS", served)
        if tls is TlsMode.OFF:
            return cls()
        own = env.get("SPINEZOO_CLIENT_TLS", "").strip()
        because = f"{'SPINEZOO_CLIENT_TLS' if own else 'SPINEZOO_TLS'} is {tls.value}"

        def named(kind: str) -> PemFile:
            variable = f"SPINEZOO_CLIENT_TLS_{kind}"
            found = file_from_env(env, variable, f"SPINEZOO_TLS_{kind}")
            return required_file(found, variable, because)

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
        return stamp_of(self.authorities, self.certificate, self.key)


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


def check_token(token: str, setting: str = "token") -> str:
    """A bearer token as it goes into a call's metadata.

    Raises:
        ConfigurationError: It is empty, too long, or has a blank or a character beyond ASCII. The
            message does not hold it.
    """
    if not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN_LENGTH:
        raise ConfigurationError(
            f"{setting} is not a token: 1 to {MAX_TOKEN_LENGTH} printable ASCII characters without "
            "blanks; copy it again from `python -m spinezoo_serving.tokens new`"
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
        "plain_token": allowed_by_env(env, "SPINEZOO_TOKENS_WITHOUT_TLS"),
    }


def token_from_file(path: str | os.PathLike[str], setting: str = "the token file") -> str:
    """The bearer token that is all there is in a file.

    Raises:
        ConfigurationError: The file cannot be read or holds no token.
    """
    data = PemFile(Path(path), setting).read()
    return check_token(data.decode("utf-8", "replace").strip(), setting)
