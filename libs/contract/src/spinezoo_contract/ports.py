"""Ports of a zoo on one machine, by `make generate` from .env; change that."""

GATEWAY_GRPC = 50050
EVALUATOR_GRPC = 50060
EVALUATOR_HTTP = 8060
