"""A server in a process of its own: signals, and a port that is taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinezoo.v1 import (
    segmenter_pb2_grpc,
)
from spinezoo_contract import codec
from spinezoo_contract.types import Film

SERVING = health_pb2.HealthCheckResponse.SERVING


def film(first: int = 7, height: int = 32, width: int = 48) -> Film:
    pixels = np.random.default_rng(0).integers(0, 200, (height, width)).astype(np.uint8)
    pixels[0, 0] = first
    return Film(pixels)


SERVE = """
import asyncio, sys, threading
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.logs import configure_logging
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import run_forever
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.threshold import ThresholdPredictor
configure_logging("test")
async def main():
    metrics, settings = ServerMetrics(), ServerSettings.from_env()
    runner = NetworkRunner(settings, ThresholdPredictor(delay_s=0.05), metrics=metrics)
    server = segmenter_server(runner)
    endpoint = HttpEndpoint("127.0.0.1", settings.http_port, make_app(server.state, metrics))
    await run_forever(server, endpoints=[endpoint])
    runner.close()
asyncio.run(main())
"""


@pytest.fixture
def process(tmp_path: Any) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports.append(taken.getsockname()[1])
    environment = {
        **os.environ,
        "SPINEZOO_GRPC_PORT": str(ports[0]),
        "SPINEZOO_HTTP_PORT": str(ports[1]),
        "SPINEZOO_QUEUE_LIMIT": "100",
    }
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stderr=log)
        try:
            yield child, *ports
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(10)


async def _ready(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
                    if answer.status == SERVING:
                        return
                await asyncio.sleep(0.05)


async def test_sigterm_under_load_loses_no_request(
    process: tuple[subprocess.Popen[bytes], int, int], tmp_path: Any
) -> None:
    child, port, http_port = process
    address = f"127.0.0.1:{port}"
    await _ready(address)
    answered = 0
    failures: list[str] = []
    seen_503 = False
    stop = asyncio.Event()

    async def ask(link: grpc.aio.Channel) -> None:
        nonlocal answered
        stub = segmenter_pb2_grpc.SegmenterServiceStub(link)
        while not stop.is_set():
            try:
                got = await stub.Predict(codec.predict_request_to_proto(film()), timeout=20)
                assert got.height == 32
                answered += 1
            except grpc.aio.AioRpcError as error:
                failures.append(error.code().name)
                return

    async def probe() -> None:
        nonlocal seen_503
        while not seen_503:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
            except ConnectionRefusedError:
                return
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            seen_503 = b" 503 " in await reader.readline()
            writer.close()
            await asyncio.sleep(0.01)

    async with grpc.aio.insecure_channel(address) as link:
        askers = [asyncio.create_task(ask(link)) for _ in range(8)]
        while answered < 8:
            await asyncio.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        await probe()
        await asyncio.wait_for(asyncio.gather(*askers), 30)
    # Refused by name is fine: the caller turns elsewhere. Anything else would be a loss.
    assert failures == ["UNAVAILABLE"] * 8
    assert seen_503
    assert await asyncio.to_thread(child.wait, 15) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    calls = [line for line in lines if line["message"] == "call"]
    # What the server took on, it answered.
    assert sum(line["code"] == "OK" for line in calls) == answered
    assert {line["code"] for line in calls} <= {"OK", "UNAVAILABLE"}


def test_a_taken_port_ends_the_process_by_name(
    process: tuple[subprocess.Popen[bytes], int, int],
) -> None:
    child, _, _ = process
    child.kill()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {**os.environ, "SPINEZOO_GRPC_PORT": str(taken.getsockname()[1])}
        done = subprocess.run(
            [sys.executable, "-c", SERVE], env=environment, capture_output=True, timeout=60
        )
    assert done.returncode == 1
    assert b"SPINEZOO_GRPC_PORT" in done.stderr
