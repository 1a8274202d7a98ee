"""TLS with real certificates: what is refused at the start, and what over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from spinezoo_contract import tls as security
from spinezoo_contract.client import AsyncSegmenterClient, SegmenterClient
from spinezoo_contract.errors import ConfigurationError, NotServingError, SpineZooError
from spinezoo_contract.status import from_rpc_error
from spinezoo_contract.tls import ClientSecurity, TlsMode
from spinezoo_contract.types import Film
from spinezoo_serving import health
from spinezoo_serving import security as server_security
from spinezoo_serving.security import ServerSecurity
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.threshold import ThresholdPredictor

FILM = Film(np.random.default_rng(0).integers(0, 200, (32, 48)).astype(np.uint8))


@contextlib.asynccontextmanager
async def member(environment: dict[str, str]) -> AsyncIterator[GrpcServer]:
    """A real network's server on a free port."""
    settings = ServerSettings.from_env(environment).model_copy(update={"drain_s": 5.0})
    runner = NetworkRunner(settings, ThresholdPredictor())
    server = segmenter_server(runner)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        runner.close()


async def predict(server: GrpcServer, security: ClientSecurity | None, **more: Any) -> int:
    """Columns of the answer to one film."""
    target = f"127.0.0.1:{server.port}"
    async with AsyncSegmenterClient(target, security=security, timeout_s=20, **more) as client:
        return (await client.predict(FILM)).width


async def refusal(server: GrpcServer, security: ClientSecurity, **more: Any) -> str:
    with pytest.raises(NotServingError) as caught:
        await predict(server, security, **more)
    return str(caught.value)


# --- settings ------------------------------------------------------------------------------------


def test_off_needs_nothing_and_is_the_default() -> None:
    assert ServerSecurity.from_env({}) == ServerSecurity()
    assert ClientSecurity.from_env({}) == ClientSecurity()
    assert ServerSettings.from_env({"SPINEZOO_TLS": "off"}).security.credentials() is None


def test_a_client_takes_the_servers_settings_where_it_has_none_of_its_own(
    certificates: Any,
) -> None:
    served = certificates.server("mutual")
    assert ClientSecurity.from_env(served).tls is TlsMode.MUTUAL
    assert ClientSecurity.from_env(served).certificate.path.name == "server.crt"
    both = served | certificates.client("mutual")
    assert ClientSecurity.from_env(both).certificate.path.name == "client.crt"
    assert ClientSecurity.from_env(served | {"SPINEZOO_CLIENT_TLS": "off"}).tls is TlsMode.OFF
    assert ClientSecurity.from_env(served | {"SPINEZOO_CLIENT_TLS": "server"}).key is None


