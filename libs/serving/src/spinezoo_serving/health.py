"""Asks a server's gRPC health: ``python -m spinezoo_serving.health`` (extra ``server``).

Prints one line and ends with 0 when the server serves, with 1 otherwise: what a container's health
check runs. Without ``--target`` it asks the server of its own container, at ``SPINEZOO_GRPC_PORT``.
The server of its own container it asks as that server speaks, whatever ``SPINEZOO_CLIENT_TLS`` says
of calls to others. It trusts that server's certificate alone and shows the same one; the caller's
where both are ``mutual``. Another server it asks with ``SPINEZOO_CLIENT_TLS*`` where those are set.
"""

# ruff: noqa: T201 - a command: its one line goes to the terminal.
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import grpc
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.status import from_rpc_error
from spinezoo_contract.tls import ClientSecurity, TlsMode

from spinezoo_serving.security import ServerSecurity
from spinezoo_serving.settings import ServerSettings, host_port

DEFAULT_TIMEOUT_S = 5.0
"""Time that the answer has, in s."""


def own_server(environment: Mapping[str, str]) -> tuple[str, ClientSecurity, str | None]:
    """Target of the server of this container, how to speak to it, and its name.

    Raises:
        ConfigurationError: A setting is wrong, or none names the port.
    """
    settings = ServerSettings.from_env(environment)
    if settings.grpc_port == 0:
        raise ConfigurationError(
            "no --target, and SPINEZOO_GRPC_PORT names no port; give one of them"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    target = host_port(host, settings.grpc_port)
    served = settings.security
    if served.tls is TlsMode.OFF:
        return target, ClientSecurity(), None
    certificate, key = served.certificate, served.key
    if served.tls is TlsMode.MUTUAL and environment.get("SPINEZOO_CLIENT_TLS", "").strip():
        calls = ClientSecurity.from_env(environment)
        if calls.tls is TlsMode.MUTUAL:
            certificate, key = calls.certificate, calls.key
    # The server's own certificate is all that is trusted: nobody else can answer in its place,
    # and its authority is not needed.
    security = ClientSecurity(served.tls, served.certificate, certificate, key)
    return target, security, _own_name(served)


def _own_name(served: ServerSecurity) -> str | None:
    """A name that the own certificate holds; it need not hold the loopback address."""
    identity = served.check()
    return identity.names[0] if identity is not None and identity.names else None


def ask(
    target: str,
    security: ClientSecurity,
    *,
    service: str = "",
    server_name: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> str:
    """What a server says of its health, such as ``SERVING``.

    Raises:
        ConfigurationError: A certificate file is wrong.
        SpineZooError: It gave no answer.
    """
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with security.channel(target, [("grpc.enable_http_proxy", 0)], server_name) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when the server serves, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_serving.health", description="Ask a server's gRPC health."
    )
    parser.add_argument("--target", help="host:port (default: the server of this container)")
    parser.add_argument("--service", default="", help="full name of a service (default: any)")
    parser.add_argument("--server-name", help="name in the server's certificate")
    parser.add_argument("--timeout-s", type=float, default=DEFAULT_TIMEOUT_S, help="in s")
    options = parser.parse_args(argv)
    if not 0.0 < options.timeout_s <= 3600.0:
        parser.error("--timeout-s must be greater than 0 and at most 3600")
    target = options.target or "own server"
    try:
        if options.target:
            security, name = ClientSecurity.from_env(os.environ), None
        else:
            target, security, name = own_server(os.environ)
        said = ask(
            target,
            security,
            service=options.service,
            server_name=options.server_name or name,
            timeout_s=options.timeout_s,
        )
    except SpineZooError as error:
        said = f"{type(error).__name__}: {error}"
    print(f"{target} {' '.join(said.split())}")
    return 0 if said == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
