"""HTTP endpoints of gateway and evaluator: ``/livez``, ``/readyz``, ``/metrics``, and their own.

Members have BentoML's HTTP endpoints instead; both answer from the same :class:`ServingState`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.tls import TlsMode
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from spinezoo_serving.metrics import CONTENT_TYPE, ServerMetrics
from spinezoo_serving.security import Renewed, ServerSecurity
from spinezoo_serving.settings import host_port
from spinezoo_serving.state import ServingState

log = logging.getLogger("spinezoo.http")

SETTINGS = "SPINEZOO_HOST and SPINEZOO_HTTP_PORT"
"""What says where a process answers HTTP."""

FIRST_BYTE_S = 10.0
"""Time a connection has to say its first byte, in s."""

SILENT_S = 60.0
"""A connection on which nothing moves that long though it is the caller's turn, to ask or to take
an answer, is closed at the next look, in s between two looks."""

MOST_CONNECTIONS = 512
"""Connections that are open at a time; further callers wait. Files, members and decoders need the
rest of the 1024 descriptors that a process mostly has."""

FULL_S = 0.1
"""Between two looks for room for a connection, in s."""

_TLS_HANDSHAKE = b"\x16"
"""First byte of every connection that speaks TLS."""


def make_app(
    state: ServingState,
    metrics: ServerMetrics,
    routes: Sequence[BaseRoute] = (),
    *,
    trouble: Callable[[], str] = lambda: "",
) -> Starlette:
    """The application: the three endpoints, and routes of the process's own.

    Args:
        state: Whether the process serves.
        metrics: What ``/metrics`` says.
        routes: The process's own.
        trouble: What keeps a process that serves from its work, by name; empty is nothing. Asked
            in a thread each time that ``/readyz`` is.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse(state.phase.value, 200 if state.alive else 503)

    async def readyz(_: Request) -> Response:
        if not state.ready:
            return PlainTextResponse(state.phase.value, 503)
        name = await asyncio.to_thread(trouble)
        return PlainTextResponse(name or state.phase.value, 503 if name else 200)

    async def metrics_text(_: Request) -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    every = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics_text),
        *routes,
    ]
    app = Starlette(routes=every, exception_handlers={HTTPException: _named_refusal(every)})
    # A redirection is an empty answer to a caller that does not follow it.
    app.router.redirect_slashes = False
    return app


def _named_refusal(routes: Sequence[BaseRoute]) -> Callable[[Request, Exception], Response]:
    """What a caller is told who asks for what there is not."""
    known = ", ".join(sorted({route.path for route in routes if isinstance(route, Route)}))

    def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = f"there is nothing at this address; there are {known}"
        if error.status_code == 405:
            text = f"this address takes no {request.method}"
        return PlainTextResponse(text, error.status_code, headers=error.headers)

    return refuse


def bind(host: str, port: int, settings: str = SETTINGS) -> socket.socket:
    """A listening socket.

    Args:
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        settings: What says both, for the message.

    Raises:
        ConfigurationError: The port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two may bind one port as long as neither listens; only this settles whose it is.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host_port(host, port)} ({error.strerror}); stop what uses the "
            f"port, or set {settings}"
        ) from error
    return listener


class _Connection(H11Protocol):
    """One connection, closed when nothing moves on it.

    uvicorn itself waits for ever for a first request, and for whoever asked to take the answer,
    which is memory of the process until then.
    """

    _seen: tuple[Any, int] | None = None
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open."""
        super().connection_made(transport)
        self._look = self.loop.call_later(SILENT_S, self._look_at_it)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_at_it(self) -> None:
        to_take = self.transport.get_write_buffer_size()
        answered = self.cycle is None or self.cycle.response_complete
        now = (self.cycle, to_take)
        if now == self._seen and (answered or to_take):
            self.transport.abort()
            return
        self._seen = now
        self._look = self.loop.call_later(SILENT_S, self._look_at_it)


class _QuietServer(uvicorn.Server):
    """Leaves the signals to whoever runs the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    def protocol(self) -> Any:
        """What talks to one connection that was accepted elsewhere."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _server(app: Any) -> _QuietServer:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # A proxy in front may say whatever it likes: nothing here goes by the caller's address.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    return _QuietServer(config)


