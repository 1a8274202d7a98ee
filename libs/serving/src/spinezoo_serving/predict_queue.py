"""A bounded queue in front of the threads that run a network, one film or several at a time.

Batches are for GPUs, which take eight films in little more than the time of one. They grow with the
load by themselves: what waits while the network runs goes in together next. The network waits for
more only where somebody is already on the way, and never longer than it is told. A limit of 1 is
the plain queue.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from spinezoo_contract.errors import DeadlineError, InvalidOutputError, QueueFullError
from spinezoo_contract.words import are, counted

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics

_T = TypeVar("_T")
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")

_WAITED = (
    "the deadline passed while the request waited in the queue; give it more time or ask another"
)


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

    async def run(self, work: Callable[[float], _T], *, deadline: float | None) -> _T:
        """Waits for the network and runs the work on one of its threads.

        Cancelling this coroutine while the work still waits means that it is never run.

        Args:
            work: The work; gets the time that it waited, in ms.
            deadline: ``time.monotonic()`` by which the work has to start, or None.

        Returns:
            What the work returned.

        Raises:
            DeadlineError: The deadline passed while the work waited; it was not run.
        """
        asked = time.monotonic()

        def guarded() -> _T:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise DeadlineError(_WAITED)
            self._queue._start(self)
            try:
                return work((now - asked) * 1000.0)
            finally:
                # Here, not when the caller returns: a caller that gave up must not free the
                # place of a network that is still busy.
                self._queue._finish()

        return await asyncio.wrap_future(self._queue._executor.submit(guarded))


@dataclass(slots=True, eq=False)
class _Waiting(Generic[_Asked, _Answer]):
    """A question that waits to go into a batch.

    Attributes:
        place: Its place in the queue.
        asked: The question.
        deadline: ``time.monotonic()`` by which its batch has to start, or None.
        since: When it came.
        future: Gets the answer, and the time it waited, in ms.
    """

    place: _Place
    asked: _Asked
    deadline: float | None
    since: float
    future: Future[tuple[_Answer, float]] = field(default_factory=Future)


class Batches(Generic[_Asked, _Answer]):
    """Questions to one network, put together as they wait.

    Args:
        queue: Whose thread answers.
        answer: Answers some questions at once, one answer each. Where it fails for several, each is
            asked alone, so that one wrong film fails by itself.
        most: Questions in a batch.
        wait_s: Longest that a question waits for others which are on the way, in s.
    """

    def __init__(
        self,
        queue: PredictQueue,
        answer: Callable[[Sequence[_Asked]], Sequence[_Answer]],
        *,
        most: int,
        wait_s: float,
    ) -> None:
        self._queue = queue
        self._answer = answer
        self._most = most
        self._wait_s = wait_s
        self._questions: deque[_Waiting[_Asked, _Answer]] = deque()
        self._came = threading.Condition()

    async def ask(
        self, place: Any, asked: _Asked, *, deadline: float | None
    ) -> tuple[_Answer, float]:
        """Waits for the network and asks it, with others where others wait.

        Args:
            place: Of :meth:`PredictQueue.admit`.
            asked: The question.
            deadline: ``time.monotonic()`` by which the network has to start, or None.

        Returns:
            The answer, and the time it waited, in ms.

        Raises:
            DeadlineError: The deadline passed while the question waited.
        """
        waiting: _Waiting[_Asked, _Answer] = _Waiting(place, asked, deadline, time.monotonic())
        with self._came:
            self._questions.append(waiting)
            self._came.notify()
        # Each question brings a turn of the thread; one whose question went along finds nothing.
        self._queue._executor.submit(self._turn)
        return await asyncio.wrap_future(waiting.future)

    def _turn(self) -> None:
        batch = self._gather()
        if not batch:
            return
        now = time.monotonic()
        waited_ms = [(now - each.since) * 1000.0 for each in batch]
        try:
            for each, answer, ms in zip(batch, self._answers(batch), waited_ms, strict=True):
                if isinstance(answer, BaseException):
                    each.future.set_exception(answer)
                else:
                    each.future.set_result((answer, ms))
        finally:
            for _ in batch:
                self._queue._finish()

    def _answers(
        self, batch: Sequence[_Waiting[_Asked, _Answer]]
    ) -> Sequence[_Answer | BaseException]:
        asked = [each.asked for each in batch]
        try:
            answers = self._answer(asked)
            if len(answers) == len(asked):
                return answers
            return [InvalidOutputError("the network lost a film of a batch; check it")] * len(asked)
        except Exception as error:
            if len(asked) == 1:
                return [error]
        return [answer for each in batch for answer in self._answers([each])]

    def _gather(self) -> list[_Waiting[_Asked, _Answer]]:
        """The questions of the next batch, each of which may still start."""
        batch: list[_Waiting[_Asked, _Answer]] = []
        while len(batch) < self._most:
            with self._came:
                if not self._questions:
                    if not batch or not self._others_come(batch):
                        break
                    left_s = batch[0].since + self._wait_s - time.monotonic()
                    if left_s <= 0.0 or not self._came.wait(left_s):
                        break
                    continue
                waiting = self._questions.popleft()
            if not waiting.future.set_running_or_notify_cancel():
                continue
            if waiting.deadline is not None and time.monotonic() >= waiting.deadline:
                waiting.future.set_exception(DeadlineError(_WAITED))
                continue
            self._queue._start(waiting.place)
            batch.append(waiting)
        return batch

    def _others_come(self, batch: Sequence[_Waiting[_Asked, _Answer]]) -> bool:
        """Whether films are being read whose questions are not here yet, and may be waited for.

        Nobody waits whose deadline is near: what is left of it is for the network.
        """
        soon = time.monotonic() + 10.0 * self._wait_s
        hurried = any(each.deadline is not None and each.deadline < soon for each in batch)
        return self._queue.length > 0 and not hurried


class PredictQueue:
    """A bounded queue in front of a network's threads, shared by the gRPC and the HTTP endpoint.

    It has one thread until :meth:`widen` is called.

    Args:
        limit: Requests that may wait beside those that run.
        metrics: Where the number of waiting requests is shown.
    """

    def __init__(self, limit: int, metrics: ServerMetrics | None = None) -> None:
        self._limit = limit
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: set[_Place] = set()
        self._running = 0
        self._threads = 1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")
        if metrics is not None:
            metrics.queue_limit(limit)

    @property
    def length(self) -> int:
        """Requests that wait, those whose film is still being read among them."""
        return len(self._waiting)

    @property
    def capacity(self) -> int:
        """Requests that may wait and run."""
        return self._limit + self._threads

    def admit(self) -> _Place:
        """A place, to be used in a ``with`` block.

        Raises:
            QueueFullError: As many requests wait as may.
        """
        place = _Place(self)
        with self._lock:
            if len(self._waiting) + self._running >= self.capacity:
                waiting = len(self._waiting)
                raise QueueFullError(
                    f"{counted(waiting, 'request')} {are(waiting)} waiting and {self._running} "
                    f"running, the limit is {self.capacity} together (SPINEZOO_QUEUE_LIMIT and the "
                    "network's threads); try again later or ask another"
                )
            self._waiting.add(place)
            self._show()
        return place

    def widen(self, threads: int) -> None:
        """Lets so many requests run at a time; to be called before the first is let in."""
        if threads == self._threads:
            return
        self._executor.shutdown(wait=False)
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="network")

    async def call(self, work: Callable[[], _T]) -> _T:
        """Runs work on a network's thread outside of the limit, such as loading it."""
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
