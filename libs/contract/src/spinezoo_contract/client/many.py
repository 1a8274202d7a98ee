"""Many films: so many at once, answers in the order of the films, a failure loses its own alone.

Films are taken from their source as they are needed, so that a generator may read a hospital's
archive: no more than twice as many as are asked about at once are held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from spinezoo_contract.errors import OptionError, SpineZooError

DEFAULT_AT_ONCE = 4
"""Films under way at once: enough that no member waits for the next film to come."""

_Film = TypeVar("_Film")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[_Answer]):
    """What became of one film of many.

    Attributes:
        place: The film's place in its source, from 0.
        answer: The answer; None where the call failed.
        error: Why it failed; None where there is an answer.
    """

    place: int
    answer: _Answer | None
    error: SpineZooError | None

    def get(self) -> _Answer:
        """The answer.

        Raises:
            SpineZooError: The call failed.
        """
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


def check_at_once(at_once: int) -> None:
    """Checks a number of films.

    Raises:
        OptionError: Less than 1.
    """
    if at_once < 1:
        raise OptionError(f"at_once is {at_once}; ask about 1 film at once or more")


def in_order(
    films: Iterable[_Film],
    ask: Callable[[_Film], _Answer],
    at_once: int,
    cancel: Callable[[], None],
) -> Iterator[Outcome[_Answer]]:
    """Asks about films in threads, and gives what became of them in their order.

    Args:
        films: Taken one by one, in the caller's thread.
        ask: Asks about one.
        at_once: Threads.
        cancel: Ends the calls under way, where the caller leaves early.
    """

    def outcome(place: int, film: _Film) -> Outcome[_Answer]:
        try:
            return Outcome(place, ask(film), None)
        except SpineZooError as error:
            return Outcome(place, None, error)

    waiting: deque[Future[Outcome[_Answer]]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="films")
    try:
        for place, film in enumerate(films):
            waiting.append(pool.submit(outcome, place, film))
            if len(waiting) == 2 * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        cancel()
        pool.shutdown(wait=True)


async def in_order_async(
    films: Iterable[_Film], ask: Callable[[_Film], Awaitable[_Answer]], at_once: int
) -> AsyncGenerator[Outcome[_Answer], None]:
    """The asyncio twin of :func:`in_order`; calls under way end with the loop over the answers."""
    places = asyncio.Semaphore(at_once)

    async def outcome(place: int, film: _Film) -> Outcome[_Answer]:
        async with places:
            try:
                return Outcome(place, await ask(film), None)
            except SpineZooError as error:
                return Outcome(place, None, error)

    waiting: deque[asyncio.Task[Outcome[_Answer]]] = deque()
    try:
        for place, film in enumerate(films):
            waiting.append(asyncio.create_task(outcome(place, film)))
            if len(waiting) == 2 * at_once:
                yield await waiting[0]
                waiting.popleft()
        while waiting:
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        for task in waiting:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
