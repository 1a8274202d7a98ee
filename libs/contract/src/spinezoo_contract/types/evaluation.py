"""What the evaluator is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from spinezoo_contract.errors import (
    AnnotationError,
    BadInputError,
    InvalidOutputError,
    TooLargeError,
)
from spinezoo_contract.limits import MAX_NAME_LENGTH, check_film_size
from spinezoo_contract.types.outlines import Annotation, check_annotation


def check_pair_names(film_id: str, model_name: str) -> None:
    """Checks the two names of a pair.

    Raises:
        AnnotationError: One is empty or too long.
    """
    for what, name in (("film_id", film_id), ("model_name", model_name)):
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise AnnotationError(f"{what} has {len(name)} characters; send 1 to {MAX_NAME_LENGTH}")


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """One film's truth and one model's prediction of it.

    Attributes:
        film_id: Name of the film, unique together with the model; must not identify a patient.
        model_name: Name of the model that predicted.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        truth: The hand-drawn outlines.
        prediction: The model's outlines.
    """

    film_id: str
    model_name: str
    height: int
    width: int
    truth: Annotation
    prediction: Annotation

    def __post_init__(self) -> None:
        """Checks names, size and both sides.

        Raises:
            AnnotationError: A name is empty or too long.
            MaskError: A mask is wrong; the message names film, model and side.
            FilmError: The size is below the least.
            TooLargeError: The size is over a limit.
        """
        check_pair_names(self.film_id, self.model_name)
        where = film = f"film {self.film_id!r}, model {self.model_name!r}"
        try:
            check_film_size(self.height, self.width, None)
            for what in ("truth", "prediction"):
                where = f"{film}, {what}"
                check_annotation(getattr(self, what), self.height, self.width)
        except (BadInputError, TooLargeError) as error:
            raise type(error)(f"{where}: {error}") from error


class MetricDirection(IntEnum):
    """Which way a metric improves."""

    HIGHER_IS_BETTER = 1
    LOWER_IS_BETTER = 2


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one model.

    Attributes:
        name: Such as ``"mean_iou"``.
        film_mean: Mean over films of the film's own value, or None where no film defines it.
        pooled: Value from the summed counts of all films, or None where not defined.
        film_count: Films that define it.
        direction: Which way is better.
        minimum: Least possible value.
        maximum: Greatest possible value.
    """

    name: str
    film_mean: float | None
    pooled: float | None
    film_count: int
    direction: MetricDirection
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        """Checks the name.

        Raises:
            InvalidOutputError: There is none.
        """
        if not self.name:
            raise InvalidOutputError("a model or metric has no name")


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """All metrics of one model over a stream of films."""

    model_name: str
    film_count: int
    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        """Checks the name.

        Raises:
            InvalidOutputError: There is none.
        """
        if not self.model_name:
            raise InvalidOutputError("a model or metric has no name")
