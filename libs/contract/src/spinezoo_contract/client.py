"""Typed clients of the three services, blocking and asyncio: dataclasses in and out.

::

    with EnsembleClient("127.0.0.1:50050") as zoo:
        answer = zoo.segment("film.dcm")
        for segment in answer.fused.segments:
            ...

    with EnsembleClient("zoo.hospital:50050", ca_file="ca.crt", token=token) as zoo:
        ...

Every failed call raises an error of :mod:`spinezoo_contract.errors` with the server's message and
a note that holds the request id, under which the server's log tells more. An answer that breaks
the contract raises :class:`~spinezoo_contract.errors.InvalidOutputError`; nothing half-read is
returned. Needs numpy, grpcio, protobuf and pycocotools only.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray
from spinezoo.v1 import (
    ensemble_pb2,
    ensemble_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
    image_pb2,
    segmenter_pb2,
    segmenter_pb2_grpc,
)

from spinezoo_contract import codec
from spinezoo_contract.errors import (
    ConfigurationError,
    FilmError,
    InvalidOutputError,
    NotServingError,
)
from spinezoo_contract.status import REQUEST_ID_KEY, from_rpc_error
from spinezoo_contract.tls import (
    ClientSecurity,
    TlsMode,
    check_token,
    is_loopback,
    name_options,
    target_host,
)
from spinezoo_contract.types import (
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    EvaluationPair,
    Film,
    FilmKind,
    FusedAnswer,
    FusionOptions,
    MemberAnswer,
    ModelInfo,
    ModelMetrics,
    Prediction,
    PredictOptions,
    Roster,
    Segment,
)

DEFAULT_MAX_MESSAGE_BYTES = 67_108_864
"""gRPC message limit, both ways: 64 MiB, what the servers ship with."""

DEFAULT_TIMEOUT_S = 120.0
"""Time a call has, in s: a member's 60 s and as much again for the way and the fusion."""

FilmSource: TypeAlias = Film | NDArray[np.generic] | bytes | str | os.PathLike[str]
"""A film: decoded, a (height, width) array, the bytes of a file, or the path of a file."""


def image_message(
    film: FilmSource | image_pb2.Image, kind: FilmKind | None = None
) -> image_pb2.Image:
    """A film as it goes on the wire; files are sent as they are and decoded by the server.

    Args:
        film: The film.
        kind: Form of a file; None tells DICOM from the rest by its first bytes.

    Raises:
        FilmError: The file cannot be read, or the pixels break the contract.
        TooLargeError: Over the contract's size limits.
    """
    if isinstance(film, image_pb2.Image):
        return film
    if isinstance(film, np.ndarray):
        film = Film(film)
    if isinstance(film, Film):
        return codec.film_to_proto(film)
    if isinstance(film, str | os.PathLike):
        path = Path(film)
        try:
            film = path.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise FilmError(f"film {path} cannot be read ({reason}); check the path") from error
    if not film:
        raise FilmError("the film is 0 bytes long; send the whole file")
    return codec.film_file_to_proto(bytes(film), kind or film_kind(film))


def film_kind(data: bytes) -> FilmKind:
    """Whether the bytes of a film file are DICOM (with or without preamble) or another form."""
    if data[128:132] == b"DICM":
        return "dicom"
    # Without a preamble a file opens with its first group, 0002 or 0008, little-endian.
    return "dicom" if data[:2] in (b"\x02\x00", b"\x08\x00") else "encoded"


class _Client:
    """What the blocking and the asyncio clients share: settings of channel and call."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        security: ClientSecurity | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        token: str | None = None,
        plain_token: bool = False,
    ) -> None:
        """Opens a channel; the first call connects.

        Without ``ca_file``, ``security`` and ``credentials`` nothing is encrypted; give one of
        the three.

        Args:
            target: gRPC target, such as ``127.0.0.1:50050``.
            timeout_s: Time that a call has unless it says otherwise, in s; None: no limit.
            max_message_bytes: Largest message sent and received.
            credentials: TLS credentials that were made elsewhere.
            security: TLS settings, such as ``ClientSecurity.from_env()``.
            ca_file: PEM file with the authority of the server's certificate.
            certificate_file: PEM file of this client's certificate, where the server asks for one.
            key_file: PEM file of its key.
            server_name: Name in the server's certificate where the target has another.
            token: Bearer token that goes with every call.
            plain_token: Whether the token may cross a network without TLS of this client, as
                where a proxy on the way encrypts.

        Raises:
            ConfigurationError: A file is wrong, two ways of TLS are given, or the token would
                cross a network in the clear.
        """
        files = (ca_file, certificate_file, key_file)
        if sum((credentials is not None, security is not None, any(files))) > 1:
            raise ConfigurationError("TLS is given twice; give credentials, security or ca_file")
        if security is None:
            security = ClientSecurity.from_files(*files)
        encrypted = credentials is not None or security.tls is not TlsMode.OFF
        if token is not None:
            check_token(token)
            if not (encrypted or plain_token or is_loopback(target_host(target))):
                raise ConfigurationError(
                    f"the token would go to {target} in the clear; give ca_file, or plain_token "
                    "where a proxy on the way encrypts"
                )
        self.target = target
        self.timeout_s = timeout_s
        self._token = token
        options = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
        ]
        self._channel = self._open(target, options, credentials, security, server_name)

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> Any:
        raise NotImplementedError

    def _call(self, timeout_s: float | None, request_id: str | None) -> _Call:
        return _Call(self.timeout_s if timeout_s is None else timeout_s, request_id, self._token)


class _Call:
    """Arguments of one call and the meaning of its failure."""

    def __init__(self, timeout_s: float | None, request_id: str | None, token: str | None) -> None:
        self.request_id = request_id or uuid.uuid4().hex
        metadata = [(REQUEST_ID_KEY, self.request_id)]
        if token is not None:
            metadata.append(("authorization", f"Bearer {token}"))
        self.arguments: dict[str, Any] = {"timeout": timeout_s, "metadata": tuple(metadata)}

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns grpc's error into ours, with a note of the request id."""
        try:
            yield
        except grpc.RpcError as error:
            named = from_rpc_error(error)
            named.add_note(f"request id {self.request_id}")
            raise named from error
        except InvalidOutputError as error:
            error.add_note(f"request id {self.request_id}")
            raise


