"""Clients and films for the tests of the HTTP port."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import httpx
import numpy as np
import pytest
from bench import NAMES, Bench
from spinezoo_testing.certificates import certificates, shared_certificates  # noqa: F401


def png_of(pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


@pytest.fixture
def levels() -> np.ndarray:
    """Grey levels of a small film, (96, 64) ``uint16``."""
    return np.random.default_rng(11).integers(0, 4095, (96, 64)).astype(np.uint16)


@pytest.fixture
def png(levels: np.ndarray) -> bytes:
    return png_of(levels)


@pytest.fixture
def connect(bench: Bench) -> Iterator[Callable[..., httpx.Client]]:
    """Starts the gateway with five members unless the test has added some, and gives a client."""
    clients: list[httpx.Client] = []

    def start(*, client: dict | None = None, **environment: str) -> httpx.Client:
        if not bench.members:
            for name in NAMES:
                bench.add_member(name)
        bench.start(**environment)
        clients.append(
            httpx.Client(base_url=bench.start_http(), timeout=30.0, trust_env=False, **client or {})
        )
        return clients[-1]

    yield start
    for each in clients:
        each.close()
