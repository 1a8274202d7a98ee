"""``spinezoo.v1.EvaluationService``: fuses masks, measures streams of films."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from spinezoo.v1 import evaluation_pb2, evaluation_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.errors import AnnotationError, BadInputError, TooLargeError
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT
from spinezoo_serving.settings import ServerSettings
from spinezoo_spine.fusion.votes import fuse
from spinezoo_spine.metrics.film import FilmMeasurement
from spinezoo_spine.metrics.tally import Tally

from spinezoo_evaluator.service.measure import measure_pair, model_metrics

MAX_MODELS = 1000
"""Most model names in one stream: each holds a tally of some KiB."""

REPEAT_WINDOW = 10_000
"""Pairs of film and model that a stream remembers, to find one that comes twice.

A stream may be of any length and is measured in constant memory, so it cannot remember all. The
usual accidents, a film sent again at once or by a sender that starts over, fall into the window of
a benchmark; 10,000 pairs are 2,000 films of five networks and take about 1 MiB.
"""


class RepeatWatch:
    """Remembers the last pairs of film and model by their digest.

    Args:
        window: How many.
    """

    def __init__(self, window: int = REPEAT_WINDOW) -> None:
        self._window = window
        self._order: deque[bytes] = deque()
        self._known: set[bytes] = set()

    def take(self, film_id: str, model_name: str) -> None:
        """Takes note of a pair.

        Raises:
            AnnotationError: It is among the remembered ones.
        """
        # The length parts the names: "a", "bc" is another pair than "ab", "c".
        text = f"{len(film_id)}:{film_id}{model_name}".encode()
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest in self._known:
            raise AnnotationError(
                f"film {film_id!r}, model {model_name!r}: it came before in this stream; send each "
                "film once a model"
            )
        self._known.add(digest)
        self._order.append(digest)
        if len(self._order) > self._window:
            self._known.discard(self._order.popleft())


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """The service; without state between calls.

    Masks are counted in threads, so that health and other calls are answered meanwhile.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._max_pixels = settings.max_pixels

    async def Fuse(  # noqa: N802
        self, request: evaluation_pb2.FuseRequest, context: Any
    ) -> evaluation_pb2.FuseResponse:
        """Fuses masks; see ``evaluation.proto``."""

        def work() -> evaluation_pb2.FuseResponse:
            asked = codec.fuse_request_from_proto(request, self._max_pixels)
            return evaluation_pb2.FuseResponse(fused=codec.to_proto(fuse(*asked)))

        return await asyncio.to_thread(work)

    async def Evaluate(  # noqa: N802
        self, request_iterator: AsyncIterator[evaluation_pb2.EvaluateRequest], context: Any
    ) -> evaluation_pb2.EvaluateResponse:
        """Measures a stream of any length in constant memory; see ``evaluation.proto``."""
        tallies: dict[str, Tally] = {}
        watch = RepeatWatch()
        async for request in request_iterator:
            watch.take(request.film_id, request.model_name)
            measured = await asyncio.to_thread(self._measure, request)
            tally = tallies.get(request.model_name)
            if tally is None:
                if len(tallies) == MAX_MODELS:
                    raise TooLargeError(
                        f"film {request.film_id!r}: more than {MAX_MODELS} model names in one "
                        "stream; is the film's name in the model's place?"
                    )
                tally = tallies[request.model_name] = Tally()
            tally.add(measured)
        if not tallies:
            raise BadInputError("the stream is empty; send at least one film")
        return evaluation_pb2.EvaluateResponse(
            models=[codec.to_proto(model_metrics(name, tallies[name])) for name in sorted(tallies)]
        )

    def _measure(self, request: evaluation_pb2.EvaluateRequest) -> FilmMeasurement:
        for side in ("truth", "prediction"):
            count = len(getattr(request, side).segments.segments)
            if count > MAX_SEGMENTS_LIMIT:
                raise TooLargeError(
                    f"film {request.film_id!r}, model {request.model_name!r}, {side}: {count} "
                    f"segments, the limit is {MAX_SEGMENTS_LIMIT} a film; unite or remove some"
                )
        return measure_pair(codec.evaluation_pair_from_proto(request, self._max_pixels))
