"""Settings of the evaluator and of its commands, from the environment."""

from __future__ import annotations

from spinezoo_contract import ports
from spinezoo_contract.client import DEFAULT_GATEWAY
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.variables import EnvironmentSettings, setting


class EvaluatorSettings(ServerSettings):
    """Evaluator: as every server, on ports of its own."""

    grpc_port: int = setting(ports.EVALUATOR_GRPC, "port of the gRPC endpoint", maximum=65535)
    http_port: int = setting(ports.EVALUATOR_HTTP, "port of the HTTP endpoint", maximum=65535)


class BenchmarkSettings(EnvironmentSettings):
    """Benchmark and real check: where the zoo is; `make benchmark` sets it."""

    gateway_target: str = setting(
        DEFAULT_GATEWAY, "gRPC address of the gateway", allowed="host:port"
    )
    evaluator_target: str = setting(
        f"127.0.0.1:{ports.EVALUATOR_GRPC}", "gRPC address of the evaluator", allowed="host:port"
    )
