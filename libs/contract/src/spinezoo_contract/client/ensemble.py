"""Clients of the gateway."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import grpc
from spinezoo.v1 import (
    ensemble_pb2,
    ensemble_pb2_grpc,
    image_pb2,
)

from spinezoo_contract import codec
from spinezoo_contract.client.channel import NO_MESSAGE, AsyncClient, BlockingClient, Call
from spinezoo_contract.client.films import FilmSource, image_message, raw_size
from spinezoo_contract.client.many import (
    DEFAULT_AT_ONCE,
    Outcome,
    check_at_once,
    in_order,
    in_order_async,
)
from spinezoo_contract.errors import InvalidOutputError, NotServingError
from spinezoo_contract.types import (
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    FilmKind,
    MemberAnswer,
    Roster,
)


def _segment_request(
    film: FilmSource, options: EnsembleOptions, kind: FilmKind | None
) -> ensemble_pb2.SegmentRequest:
    return codec.ensemble_request_to_proto(image_message(film, kind), options)


def _stream_event(
    event: ensemble_pb2.SegmentStreamResponse | None, image: image_pb2.Image
) -> MemberAnswer | EnsembleSummary:
    if event is None:
        raise InvalidOutputError(NO_MESSAGE)
    which = event.WhichOneof("event")
    if which == "member":
        return codec.from_proto(MemberAnswer, event.member, *raw_size(image))
    if which == "summary":
        return codec.from_proto(EnsembleSummary, event.summary)
    raise InvalidOutputError("a message of the stream is neither a member nor the summary")


def _require_summary(last: MemberAnswer | EnsembleSummary | None) -> None:
    if not isinstance(last, EnsembleSummary):
        raise InvalidOutputError("the stream ended without a summary; ask again")


class EnsembleClient(BlockingClient):
    """Blocking client of the gateway."""

    def segment(
        self,
        film: FilmSource,
        options: EnsembleOptions = EnsembleOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> EnsembleAnswer:
        """One film to every member at once.

        Args:
            film: The film; a file is sent as it is.
            options: Members, fusion, deadline, quorum and the members' settings.
            kind: Form of a file; None finds out.
            timeout_s: Time this call has, in s; None takes the client's.
            request_id: Name of the call in the servers' logs; None makes one up.

        Raises:
            QuorumError: Too few members answered; the message names those that failed.
            SpineZooError: The call failed in another way; the class says how.
        """
        request = _segment_request(film, options, kind)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
            return codec.from_proto(EnsembleAnswer, stub.Segment(request, **call.arguments))

    def segment_many(
        self,
        films: Iterable[FilmSource],
        options: EnsembleOptions = EnsembleOptions(),
        *,
        at_once: int = DEFAULT_AT_ONCE,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Outcome[EnsembleAnswer]]:
        """Many films, several under way at once; what became of each, in the order of the films.

        A film that fails is an outcome with an error, and the others go on. Leaving the loop early
        cancels the calls under way.

        Args:
            films: Any source, such as paths or a generator; films are taken as they are needed.
            options: As for :meth:`segment`.
            at_once: Films under way at once; more than the gateway takes
                (``SPINEZOO_GATEWAY_CONCURRENCY``) fail with ``QueueFullError``.
            kind: As for :meth:`segment`.
            timeout_s: Time that each film has, in s; None takes the client's.

        Raises:
            OptionError: ``at_once`` is less than 1.
        """
        check_at_once(at_once)
        under_way: set[Any] = set()
        left = threading.Event()
        stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)

        def ask(film: FilmSource) -> EnsembleAnswer:
            request = _segment_request(film, options, kind)
            call = self._call(timeout_s, None)
            with call.named_errors():
                future = stub.Segment.future(request, **call.arguments)
                under_way.add(future)
                if left.is_set():
                    future.cancel()
                try:
                    return codec.from_proto(EnsembleAnswer, future.result())
                except grpc.FutureCancelledError:
                    raise NotServingError("the call was cancelled: nobody waits for it") from None
                finally:
                    under_way.discard(future)

        def cancel() -> None:
            left.set()
            for future in tuple(under_way):
                future.cancel()

        return in_order(films, ask, at_once, cancel)

    def stream(
        self,
        film: FilmSource,
        options: EnsembleOptions = EnsembleOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[MemberAnswer | EnsembleSummary]:
        """Each member as it finishes, the summary last; leaving the loop early cancels the call.

        Arguments and errors are those of :meth:`segment`.
        """
        request = ensemble_pb2.SegmentStreamRequest(request=_segment_request(film, options, kind))
        return self._stream(request, self._call(timeout_s, request_id))

    def _stream(
        self, request: ensemble_pb2.SegmentStreamRequest, call: Call
    ) -> Iterator[MemberAnswer | EnsembleSummary]:
        last: MemberAnswer | EnsembleSummary | None = None
        stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
        with call.named_errors():
            events = stub.SegmentStream(request, **call.arguments)
            try:
                for event in events:
                    last = _stream_event(event, request.request.image)
                    yield last
                _require_summary(last)
            finally:
                events.cancel()

    def list_models(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Roster:
        """Who is in the zoo, and whether it is serving.

        Raises:
            SpineZooError: The call failed.
        """
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
            response = stub.ListModels(ensemble_pb2.ListModelsRequest(), **call.arguments)
            return codec.from_proto(Roster, response)


class AsyncEnsembleClient(AsyncClient):
    """The asyncio twin of :class:`EnsembleClient`."""

    async def segment(
        self,
        film: FilmSource,
        options: EnsembleOptions = EnsembleOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> EnsembleAnswer:
        """One film to every member at once; see :meth:`EnsembleClient.segment`."""
        request = _segment_request(film, options, kind)
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
            return codec.from_proto(
                EnsembleAnswer, await self._answer(stub.Segment(request, **call.arguments))
            )

    async def segment_many(
        self,
        films: Iterable[FilmSource],
        options: EnsembleOptions = EnsembleOptions(),
        *,
        at_once: int = DEFAULT_AT_ONCE,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Outcome[EnsembleAnswer]]:
        """Many films, several under way at once; see :meth:`EnsembleClient.segment_many`."""
        check_at_once(at_once)

        async def ask(film: FilmSource) -> EnsembleAnswer:
            return await self.segment(film, options, kind=kind, timeout_s=timeout_s)

        outcomes = in_order_async(films, ask, at_once)
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                yield outcome

    async def stream(
        self,
        film: FilmSource,
        options: EnsembleOptions = EnsembleOptions(),
        *,
        kind: FilmKind | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[MemberAnswer | EnsembleSummary]:
        """Each member as it finishes, the summary last; see :meth:`EnsembleClient.stream`."""
        inner = _segment_request(film, options, kind)
        request = ensemble_pb2.SegmentStreamRequest(request=inner)
        call = self._call(timeout_s, request_id)
        last: MemberAnswer | EnsembleSummary | None = None
        stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
        with call.named_errors():
            events = stub.SegmentStream(request, **call.arguments)
            try:
                async for event in events:
                    last = _stream_event(event, inner.image)
                    yield last
                _require_summary(last)
            finally:
                events.cancel()

    async def list_models(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Roster:
        """Who is in the zoo; see :meth:`EnsembleClient.list_models`."""
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = ensemble_pb2_grpc.EnsembleServiceStub(self._channel)
            response = await self._answer(
                stub.ListModels(ensemble_pb2.ListModelsRequest(), **call.arguments)
            )
            return codec.from_proto(Roster, response)
