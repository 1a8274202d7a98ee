"""From a film to an answer: what the predictors of all networks share, in any framework.

A predictor says how its network infers; checks, preparation, the way to the film's size, times and
provenance are the same for all and stand here. A semantic network inherits
:class:`SemanticPredictor`, another one :class:`FilmPredictor`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import CardError, InvalidOutputError
from spinezoo_contract.types import (
    SHRINKING_ID,
    Film,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    Segment,
    Timing,
)

from spinezoo_spine.inference import postprocess as finish
from spinezoo_spine.inference import preprocess as prepare
from spinezoo_spine.inference.class_planes import ClassPlanes
from spinezoo_spine.inference.options import ResolvedOptions, resolve_options

if TYPE_CHECKING:
    from spinezoo_serving.cards import ModelCard

Output = TypeVar("Output")
"""What a network answers, in the form that its predictor makes outlines from."""

Outlines = tuple[tuple[Segment, ...], tuple[ProbabilityMap, ...]]
"""The segments and the probability maps of an answer, both at the film's size or in its terms."""

INPUT_CHANNELS = 2
"""Planes of the network input that :mod:`spinezoo_spine.inference.preprocess` makes."""


class FilmPredictor(ABC, Generic[Output]):
    """A loaded network; see ``spinezoo_serving.predictor.Predictor``.

    Attributes:
        card: The model card with its preset chosen.
        device: Name of the device, ``cpu`` or such as ``cuda:0``.
        precision: Name of the type that the network computes in, such as ``float32``.
        engine: What runs the network, such as ``openvino`` or ``torch``.
        concurrent: From how many threads :meth:`predict` may be called at a time.
        shrinking_id: Name of the way in which callers may shrink films beforehand.
    """

    shrinking_id = SHRINKING_ID

    def __init__(
        self, card: ModelCard, device: str, precision: str = "float32", engine: str = ""
    ) -> None:
        """Keeps what the answers name.

        Raises:
            CardError: The card asks for another preprocessing.
        """
        check_preprocessing(card)
        self.card = card
        self.device = device
        self.precision = precision
        self.engine = engine
        self.concurrent = 1

    @abstractmethod
    def infer(self, inputs: NDArray[np.float32], settings: ResolvedOptions) -> Output:
        """What the network answers, checked, and off the device.

        Args:
            inputs: (2, height, width) of the card's input.
            settings: Of the request.

        Raises:
            InvalidOutputError: The network answered nonsense.
        """

    @abstractmethod
    def outlines(
        self, output: Output, fit: prepare.Letterbox, settings: ResolvedOptions
    ) -> Outlines:
        """The outlines at the film's size.

        Args:
            output: What :meth:`infer` answered.
            fit: Where the film lies on the network's canvas.
            settings: Of the request.
        """

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Outlines of one film at the film's own size.

        Raises:
            InvalidOutputError: The network answered nonsense.
        """
        settings = resolve_options(options, self.card)
        watch = Stopwatch()
        grey, fit = self._fitted(film)
        inputs = prepare.two_channels(grey)
        prepare_ms = watch.lap_ms()
        output = self.infer(inputs, settings)
        infer_ms = watch.lap_ms()
        segments, maps = self.outlines(output, fit, settings)
        timing = Timing(prepare_ms=prepare_ms, infer_ms=infer_ms, finish_ms=watch.lap_ms())
        return Prediction(
            height=fit.film_height,
            width=fit.film_width,
            segments=segments,
            provenance=self._provenance(timing),
            probability_maps=maps,
        )

    def infer_many(
        self, inputs: Sequence[NDArray[np.float32]], settings: Sequence[ResolvedOptions]
    ) -> Sequence[Output]:
        """As :meth:`infer`, for several films; a network that is faster so overrides it."""
        return [self.infer(each, own) for each, own in zip(inputs, settings, strict=True)]

    def predict_many(
        self, films: Sequence[Film], options: Sequence[PredictOptions]
    ) -> tuple[Prediction, ...]:
        """What :meth:`predict` answers for each film; ``infer_ms`` is its share of the batch's.

        Raises:
            InvalidOutputError: The network answered nonsense.
        """
        settings = [resolve_options(each, self.card) for each in options]
        watch = Stopwatch()
        inputs, fits, prepare_ms = [], [], []
        for film in films:
            grey, fit = self._fitted(film)
            inputs.append(prepare.two_channels(grey))
            fits.append(fit)
            prepare_ms.append(watch.lap_ms())
        outputs = self.infer_many(inputs, settings)
        infer_ms = watch.lap_ms() / len(films)
        predictions = []
        for fit, output, own, ms in zip(fits, outputs, settings, prepare_ms, strict=True):
            segments, maps = self.outlines(output, fit, own)
            timing = Timing(prepare_ms=ms, infer_ms=infer_ms, finish_ms=watch.lap_ms())
            answer = Prediction(
                height=fit.film_height,
                width=fit.film_width,
                segments=segments,
                provenance=self._provenance(timing),
                probability_maps=maps,
            )
            predictions.append(answer)
        return tuple(predictions)

    def _fitted(self, film: Film) -> tuple[NDArray[np.float32], prepare.Letterbox]:
        """The film on the network's canvas, and where it lies there.

        Raises:
            FilmError: It was shrunk to another canvas.
        """
        canvas = self.card.input
        return prepare.letterbox(
            film.pixels, canvas.height, canvas.width, shrunk_from=film.shrunk_from
        )

    def _provenance(self, timing: Timing) -> Provenance:
        """Who answered."""
        return self.card.provenance(
            self.device, timing, engine=self.engine, precision=self.precision
        )


class SemanticPredictor(FilmPredictor[ClassPlanes]):
    """A semantic network: class probabilities a pixel, one region a structure.

    ``suppression_iou`` is checked and otherwise without meaning: regions are not suppressed.
    """

    @abstractmethod
    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (1 + structures, h, w) probabilities.

        The grid may be coarser, as long as it covers the same canvas.
        """

    def infer(self, inputs: NDArray[np.float32], settings: ResolvedOptions) -> ClassPlanes:
        """The probabilities, all of them finite; see :meth:`FilmPredictor.infer`."""
        return ClassPlanes.whole(self.checked(self.probabilities(inputs)))

    def checked(self, answer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities or logits as they are.

        Raises:
            InvalidOutputError: They are not all finite.
        """
        if not np.isfinite(answer).all():
            raise InvalidOutputError(
                f"{self.card.name} answered numbers that are not finite; check the weights"
            )
        return answer

    def outlines(
        self, output: ClassPlanes, fit: prepare.Letterbox, settings: ResolvedOptions
    ) -> Outlines:
        """One region a structure; see :meth:`FilmPredictor.outlines`."""
        structures = self.card.structures
        segments = finish.regions_from_probabilities(
            output,
            structures,
            fit,
            score_threshold=settings.score_threshold,
            max_segments=settings.max_segments,
        )
        if not settings.include_probability_maps:
            return segments, ()
        return segments, finish.probability_maps(output.values, structures, fit)


def check_preprocessing(card: ModelCard) -> None:
    """Refuses a card that was made for another way from film to input.

    Raises:
        CardError: Another preprocessing or number of channels than this package does.
    """
    if card.preprocessing_id != prepare.PREPROCESSING_ID or card.input.channels != INPUT_CHANNELS:
        raise CardError(
            f"card {card.path}: preprocessing {card.preprocessing_id!r} with {card.input.channels} "
            f"channels was trained, {prepare.PREPROCESSING_ID!r} with {INPUT_CHANNELS} is what "
            "this version does; install the version that trained the weights, or train again"
        )


class Stopwatch:
    """Milliseconds between calls."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap_ms(self) -> float:
        """Milliseconds since the last call, or since the start."""
        now = time.perf_counter()
        lap, self._last = (now - self._last) * 1000.0, now
        return lap
