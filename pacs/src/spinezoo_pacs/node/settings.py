"""The node's settings, from one YAML file; ``docs/pacs.md`` explains each."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from spinezoo_contract.certificates import PemFile, load_authorities, load_identity, stamp_of
from spinezoo_contract.client import DEFAULT_GATEWAY
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.tls import is_loopback
from spinezoo_serving.security import load_pair
from spinezoo_serving.settings import is_host

from spinezoo_pacs.results.make import RESULT_KINDS, ResultKind
from spinezoo_pacs.yaml_file import read_model

AeTitle = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,14}[!-~])?$")]
"""1 to 16 printable characters, no space at either end."""

Port = Annotated[int, Field(ge=0, le=65535)]


def _host(text: str) -> str:
    if not is_host(text):
        raise ValueError(
            f"{text[:80]!r} is no address or name of a host, such as 10.1.2.3 or pacs.hospital; "
            "the port has an entry of its own"
        )
    return text


def _caller(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        if not is_host(text):
            raise ValueError(
                f"{text[:80]!r} is no address, network or name, such as 10.1.2.3, 10.1.0.0/16 or "
                "pacs.hospital"
            ) from None
    return text


def target(text: str) -> str:
    """Checks an address as gRPC takes it.

    Raises:
        ValueError: It has no port, or its host can be none.
    """
    host, _, port = text.rpartition(":")
    if text.startswith(("unix:", "unix-abstract:")):
        return text
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) <= 65535:
        raise ValueError(f"{text[:80]!r} is not host:port with a port of 1 to 65535")
    if not text.startswith(("dns:", "ipv4:", "ipv6:")):
        _host(host.removeprefix("[").removesuffix("]"))
    return text


def _folder(text: Any) -> Any:
    if text is None or not str(text).strip():
        raise ValueError("it is empty; name a folder that the node has for itself")
    return text


Host = Annotated[str, AfterValidator(_host)]
"""An address, of version 4 or 6, or a name."""

MOST_S = 365 * 86400.0
"""Longest time that a setting may give, in s: a year."""


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Peer(_Model):
    """A node that is known.

    Attributes:
        ae_title: Its AE title.
        host: Where results are sent to.
        port: Its DICOM port; 0: it only sends.
        addresses: Addresses, networks or names that it calls from; none takes ``host``.
        may_send: Whether films are taken from it.
        answers_to: AE titles of peers that get the results of its films; none: itself.
        tls: Whether results are sent to it over TLS.
        server_name: Name in its certificate, where ``host`` is another.
        web_url: Its DICOMweb, such as ``https://pacs.hospital/dicom-web``: results are sent to it
            by STOW-RS instead of C-STORE.
        web_token_file: File of the bearer token that it wants.
    """

    ae_title: AeTitle
    host: Host | Literal[""] = ""
    port: Port = 0
    addresses: tuple[Annotated[str, AfterValidator(_caller)], ...] = ()
    may_send: bool = True
    answers_to: tuple[AeTitle, ...] = ()
    tls: bool = False
    server_name: str = ""
    web_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    web_token_file: Path | None = None

    @model_validator(mode="after")
    def _can_be_reached(self) -> Peer:
        if not self.host and not self.web_url:
            raise ValueError(f"{self.ae_title} has neither host nor web_url")
        if self.web_token_file is not None and not self.web_url.startswith("https://"):
            host = urlsplit(self.web_url).hostname or ""
            if not is_loopback(host):
                raise ValueError(f"{self.ae_title}: the token would cross the network in the clear")
        return self

    @property
    def known_addresses(self) -> tuple[str, ...]:
        """Addresses, networks or names that it calls from."""
        return self.addresses or ((self.host,) if self.host else ())


class Limits(_Model):
    """What the node takes at most.

    Attributes:
        films_waiting: Films in the queue; more are refused with status A700.
        disk_free_mib: Room that stays free on the spool's disk; less refuses with A700.
        associations: At the same time; more are refused by name.
        film_mib: Size of one film.
        association_s: Time an association may stay silent, in s.
    """

    films_waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    disk_free_mib: Annotated[int, Field(ge=0)] = 512
    associations: Annotated[int, Field(ge=1, le=1000)] = 32
    film_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    association_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class Retry(_Model):
    """How failures are tried again.

    Attributes:
        first_s: Wait after the first failure, in s; doubles each time.
        most_s: Longest wait, in s.
        attempts: Failures of one film, such as a broken answer, before it is set aside. A gateway
            or node that cannot be reached does not count: it is waited for.
    """

    first_s: Annotated[float, Field(gt=0, le=MOST_S)] = 2.0
    most_s: Annotated[float, Field(gt=0, le=MOST_S)] = 300.0
    attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 5

    def wait_s(self, failures: int) -> float:
        """Time until the next attempt, in s."""
        return float(min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 20)))


class Tls(_Model):
    """Certificates of the node, PEM files; both sides have to show one."""

    certificate: Path
    key: Path
    authorities: Path

    @property
    def _files(self) -> tuple[PemFile, PemFile, PemFile]:
        return (
            PemFile(self.certificate, "tls.certificate"),
            PemFile(self.key, "tls.key"),
            PemFile(self.authorities, "tls.authorities"),
        )

    def stamp(self) -> tuple[Any, ...]:
        """Something that changes when a file does."""
        return stamp_of(*self._files)

    def server_context(self) -> ssl.SSLContext:
        """For films that come in.

        Raises:
            ConfigurationError: A file is wrong, or out of its dates.
        """
        return self._filled(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), as_client=False)

    def client_context(self) -> ssl.SSLContext:
        """For results that go out.

        Raises:
            ConfigurationError: A file is wrong, or out of its dates.
        """
        return self._filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), as_client=True)

    def _filled(self, context: ssl.SSLContext, *, as_client: bool) -> ssl.SSLContext:
        certificate, key, authorities = self._files
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        load_pair(context, load_identity(certificate, key, as_client=as_client))
        trusted = load_authorities(authorities)
        context.load_verify_locations(cadata=trusted.decode("ascii", "ignore"))
        return context


class NodeSettings(_Model):
    """Everything that the node is told.

    Attributes:
        ae_title: Its own AE title.
        host: Address that it binds.
        port: DICOM port; 0 takes a free one.
        http_port: Port of status page and metrics; 0 takes a free one.
        spool: Folder of the queue.
        spool_key: File of 64 hexadecimal digits by which films and results are encrypted there;
            none: they are not.
        gateway: gRPC target of the zoo; TLS and token come from ``SPINEZOO_CLIENT_TLS`` and
            ``SPINEZOO_TOKEN_FILE``.
        gateway_s: Time the gateway has for a film, in s.
        peers: Nodes that are known.
        results: What is sent back.
        viewer: ``standard``, or ``ohif`` for what OHIF wants beside the standard.
        measures: Whether the gateway is asked to measure, for the report.
        workers: Films under way at the same time.
        limits: What is taken at most.
        retry: How failures are tried again.
        retention_h: Hours that films and results stay after they were sent.
        aside_retention_h: Hours that films stay that were set aside.
        tls: Certificates; without, DIMSE is not encrypted.
    """

    ae_title: AeTitle = "SPINEZOO"
    host: Host = "127.0.0.1"
    port: Port = 11112
    http_port: Port = 8070
    spool: Annotated[Path, BeforeValidator(_folder)]
    spool_key: Path | None = None
    gateway: Annotated[str, AfterValidator(target)] = DEFAULT_GATEWAY
    gateway_s: Annotated[float, Field(gt=0, le=MOST_S)] = 120.0
    peers: tuple[Peer, ...]
    results: tuple[ResultKind, ...] = RESULT_KINDS
    viewer: Literal["standard", "ohif"] = "standard"
    measures: bool = False
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    limits: Limits = Limits()
    retry: Retry = Retry()
    retention_h: Annotated[float, Field(ge=0, le=1e6)] = 72.0
    aside_retention_h: Annotated[float, Field(ge=0, le=1e6)] = 720.0
    tls: Tls | None = None

    @model_validator(mode="after")
    def _fits(self) -> NodeSettings:
        titles = [peer.ae_title for peer in self.peers]
        if len(set(titles)) != len(titles):
            raise ValueError("two peers have the same ae_title")
        if not any(peer.may_send for peer in self.peers):
            raise ValueError("no peer may send; name at least one")
        for peer in self.peers:
            for title in peer.answers_to or (peer.ae_title,):
                target = self.peer(title)
                if target is None:
                    raise ValueError(f"{peer.ae_title} answers to {title}, which is no peer")
                if peer.may_send and not target.port and not target.web_url:
                    raise ValueError(f"results of {peer.ae_title} go to {title}, which has no port")
            if peer.tls and self.tls is None:
                raise ValueError(f"{peer.ae_title} wants TLS, but tls names no certificates")
        if not self.results:
            raise ValueError("results is empty")
        return self

    def peer(self, ae_title: str) -> Peer | None:
        """The peer of an AE title."""
        return next((peer for peer in self.peers if peer.ae_title == ae_title), None)

    def destinations(self, sender: str) -> tuple[Peer, ...]:
        """Where the results of a sender's films go.

        Raises:
            ConfigurationError: It is no peer any more.
        """
        peer = self.peer(sender)
        if peer is None:
            raise ConfigurationError(f"{sender} is no peer any more, and its films wait; add it")
        titles = peer.answers_to or (peer.ae_title,)
        return tuple(found for title in titles if (found := self.peer(title)) is not None)


def read_settings(path: Path) -> NodeSettings:
    """Settings from a YAML file.

    Raises:
        ConfigurationError: The file is missing or wrong; the message names the entry.
    """
    return read_model(path, NodeSettings, unreadable="; the node's user must be able to")
