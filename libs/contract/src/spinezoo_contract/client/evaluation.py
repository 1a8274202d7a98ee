"""Clients of the evaluator."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence

import grpc
import grpc.aio
from spinezoo.v1 import (
    evaluation_pb2,
    evaluation_pb2_grpc,
)

from spinezoo_contract import codec
from spinezoo_contract.client.channel import AsyncClient, BlockingClient, Call
from spinezoo_contract.types import (
    EvaluationPair,
    FusedAnswer,
    FusionOptions,
    ModelMetrics,
    Segment,
)


class _Pairs:
    """Requests of an evaluation, made one at a time; keeps the error that stopped them.

    grpc reports an error in its request iterator as a cancelled call and swallows its cause.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def blocking(self, pairs: Iterable[EvaluationPair]) -> Iterator[evaluation_pb2.EvaluateRequest]:
        try:
            for pair in pairs:
                yield codec.to_proto(pair)
        except Exception as error:
            self.error = error
            raise

    async def asynchronous(
        self, pairs: Iterable[EvaluationPair] | AsyncIterable[EvaluationPair]
    ) -> AsyncIterator[evaluation_pb2.EvaluateRequest]:
        try:
            if isinstance(pairs, AsyncIterable):
                async for pair in pairs:
                    yield codec.to_proto(pair)
            else:
                for pair in pairs:
                    yield codec.to_proto(pair)
        except Exception as error:
            self.error = error
            raise


def _metrics(response: evaluation_pb2.EvaluateResponse) -> tuple[ModelMetrics, ...]:
    return tuple(codec.from_proto(ModelMetrics, model) for model in response.models)


class EvaluationClient(BlockingClient):
    """Blocking client of the evaluator."""

    def fuse(
        self,
        inputs: Mapping[str, Sequence[Segment]],
        height: int,
        width: int,
        options: FusionOptions = FusionOptions(),
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> FusedAnswer:
        """Several members' masks as one.

        Args:
            inputs: Outlines by member name.
            height: Rows of the film, in pixels.
            width: Columns of the film, in pixels.
            options: How to fuse.
            timeout_s: Time this call has, in s; None takes the client's.
            request_id: Name of the call in the server's log; None makes one up.

        Raises:
            SpineZooError: The call failed.
        """
        request = codec.fuse_request_to_proto(inputs, height, width, options)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = evaluation_pb2_grpc.EvaluationServiceStub(self._channel)
            response = stub.Fuse(request, **call.arguments)
            return codec.from_proto(FusedAnswer, response.fused, height, width)

    def evaluate(
        self,
        pairs: Iterable[EvaluationPair],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[ModelMetrics, ...]:
        """Measures a stream of any length; pairs are taken as the evaluator asks for them.

        Args:
            pairs: Truth and prediction of each film and model; an error raised while they are
                made ends the call and is raised here.
            timeout_s: Time the whole stream has, in s; None: no limit.
            request_id: Name of the call in the server's log; None makes one up.

        Raises:
            SpineZooError: The call failed; the message names the film that is wrong.
        """
        call = Call(timeout_s, request_id, self._token)
        requests = _Pairs()
        stub = evaluation_pb2_grpc.EvaluationServiceStub(self._channel)
        with call.named_errors():
            try:
                response = stub.Evaluate(requests.blocking(pairs), **call.arguments)
            except grpc.RpcError:
                if requests.error is not None:
                    raise requests.error from None
                raise
            return _metrics(response)


class AsyncEvaluationClient(AsyncClient):
    """The asyncio twin of :class:`EvaluationClient`."""

    async def fuse(
        self,
        inputs: Mapping[str, Sequence[Segment]],
        height: int,
        width: int,
        options: FusionOptions = FusionOptions(),
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> FusedAnswer:
        """Several members' masks as one; see :meth:`EvaluationClient.fuse`."""
        request = codec.fuse_request_to_proto(inputs, height, width, options)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = evaluation_pb2_grpc.EvaluationServiceStub(self._channel)
            response = await self._answer(stub.Fuse(request, **call.arguments))
            return codec.from_proto(FusedAnswer, response.fused, height, width)

    async def evaluate(
        self,
        pairs: Iterable[EvaluationPair] | AsyncIterable[EvaluationPair],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[ModelMetrics, ...]:
        """Measures a stream of any length; see :meth:`EvaluationClient.evaluate`."""
        call = Call(timeout_s, request_id, self._token)
        stub = evaluation_pb2_grpc.EvaluationServiceStub(self._channel)
        requests = _Pairs()
        with call.named_errors():
            stream = stub.Evaluate(**call.arguments)
            try:
                async for request in requests.asynchronous(pairs):
                    await stream.write(request)
                await stream.done_writing()
            except Exception:
                if requests.error is not None:
                    stream.cancel()
                    raise requests.error from None
                # The server ended the call; awaiting it tells why.
            return _metrics(await self._answer(stream))