@pytest.mark.parametrize(
    ("changes", "named", "says"),
    [
        ({"SPINEZOO_TLS": "on"}, "SPINEZOO_TLS ", "off, server or mutual"),
        ({"SPINEZOO_TLS_CERT": ""}, "SPINEZOO_TLS_CERT", "make certs"),
        ({"SPINEZOO_TLS_KEY": ""}, "SPINEZOO_TLS_KEY", "set it"),
        ({"SPINEZOO_TLS_CA": ""}, "SPINEZOO_TLS_CA", "mutual"),
        ({"SPINEZOO_TLS_CERT": "absent.crt"}, "SPINEZOO_TLS_CERT", "cannot be read"),
        ({"SPINEZOO_TLS_CERT": "ca.key"}, "SPINEZOO_TLS_CERT", "holds no certificate"),
        ({"SPINEZOO_TLS_CERT": "torn.crt"}, "SPINEZOO_TLS_CERT", "cannot be used"),
        ({"SPINEZOO_TLS_CERT": "large.crt"}, "SPINEZOO_TLS_CERT", "more than 1048576 bytes"),
        ({"SPINEZOO_TLS_KEY": "client.key"}, "SPINEZOO_TLS_KEY", "not the key of"),
        ({"SPINEZOO_TLS_KEY": "server.crt"}, "SPINEZOO_TLS_KEY", "holds no key"),
        ({"SPINEZOO_TLS_KEY": "locked.key"}, "SPINEZOO_TLS_KEY", "has a password"),
        ({"SPINEZOO_TLS_KEY": "edwards.key"}, "SPINEZOO_TLS_KEY", "ECDSA (P-256) or RSA"),
        (
            {"SPINEZOO_TLS_CERT": "old.crt", "SPINEZOO_TLS_KEY": "old.key"},
            "SPINEZOO_TLS_CERT",
            "expired",
        ),
        (
            {"SPINEZOO_TLS_CERT": "early.crt", "SPINEZOO_TLS_KEY": "early.key"},
            "SPINEZOO_TLS_CERT",
            "not yet valid",
        ),
        ({"SPINEZOO_TLS_CA": "torn.crt"}, "SPINEZOO_TLS_CA", "holds no certificate"),
        ({"SPINEZOO_TLS_CA": "ca.key"}, "SPINEZOO_TLS_CA", "holds a private key"),
        ({"SPINEZOO_TLS_CA": "past.crt"}, "SPINEZOO_TLS_CA", "has expired"),
        ({"SPINEZOO_TOKENS_WITHOUT_TLS": "yes"}, "SPINEZOO_TOKENS_WITHOUT_TLS", "set 1"),
    ],
)
async def test_what_is_wrong_is_named_at_the_start(
    certificates: Any, changes: dict[str, str], named: str, says: str
) -> None:
    from datetime import UTC, datetime, timedelta

    folder = certificates.folder
    certificates.authority("past", begins=datetime.now(UTC) - timedelta(days=9), days=3)
    (folder / "torn.crt").write_bytes((folder / "server.crt").read_bytes()[:300])
    (folder / "large.crt").write_bytes((folder / "server.crt").read_bytes() + b"\n" * (1 << 20))
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    (folder / "locked.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    (folder / "edwards.key").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    changes = {
        name: str(folder / value) if "." in value else value for name, value in changes.items()
    }
    with pytest.raises(ConfigurationError) as caught:
        async with member(certificates.server("mutual") | changes):
            pass
    assert named in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named", "says"),
    [
        ({"SPINEZOO_CLIENT_TLS": "yes"}, "SPINEZOO_CLIENT_TLS", "off, server or mutual"),
        ({"SPINEZOO_CLIENT_TLS_CA": ""}, "SPINEZOO_CLIENT_TLS_CA", "set it"),
        ({"SPINEZOO_CLIENT_TLS_KEY": ""}, "SPINEZOO_CLIENT_TLS_KEY", "both or none"),
        (
            {"SPINEZOO_CLIENT_TLS_CERT": "", "SPINEZOO_CLIENT_TLS_KEY": ""},
            "SPINEZOO_CLIENT_TLS_CERT",
            "SPINEZOO_CLIENT_TLS is mutual",
        ),
        ({"SPINEZOO_CLIENT_TLS_CERT": "server.crt"}, "SPINEZOO_CLIENT_TLS_KEY", "not the key of"),
    ],
)
def test_what_is_wrong_with_a_client_is_named_too(
    certificates: Any, changes: dict[str, str], named: str, says: str
) -> None:
    changes = {
        name: str(certificates.path(value)) if "." in value else value
        for name, value in changes.items()
    }
    with pytest.raises(ConfigurationError) as caught:
        ClientSecurity.from_env(certificates.client("mutual") | changes)
    assert named in str(caught.value)
    assert says in str(caught.value)


