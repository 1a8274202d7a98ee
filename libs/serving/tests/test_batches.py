"""Questions put together as they wait for the network."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from spinezoo_contract.errors import DeadlineError, FilmError, InvalidOutputError, QueueFullError
from spinezoo_serving.predict_queue import Batches, PredictQueue

FAR_S = 300.0
"""Longer than any test waits."""


class Network:
    """Answers a number with its double; remembers what it was given at once."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.busy = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def answer(self, asked: Sequence[int]) -> list[int]:
        self.seen.append(list(asked))
        self.busy.set()
        assert self.go_on.wait(30)
        if -1 in asked:
            raise FilmError("this one is wrong")
        return [2 * each for each in asked]


class Bench:
    def __init__(self, most: int, wait_s: float, limit: int = 100) -> None:
        self.network = Network()
        self.queue = PredictQueue(limit)
        self.batches = Batches(self.queue, self.network.answer, most=most, wait_s=wait_s)

    async def ask(self, number: int, deadline: float | None = None) -> int:
        with self.queue.admit() as place:
            answer, waited_ms = await self.batches.ask(place, number, deadline=deadline)
        assert waited_ms >= 0.0
        return answer

    async def hold(self) -> asyncio.Task[int]:
        """Keeps the network busy with question 0 until it may go on."""
        self.network.go_on.clear()
        first = asyncio.create_task(self.ask(0))
        await asyncio.to_thread(self.network.busy.wait, 30)
        return first


def test_what_waits_goes_in_together_and_no_more_than_the_limit() -> None:
    async def run() -> Bench:
        bench = Bench(most=4, wait_s=0.0)
        first = await bench.hold()
        others = [asyncio.create_task(bench.ask(number)) for number in range(1, 10)]
        await asyncio.sleep(0.05)
        bench.network.go_on.set()
        assert await asyncio.gather(first, *others) == [2 * n for n in range(10)]
        return bench

    bench = asyncio.run(run())
    assert bench.network.seen == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert bench.queue.length == 0


def test_a_lone_question_waits_for_nobody() -> None:
    bench = Bench(most=8, wait_s=FAR_S)
    assert asyncio.run(bench.ask(3)) == 6


def test_a_film_that_is_being_read_is_waited_for() -> None:
    async def run() -> Bench:
        bench = Bench(most=2, wait_s=FAR_S)
        with bench.queue.admit() as reading:
            first = asyncio.create_task(bench.ask(1))
            await asyncio.sleep(0.05)
            assert not first.done()
            answer, _ = await bench.batches.ask(reading, 2, deadline=None)
            assert (await first, answer) == (2, 4)
        return bench

    assert asyncio.run(run()).network.seen == [[1, 2]]


def test_films_of_a_batch_take_places_of_the_queue_and_the_refusal_says_so() -> None:
    async def run() -> None:
        bench = Bench(most=2, wait_s=FAR_S, limit=3)
        bench.network.go_on.clear()
        with bench.queue.admit() as reading:
            first = asyncio.create_task(bench.ask(1))
            second = asyncio.create_task(bench.batches.ask(reading, 2, deadline=None))
            await asyncio.to_thread(bench.network.busy.wait, 30)
            with bench.queue.admit(), bench.queue.admit():
                said = "2 requests are waiting and 2 running, the limit is 4 together"
                with pytest.raises(QueueFullError, match=said):
                    bench.queue.admit()
            bench.network.go_on.set()
            assert (await first, (await second)[0]) == (2, 4)

    asyncio.run(run())


def test_but_no_longer_than_it_may_be() -> None:
    async def run() -> None:
        bench = Bench(most=2, wait_s=0.05)
        with bench.queue.admit():  # a film that takes long to read
            assert await bench.ask(1) == 2

    asyncio.run(run())


def test_a_deadline_is_not_spent_on_waiting() -> None:
    async def run() -> None:
        bench = Bench(most=2, wait_s=FAR_S)
        with bench.queue.admit():
            assert await bench.ask(1, deadline=time.monotonic() + 60.0) == 2

    asyncio.run(run())


def test_a_question_whose_deadline_has_passed_is_not_asked() -> None:
    async def run() -> Bench:
        bench = Bench(most=4, wait_s=0.0)
        first = await bench.hold()
        late = asyncio.create_task(bench.ask(1, deadline=time.monotonic() + 0.01))
        fine = asyncio.create_task(bench.ask(2))
        await asyncio.sleep(0.05)
        bench.network.go_on.set()
        assert (await first, await fine) == (0, 4)
        with pytest.raises(DeadlineError):
            await late
        return bench

    bench = asyncio.run(run())
    assert bench.network.seen == [[0], [2]]
    assert bench.queue.length == 0


def test_a_wrong_film_fails_alone() -> None:
    async def run() -> Bench:
        bench = Bench(most=4, wait_s=0.0)
        first = await bench.hold()
        tasks = [asyncio.create_task(bench.ask(number)) for number in (1, -1, 2)]
        await asyncio.sleep(0.05)
        bench.network.go_on.set()
        good, wrong, fine = await asyncio.gather(*tasks, return_exceptions=True)
        assert (await first, good, fine) == (0, 2, 4)
        assert isinstance(wrong, FilmError)
        return bench

    assert asyncio.run(run()).network.seen == [[0], [1, -1, 2], [1], [-1], [2]]


def test_a_film_that_is_lost_alone_fails_alone() -> None:
    async def run() -> None:
        bench = Bench(most=4, wait_s=0.0)
        whole = bench.network.answer

        def answer(asked: Sequence[int]) -> list[int]:
            if len(asked) > 1:
                raise FilmError("not together")
            return whole([each for each in asked if each != 1])

        bench.batches = Batches(bench.queue, answer, most=4, wait_s=0.0)
        first = await bench.hold()
        tasks = [asyncio.create_task(bench.ask(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0.05)
        bench.network.go_on.set()
        found = asyncio.gather(*tasks, return_exceptions=True)
        lost, *others = await asyncio.wait_for(found, 30.0)
        assert (await first, others) == (0, [4, 6])
        assert isinstance(lost, InvalidOutputError)

    asyncio.run(run())


def test_a_caller_that_leaves_is_not_answered() -> None:
    async def run() -> Bench:
        bench = Bench(most=4, wait_s=0.0)
        first = await bench.hold()
        gone, fine = (asyncio.create_task(bench.ask(number)) for number in (1, 2))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0.05)
        bench.network.go_on.set()
        assert (await first, await fine) == (0, 4)
        return bench

    assert asyncio.run(run()).network.seen == [[0], [2]]
