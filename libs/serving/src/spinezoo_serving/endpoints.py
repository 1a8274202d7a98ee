"""HTTP endpoints of gateway and evaluator: ``/livez``, ``/readyz``, ``/metrics``.

Members have BentoML's HTTP endpoints instead; both answer from the same :class:`ServingState`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from spinezoo_contract.errors import ConfigurationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from spinezoo_serving.metrics import CONTENT_TYPE, ServerMetrics
from spinezoo_serving.state import ServingState

log = logging.getLogger("spinezoo.http")


def make_app(
    state: ServingState, metrics: ServerMetrics, routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application: the three endpoints, and routes of the process's own."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse(state.phase.value, 200 if state.alive else 503)

    async def readyz(_: Request) -> Response:
        return PlainTextResponse(state.phase.value, 200 if state.ready else 503)

    async def metrics_text(_: Request) -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics_text),
            *routes,
        ]
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

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
            f"cannot listen on {host}:{port} ({error.strerror}); stop what uses the port, or set "
            "SPINEZOO_HOST and SPINEZOO_HTTP_PORT"
        ) from error
    return listener


class _QuietServer(uvicorn.Server):
    """Leaves the signals to whoever runs the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class HttpEndpoint:
    """An HTTP server in the running event loop.

    Args:
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        app: What to serve, such as :func:`make_app` gives.
    """

    def __init__(self, host: str, port: int, app: Starlette) -> None:
        self._host = host
        self._asked_port = port
        self._port = 0
        config = uvicorn.Config(
            app,
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is bound; 0 before the start."""
        return self._port

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            ConfigurationError: The port is taken.
        """
        listener = bind(self._host, self._asked_port)
        self._port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise ConfigurationError("the HTTP endpoint ended while it started; see the log")
            await asyncio.sleep(0.01)
        log.info(
            "listening",
            extra={"fields": {"endpoint": "http", "host": self._host, "port": self._port}},
        )

    async def stop(self) -> None:
        """Answers what is in flight, at most 5 s long, and stops."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None
