"""Real members, a real gateway and a real client over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from fake_member import FakeMember
from spinezoo.v1 import ensemble_pb2, ensemble_pb2_grpc, image_pb2
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.types import Film
from spinezoo_gateway.addresses import Resolve
from spinezoo_gateway.serve import Gateway

T = TypeVar("T")
NAMES = ("deeplabv3", "mask_rcnn", "pspnet", "unet", "yolact")
LIMIT = 64 << 20
CHANNEL = (
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_send_message_length", LIMIT),
)


class Loop:
    """An event loop on a thread of its own, where servers live."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Bench:
    """Members by name, the gateway that asks them, and a client."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self.loop = loop
        self.roster = folder / "roster.yaml"
        self.members: dict[str, FakeMember] = {}
        self.gateway: Gateway | None = None
        self.channel: grpc.Channel | None = None

    def add_member(self, name: str, **settings: Any) -> FakeMember:
        member = FakeMember(name=name, **settings)
        self.loop.run(member.start())
        self.members[name] = member
        return member

    def write_roster(self, targets: dict[str, str] | None = None) -> None:
        targets = targets or {name: member.target for name, member in self.members.items()}
        lines = [f"  - {{name: {name}, target: '{target}'}}" for name, target in targets.items()]
        self.roster.write_text("members:\n" + "\n".join(lines) + "\n")

    def start(self, resolve: Resolve | None = None, **environment: str) -> None:
        if not self.roster.exists():
            self.write_roster()

        async def begin() -> None:
            self.gateway = Gateway({"SPINEZOO_ROSTER": str(self.roster), **environment})
            if resolve is not None:
                self.gateway.zoo.resolve = resolve
            await self.gateway.server.start()
            await self.gateway.zoo.start()

        self.loop.run(begin())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.gateway.server.port}", CHANNEL)
        self.stub = ensemble_pb2_grpc.EnsembleServiceStub(self.channel)

    def segment(
        self, film: Film | image_pb2.Image, timeout_s: float = 20.0, **fields: Any
    ) -> ensemble_pb2.SegmentResponse:
        image = film_to_proto(film) if isinstance(film, Film) else film
        request = ensemble_pb2.SegmentRequest(image=image, **fields)
        return self.stub.Segment(request, timeout=timeout_s)

    def close(self) -> None:
        async def end() -> None:
            if self.gateway is not None:
                await self.gateway.server.stop(0.0)
                await self.gateway.zoo.stop()
            for member in self.members.values():
                await member.stop()

        if self.channel is not None:
            self.channel.close()
        self.loop.run(end())


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


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Waits for a condition; whether it came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


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
