"""Benches, films and processes for the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bench import NAMES, Bench
from spinezoo_contract.types import Film
from spinezoo_testing.servers import Loop


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def bench(loop: Loop, tmp_path: Path) -> Iterator[Bench]:
    """An empty bench: a test adds members and starts the gateway."""
    made = Bench(loop, tmp_path)
    yield made
    made.close()


@pytest.fixture
def five(bench: Bench) -> Bench:
    """A bench with five good members and a gateway."""
    for name in NAMES:
        bench.add_member(name)
    bench.start()
    return bench


@pytest.fixture
def film() -> Film:
    """A small film of noise, (96, 64) ``uint8``."""
    generator = np.random.default_rng(7)
    return Film(generator.integers(0, 255, (96, 64), dtype=np.uint8))


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        one = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(one)
        return one

    yield start
    for one in started:
        if one.poll() is None:
            one.send_signal(signal.SIGKILL)
        with contextlib.suppress(ValueError):
            one.communicate()
