"""A member for the tests: the contract's own server shell around a network of one line.

``python member.py`` serves on SPINEZOO_GRPC_PORT and SPINEZOO_HTTP_PORT until SIGTERM.
"""

from __future__ import annotations

import asyncio

from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.logs import configure_logging
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.predictor import Predictor
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import run_forever
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.threshold import ThresholdPredictor


def load() -> Predictor:
    return ThresholdPredictor()


async def serve() -> None:
    settings = ServerSettings.from_env()
    metrics = ServerMetrics()
    runner = NetworkRunner(settings, metrics=metrics)
    await runner.load(load)
    server = segmenter_server(runner)
    endpoint = HttpEndpoint(settings.host, settings.http_port, make_app(server.state, metrics))
    await run_forever(server, endpoints=[endpoint])


if __name__ == "__main__":
    configure_logging("member")
    asyncio.run(serve())