class _BlockingClient(_Client):
    """A blocking client: close it, or use it in a ``with`` statement. Safe in many threads."""

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> grpc.Channel:
        if credentials is None:
            return security.channel(target, options, server_name)
        return grpc.secure_channel(target, credentials, options=name_options(options, server_name))

    def wait_until_connected(self, timeout_s: float = 30.0) -> None:
        """Waits until the server takes connections.

        Raises:
            NotServingError: It did not within ``timeout_s``.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise NotServingError(
                f"{self.target} took no connection within {timeout_s:g} s; is the server running?"
            ) from error

    def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Returns the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the channel."""
        self.close()


class _AsyncClient(_Client):
    """An asyncio client: make it inside a running loop, use it in an ``async with`` statement."""

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> grpc.aio.Channel:
        if credentials is None:
            return security.aio_channel(target, options, server_name)
        return grpc.aio.secure_channel(
            target, credentials, options=name_options(options, server_name)
        )

    async def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """Returns the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the channel."""
        await self.close()


# --- one network ---------------------------------------------------------------------------------


def _predict_request(
    film: FilmSource, options: PredictOptions, kind: FilmKind | None
) -> segmenter_pb2.PredictRequest:
    return codec.predict_request_to_proto(image_message(film, kind), options)


def _raw_size(image: image_pb2.Image) -> tuple[int | None, int | None]:
    """Height and width where the message says them; those of a file only its reader knows."""
    if image.WhichOneof("form") == "raw":
        return image.raw.height, image.raw.width
    return None, None


class SegmenterClient(_BlockingClient):
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
            return codec.from_proto(Prediction, response, *_raw_size(request.image))

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


class AsyncSegmenterClient(_AsyncClient):
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
            response = await stub.Predict(request, **call.arguments)
            return codec.from_proto(Prediction, response, *_raw_size(request.image))

    async def get_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelInfo:
        """What the container serves; see :meth:`SegmenterClient.get_model`."""
        call = self._call(timeout_s, request_id)
        with call.named_errors():
            stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channel)
            response = await stub.GetModel(segmenter_pb2.GetModelRequest(), **call.arguments)
            return codec.from_proto(ModelInfo, response.model)


# --- the ensemble --------------------------------------------------------------------------------


def _segment_request(
    film: FilmSource, options: EnsembleOptions, kind: FilmKind | None
) -> ensemble_pb2.SegmentRequest:
    return codec.ensemble_request_to_proto(image_message(film, kind), options)


def _stream_event(
    event: ensemble_pb2.SegmentStreamResponse, image: image_pb2.Image
) -> MemberAnswer | EnsembleSummary:
    which = event.WhichOneof("event")
    if which == "member":
        return codec.from_proto(MemberAnswer, event.member, *_raw_size(image))
    if which == "summary":
        return codec.from_proto(EnsembleSummary, event.summary)
    raise InvalidOutputError("a message of the stream is neither a member nor the summary")


def _require_summary(last: MemberAnswer | EnsembleSummary | None) -> None:
    if not isinstance(last, EnsembleSummary):
        raise InvalidOutputError("the stream ended without a summary; ask again")


class EnsembleClient(_BlockingClient):
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
        self, request: ensemble_pb2.SegmentStreamRequest, call: _Call
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


class AsyncEnsembleClient(_AsyncClient):
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
            return codec.from_proto(EnsembleAnswer, await stub.Segment(request, **call.arguments))

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
            response = await stub.ListModels(ensemble_pb2.ListModelsRequest(), **call.arguments)
            return codec.from_proto(Roster, response)


# --- the evaluator -------------------------------------------------------------------------------


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


class EvaluationClient(_BlockingClient):
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
        call = _Call(timeout_s, request_id, self._token)
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


class AsyncEvaluationClient(_AsyncClient):
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
            response = await stub.Fuse(request, **call.arguments)
            return codec.from_proto(FusedAnswer, response.fused, height, width)

    async def evaluate(
        self,
        pairs: Iterable[EvaluationPair] | AsyncIterable[EvaluationPair],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[ModelMetrics, ...]:
        """Measures a stream of any length; see :meth:`EvaluationClient.evaluate`."""
        call = _Call(timeout_s, request_id, self._token)
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
            return _metrics(await stream)
