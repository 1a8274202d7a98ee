"""Clients of one network."""

from __future__ import annotations

from spinezoo.v1 import (
    segmenter_pb2,
    segmenter_pb2_grpc,
)

from spinezoo_contract import codec
from spinezoo_contract.client.channel import AsyncClient, BlockingClient
from spinezoo_contract.client.films import FilmSource, image_message, raw_size
from spinezoo_contract.types import (
    FilmKind,
    ModelInfo,
    Prediction,
    PredictOptions,
)


def _predict_request(
    film: FilmSource, options: PredictOptions, kind: FilmKind | None
) -> segmenter_pb2.PredictRequest:
    return codec.predict_request_to_proto(image_message(film, kind), options)


class SegmenterClient(BlockingClient):
    """Blocking client of one network's container."""

    def predict(
        self,
        film: FilmSource,
        options: PredictOptions = PredictOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Outlines of one film.

        Args:
            film: The film; a file is sent as it is.
            options: Settings; None fields take the card's defaults.
            kind: Form of a file; None finds out.
            timeout_s: Time this call has, in s; None takes the client's.
            request_id: Name of the call in the server's log; None makes one up.

        Raises:
            SpineZooError: The call failed; the class says how, see ``errors``.
        """
        request = _predict_request(film, options, kind)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channel)
            response = stub.Predict(request, **call.arguments)
            return codec.from_proto(Prediction, response, *raw_size(request.image))

    def get_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelInfo:
        """What the container serves.

        Raises:
            SpineZooError: The call failed.
        """
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channel)
            response = stub.GetModel(segmenter_pb2.GetModelRequest(), **call.arguments)
            return codec.from_proto(ModelInfo, response.model)


class AsyncSegmenterClient(AsyncClient):
    """The asyncio twin of :class:`SegmenterClient`."""

    async def predict(
        self,
        film: FilmSource,
        options: PredictOptions = PredictOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Outlines of one film; see :meth:`SegmenterClient.predict`."""
        request = _predict_request(film, options, kind)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channel)
            response = await self._answer(stub.Predict(request, **call.arguments))
            return codec.from_proto(Prediction, response, *raw_size(request.image))

    async def get_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelInfo:
        """What the container serves; see :meth:`SegmenterClient.get_model`."""
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channel)
            response = await self._answer(
                stub.GetModel(segmenter_pb2.GetModelRequest(), **call.arguments)
            )
            return codec.from_proto(ModelInfo, response.model)
