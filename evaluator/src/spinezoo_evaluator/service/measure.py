"""From outlines in either form to measurements, and from tallies to the contract's metrics."""

from __future__ import annotations

from spinezoo_contract.errors import BadInputError
from spinezoo_contract.types import (
    Annotation,
    EvaluationPair,
    Metric,
    ModelMetrics,
    Segment,
)
from spinezoo_spine.instances import regions_from_label_map
from spinezoo_spine.metrics.film import FilmMeasurement, measure_film
from spinezoo_spine.metrics.tally import Tally


def segments_of(annotation: Annotation) -> tuple[Segment, ...]:
    """The segments of outlines in either form; a label map becomes one region a structure.

    Raises:
        MaskError: A label map is encoded 0/255.
        AnnotationError: A label map holds a number that is no structure's.
    """
    return annotation if isinstance(annotation, tuple) else regions_from_label_map(annotation)


def measure_pair(pair: EvaluationPair) -> FilmMeasurement:
    """Measures one film's prediction against its truth.

    Raises:
        BadInputError: Truth or prediction is wrong; the message names film, model and side.
    """
    film = f"film {pair.film_id!r}, model {pair.model_name!r}"
    sides = []
    for what, annotation in (("truth", pair.truth), ("prediction", pair.prediction)):
        try:
            sides.append(segments_of(annotation))
        except BadInputError as error:
            raise type(error)(f"{film}, {what}: {error}") from error
    try:
        return measure_film(sides[0], sides[1], pair.height, pair.width)
    except BadInputError as error:
        raise type(error)(f"{film}: {error}") from error


def model_metrics(model_name: str, tally: Tally) -> ModelMetrics:
    """A tally as the contract's answer, metrics in the order of their registry."""
    return ModelMetrics(
        model_name,
        tally.film_count,
        tuple(
            Metric(
                name,
                value.film_mean,
                value.pooled,
                value.film_count,
                value.spec.direction,
                value.spec.minimum,
                value.spec.maximum,
            )
            for name, value in tally.metrics().items()
        ),
    )
