"""Streams through the shell, from the client and from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from spinezoo.v1 import (
    evaluation_pb2,
    evaluation_pb2_grpc,
    fusion_pb2,
)
from spinezoo_contract import codec
from spinezoo_contract.errors import (
    FilmError,
    MaskError,
)
from spinezoo_contract.status import from_rpc_error
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings

SETTINGS = ServerSettings(drain_s=10.0, queue_limit=2)


class Evaluator(evaluation_pb2_grpc.EvaluationServiceServicer):
    async def Evaluate(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        count = 0
        async for message in request_iterator:
            codec.evaluation_pair_from_proto(message)
            count += 1
        metrics = evaluation_pb2.ModelMetrics(model_name="m", film_count=count)
        return evaluation_pb2.EvaluateResponse(models=[metrics])

    async def Fuse(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise MaskError("member 'a': sizes differ; resize")


async def test_a_client_stream() -> None:
    server = GrpcServer(SETTINGS)
    server.add(
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
        Evaluator(),
        "spinezoo.v1.EvaluationService",
    )
    await server.start()
    good = evaluation_pb2.EvaluateRequest(
        film_id="f", model_name="m", height=16, width=16,
        truth=evaluation_pb2.Annotation(segments={}),
        prediction=evaluation_pb2.Annotation(segments={}),
    )  # fmt: skip
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = evaluation_pb2_grpc.EvaluationServiceStub(channel)
        answer = await stub.Evaluate(iter([good] * 50))
        assert answer.models[0].film_count == 50
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Evaluate(iter([good, evaluation_pb2.EvaluateRequest()]))
        assert "film_id" in str(from_rpc_error(caught.value))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Fuse(evaluation_pb2.FuseRequest(options=fusion_pb2.FusionOptions()))
        assert type(from_rpc_error(caught.value)) is MaskError
    await server.stop()


async def test_a_server_stream_and_its_failure_half_way() -> None:
    served = []

    class Streamer:
        async def Count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: N802
            try:
                for number in range(3):
                    yield bytes([number])
                if request == b"fail":
                    raise FilmError("half way; try again")
            finally:
                served.append(request)

    def register(servicer: Streamer, server: Any) -> None:
        handler = grpc.unary_stream_rpc_method_handler(servicer.Count)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Streamer", {"Count": handler}),)
        )

    server = GrpcServer(SETTINGS)
    server.add(register, Streamer(), "test.Streamer")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        count = channel.unary_stream("/test.Streamer/Count")
        assert [each async for each in count(b"go")] == [b"\0", b"\1", b"\2"]
        call = count(b"fail")
        for number in range(3):
            assert await call.read() == bytes([number])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert type(from_rpc_error(caught.value)) is FilmError
        async for _ in count(b"leave"):
            break
        while len(served) < 3:
            await asyncio.sleep(0.01)
    await server.stop()
