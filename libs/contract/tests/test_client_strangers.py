"""The typed clients against a server that answers bytes which are no message."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest
from spinezoo_contract.client import (
    AsyncEnsembleClient,
    AsyncEvaluationClient,
    AsyncSegmenterClient,
    EnsembleClient,
    SegmenterClient,
)
from spinezoo_contract.errors import InvalidOutputError, SpineZooError
from spinezoo_contract.types import Film

FILM = Film(np.arange(48 * 32, dtype=np.uint16).reshape(48, 32))


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that answers every method with bytes that are no message."""

    class Garbage(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            noise = b"\xff\xff\xffno protobuf"
            if call.method.endswith("Stream"):
                return grpc.unary_stream_rpc_method_handler(lambda _, __: iter([noise]))
            if call.method.endswith("Evaluate"):
                return grpc.stream_unary_rpc_method_handler(
                    lambda films, _: noise * len([*films, 1])
                )
            return grpc.unary_unary_rpc_method_handler(lambda _, __: noise)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Garbage(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_bytes_that_are_no_message_are_an_error_of_the_server(stranger: str) -> None:
    with SegmenterClient(stranger) as one, EnsembleClient(stranger) as all_of_them:
        for ask in (
            lambda: one.predict(FILM),
            one.get_model,
            lambda: all_of_them.segment(FILM),
            lambda: list(all_of_them.stream(FILM)),
            all_of_them.list_models,
        ):
            with pytest.raises(SpineZooError):
                ask()


async def test_bytes_that_are_no_message_are_an_error_of_the_server_async(stranger: str) -> None:
    async with (
        AsyncSegmenterClient(stranger) as one,
        AsyncEnsembleClient(stranger) as all_of_them,
        AsyncEvaluationClient(stranger) as evaluator,
    ):

        async def streamed() -> None:
            async for _ in all_of_them.stream(FILM):
                pass

        for ask in (
            lambda: one.predict(FILM),
            one.get_model,
            lambda: all_of_them.segment(FILM),
            streamed,
            all_of_them.list_models,
            lambda: evaluator.fuse({"a": ()}, 48, 32),
            lambda: evaluator.evaluate(()),
        ):
            with pytest.raises(InvalidOutputError, match="no message of this contract"):
                await ask()