class HttpEndpoint:
    """An HTTP server in the running event loop.

    With TLS one port speaks both: what begins with a handshake gets the application, what does not
    gets ``plain``, such as the three endpoints that probes and Prometheus ask. Certificates are
    read again when their files have changed.

    Args:
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        app: What to serve, such as :func:`make_app` gives.
        security: TLS of the process; None, or TLS off, serves the application in the clear.
        plain: What callers without TLS get where TLS is on.
        settings: What says host and port, for messages.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: Starlette,
        *,
        security: ServerSecurity | None = None,
        plain: Starlette | None = None,
        settings: str = SETTINGS,
    ) -> None:
        self._host = host
        self._settings = settings
        self._asked_port = port
        self._port = 0
        self._security = security if security and security.tls is not TlsMode.OFF else None
        self._servers = [_server(app)]
        if self._security is not None and plain is not None:
            self._servers.append(_server(plain))
        self._tasks: list[asyncio.Task[None]] = []
        self._greetings: set[asyncio.Task[None]] = set()
        self._context: Renewed[ssl.SSLContext] | None = None

    @property
    def port(self) -> int:
        """The port that is bound; 0 before the start."""
        return self._port

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self._security is None else "https"

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            ConfigurationError: The port is taken, or a certificate is wrong.
        """
        if self._security is not None:
            self._context = Renewed(self._security.context, self._security.stamp)
        listener = bind(self._host, self._asked_port, self._settings)
        self._port = listener.getsockname()[1]
        for server in self._servers:
            self._tasks.append(asyncio.create_task(server.serve(sockets=[])))
        for server, task in zip(self._servers, tuple(self._tasks), strict=True):
            while not server.started:
                if task.done():
                    await task
                    raise ConfigurationError(
                        "the HTTP endpoint ended while it started; see the log"
                    )
                await asyncio.sleep(0.01)
        listener.setblocking(False)
        self._tasks.append(asyncio.create_task(self._accept(listener)))
        fields = {"endpoint": self.scheme, "host": self._host, "port": self._port}
        log.info("listening", extra={"fields": fields})

    async def stop(self) -> None:
        """Answers what is in flight, at most 5 s long, and stops."""
        for server in self._servers:
            server.should_exit = True
        for task in (*self._tasks[len(self._servers) :], *self._greetings):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._greetings, return_exceptions=True)
        self._tasks.clear()

    @property
    def _open(self) -> int:
        """Connections that are open."""
        served = sum(len(server.server_state.connections) for server in self._servers)
        return served + len(self._greetings)

    async def _accept(self, listener: socket.socket) -> None:
        """Takes connections, for uvicorn.

        Its own way logs thousands of lines a second while there are no descriptors left.
        """
        loop = asyncio.get_running_loop()
        named = False
        with listener:
            while True:
                if self._open >= MOST_CONNECTIONS:
                    if not named:
                        log.warning("%d connections are open: others wait", self._open)
                    named = True
                    await asyncio.sleep(FULL_S)
                    continue
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # Out of file descriptors, mostly: those in use come back.
                    if not named:
                        log.error("connections are not taken: %s", error.strerror)
                    named = True
                    await asyncio.sleep(FULL_S)
                    continue
                named = named and self._open > MOST_CONNECTIONS // 2
                task = asyncio.create_task(self._greet(connection))
                self._greetings.add(task)
                task.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        """Gives a connection to the server that it speaks to by its first byte."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(FIRST_BYTE_S):
                first = await _first_byte(connection)
            if first and self._context is None:
                await loop.connect_accepted_socket(self._servers[0].protocol, connection)
            elif first == _TLS_HANDSHAKE:
                assert self._context is not None
                await loop.connect_accepted_socket(
                    self._servers[0].protocol, connection, ssl=self._context.current()
                )
            elif first and len(self._servers) > 1:
                await loop.connect_accepted_socket(self._servers[1].protocol, connection)
            else:
                connection.close()
        except (OSError, TimeoutError):
            # Gone, silent, or no handshake that both ends understand.
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte of a connection, which stays there to be read; empty: it was closed."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        while True:
            try:
                return connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                ready.clear()
                await ready.wait()
    finally:
        loop.remove_reader(connection)
