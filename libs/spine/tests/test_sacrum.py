"""S1's endplate is sought on the film where the outlines do not tell it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import (
    FilmMeasures,
    Labelling,
    Measure,
    MeasureKind,
    NamedVertebra,
    Segment,
    SegmentKind,
    UnnamedReason,
    WithheldReason,
)
from spinezoo_spine.column.consensus import vertebrae_of
from spinezoo_spine.measures.film import measure_film
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, built_in_refiner
from spinezoo_testing.columns import Column, instance, phantom_column

SEEDS = (3, 5, 11, 12, 13)
SHOWN = 11
"""A patient whose S1 the refiner surely sees."""


def redrawn(segment: Segment, pixels: NDArray[Any]) -> Segment:
    drawn = instance(pixels, segment.structure, segment.score, segment.level)
    return replace(drawn, kind=SegmentKind.INSTANCE)


def with_wrong_sacrum(column: Column) -> Column:
    """The column with S1's outline turned by 30 degrees and moved by a third of its size."""
    true = column.of("S1")
    box = true.box
    middle = (box.x + box.width / 2, box.y + box.height / 2)
    matrix = cv2.getRotationMatrix2D(middle, 30.0, 0.9)
    matrix[:, 2] += 0.33 * np.sqrt(true.mask.area)
    size = (column.width, column.height)
    moved = cv2.warpAffine(decode_mask(true.mask).astype(np.uint8), matrix, size)
    others = (s for s in column.segments if s.level != "S1")
    return replace(column, segments=(*others, redrawn(true, moved)))


def mirrored(column: Column) -> Column:
    turned = tuple(redrawn(s, decode_mask(s.mask)[:, ::-1]) for s in column.segments)
    return replace(column, segments=turned)


def measured(
    column: Column,
    pixels: NDArray[Any],
    refiner: LandmarkRefiner | None,
    spacing_mm: tuple[float, float] = (0.5, 0.5),
) -> FilmMeasures:
    """Measures of a column whose S1 three of four members do not outline."""
    vertebrae = tuple(
        NamedVertebra(s, 0.99, None if s.level else UnnamedReason.SACRUM_UNSURE)
        for s in column.segments
    )
    height, width = pixels.shape
    members = {
        str(member): vertebrae_of([replace(s, level=None) for s in each.segments], height, width)
        for member, each in enumerate((column, *[column.without("S1")] * 3))
    }
    return measure_film(
        Labelling(vertebrae, True), members, (), spacing_mm, pixels=pixels, refiner=refiner
    )


def slope(film: FilmMeasures) -> Measure:
    (found,) = [m for m in film.measures if m.kind is MeasureKind.SACRAL_SLOPE]
    return found


def true_slope(column: Column, pixels: NDArray[Any]) -> float:
    vertebrae = tuple(NamedVertebra(s, 0.99, None) for s in column.segments if s.level)
    value = slope(measure_film(Labelling(vertebrae, True), {}, (), (0.5, 0.5))).value
    assert value is not None
    return value


def below_the_last_vertebra(column: Column, pixels: NDArray[Any]) -> NDArray[Any]:
    """The film with clouds in place of what lies below L5."""
    box = column.of("L5").box
    top = round(box.y + box.height)
    hidden = pixels.astype(np.float32)
    near = hidden[round(box.y) : top]
    rng = np.random.default_rng(0)
    rows = column.height - top
    clouds = cv2.resize(rng.normal(0.0, 1.0, (6, 5)), (column.width, rows))
    hidden[top:] = near.mean() + near.std() * (clouds + rng.normal(0.0, 0.05, clouds.shape))
    return hidden.clip(0, pixels.max()).astype(pixels.dtype)


def test_an_endplate_is_found_where_outlines_are_wrong() -> None:
    found = 0
    for seed in SEEDS:
        column, pixels = phantom_column(seed)
        told = slope(measured(with_wrong_sacrum(column), pixels, built_in_refiner()))
        if told.value is None:
            assert told.withheld_reason is WithheldReason.TOO_UNSURE
            continue
        found += 1
        assert told.value == pytest.approx(true_slope(column, pixels), abs=8.0)
    assert found >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_film_that_shows_no_sacrum_tells_none(seed: int) -> None:
    column, pixels = phantom_column(seed)
    hidden = below_the_last_vertebra(column, pixels)
    told = slope(measured(with_wrong_sacrum(column), hidden, built_in_refiner()))
    assert told.withheld_reason is WithheldReason.TOO_UNSURE


def test_a_mirrored_film_gives_the_same_slope() -> None:
    column, pixels = phantom_column(SHOWN)
    wrong = with_wrong_sacrum(column)
    one = slope(measured(wrong, pixels, built_in_refiner())).value
    turned = np.ascontiguousarray(pixels[:, ::-1])
    other = slope(measured(mirrored(wrong), turned, built_in_refiner())).value
    assert one is not None
    assert other == pytest.approx(one, abs=2.0)


def test_without_a_refiner_it_is_withheld() -> None:
    column, pixels = phantom_column(SHOWN)
    found = slope(measured(with_wrong_sacrum(column), pixels, None))
    assert found.withheld_reason is WithheldReason.TOO_UNSURE


@pytest.mark.parametrize("seed", SEEDS)
def test_the_endplate_of_a_vertebra_without_an_outline_is_not_that_of_s1(seed: int) -> None:
    column, pixels = phantom_column(seed)
    found = slope(measured(with_wrong_sacrum(column).without("L5"), pixels, built_in_refiner()))
    assert found.withheld_reason is WithheldReason.TOO_UNSURE


def test_oblong_pixels_give_the_same_slope() -> None:
    column, pixels = phantom_column(SHOWN)
    wrong = with_wrong_sacrum(column)
    size = (2 * column.width, column.height)
    wide = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    segments = tuple(redrawn(s, np.repeat(decode_mask(s.mask), 2, axis=1)) for s in wrong.segments)
    stretched = Column(segments, column.height, size[0])
    film = measured(stretched, wide, built_in_refiner(), (0.5, 0.25))
    one = slope(measured(wrong, pixels, built_in_refiner())).value
    assert one is not None
    assert slope(film).value == pytest.approx(one, abs=2.0)