def test_a_certificate_that_is_for_clients_only_is_no_servers(certificates: Any) -> None:
    """The purpose is looked at on the side on which the certificate is shown."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    def only(oid: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
        return x509.ExtendedKeyUsage([oid])

    real = x509.ExtendedKeyUsage
    files = [
        security.PemFile(certificates.path(f"narrow.{kind}"), kind.upper())
        for kind in ("crt", "key")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(x509, "ExtendedKeyUsage", lambda _: real([ExtendedKeyUsageOID.CLIENT_AUTH]))
        certificates.add("narrow")
    assert security.load_identity(*files, as_client=True).names == ("localhost", "127.0.0.1")
    with pytest.raises(ConfigurationError, match=r"CRT names .* no good today .*purpose"):
        security.load_identity(*files)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("127.0.0.1:50051", "127.0.0.1"),
        ("pspnet:50051", "pspnet"),
        ("localhost", "localhost"),
        ("dns:///pspnet.zoo.svc:50051", "pspnet.zoo.svc"),
        ("dns://8.8.8.8/pspnet:1", "pspnet"),
        ("dns:pspnet:1", "pspnet"),
        ("ipv4:10.0.0.7:50051", "10.0.0.7"),
        ("ipv4:10.0.0.7:1,127.0.0.1:1", ""),
        ("ipv6:[::1]:50051", "::1"),
        ("[::1]:50051", "::1"),
        ("unix:/run/zoo.sock", "localhost"),
    ],
)
def test_the_host_of_a_target(target: str, host: str) -> None:
    assert security.target_host(target) == host


def test_loopback() -> None:
    assert all(map(security.is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "LocalHost")))
    assert not any(map(security.is_loopback, ("0.0.0.0", "::", "10.0.0.1", "zoo", "", "127.zoo")))


# --- over the wire -------------------------------------------------------------------------------


async def test_tls_of_the_server(certificates: Any) -> None:
    trusting = ClientSecurity.from_env(certificates.client())
    stranger = ClientSecurity.from_env(certificates.client(ca="stranger"))
    async with member(certificates.server()) as server:
        assert await predict(server, trusting) == 48
        assert await predict(server, trusting, server_name="pspnet") == 48
        assert "not accepted" in await refusal(server, stranger)
        assert "another name" in await refusal(server, trusting, server_name="unet")
        assert "with TLS" in await refusal(server, ClientSecurity())
        assert "with TLS" in await refusal(server, ClientSecurity())

        def blocking(**more: Any) -> int:
            with SegmenterClient(f"localhost:{server.port}", **more) as client:
                return client.predict(FILM, timeout_s=20).width

        authority = certificates.path("ca.crt")
        made = grpc.ssl_channel_credentials(authority.read_bytes())
        assert await asyncio.to_thread(blocking, ca_file=authority) == 48
        assert await asyncio.to_thread(blocking, credentials=made, server_name="pspnet") == 48
        assert await predict(server, None, credentials=made, server_name="pspnet") == 48


async def test_nothing_speaks_without_tls_health_and_reflection_neither(certificates: Any) -> None:
    async def ask(channel: grpc.aio.Channel) -> list[str]:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        calls = (
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20),
            anext(
                aiter(
                    reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                        iter([asked]), timeout=20
                    )
                )
            ),
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        return [
            each.code().name if isinstance(each, grpc.aio.AioRpcError) else "answered"
            for each in results
        ]

    async with member(certificates.server("mutual")) as server:
        target = f"127.0.0.1:{server.port}"
        async with ClientSecurity().aio_channel(target) as channel:
            assert await ask(channel) == ["UNAVAILABLE", "UNAVAILABLE"]
        mutual = ClientSecurity.from_env(certificates.client("mutual"))
        async with mutual.aio_channel(target) as channel:
            assert await ask(channel) == ["answered", "answered"]


async def test_mutual_tls_asks_for_a_certificate_of_the_right_authority(certificates: Any) -> None:
    alien = replace(
        ClientSecurity.from_env(certificates.client("mutual", "alien")),
        authorities=security.PemFile(certificates.path("ca.crt"), "x"),
    )
    async with member(certificates.server("mutual")) as server:
        assert await predict(server, ClientSecurity.from_env(certificates.client("mutual"))) == 48
        nameless = ClientSecurity.from_env(certificates.client("server"))
        assert "client certificate" in await refusal(server, nameless)
        with pytest.raises(NotServingError):
            await predict(server, alien)
        # A client of ours does not even try with one that is over; another kind of client does.
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{server.port}",
            grpc.ssl_channel_credentials(
                certificates.path("ca.crt").read_bytes(),
                certificates.path("old.key").read_bytes(),
                certificates.path("old.crt").read_bytes(),
            ),
        )
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=20
                )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ConfigurationError, match=r"SPINEZOO_CLIENT_TLS_CERT .* expired"):
            ClientSecurity.from_env(certificates.client("mutual", "old"))


async def test_a_server_whose_certificate_is_over_is_refused(certificates: Any) -> None:
    # Ours would not start with it; so a server of another kind.
    server = grpc.aio.server()
    pair = [certificates.path(f"old.{kind}").read_bytes() for kind in ("key", "crt")]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([tuple(pair)]))
    await server.start()
    try:
        client = AsyncSegmenterClient(
            f"127.0.0.1:{port}", ca_file=certificates.path("ca.crt"), timeout_s=20
        )
        async with client:
            with pytest.raises(NotServingError, match=r"not accepted; check .* the date"):
                await client.get_model()
    finally:
        await server.stop(0)


async def test_a_renewed_certificate_needs_no_restart(certificates: Any, lines: Any) -> None:
    """Renewed in two steps, as by hand: in between the files do not match, the old pair stays."""
    client = ClientSecurity.from_env(certificates.client())
    fresh = certificates.folder / "fresh"
    fresh.mkdir()
    certificates.add("server", names=("renewed",), into=fresh)
    async with member(certificates.server()) as server:
        assert await predict(server, client, server_name="pspnet") == 48
        shutil.copy(fresh / "server.crt", certificates.path("server.crt"))
        assert await predict(server, client, server_name="pspnet") == 48
        shutil.copy(fresh / "server.key", certificates.path("server.key"))
        assert await predict(server, client, server_name="renewed") == 48
        assert "another name" in await refusal(server, client, server_name="pspnet")
        certificates.path("server.crt").write_text("lost")
        assert await predict(server, client, server_name="renewed") == 48
        certificates.path("server.crt").unlink()
        assert await predict(server, client, server_name="renewed") == 48
    told = [line["message"] for line in lines() if line["logger"] == "spinezoo.security"]
    assert told == [
        "certificates not renewed",
        "certificates renewed",
        "certificates not renewed",
        "certificates not renewed",
    ]


async def test_a_new_authority_needs_no_restart_either(certificates: Any) -> None:
    alien = replace(
        ClientSecurity.from_env(certificates.client("mutual", "alien")),
        authorities=security.PemFile(certificates.path("ca.crt"), "x"),
    )
    environment = certificates.server("mutual")
    trusted = certificates.path("trusted.crt")
    shutil.copy(certificates.path("ca.crt"), trusted)
    async with member(environment | {"SPINEZOO_TLS_CA": str(trusted)}) as server:
        with pytest.raises(NotServingError):
            await predict(server, alien)
        trusted.write_bytes(
            b"".join(certificates.path(f"{name}.crt").read_bytes() for name in ("ca", "stranger"))
        )
        assert await predict(server, alien) == 48
        assert await predict(server, ClientSecurity.from_env(certificates.client("mutual"))) == 48


def test_files_that_were_refused_are_looked_at_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certificate may become valid while it lies there unchanged."""
    outcomes: list[Any] = ["first", ConfigurationError("not yet"), "second"]
    stamp = [1]

    def load() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ConfigurationError):
            raise outcome
        return outcome

    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watch = server_security.Renewed(load, lambda: stamp[0])
    assert (watch.current(), watch.fetch()) == ("first", None)
    stamp[0] = 2
    assert [watch.fetch(), watch.fetch()] == [None, None]
    clock[0] += server_security.RETRY_SECONDS
    assert [watch.fetch(), watch.fetch()] == ["second", None]
    assert not outcomes


