"""One network behind a queue: what a member answers over gRPC and over HTTP.

:class:`NetworkRunner` reads a film, waits for the network, runs it and checks its answer;
:class:`SegmenterServicer` is ``SegmenterService`` over it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from spinezoo.v1 import image_pb2, segmenter_pb2, segmenter_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.errors import FilmError, InvalidOutputError, MaskError, NotServingError
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.types import Film, ModelInfo, Prediction, PredictOptions, Structure
from spinezoo_contract.words import counted

from spinezoo_serving.predict_queue import Batches, PredictQueue
from spinezoo_serving.predictor import BatchPredictor
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.state import ServingState

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics
    from spinezoo_serving.predictor import Predictor

_T = TypeVar("_T")

INLINE_PIXELS = 262_144
"""Raw films up to this size are read on the event loop."""


def check_prediction(
    prediction: Prediction,
    film: Film,
    options: PredictOptions,
    structures: Sequence[Structure],
    *,
    max_segments: int = MAX_SEGMENTS_LIMIT,
) -> None:
    """Checks a valid answer against what was asked, before it leaves the container.

    Args:
        prediction: The answer.
        film: The film that was asked about.
        options: The request's settings.
        structures: What the network may answer.
        max_segments: Most segments when the request gives no number.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """

    def refuse(what: str) -> InvalidOutputError:
        return InvalidOutputError(f"the network's answer breaks the contract: {what}")

    height, width = film.whole_size
    if (prediction.height, prediction.width) != (height, width):
        raise refuse(
            f"it is of size {prediction.height} x {prediction.width}, the film {height} x {width}"
        )
    most = options.max_segments or max_segments
    if len(prediction.segments) > most:
        raise refuse(
            f"{counted(len(prediction.segments), 'segment')}, at most {most} were asked for"
        )
    last_score = 1.0
    for place, segment in enumerate(prediction.segments):
        if segment.structure not in structures:
            raise refuse(f"segment {place} is a {segment.structure!r}, which the card lacks")
        if segment.score > last_score:
            raise refuse(f"segment {place} has a higher score than the one before it")
        last_score = segment.score
    if prediction.probability_maps and not options.include_probability_maps:
        raise refuse("probability maps were not asked for")
    for grid in prediction.probability_maps:
        if grid.structure not in structures:
            raise refuse(f"a probability map is of {grid.structure!r}, which the card lacks")


def shrinking_id(predictor: Predictor) -> str:
    """Name of the way in which films may be shrunk beforehand; empty where they may not."""
    return str(getattr(predictor, "shrinking_id", ""))


class Asked(NamedTuple):
    """What a caller asks of a network."""

    film: Film
    options: PredictOptions


def ask_network(predictor: Predictor, asked: Asked) -> Prediction:
    """What a network answers; a wrong outline in it is the network's fault, not the caller's.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """
    try:
        return predictor.predict(asked.film, asked.options)
    except MaskError as error:
        raise InvalidOutputError(f"the network's answer breaks the contract: {error}") from error


def ask_together(predictor: Predictor, asked: Sequence[Asked]) -> Sequence[Prediction]:
    """What a network answers on several films; see :func:`ask_network`.

    Raises:
        InvalidOutputError: An answer breaks the contract; the message says how.
    """
    if len(asked) == 1 or not isinstance(predictor, BatchPredictor):
        return [ask_network(predictor, one) for one in asked]
    try:
        return predictor.predict_many([one.film for one in asked], [one.options for one in asked])
    except MaskError as error:
        raise InvalidOutputError(f"the network's answer breaks the contract: {error}") from error


class NetworkRunner:
    """One network with its queue: what the gRPC and the HTTP endpoint both ask.

    Args:
        predictor: The loaded network, or None until :meth:`load` is done.
        settings: Limits.
        metrics: Where to count; None counts nothing.
    """

    def __init__(
        self,
        settings: ServerSettings,
        predictor: Predictor | None = None,
        *,
        metrics: ServerMetrics | None = None,
    ) -> None:
        self.settings = settings
        self.predictor = predictor
        self.metrics = metrics
        self.queue = PredictQueue(settings.queue_limit, metrics)
        self.queue.widen(getattr(predictor, "concurrent", 1))
        self._batches: Batches[Asked, Prediction] | None = None
        if settings.batch > 1:
            self._batches = Batches(
                self.queue,
                lambda asked: ask_together(self._loaded(), asked),
                most=settings.batch,
                wait_s=settings.batch_wait_ms / 1000.0,
            )
        # More than the processor has room for: one that waits for a decoder that hangs waits only.
        self._readers = ThreadPoolExecutor(8, thread_name_prefix="films")
        self._finishers = ThreadPoolExecutor(2, thread_name_prefix="answers")

    async def load(self, load: Callable[[], Predictor]) -> None:
        """Loads the network, on the thread that will run it where it is to have one only."""
        predictor = await self.queue.call(load)
        self.queue.widen(getattr(predictor, "concurrent", 1))
        self.predictor = predictor

    def info(self) -> ModelInfo:
        """What the container says of itself.

        Raises:
            NotServingError: The network is not loaded yet.
        """
        predictor = self._loaded()
        info = predictor.card.info(self.settings)
        return replace(info, shrinking_id=shrinking_id(predictor))

    def _loaded(self) -> Predictor:
        if self.predictor is None:
            raise NotServingError("the network is still loading; try again in some seconds")
        return self.predictor

    async def in_reader(self, work: Callable[[], _T]) -> _T:
        """Runs work on a film outside of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def predict(
        self,
        read: Callable[[], Asked],
        finish: Callable[[Prediction], _T],
        *,
        timeout_s: float | None = None,
        quick: bool = False,
    ) -> _T:
        """Reads a film, waits for the network, runs it, checks its answer.

        Args:
            read: Reads film and settings; run off the event loop, unless it is quick.
            finish: Makes the caller's form of the answer; run off the event loop.
            timeout_s: Time the caller has, in s, or None.
            quick: Whether reading takes less time than another thread takes to be woken.

        Returns:
            What ``finish`` made of the answer, whose timing is complete.

        Raises:
            SpineZooError: Anything of the tree, as it fits.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        predictor = self._loaded()
        with self.queue.admit() as place:
            started = time.perf_counter()
            asked = read() if quick else await self.in_reader(read)
            if asked.film.shrunk_from is not None and not shrinking_id(predictor):
                raise FilmError("this network takes whole films only; send the whole film")
            decode_ms = (time.perf_counter() - started) * 1000.0
            complete = functools.partial(self._complete, predictor, asked, decode_ms, finish)
            if self._batches is None:
                # On the network's thread: on a CPU it has another one for the next film, and to
                # wake a third thread takes as long as this.
                return await place.run(
                    lambda queue_ms: complete(ask_network(predictor, asked), queue_ms),
                    deadline=deadline,
                )
            prediction, queue_ms = await self._batches.ask(place, asked, deadline=deadline)
        return await asyncio.get_running_loop().run_in_executor(
            self._finishers, complete, prediction, queue_ms
        )

    def _complete(
        self,
        predictor: Predictor,
        asked: Asked,
        decode_ms: float,
        finish: Callable[[Prediction], _T],
        prediction: Prediction,
        queue_ms: float,
    ) -> _T:
        card = predictor.card
        check_prediction(
            prediction,
            asked.film,
            asked.options,
            card.structures,
            max_segments=card.defaults.max_segments,
        )
        provenance = prediction.provenance
        if provenance.model_name != card.name:
            raise InvalidOutputError(
                f"the network calls itself {provenance.model_name!r}, its card {card.name!r}; "
                "correct one of the two"
            )
        timing = replace(provenance.timing, decode_ms=decode_ms, queue_ms=queue_ms)
        if self.metrics is not None:
            for name in timing.__slots__:
                self.metrics.stage(name.removesuffix("_ms"), getattr(timing, name))
        complete = replace(provenance, timing=timing, image=self.settings.image)
        return finish(replace(prediction, provenance=complete, notes=asked.film.notes))

    def close(self) -> None:
        """Lets running work finish and drops what waits."""
        self.queue.close()
        for threads in (self._readers, self._finishers):
            threads.shutdown(wait=False, cancel_futures=True)


class SegmenterServicer(segmenter_pb2_grpc.SegmenterServiceServicer):
    """``SegmenterService`` over one network.

    Args:
        runner: The network with its queue.
        read_film: Decoder of DICOM and encoded films; None takes raw pixels only.
    """

    def __init__(self, runner: NetworkRunner, read_film: codec.ReadFilm | None = None) -> None:
        self._runner = runner
        self._read_film = read_film

    async def Predict(  # noqa: N802
        self, request: Any, context: Any
    ) -> segmenter_pb2.PredictResponse:
        """Outlines of one film."""
        max_pixels = self._runner.settings.max_pixels

        def read() -> Asked:
            # The settings first: they cost nothing to check.
            options = codec.from_proto(PredictOptions, request.options)
            return Asked(codec.asked_film_from_proto(request, self._read_film, max_pixels), options)

        raw = request.image.raw
        quick = (
            request.image.WhichOneof("form") == "raw"
            and raw.pixel_type != image_pb2.PIXEL_TYPE_FLOAT32  # each is looked at
            and raw.height * raw.width <= INLINE_PIXELS
        )
        return await self._runner.predict(
            read, codec.to_proto, timeout_s=context.time_remaining(), quick=quick
        )

    async def GetModel(  # noqa: N802
        self, request: Any, context: Any
    ) -> segmenter_pb2.GetModelResponse:
        """The model card in brief."""
        return segmenter_pb2.GetModelResponse(model=codec.to_proto(self._runner.info()))


def segmenter_server(
    runner: NetworkRunner,
    *,
    read_film: codec.ReadFilm | None = None,
    state: ServingState | None = None,
) -> GrpcServer:
    """A server of one network, not yet started."""
    server = GrpcServer(runner.settings, state=state, metrics=runner.metrics)
    server.add(
        segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server,
        SegmenterServicer(runner, read_film),
        SEGMENTER_SERVICE,
    )
    return server
