from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from spinezoo_evaluator.serve import make_server
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings


class Loop:
    """An event loop in a thread, for servers that tests call from outside."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine, timeout_s=30.0):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@contextmanager
def serving(make: Callable[[], GrpcServer]) -> Iterator[str]:
    """Runs a server in a thread of its own; gives its address."""
    loop = Loop()

    async def start() -> GrpcServer:
        server = make()
        await server.start()
        return server

    server = loop.run(start())
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        loop.run(server.stop(0.0))
        loop.close()


@pytest.fixture(scope="session")
def evaluator_target() -> Iterator[str]:
    with serving(lambda: make_server(ServerSettings())) as target:
        yield target
