"""Batches made ahead of time in processes of their own, for frameworks without a loader."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2
from spinezoo_serving.workers import follow_parent

Encoded = TypeVar("Encoded")

_encode_here: Callable[[int, int], Any]


def _prepare_worker(encode: Callable[[int, int], Any]) -> None:
    global _encode_here
    _encode_here = encode
    cv2.setNumThreads(1)
    follow_parent()
    # The training process decides when to stop.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _encode_in_worker(epoch: int, step: int) -> Any:
    return _encode_here(epoch, step)


def batches_ahead(
    encode: Callable[[int, int], Encoded], epoch: int, step: int, steps: int, workers: int
) -> Generator[Encoded, None, None]:
    """Encoded batches without end from a place on, made two batches ahead a worker.

    For frameworks that bring no loader of their own.

    Args:
        encode: (epoch, step) -> the batch; with workers it is sent to each of them once.
        epoch: Where to begin.
        step: Where to begin in it.
        steps: Batches of an epoch.
        workers: Processes; 0 takes a thread of this one. Batch ``n`` is made by worker
            ``n % workers``, so that each keeps to its lanes.
    """
    cv2.setNumThreads(1)
    if workers:
        # Not "fork": a framework's threads may hold locks.
        context = get_context("spawn")
        pools: list[Executor] = [
            ProcessPoolExecutor(
                1, mp_context=context, initializer=_prepare_worker, initargs=(encode,)
            )
            for _ in range(workers)
        ]
        task: Callable[[int, int], Any] = _encode_in_worker
    else:
        pools, task = [ThreadPoolExecutor(1)], encode
    waiting: list[Future[Encoded]] = []
    number = epoch * steps + step
    try:
        while True:
            while len(waiting) < 2 * len(pools):
                pool = pools[number % len(pools)]
                waiting.append(pool.submit(task, *divmod(number, steps)))
                number += 1
            yield waiting.pop(0).result()
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
