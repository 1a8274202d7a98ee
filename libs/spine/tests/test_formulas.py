"""Formulas of measures on corners whose angles and lengths are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.column import neighbours
from spinezoo_spine.measures.uncertainty import half_width

Array = NDArray[np.float64]


def body(upper: list[tuple[float, float]], lower: list[tuple[float, float]]) -> Array:
    """Corners, from the back and the front end of both endplates."""
    return np.array([*upper, *lower[::-1]], dtype=np.float64)


def plate(degrees: float) -> Array:
    """A vector to the front that points down by an angle."""
    return np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])


@pytest.mark.parametrize(
    ("upper", "lower", "lordosis"),
    [(-10, 20, 30), (20, -10, -30), (170, -170, 20), (-170, 170, -20), (-100, 79, 179)],
)
def test_lordosis_is_positive_and_never_a_turn_too_far(
    upper: float, lower: float, lordosis: float
) -> None:
    assert formulas.between_deg(plate(upper), plate(lower)) == pytest.approx(lordosis)


def test_a_disc_that_opens_to_the_front() -> None:
    above = body([(0, -9), (10, -11)], [(0, 0), (10, -2)])
    below = body([(1, 3), (11, 5)], [(1, 12), (11, 14)])
    middles = np.array([(5.0, -0.5), (6.0, 4.5)])
    # Its endplates lean alike to both sides of level, so heights are upright.
    assert formulas.disc_gaps(above, below, middles) == pytest.approx([7.0, 5.0, 3.0])
    assert formulas.disc_depth(above, below) == pytest.approx(np.hypot(10, 2))
    sunk = below - [0.0, 4.0]
    middles[1, 1] -= 4.0
    assert formulas.disc_gaps(above, sunk, middles) == pytest.approx([3.0, 1.0, -1.0])
    assert formulas.disc_heights(above, sunk, middles) == pytest.approx([3.0, 1.0, 0.0])


def test_depth_is_the_mean_of_both_endplates() -> None:
    above = body([(0, 0), (10, 0)], [(0, 8), (10, 8)])
    below = body([(0, 10), (14, 10)], [(0, 20), (30, 20)])
    assert formulas.disc_depth(above, below) == pytest.approx(12.0)


def test_slip_is_along_the_endplate_below_and_positive_to_the_front() -> None:
    below = body([(0, 0), (6, 8)], [(-8, 6), (-2, 14)])
    above = body([(-2, -10), (4, -2)], [(3, 4), (9, 12)])
    assert formulas.slip(above, below) == pytest.approx(5.0)
    assert formulas.slip(above - [6.0, 8.0], below) == pytest.approx(-5.0)
    # What lies square to the endplate is no slip.
    assert formulas.slip(above - [-8.0, 6.0], below) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("percent", "grade"),
    [(9.9, 0), (10, 1), (24.9, 1), (25, 2), (49.9, 2), (50, 3), (75, 4), (99.9, 4), (100, 5)],
)
def test_meyerding(percent: float, grade: int) -> None:
    assert formulas.meyerding_grade(percent) == grade
    assert formulas.meyerding_grade(-percent) == -grade


@pytest.mark.parametrize(
    ("loss", "grade"), [(0.19, 0), (0.2, 1), (0.24, 1), (0.25, 2), (0.39, 2), (0.4, 3)]
)
def test_genant(loss: float, grade: int) -> None:
    assert formulas.genant_grade(loss) == grade


@pytest.mark.parametrize(
    ("heights", "usual_back", "usual_wedge", "loss"),
    [
        ((8, 9, 10), np.nan, 1.0, 0.2),  # a wedge
        ((8, 9.5, 10), np.nan, 0.8, 0.0),  # as it is usual at its level
        ((10, 8, 10), np.nan, 1.0, 1 - 8 / 9.4),  # hollow
        ((12, 8.8, 10), np.nan, 1.2, 1 - 8 / 9.4),  # hollow between ends that differ as is usual
        ((7, 7, 7), 10.0, 1.0, 0.3),  # crushed as a whole
        ((5.6, 6.3, 7), 10.0, 0.8, 0.3),
        ((7, 7, 6), 10.0, 1.0, 0.3),  # by its taller side
        ((10, 10, 10), 9.0, 1.0, 0.0),
        ((10, 8.5, 7), np.nan, 1.0, 0.0),  # what is lost behind alone is no fracture
    ],
)
def test_loss_of_height(
    heights: tuple[float, ...], usual_back: float, usual_wedge: float, loss: float
) -> None:
    found = formulas.height_loss(np.array(heights, np.float64), usual_back, usual_wedge)
    assert found == pytest.approx(loss)


@pytest.mark.parametrize(
    ("gap", "opens", "wrong"),
    [
        (-1.1, 0.0, False),
        (-1.3, 0.0, True),
        (9.0, 39.0, False),
        (9.0, 41.0, True),
        (9.0, -9.0, False),
        (9.0, -11.0, True),
        (np.nan, 0.0, False),
    ],
)
def test_neighbours_contradict_each_other_beyond_what_bones_do(
    gap: float, opens: float, wrong: bool
) -> None:
    above = body([(0, -8), (10, -8)], [(0, 0), (10, 0)])
    middle = np.array([5.0, gap])
    half = 5.0 * plate(opens)
    below = body([tuple(middle - half), tuple(middle + half)], [(0, 20), (10, 20)])
    assert formulas.contradictory(above[None], below[None]).tolist() == [wrong]


@pytest.mark.parametrize(("back", "front"), [(-1.4, 0.2), (0.2, -1.4)])
def test_one_end_that_digs_too_deep_is_enough(back: float, front: float) -> None:
    above = body([(0, -8), (30, -8)], [(0, 0), (10, 0)])
    below = body([(0, back), (10, front)], [(0, 9), (30, 9)])
    assert formulas.contradictory(above[None], below[None]).all()


@pytest.mark.parametrize(("along", "apart"), [((2.0, 0.0), 4.0), ((0.0, 3.0), 3.0)])
def test_a_double_contour_is_as_far_apart_as_square_to_the_endplate(
    along: tuple[float, float], apart: float
) -> None:
    ends = np.array([(1.0, 1.0), (4.0, 5.0)])
    for each in (ends, ends[::-1]):
        assert formulas.double_contour(each, np.array(along)) == pytest.approx(apart)


@pytest.mark.parametrize(
    ("above", "below", "follows"),
    [
        ("T11", "T12", True),
        ("T12", "L1", True),
        ("L1", "T12", False),
        ("L1", "L2", True),
        ("L1", "L3", False),
        ("L3", "S1", False),
        ("L4", "S1", True),
        ("L5", "S1", True),
        ("L6", "S1", True),
        ("S1", "S2", True),
        ("L5", "S2", False),
    ],
)
def test_which_vertebra_follows_which(above: str, below: str, follows: bool) -> None:
    assert neighbours(above, below) is follows


def test_an_interval_joins_spread_and_floor_and_stretches_both() -> None:
    fitted = {"SLIP": (3.0, 2.0), "DISC_ANGLE": (0.0, 1.5)}
    assert half_width(fitted, "SLIP", 4.0) == 10.0
    assert half_width(fitted, "SLIP", 8.0, 2.0) == 20.0  # a floor of lengths is a share
    assert half_width(fitted, "CAGE_TO_POSTERIOR_WALL", 4.0) == 10.0
    assert half_width(fitted, "SCREW_ANGLE", 4.0) == 6.0
