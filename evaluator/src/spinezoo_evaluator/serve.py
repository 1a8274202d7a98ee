"""``python -m spinezoo_evaluator.serve``: the evaluator as a process.

Settings come from the environment (``docs/settings.md``).
"""

from __future__ import annotations

import asyncio
import logging
import sys

from spinezoo.v1 import evaluation_pb2_grpc
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.services import EVALUATION_SERVICE
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.logs import configure_logging
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.server import GrpcServer, run_forever
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.tokens import TokenFile

from spinezoo_evaluator.service.servicer import EvaluationServicer
from spinezoo_evaluator.settings import EvaluatorSettings

log = logging.getLogger("spinezoo.evaluator")


def make_server(settings: ServerSettings, metrics: ServerMetrics | None = None) -> GrpcServer:
    """The evaluator's gRPC server, not yet started.

    Raises:
        ConfigurationError: The file of tokens is wrong, or tokens would travel in the clear.
    """
    tokens = TokenFile.for_server(settings.security, settings.host)
    server = GrpcServer(settings, metrics=metrics, tokens=tokens)
    server.add(
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
        EvaluationServicer(settings),
        EVALUATION_SERVICE,
    )
    return server


async def serve(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    metrics = ServerMetrics()
    server = make_server(settings, metrics)
    endpoint = HttpEndpoint(settings.host, settings.http_port, make_app(server.state, metrics))
    await run_forever(server, endpoints=[endpoint])


def main() -> int:
    """Reads the settings and serves; 2 where they are wrong."""
    configure_logging("evaluator")
    try:
        asyncio.run(serve(EvaluatorSettings.from_env()))
    except ConfigurationError as error:
        log.error("not started: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
