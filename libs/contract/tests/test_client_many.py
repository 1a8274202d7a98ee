# ruff: noqa: N802 - the methods are named by the contract
"""Many films through one client: order, bounded, and a failure loses its own film alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from spinezoo.v1 import ensemble_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.client import AsyncEnsembleClient, EnsembleClient, Outcome
from spinezoo_contract.errors import FilmError, NotServingError, OptionError
from spinezoo_contract.types import (
    EnsembleAnswer,
    FusedAnswer,
    FusionRule,
    GatewayTiming,
    MemberAnswer,
    MemberCode,
    MemberStatus,
)

REFUSED = 99
"""Grey level of a film that the gateway refuses."""


def film(level: int) -> np.ndarray:
    return np.full((20, 16 + level), level, np.uint8)


class Gateway(ensemble_pb2_grpc.EnsembleServiceServicer):
    """Answers each film with its size; counts how many it is asked about at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.asked = self.cancelled = 0
        self.together = 1
        self.released = threading.Condition(self.lock)

    def Segment(self, request: Any, context: Any) -> Any:
        raw = request.image.raw
        with self.lock:
            self.now += 1
            self.asked += 1
            self.most = max(self.most, self.now)
            self.released.notify_all()
            # Answered only when so many are there: whoever asks one by one waits for ever.
            ended = self.released.wait_for(lambda: self.most >= self.together, 30)
            self.now -= 1
        assert ended
        if raw.data[0] == REFUSED:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the film is not a spine")
        status = MemberStatus("a", MemberCode.UNAVAILABLE, 1.0, "away")
        answer = EnsembleAnswer(
            raw.height,
            raw.width,
            (MemberAnswer(status, None),),
            FusedAnswer((), None, FusionRule.MAJORITY, ()),
            GatewayTiming(0.0, 0.0, 0.0, 0.0),
        )
        return codec.to_proto(answer)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def target(gateway: Gateway) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(16))
    ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def collect(target: str, films: Any, kind: str, **settings: Any) -> list[Outcome[EnsembleAnswer]]:
    if kind == "blocking":
        with EnsembleClient(target) as client:
            return list(client.segment_many(films, **settings))

    async def run() -> list[Outcome[EnsembleAnswer]]:
        async with AsyncEnsembleClient(target) as client:
            return [outcome async for outcome in client.segment_many(films, **settings)]

    return asyncio.run(run())


both = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


@both
def test_answers_come_in_the_order_of_the_films(target: str, kind: str) -> None:
    outcomes = collect(target, (film(n) for n in range(40)), kind)
    assert [outcome.place for outcome in outcomes] == list(range(40))
    assert [outcome.get().width for outcome in outcomes] == [16 + n for n in range(40)]


@both
def test_so_many_are_under_way_at_once_and_no_more(
    target: str, gateway: Gateway, kind: str
) -> None:
    gateway.together = 3
    assert len(collect(target, [film(n) for n in range(12)], kind, at_once=3)) == 12
    assert gateway.most == 3


@both
def test_a_film_that_fails_does_not_lose_the_others(target: str, kind: str) -> None:
    films = [film(1), film(REFUSED), "absent.png", film(3)]
    good, refused, absent, last = collect(target, films, kind)
    assert good.get().width == 17
    assert last.get().width == 19
    assert refused.answer is None
    assert "not a spine" in str(refused.error)
    assert isinstance(absent.error, FilmError)
    with pytest.raises(FilmError, match=r"absent\.png"):
        absent.get()


@both
def test_films_are_taken_as_they_are_needed(target: str, kind: str) -> None:
    taken = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield film(number % 50)

    if kind == "blocking":
        with EnsembleClient(target) as client:
            outcomes = client.segment_many(source(), at_once=3)
            next(outcomes)
            assert taken == 6
            outcomes.close()
        return

    async def run() -> None:
        async with AsyncEnsembleClient(target) as client:
            async for _ in client.segment_many(source(), at_once=3):
                break
            assert taken == 6

    asyncio.run(run())


def test_leaving_early_cancels_what_is_under_way(target: str, gateway: Gateway) -> None:
    with EnsembleClient(target) as client:
        outcomes = client.segment_many([film(n) for n in range(50)], at_once=2)
        next(outcomes)
        gateway.together = 1000  # what is asked now would wait for ever
        outcomes.close()
    assert gateway.asked < 20


@both
def test_nobody_there_is_said_of_each_film(kind: str) -> None:
    outcomes = collect("127.0.0.1:1", [film(1), film(2)], kind)
    assert [type(outcome.error) for outcome in outcomes] == [NotServingError] * 2


@both
def test_no_films_no_outcomes_and_none_at_once_is_refused(target: str, kind: str) -> None:
    assert collect(target, [], kind) == []
    assert [each.place for each in collect(target, [film(1)] * 2, kind, at_once=1)] == [0, 1]
    with pytest.raises(OptionError, match="at_once is 0"):
        collect(target, [film(1)], kind, at_once=0)
