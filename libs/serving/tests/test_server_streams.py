"""Streams through the shell, from the client and from the server."""

from __future__ import annotations

import asyncio
import sys
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
from spinezoo_serving.calls import Places
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


async def test_what_a_film_came_in_is_let_go_while_its_call_runs() -> None:
    came: list[bytes] = []
    kept_by: list[int] = []

    def parse(data: bytes) -> int:
        came.append(data)
        return len(data)

    class Films:
        async def One(self, film: int, context: Any) -> bytes:  # noqa: N802
            kept_by.append(sys.getrefcount(came.pop()) - 1)
            return str(film).encode()

        async def Parts(self, film: int, context: Any) -> AsyncIterator[bytes]:  # noqa: N802
            yield await self.One(film, context)

    def register(films: Films, server: Any) -> None:
        handlers = {
            "One": grpc.unary_unary_rpc_method_handler(films.One, parse),
            "Parts": grpc.unary_stream_rpc_method_handler(films.Parts, parse),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Films", handlers),)
        )

    server = GrpcServer(SETTINGS)
    places = Places(2, "being answered")
    server.add(register, Films(), "test.Films", dict.fromkeys(("One", "Parts"), places))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert await channel.unary_unary("/test.Films/One")(bytes(70_000)) == b"70000"
        parts = channel.unary_stream("/test.Films/Parts")(bytes(70_000))
        assert [each async for each in parts] == [b"70000"]
        assert kept_by == [0, 0]
        # Read to the end of the call: a second film is an error, and none is one.
        for films, says in (([b"a", b"b"], "more than one request"), ([], "without a request")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.stream_unary("/test.Films/One")(iter(films))
            assert says in str(from_rpc_error(caught.value))
    await server.stop()
