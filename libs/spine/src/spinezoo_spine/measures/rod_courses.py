"""Courses of rods, and the film along them.

Each rod's outline, and each two that lie end to end, gives a course. The film is unrolled along it:
rows along the rod, columns across, in units of the rod's breadth.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.strips import Axis, StripPlaces

Array = NDArray[np.float64]

CELLS = 12
"""Columns on the breadth of a rod."""

ROWS = 8
"""Rows on the breadth of a rod."""

LEAST_STRETCH = 2.5
"""Least length of a rod, in breadths: shorter outlines are cross-links, spacers, parts."""

BEYOND = 0.5
"""How far the film is looked at beyond both ends, in breadths."""

BESIDE = 2.0
"""How far it is looked at to both sides of the course, in breadths."""

MOST_BETWEEN = 2.6
"""Two outlines are of one rod where no more lies between their ends, in breadths,"""

MOST_BESIDE = 1.2
"""and no more aside."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A rod's course: one outline, or two that lie end to end.

    Attributes:
        indices: Places of the outlines among the implants.
        middle: (2,) mean of its points, in units of the film's plane.
        along: (2,) unit vector along it, downwards.
        across: (2,) unit vector to the right of that.
        bend: How it bends: coefficients of the place across, by powers of the place along as a
            share of half the length, 0 at ``middle``.
        low: Least place along it.
        high: Greatest.
        breadth: Breadth of the outline.
    """

    indices: tuple[int, ...]
    middle: Array
    along: Array
    across: Array
    bend: Array
    low: float
    high: float
    breadth: float

    @classmethod
    def of(cls, points: Array, indices: tuple[int, ...]) -> Course | None:
        """The course of (N, 2) points; None where they are not stretched."""
        axis = Axis.of(points)
        thin, long = np.sqrt(12.0 * np.maximum(axis.spread, 1e-12))
        if long < LEAST_STRETCH * thin:
            return None
        far, aside, low, high = axis.far, axis.aside, axis.low, axis.high
        # Means of short stretches: as many as the rod is often as long as broad, and again.
        count = max(4, round(2.0 * long / thin))
        place = np.minimum(((far - low) / (high - low + 1e-9) * count).astype(np.intp), count - 1)
        held = np.bincount(place, minlength=count)
        kept = held > 0.3 * held.mean()
        number = np.maximum(held, 1)
        centre = np.bincount(place, weights=far, minlength=count)[kept] / number[kept]
        beside = np.bincount(place, weights=aside, minlength=count)[kept] / number[kept]
        spread_2 = np.bincount(place, weights=aside**2, minlength=count)[kept] / number[kept]
        widths = np.sort(np.sqrt(12.0 * np.maximum(spread_2 - beside**2, 1e-12)))
        breadth = float(widths[len(widths) // 2])
        if len(centre) < 3 or high - low < LEAST_STRETCH * breadth:
            return None
        # Least squares by hand: NumPy's own takes longer than all else here.
        degree = min(axis.degree(breadth), len(centre) - 2)
        powers = (centre / (high - low) * 2.0)[:, None] ** np.arange(1 + degree)
        bend = np.linalg.solve(powers.T @ powers, powers.T @ beside)
        return cls(indices, axis.middle, axis.along, axis.across, bend, low, high, breadth)

    def bent(self, far: Any) -> tuple[Any, Any]:
        """Place across at a place along, and how much that grows there."""
        half = (self.high - self.low) / 2.0
        share = far / half
        value, slope = 0.0 * share + self.bend[-1], 0.0 * share
        for coefficient in self.bend[-2::-1]:
            slope = slope * share + value
            value = value * share + coefficient
        return value, slope / half

    def place(self, far: Any, aside: Any) -> Array:
        """(..., 2) places of the film's plane, straight on beyond both ends."""
        far = np.asarray(far, dtype=np.float64)
        within = np.minimum(np.maximum(far, self.low), self.high)
        across, slope = self.bent(within)
        beside = across + (far - within) * slope + aside
        return np.asarray(
            self.middle + far[..., None] * self.along + beside[..., None] * self.across
        )


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """A course, unrolled: (rows, columns) arrays.

    Attributes:
        far: (rows,) place of each row along the course.
        film: Brightness.
        edges: How much brighter the next column is than the last.
        seen: (rows, columns) 1 where the film is seen, 0 beneath a screw and beyond the film.
        breadth: What :data:`CELLS` columns are.
    """

    far: Array
    film: NDArray[np.float32]
    edges: NDArray[np.float32]
    seen: NDArray[np.float32]
    breadth: float


def courses_of(
    points: dict[int, Array],
) -> list[Course]:
    """The courses of single outlines, and of two that lie end to end."""
    single = {}
    for index, each in points.items():
        course = Course.of(each, (index,))
        if course is not None:
            single[index] = course
    found = list(single.values())
    for one, other in itertools.permutations(points, 2):
        above, below = single.get(one), single.get(other)
        longer = above or below
        if longer is None or points[one][:, 1].mean() >= points[other][:, 1].mean():
            continue
        if not _end_to_end(points[one], points[other], above, below):
            continue
        both = Course.of(np.concatenate([points[one], points[other]]), (one, other))
        if both is not None:
            found.append(both)
    return found


def _end_to_end(upper: Array, lower: Array, above: Course | None, below: Course | None) -> bool:
    """Whether one outline begins where the other ends."""
    for course, other, sign in ((above, lower, 1.0), (below, upper, -1.0)):
        if course is None:
            continue
        away = other - course.middle
        far = away @ course.along
        end = course.high if sign > 0 else course.low
        beyond = sign * (far - end)
        first = float(np.percentile(beyond, 1))
        if not -0.5 * course.breadth <= first <= MOST_BETWEEN * course.breadth:
            return False
        near = beyond <= first + course.breadth
        across, slope = course.bent(end)
        aside = away[near] @ course.across - across - (far[near] - end) * slope
        if abs(float(aside.mean())) > MOST_BESIDE * course.breadth:
            return False
    return True


def unrolled(
    film: NDArray[np.float32],
    screws: NDArray[np.float32],
    course: Course,
    to_grid: Array,
    origin: Array,
) -> Strip:
    """The film along a course.

    Args:
        film: A window of the film, on its grid.
        screws: 1 where a screw lies, on the same grid.
        course: In units of the film's plane.
        to_grid: (2,) what these are multiplied by for places of the grid.
        origin: (2,) the window's corner, in places of the grid.
    """
    breadth = course.breadth
    margin = BEYOND * breadth
    far = np.arange(course.low - margin, course.high + margin, breadth / ROWS)
    reach = round(BESIDE * CELLS)
    aside = np.arange(-reach, reach + 1) * (breadth / CELLS)
    start = course.place(far, 0.0) * to_grid - origin - 0.5
    places = StripPlaces.of(start, course.across * to_grid, aside)
    drawn = places.sampled(film, cv2.BORDER_REPLICATE)
    hidden = places.sampled(screws, cv2.BORDER_CONSTANT)
    inside = places.inside(film)
    smooth: Any = cv2.GaussianBlur(drawn, (0, 0), sigmaX=0.08 * CELLS, sigmaY=0.12 * ROWS)
    edges = np.zeros_like(smooth)
    edges[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    seen = (inside & (hidden < 0.3)).astype(np.float32)
    return Strip(far, smooth, edges, seen, breadth)
