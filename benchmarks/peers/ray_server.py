"""The network behind Ray Serve: a replica a core, blocking work beside the event loop.

Both as its pages "Resource allocation" and "Asyncio and concurrency best practices" have it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from work import PORT, WORKERS, Work


@serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": 1})
class Peer:
    """One network."""

    def __init__(self) -> None:
        """Loads it, in each replica."""
        self.work = Work()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The answer to a film as the request's body."""
        return await asyncio.to_thread(self.work.answer, await request.body())


TRIES = 4
"""Ray gives its own processes 30 s to start, and a busy machine needs longer the first time."""


def start_ray() -> None:
    """Starts Ray on this machine.

    Raises:
        Exception: Its processes did not start in any of the tries.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            ray.init(include_dashboard=False, num_cpus=WORKERS, object_store_memory=200 << 20)
        except Exception:  # Ray raises nothing narrower
            if not left:
                raise
            ray.shutdown()
        else:
            return


if __name__ == "__main__":
    start_ray()
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Peer.bind(), route_prefix="/predict", blocking=True)
