"""Whether a process serves: one state, and gRPC health over it.

Readiness over gRPC (``grpc.health.v1``) and over HTTP (``/readyz``, ``/livez``) both answer from
one :class:`ServingState`, so they never disagree.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

log = logging.getLogger("spinezoo.server")


class Phase(enum.Enum):
    """Where a process is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"


class ServingState:
    """Whether the process serves: the one truth behind health, ``/readyz`` and ``/livez``.

    Moves only forward: loading, serving, draining; or failed. Used from the event loop.
    """

    def __init__(self) -> None:
        self._phase = Phase.LOADING
        self._watchers: set[asyncio.Event] = set()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._phase is Phase.SERVING

    @property
    def alive(self) -> bool:
        """Whether the process is of any use: not so once loading has failed."""
        return self._phase is not Phase.FAILED

    def move(self, phase: Phase) -> None:
        """Moves on to a phase and wakes who watches; a step back is ignored."""
        order = (Phase.LOADING, Phase.SERVING, Phase.DRAINING, Phase.FAILED)
        if order.index(phase) <= order.index(self._phase):
            return
        self._phase = phase
        log.info("phase", extra={"fields": {"phase": phase.value}})
        for event in self._watchers:
            event.set()

    async def changes(self) -> AsyncIterator[Phase]:
        """The phase now and after every change."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            while True:
                event.clear()
                yield self._phase
                await event.wait()
        finally:
            self._watchers.discard(event)


class HealthServicer(health_pb2_grpc.HealthServicer):
    """``grpc.health.v1`` over a :class:`ServingState`."""

    def __init__(self, state: ServingState, service_names: Sequence[str]) -> None:
        self._state = state
        self._names = frozenset(("", *service_names))
        self.closing = asyncio.Event()

    def _status(self) -> Any:
        answers = health_pb2.HealthCheckResponse
        return answers.SERVING if self._state.ready else answers.NOT_SERVING

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the server serves now."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return health_pb2.HealthCheckResponse(status=self._status())

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Whether the server serves now and after every change."""
        answers = health_pb2.HealthCheckResponse
        if request.service not in self._names:
            # The protocol keeps the stream open: the service might appear later.
            await context.write(answers(status=answers.SERVICE_UNKNOWN))
            await self.closing.wait()
            return
        sender = asyncio.create_task(self._send_changes(context))
        closing = asyncio.create_task(self.closing.wait())
        try:
            # Watches end with the server; otherwise they would hold up its draining.
            await asyncio.wait({sender, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, closing):
                task.cancel()
            await asyncio.gather(sender, closing, return_exceptions=True)

    async def _send_changes(self, context: Any) -> None:
        last = None
        async for _ in self._state.changes():
            now = self._status()
            if now != last:
                await context.write(health_pb2.HealthCheckResponse(status=now))
                last = now