def test_a_client_sees_that_its_files_changed(certificates: Any) -> None:
    client = ClientSecurity.from_env(certificates.client("mutual"))
    before = client.stamp()
    assert client.stamp() == before
    certificates.add("client", names=("client",))
    assert client.stamp() != before


async def test_no_key_is_in_the_log_or_in_a_description(certificates: Any, lines: Any) -> None:
    environment = certificates.server("mutual") | certificates.client("mutual")
    settings = ServerSettings.from_env(environment)
    async with member(environment) as server:
        await predict(server, ClientSecurity.from_env(environment))
        await refusal(server, ClientSecurity())
    identity = settings.security.check()
    told = json.dumps(lines()) + repr(settings) + repr(identity)
    (listening,) = [line for line in lines() if line["message"] == "listening"]
    assert (listening["tls"], listening["certificate_ends"][:2]) == ("mutual", "20")
    for name in ("server", "client"):
        secret = certificates.path(f"{name}.key").read_text().splitlines()[1]
        assert secret not in told
    assert "PRIVATE" not in told


# --- arguments of a client -----------------------------------------------------------------------


def test_arguments_of_a_client_are_checked(certificates: Any) -> None:
    ca, certificate = certificates.path("ca.crt"), certificates.path("client.crt")
    for arguments, says in (
        ({"ca_file": "absent.crt"}, "ca_file names absent.crt"),
        ({"certificate_file": certificate}, "without ca_file"),
        ({"ca_file": ca, "certificate_file": certificate}, "both or none"),
        ({"ca_file": ca, "key_file": certificates.path("client.key")}, "both or none"),
        ({"ca_file": ca, "security": ClientSecurity()}, "given twice"),
        ({"token": "two words"}, "not a token"),
        ({"token": ""}, "not a token"),
        ({"token": "x" * 1025}, "not a token"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            SegmenterClient("127.0.0.1:1", **arguments)


def test_a_token_does_not_leave_the_machine_in_the_clear(certificates: Any) -> None:
    with pytest.raises(ConfigurationError, match="in the clear") as caught:
        SegmenterClient("zoo:1", token="secret-token")
    assert "secret-token" not in str(caught.value)
    for target, more in (
        ("localhost:1", {}),
        ("zoo:1", {"plain_token": True}),
        ("zoo:1", {"ca_file": certificates.path("ca.crt")}),
        ("zoo:1", {"credentials": grpc.ssl_channel_credentials()}),
    ):
        SegmenterClient(target, token="secret-token", **more).close()


def test_the_token_of_a_client_from_its_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert security.token_from_env({}) is None
    assert security.token_from_env({"SPINEZOO_TOKEN": " xyz "}) == "xyz"
    assert security.token_from_env({"SPINEZOO_TOKEN_FILE": str(tmp_path / "token")}) == "abc"
    with pytest.raises(ConfigurationError, match=r"SPINEZOO_TOKEN_FILE names .* cannot be read"):
        security.token_from_env({"SPINEZOO_TOKEN_FILE": str(tmp_path / "absent")})
    (tmp_path / "token").write_text("abc def")
    with pytest.raises(ConfigurationError, match="SPINEZOO_TOKEN_FILE is not a token"):
        security.token_from_env({"SPINEZOO_TOKEN_FILE": str(tmp_path / "token")})


# --- health --------------------------------------------------------------------------------------


async def health_command(
    patch: pytest.MonkeyPatch, capsys: Any, environment: dict[str, str], *arguments: str
) -> tuple[int, str]:
    for name in ("SPINEZOO_TLS", "SPINEZOO_CLIENT_TLS"):
        for ending in ("", "_CERT", "_KEY", "_CA"):
            patch.delenv(name + ending, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    code = await asyncio.to_thread(health.main, list(arguments))
    (line,) = capsys.readouterr().out.splitlines()
    return code, line


@pytest.mark.parametrize("calls", [None, "off", "server", "mutual"])
@pytest.mark.parametrize("mode", ["off", "server", "mutual"])
async def test_health_of_the_own_server(
    certificates: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, mode: str, calls: str | None
) -> None:
    """However the process calls others, such as a gateway its members."""
    # A name that is not the loopback address, as certificates of a real authority have.
    certificates.add("server", names=("pspnet.hospital",))
    environment = certificates.server(mode)
    if mode == "server":
        del environment["SPINEZOO_TLS_CA"]
    async with member(environment) as server:
        own = environment | {"SPINEZOO_GRPC_PORT": str(server.port), "SPINEZOO_HOST": "0.0.0.0"}
        if calls:
            own |= certificates.client(calls)
        asked = health_command(monkeypatch, capsys, own)
        assert await asked == (0, f"127.0.0.1:{server.port} SERVING")
        named = ("--service", "spinezoo.v1.SegmenterService")
        assert (await health_command(monkeypatch, capsys, own, *named))[0] == 0
        code, line = await health_command(monkeypatch, capsys, own, "--service", "x.Y")
        assert (code, "no such service" in line) == (1, True)


async def test_health_of_another_server(
    certificates: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    async with member(certificates.server("mutual")) as server:
        target = ("--target", f"127.0.0.1:{server.port}")
        environment = certificates.client("mutual")
        assert (await health_command(monkeypatch, capsys, environment, *target))[0] == 0
        code, line = await health_command(monkeypatch, capsys, {}, *target)
        assert (code, "NotServingError" in line) == (1, True)
        server.state.move(type(server.state.phase).DRAINING)
        asked = await health_command(monkeypatch, capsys, environment, *target)
        assert asked == (1, f"127.0.0.1:{server.port} NOT_SERVING")


async def test_health_of_nobody_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("SPINEZOO_GRPC_PORT", raising=False)
    code, line = await health_command(monkeypatch, capsys, {})
    assert (code, "SPINEZOO_GRPC_PORT" in line) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    arguments = ("--target", f"127.0.0.1:{port}", "--timeout-s", "5")
    code, line = await health_command(monkeypatch, capsys, {}, *arguments)
    assert (code, "is the server running" in line) == (1, True)


def test_errors_of_other_servers_have_a_name() -> None:
    class Refused(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAUTHENTICATED

        def details(self) -> str:
            return "no"

        def trailing_metadata(self) -> tuple:
            return ()

    error = from_rpc_error(Refused())
    assert isinstance(error, SpineZooError)
    assert type(error).__name__ == "AccessError"
