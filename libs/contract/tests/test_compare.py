"""Changes between two films."""

from __future__ import annotations

from spinezoo_contract.measures.compare import compare_films
from spinezoo_contract.types import (
    Facing,
    FilmMeasures,
    Measure,
    MeasureKind,
    MeasurePlane,
    MeasureUnit,
)


def film(*measures: Measure, plane: MeasurePlane | None = MeasurePlane.DETECTOR) -> FilmMeasures:
    return FilmMeasures(Facing.RIGHT, 1.0, plane, measures=measures)


def screws(count: float) -> Measure:
    return Measure(MeasureKind.SCREW_COUNT, ("L4",), MeasureUnit.COUNT, count)


def height(value: float, half: float) -> Measure:
    kind = MeasureKind.BODY_HEIGHT_ANTERIOR
    return Measure(
        kind, ("L4",), MeasureUnit.MILLIMETRE, value, low=value - half, high=value + half
    )


def test_what_has_no_interval_is_not_said_to_have_changed_beyond_it() -> None:
    (change,) = compare_films(film(screws(1.0)), film(screws(2.0)))
    assert (change.before, change.after, change.change) == (1.0, 2.0, 1.0)
    assert change.half_width is None
    assert not change.beyond


def test_intervals_add_in_squares() -> None:
    (small,) = compare_films(film(height(30.0, 3.0)), film(height(26.0, 4.0)))
    assert (small.change, small.half_width, small.beyond) == (-4.0, 5.0, False)
    (great,) = compare_films(film(height(30.0, 3.0)), film(height(24.0, 4.0)))
    assert (great.change, great.half_width, great.beyond) == (-6.0, 5.0, True)


def test_lengths_of_two_planes_are_not_compared() -> None:
    patient = film(height(25.0, 3.0), plane=MeasurePlane.PATIENT)
    (change,) = compare_films(film(height(30.0, 3.0)), patient)
    assert (change.before, change.after, change.change, change.beyond) == (30.0, 25.0, None, False)
    (same,) = compare_films(patient, patient)
    assert same.change == 0.0
