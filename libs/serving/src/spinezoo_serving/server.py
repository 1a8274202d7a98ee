"""The gRPC server that members, gateway and evaluator share.

:class:`GrpcServer` brings what every process needs: health (Check and Watch), reflection, message
limits, draining, and around each call what :mod:`spinezoo_serving.calls` does.
:func:`run_forever` runs one with its HTTP endpoints until the process is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from spinezoo_contract.errors import ConfigurationError

from spinezoo_serving.calls import Places, ShellInterceptor
from spinezoo_serving.settings import ServerSettings, host_port
from spinezoo_serving.state import HealthServicer, Phase, ServingState
from spinezoo_serving.stopping import STOP_SIGNALS, stop_requests

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics
    from spinezoo_serving.tokens import TokenFile

log = logging.getLogger("spinezoo.server")

DRAIN_NOTICE_SECONDS = 0.2
"""From saying NOT_SERVING to refusing new calls, in s: time for callers to turn elsewhere."""

QUIET_SECONDS = 0.2
"""Without a new call before the port is closed, in s: a call that meets the closing port is
cancelled by gRPC, one that comes before is refused by name and can be tried elsewhere."""

MOST_QUIET_SECONDS = 2.0
"""After which the port is closed although callers go on, in s."""


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """What both ends of a hop tell gRPC: message limits and keepalive."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def _try_to_bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)


class GrpcServer:
    """An asyncio gRPC server with all that a SpineZoo process needs.

    Methods of a servicer are coroutines (one answer) or asynchronous generators (a stream) and
    raise :mod:`spinezoo_contract.errors`; the shell turns those into statuses. Streamed requests
    are read with ``async for``.

    Args:
        settings: Address, limits, drain time.
        state: Shared with the HTTP endpoint; None makes one.
        metrics: Where to count; None counts nothing.
        tokens: Who may call; None lets everybody call.

    Attributes:
        calls: What all calls share, those over HTTP too: tokens, counts, and the calls in flight.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        state: ServingState | None = None,
        metrics: ServerMetrics | None = None,
        tokens: TokenFile | None = None,
    ) -> None:
        self.settings = settings
        self.state = state or ServingState()
        self.metrics = metrics
        self.tokens = tokens
        self._services: list[tuple[Callable[[Any, Any], None], Any, str]] = []
        self._server: grpc.aio.Server | None = None
        self._health: HealthServicer | None = None
        self.calls = ShellInterceptor(settings.max_message_bytes, metrics, tokens)
        self._port = 0

    def add(
        self,
        register: Callable[[Any, Any], None],
        servicer: Any,
        full_name: str,
        films: Mapping[str, Places] | None = None,
    ) -> None:
        """Adds a service before the start.

        Args:
            register: The generated ``add_<Name>Servicer_to_server``.
            servicer: The implementation.
            full_name: Full name of the service, such as ``spinezoo.v1.SegmenterService``.
            films: Methods that take one of so many places before a byte of their film is read.
        """
        for method, places in (films or {}).items():
            self.calls.places[f"/{full_name}/{method}"] = places
        self._services.append((register, servicer, full_name))

    @property
    def port(self) -> int:
        """The port that is bound; 0 before the start."""
        return self._port

    async def start(self, *, ready: bool = True) -> None:
        """Binds the port and serves.

        Args:
            ready: Whether health says SERVING at once; else ``state.move(Phase.SERVING)`` later.

        Raises:
            ConfigurationError: The port is taken, the address is not this machine's, or a
                certificate is wrong.
        """
        settings = self.settings
        security = settings.security
        identity = security.check()
        credentials = security.credentials()
        server = grpc.aio.server(
            interceptors=[self.calls],
            options=[
                *channel_options(settings.max_message_bytes),
                # A taken port is an error, not a lottery between two servers.
                ("grpc.so_reuseport", 0),
                # Clients may ask every 10 s whether the connection lives, also between calls.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        names = [full_name for _, _, full_name in self._services]
        for register, servicer, _ in self._services:
            register(servicer, server)
        health = HealthServicer(self.state, names)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(
            [*names, "grpc.health.v1.Health", reflection.SERVICE_NAME], server
        )
        address = host_port(settings.host, settings.grpc_port)
        try:
            # Tried with a plain socket first, because gRPC writes lines of its own when it fails.
            _try_to_bind(settings.host, settings.grpc_port)
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                # The only port: what does not speak TLS is not understood.
                port = server.add_secure_port(address, credentials)
        except (OSError, RuntimeError):
            port = 0
        if port == 0:
            raise ConfigurationError(
                f"cannot listen on {address}; stop what uses the port, or set SPINEZOO_HOST and "
                "SPINEZOO_GRPC_PORT"
            )
        await server.start()
        self._server, self._health = server, health
        self._port = port
        fields = {
            "endpoint": "grpc",
            "host": settings.host,
            "port": port,
            "tls": security.tls.value,
            "tokens": self.tokens is not None,
        }
        if identity is not None:
            fields["certificate_ends"] = identity.not_after.isoformat()
        log.info("listening", extra={"fields": fields})
        if ready:
            self.state.move(Phase.SERVING)

    async def stop(self, grace: float | None = None) -> bool:
        """Drains and stops: health first, then no new calls, then those in flight finish.

        Args:
            grace: Time for calls in flight, in s; None takes the settings'.

        Returns:
            Whether every call in flight was answered in time.
        """
        if self._server is None or self._health is None:
            self.state.move(Phase.DRAINING)
            return True
        server, self._server = self._server, None
        grace = self.settings.drain_s if grace is None else grace
        self.state.move(Phase.DRAINING)
        await asyncio.sleep(min(DRAIN_NOTICE_SECONDS, grace))
        self.calls.refusing = True
        finished = await self.calls.in_flight.wait_idle(grace)
        await self.calls.in_flight.wait_quiet(QUIET_SECONDS, min(grace, MOST_QUIET_SECONDS))
        self._health.closing.set()
        # Returns as soon as the last bytes are out and the watches have ended.
        await server.stop(min(grace, 5.0) if finished else 0.0)
        log.info("stopped", extra={"fields": {"endpoint": "grpc", "finished": finished}})
        return finished


class Endpoint(Protocol):
    """Something beside gRPC that starts and stops with the process."""

    async def start(self) -> None:
        """Starts to answer."""

    async def stop(self) -> None:
        """Stops to answer."""


async def run_forever(
    server: GrpcServer,
    *,
    endpoints: Sequence[Endpoint] = (),
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal stops at once.

    Args:
        server: The gRPC server, not yet started.
        endpoints: HTTP endpoints; they stay up while gRPC drains, so that ``/readyz`` can say so.
        on_start: Awaited before the state becomes serving.
        on_stop: Awaited last.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    asked, hurried = stop_requests()
    started: list[Endpoint] = []
    try:
        await server.start(ready=False)
        for endpoint in endpoints:
            await endpoint.start()
            started.append(endpoint)
        if on_start is not None:
            await on_start()
        server.state.move(Phase.SERVING)
        await asked.wait()
    finally:
        stop = asyncio.create_task(server.stop())
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait({stop, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, hurry):
            task.cancel()
        await asyncio.gather(stop, hurry, return_exceptions=True)
        for endpoint in reversed(started):
            await endpoint.stop()
        if on_stop is not None:
            await on_stop()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
