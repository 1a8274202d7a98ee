"""A member for the tests: the contract's own server shell around a network of one line.

``python member.py`` serves on SPINEZOO_GRPC_PORT and SPINEZOO_HTTP_PORT until SIGTERM.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

from spinezoo_contract.http_face import HttpFace, make_app
from spinezoo_contract.logs import configure_logging
from spinezoo_contract.metrics import ServerMetrics
from spinezoo_contract.predictor import Predictor
from spinezoo_contract.server import NetworkRunner, run_forever, segmenter_server
from spinezoo_contract.settings import ServerSettings

THRESHOLD = Path(__file__).resolve().parents[2] / "libs/contract/tests/bento/threshold/threshold.py"


def load() -> Predictor:
    spec = importlib.util.spec_from_file_location("threshold", THRESHOLD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["threshold"] = module
    spec.loader.exec_module(module)
    return module.ThresholdPredictor()


async def serve() -> None:
    settings = ServerSettings.from_env()
    metrics = ServerMetrics()
    runner = NetworkRunner(settings, metrics=metrics)
    await runner.load(load)
    server = segmenter_server(runner)
    face = HttpFace(settings.host, settings.http_port, make_app(server.state, metrics))
    await run_forever(server, faces=[face])


if __name__ == "__main__":
    configure_logging("member")
    asyncio.run(serve())
