"""Asyncio servers beside blocking tests: an event loop in a thread, and waiting for a fact."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from spinezoo_serving.server import GrpcServer

T = TypeVar("T")


class Loop:
    """An event loop on a thread of its own, where servers live."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30.0) -> T:
        """Runs a coroutine there and waits for what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        """Ends the loop and its thread."""
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


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Waits for a condition; whether it came true."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
