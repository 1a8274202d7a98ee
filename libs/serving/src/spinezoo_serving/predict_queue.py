"""A bounded queue in front of the one thread that runs a network."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from spinezoo_contract.errors import DeadlineError, QueueFullError

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics

_T = TypeVar("_T")


class _Place:
    """A place in a :class:`PredictQueue`, from being let in until the answer or failure."""

    def __init__(self, queue: PredictQueue) -> None:
        self._queue = queue

    def __enter__(self) -> _Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue._leave(self)

    async def run(self, work: Callable[[], _T], *, deadline: float | None) -> tuple[_T, float]:
        """Waits for the network and runs the work on its thread.

        Cancelling this coroutine while the work still waits means that it is never run.

        Args:
            work: The work.
            deadline: ``time.monotonic()`` by which the work has to start, or None.

        Returns:
            What the work returned, and the time it waited, in ms.

        Raises:
            DeadlineError: The deadline passed while the work waited; it was not run.
        """
        asked = time.monotonic()

        def guarded() -> tuple[_T, float]:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise DeadlineError("the deadline passed while the request waited in the queue")
            self._queue._start(self)
            try:
                return work(), (now - asked) * 1000.0
            finally:
                # Here, not when the caller returns: a caller that gave up must not free the
                # place of a network that is still busy.
                self._queue._finish()

        return await asyncio.wrap_future(self._queue._executor.submit(guarded))


class PredictQueue:
    """A bounded queue in front of one worker thread, shared by the gRPC and the HTTP endpoint.

    Args:
        limit: Requests that may wait beside the one that runs.
        metrics: Where the number of waiting requests is shown.
    """

    def __init__(self, limit: int, metrics: ServerMetrics | None = None) -> None:
        self._limit = limit
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: set[_Place] = set()
        self._running = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def length(self) -> int:
        """Requests that wait, those whose film is still being read among them."""
        return len(self._waiting)

    def admit(self) -> _Place:
        """A place, to be used in a ``with`` block.

        Raises:
            QueueFullError: As many requests wait as may.
        """
        place = _Place(self)
        with self._lock:
            if len(self._waiting) + self._running >= self._limit + 1:
                raise QueueFullError(
                    f"{len(self._waiting)} requests wait, the limit is {self._limit} "
                    "(SPINEZOO_QUEUE_LIMIT); try again later or ask another"
                )
            self._waiting.add(place)
            self._show()
        return place

    async def call(self, work: Callable[[], _T]) -> _T:
        """Runs work on the network's thread outside of the limit, such as loading it."""
        return await asyncio.wrap_future(self._executor.submit(work))

    def close(self) -> None:
        """Lets the running work finish and drops what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _show(self) -> None:
        if self._metrics is not None:
            self._metrics.queue_length(len(self._waiting))

    def _start(self, place: _Place) -> None:
        with self._lock:
            self._waiting.discard(place)
            self._running += 1
            self._show()

    def _finish(self) -> None:
        with self._lock:
            self._running -= 1

    def _leave(self, place: _Place) -> None:
        with self._lock:
            self._waiting.discard(place)
            self._show()
