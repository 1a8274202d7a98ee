"""Breaks of rods, looked for on the film along each rod's course.

Outlines do not tell a break: networks, and the ribbons that fused rods are redrawn as, often bridge
it. On the film a rod is a band of one breadth, brighter than what lies beside it, with a steep edge
at either side. Where it is broken it ends in a cut as broad as itself; then both edges are gone for
a short stretch and the middle is darker; beyond, the band goes on, maybe a little aside.

1. The film is unrolled along every rod (:mod:`spinezoo_spine.measures.rod_courses`).
2. Cuts across it are looked for: darker below over all of the rod's breadth, not so beside it. A
   screw's head, a second rod, a cross-link or a line of a grid is broader or thinner, or brighter.
3. Between two cuts, or between one and a screw beneath which the rod goes on, edges and brightness
   have to be those of a gap, and above and below those of a rod. Rows beneath screws say nothing.

A rod of which too little can be seen is not called whole. The limits are those of phantoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import FusedImplant, Segment, Structure

from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.instances import unite
from spinezoo_spine.measures.rod_courses import (
    BESIDE,
    BEYOND,
    CELLS,
    ROWS,
    Array,
    Course,
    Strip,
    courses_of,
    unrolled,
)
from spinezoo_spine.windows import crop, window_of

FINE_PX = 24.0
"""A broader rod is looked at on a coarser grid: noise goes."""

ASIDE = 0.6
"""How far aside of its course a rod may lie, in breadths."""

FLANK = 0.9
"""Stretch above and below a gap where the rod has to be seen, in breadths."""

TRIED = (7, 9, 11, 13)
"""Distances of a rod's edges that are tried, in columns: outlines may be too broad or too thin."""

LEAST_GAP, MOST_GAP = 0.35, 2.6
"""Gaps that are looked for, in breadths."""

MOST_OFFSET, MOST_OFFSET_HIDDEN = 0.9, 0.7
"""How far aside the other part may lie, in breadths; less where a screw hides its end."""

MOST_SCREW = 3.5
"""A rod is looked for beyond a screw that hides no more than this, in breadths."""

BESIDE_WEIGHT = 0.7
"""What counts against an end: a step beside the rod, as screws' heads and grids have."""

LEAST_STEP, LEAST_STEP_ALONE = 0.12, 0.2
"""Least step at each end of a gap, and at the only one that is seen, as a share of the rod's
contrast."""

MOST_NOISE, MOST_UNEVEN = 0.2, 0.5
"""The film shows noise or bone where an outline is, not a rod, if the usual step from row to row
along it is greater than the first, as a share of its contrast, or if the strength of its edges
deviates by more than the second, as a share of the usual one."""

ALONE = 0.6
"""What a step counts that is the only one."""

LEAST_EDGES = 0.25
"""Least strength of the edges above and below a gap; 1: as usual along the rod."""

MOST_EDGES = 0.6
"""Greatest strength of edges in a gap."""

MOST_REST, MOST_REST_ALONE = 0.8, 0.5
"""How much brighter than its darker side a gap may be, as a share of the rod's contrast: a second
rod may lie beneath. Less where a screw hides one end."""

LEAST_DROP = 0.2
"""How much darker a gap has to be than the rod above and below, the same."""

LEAST_SEEN = 0.2
"""Least share of each stretch that is seen."""

LEAST_BARE, CLEAR_EDGES, MOST_DIM, MOST_HIDDEN = 0.6, 0.5, 0.4, 2.2
"""A rod is seen to be whole where screws hide less than the rest of its rows, and no more than the
last of these in one stretch, in breadths, and its edges are weaker than the second on no stretch
longer than the third. Of 554 outlines on 400 development phantoms, 41 of which lie at a break, 32
are, all rightly."""

SAME = 1.5
"""Breaks closer than this are one, in breadths."""

LEAST_BREADTH_PX = 1.0
"""Least breadth of a rod that is looked at, in pixels."""

LEAST_PIXELS, MOST_POINTS = 30, 1500
"""Least size of a rod, and how many of its pixels are looked at for its course."""


@dataclass(frozen=True, slots=True)
class SeenBreak:
    """A break.

    Attributes:
        indices: Places of the rod's outlines among the implants, from above.
        upper_xy: Lower end of the part above, in pixels; None: a screw's head hides it.
        lower_xy: Upper end of the part below.
        gap: From one to the other along the rod, in units of the film's plane; None: one is hidden.
    """

    indices: tuple[int, ...]
    upper_xy: tuple[float, float] | None
    lower_xy: tuple[float, float] | None
    gap: float | None


@dataclass(frozen=True, slots=True)
class RodsSeen:
    """What the film shows of the rods.

    Attributes:
        breaks: Breaks, from above.
        whole: Places among the implants of rods that are seen to be whole. Of the others too little
            is seen, or they are broken.
    """

    breaks: tuple[SeenBreak, ...] = ()
    whole: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class _Profile:
    """What a strip shows by row, and by how far aside a rod's middle lies: (rows, places) arrays.

    Attributes:
        top: How much a rod ends here downwards: darker below over all of its breadth, and not
            beside it, in shares of its contrast.
        bottom: How much it begins here.
        sums: Running sums down the rows, from 0: strength of both edges (1: as usual), brightness
            of the middle, how much brighter it is than the darker side (both in shares of the
            rod's contrast), and how much is seen.
        own: (rows,) whether the outline reaches there.
        bare: (rows,) whether it is seen at the course itself.
        edges: (rows,) strength of the edges where the rod is.
    """

    top: Array
    bottom: Array
    sums: Array
    own: NDArray[np.bool_]
    bare: NDArray[np.bool_]
    edges: Array

    def turned(self) -> _Profile:
        """The same from below."""
        total = self.sums[:, -1:]
        return _Profile(
            self.bottom[::-1],
            self.top[::-1],
            total - self.sums[:, ::-1],
            self.own[::-1],
            self.bare[::-1],
            self.edges[::-1],
        )

    def means(self, first: int, last: int) -> Array:
        """(4, places) means over rows ``first`` to ``last`` of what is seen, and the share seen."""
        first, last = max(0, first), min(len(self.own), last)
        added = self.sums[:, last] - self.sums[:, first]
        added[:3] /= np.maximum(added[3], 1e-9)
        added[3] /= max(1, last - first)
        return np.asarray(added)


def _profile(strip: Strip, course: Course) -> _Profile | None:
    """What a strip shows; None where it shows no rod."""
    columns = strip.film.shape[1]
    reach = round(ASIDE * CELLS)
    places = slice(columns // 2 - reach, columns // 2 + reach + 1)

    def aside(values: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
        return values[:, places.start + cells : places.stop + cells]

    best, distance, most = None, 0, 0.0
    for tried in TRIED:
        left = -(tried // 2)
        both = aside(strip.edges, left) - aside(strip.edges, left + tried)
        total = float(both.max(axis=1).sum())
        if total > most:
            best, distance, most = both, tried, total
    if best is None:
        return None
    mean: Any = cv2.blur(strip.film, (3, 3))
    half, away = round(0.3 * distance), round(0.83 * distance)
    middle: Any = cv2.blur(mean, (2 * half + 1, 1))
    inner = aside(middle, 0)
    over = inner - np.minimum(aside(mean, -away), aside(mean, away))
    hidden: Any = cv2.dilate(1.0 - strip.seen, np.ones((5, 2 * half + 1), np.uint8))
    bare = aside(hidden, 0) <= 0.0
    own = (strip.far >= course.low) & (strip.far <= course.high)
    looked = own & bare[:, reach]
    if np.count_nonzero(looked) < ROWS:
        return None
    # The rod lies where its edges are strongest.
    along: Any = cv2.blur(best, (1, 2 * ROWS + 1))
    rows = np.arange(len(own))
    track = along.argmax(axis=1)
    usual = _median(best[rows, track][looked])
    contrast = _median(over[rows, track][looked])
    if usual <= 0.0 or contrast <= 0.0:
        return None
    step = np.zeros_like(mean)
    step[2:-2] = (mean[:-4] - mean[4:]) / contrast
    if _median(np.abs(aside(step, 0)[rows, track][looked])) > MOST_NOISE:
        return None
    three = [aside(step, cells) for cells in (-half, 0, half)]
    outside = np.maximum(np.abs(aside(step, -away)), np.abs(aside(step, away)))
    top = np.minimum(np.minimum(three[0], three[1]), three[2]) - BESIDE_WEIGHT * outside
    bottom = -np.maximum(np.maximum(three[0], three[1]), three[2]) - BESIDE_WEIGHT * outside
    pair = np.clip(best / usual, -1.0, 1.5)
    edges = np.asarray(pair[rows, track], dtype=np.float64)
    if float(edges[looked].std()) > MOST_UNEVEN:
        return None
    sums = np.zeros((4, len(own) + 1, inner.shape[1]))
    np.cumsum(
        [pair * bare, inner / contrast * bare, over / contrast * bare, bare],
        axis=1,
        out=sums[:, 1:],
    )
    return _Profile(
        np.where(bare, top, -1.0),
        np.where(bare, bottom, -1.0),
        sums,
        own,
        bare[:, reach],
        edges,
    )


def _median(values: NDArray[Any]) -> float:
    """The upper median; NumPy's own takes ten times as long on so few."""
    return float(np.sort(values)[len(values) // 2])


@dataclass(frozen=True, slots=True)
class _Found:
    """A break in rows and places of a strip.

    Attributes:
        score: The likelier of two that lie on each other has the higher one.
        first: Row where the upper part ends.
        last: Row where the lower part begins.
        above: Place of the upper part.
        below: Place of the lower part.
        upper_seen: Whether the upper part's end is seen; else a screw hides it.
        lower_seen: The same of the lower part's.
    """

    score: float
    first: int
    last: int
    above: int
    below: int
    upper_seen: bool = True
    lower_seen: bool = True


def _breaks(profile: _Profile) -> list[_Found]:
    """Every place that looks like a break."""
    found = _between_ends(profile)
    found += _before_screws(profile)
    last = len(profile.own) - 1
    for one in _before_screws(profile.turned()):
        found.append(
            _Found(
                one.score, last - one.last, last - one.first, one.below, one.above,
                upper_seen=False,
            )
        )  # fmt: skip
    return found


def _peaks(values: Array, least: float) -> list[int]:
    """Rows where the best place of each is the highest within two rows."""
    most = values.max(axis=1)
    higher = np.maximum(most[1:-3], most[:-4]), np.maximum(most[3:-1], most[4:])
    inner = most[2:-2]
    peak = (inner >= least) & (inner >= higher[0]) & (inner >= higher[1])
    return (np.flatnonzero(peak) + 2).tolist()


def _between_ends(profile: _Profile) -> list[_Found]:
    """Gaps of which both ends are seen."""
    top, bottom, own = profile.top, profile.bottom, profile.own
    count, near = len(own), ROWS // 2
    flank = round(FLANK * ROWS)
    found = []
    begins = _peaks(bottom, LEAST_STEP)
    for first in _peaks(top, LEAST_STEP):
        for last in begins:
            if not LEAST_GAP * ROWS <= last - first <= MOST_GAP * ROWS:
                continue
            if not (own[max(0, first - near)] and own[min(count - 1, last + near)]):
                continue
            above, below = int(top[first].argmax()), int(bottom[last].argmax())
            if abs(above - below) > MOST_OFFSET * CELLS:
                continue
            upper = profile.means(first - flank - 1, first - 1)[:, above]
            lower = profile.means(last + 1, last + 1 + flank)[:, below]
            if _is_gap(profile, first, last, (above, below), (upper, lower)):
                score = float(min(top[first, above], bottom[last, below]))
                found.append(_Found(score, first, last, above, below))
    return found


def _before_screws(profile: _Profile) -> list[_Found]:
    """Gaps between the end of the upper part and a screw beneath which the rod goes on."""
    top, own, bare = profile.top, profile.own, profile.bare
    count, near = len(own), ROWS // 2
    flank = round(FLANK * ROWS)
    found = []
    for first in _peaks(top, LEAST_STEP_ALONE):
        if not own[max(0, first - near)]:
            continue
        covered = np.flatnonzero(~bare[first : first + round(MOST_GAP * ROWS) + 1])
        if not len(covered) or covered[0] < LEAST_GAP * ROWS:
            continue
        last = first + int(covered[0])
        after = np.flatnonzero(bare[last : last + round(MOST_SCREW * ROWS)])
        if not len(after):
            continue
        again = last + int(after[0]) + 1
        if again + flank >= count or not own[again + near]:
            continue
        above = int(top[first].argmax())
        upper = profile.means(first - flank - 1, first - 1)[:, above]
        lowers = profile.means(again, again + flank)
        reach = round(MOST_OFFSET_HIDDEN * CELLS)
        begin = max(0, above - reach)
        below = begin + int(lowers[0, begin : above + reach + 1].argmax())
        parts = upper, lowers[:, below]
        if _is_gap(profile, first, last - 1, (above, below), parts, MOST_REST_ALONE):
            score = ALONE * float(top[first, above])
            found.append(_Found(score, first, last, above, below, lower_seen=False))
    return found


def _is_gap(
    profile: _Profile,
    first: int,
    last: int,
    places: tuple[int, int],
    parts: tuple[Array, Array],
    most_rest: float = MOST_REST,
) -> bool:
    """Whether no rod is between two rows, and one above and below.

    Args:
        profile: Of the strip.
        first: Row where the upper part ends.
        last: Row where the lower part begins.
        places: How far aside both lie.
        parts: (4,) means of each, see :meth:`_Profile.means`.
        most_rest: See :data:`MOST_REST`.
    """
    upper, lower = parts
    if min(upper[0], lower[0]) < LEAST_EDGES or min(upper[3], lower[3]) < LEAST_SEEN:
        return False
    within = profile.means(first + 1, max(last, first + 2))
    within = within[:, max(0, min(places) - 1) : max(places) + 2]
    if within[3].min() < LEAST_SEEN:
        return False
    edges, inner, over = within[:3].max(axis=1)
    drop = min(upper[1], lower[1]) - inner
    return bool(edges <= MOST_EDGES and over <= most_rest and drop >= LEAST_DROP)


def _is_whole(profile: _Profile) -> bool:
    """Whether so much of a rod is seen, with both edges, that no break could hide."""
    own, bare = profile.own, profile.bare & profile.own
    if np.count_nonzero(bare) < LEAST_BARE * np.count_nonzero(own):
        return False
    dim = bare & (profile.edges < CLEAR_EDGES)
    return _longest(dim) <= MOST_DIM * ROWS and _longest(own & ~bare) <= MOST_HIDDEN * ROWS


def _longest(marked: NDArray[np.bool_]) -> int:
    """Length of the longest run."""
    ends = np.flatnonzero(np.diff(np.pad(marked, 1).view(np.int8)))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def seen_rods(
    implants: Sequence[FusedImplant], pixels: NDArray[Any], plane: tuple[float, float]
) -> RodsSeen:
    """Looks for breaks of the rods of a film.

    Args:
        implants: Of the film.
        pixels: (height, width) film, bright means dense.
        plane: Width and height of a pixel in the plane that is measured in.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    rods = {
        index: one.segment
        for index, one in enumerate(implants)
        if one.segment.structure is Structure.ROD
    }
    if not rods:
        return RodsSeen()
    height, width = pixels.shape
    scale = np.array(plane)
    masks = fusion.borders_of([each.mask for each in rods.values()], height * width)
    points: dict[int, Array] = {}
    for (index, segment), borders in zip(rods.items(), masks, strict=True):
        box = window_of([segment], 0, height, width)
        places: Any = cv2.findNonZero(crop(borders, box, height).view(np.uint8))
        if places is not None and len(places) >= LEAST_PIXELS:
            chosen = places.reshape(-1, 2)[:: max(1, len(places) // MOST_POINTS) | 1]
            points[index] = (chosen + 0.5 + box[:2]) * scale
    # A line of single pixels has no breadth, and a strip of it would have no end.
    least = LEAST_BREADTH_PX * float(scale.min())
    courses = [course for course in courses_of(points) if course.breadth >= least]
    if not courses:
        return RodsSeen()
    film, screws, origin, factor = _grid(implants, list(rods.values()), pixels, courses, scale)
    found: list[tuple[float, SeenBreak, Array, float]] = []
    whole: set[int] = set()
    for course in courses:
        strip = unrolled(film, screws, course, 1.0 / scale / factor, origin)
        profile = _profile(strip, course)
        if profile is None:
            continue
        if len(course.indices) == 1 and _is_whole(profile):
            whole.add(course.indices[0])
        found += [_told(one, strip, course, scale) for one in _breaks(profile)]
    found.sort(key=lambda each: -each[0])
    kept: list[tuple[float, SeenBreak, Array, float]] = []
    for one in found:
        if all(np.hypot(*(one[2] - other[2])) > SAME * other[3] for other in kept):
            kept.append(one)
    kept.sort(key=lambda each: float(each[2][1]))
    broken = {index for each in kept for index in each[1].indices}
    return RodsSeen(tuple(each[1] for each in kept), frozenset(whole - broken))


def _grid(
    implants: Sequence[FusedImplant],
    rods: Sequence[Segment],
    pixels: NDArray[Any],
    courses: Sequence[Course],
    scale: Array,
) -> tuple[NDArray[np.float32], NDArray[np.float32], Array, int]:
    """The film around the rods, where screws lie on it, its corner, and pixels a place.

    Broad rods are looked at on a coarser grid.
    """
    height, width = pixels.shape
    breadth_px = max(course.breadth for course in courses) / float(scale.max())
    margin = round((BESIDE + BEYOND) * breadth_px)
    window = left, top, right, bottom = window_of(rods, margin, height, width)
    film = np.asarray(pixels[top:bottom, left:right], dtype=np.float32)
    screws = [one.segment.mask for one in implants if one.segment.structure is Structure.SCREW]
    (borders,) = fusion.borders_of([unite(screws, height, width)], height * width)
    hidden = crop(borders, window, height).astype(np.float32)
    factor = max(1, int(breadth_px // FINE_PX))
    if factor > 1:
        size = (max(1, film.shape[1] // factor), max(1, film.shape[0] // factor))
        cut = (slice(0, size[1] * factor), slice(0, size[0] * factor))
        film, hidden = (
            np.asarray(cv2.resize(each[cut], size, interpolation=cv2.INTER_AREA), dtype=np.float32)
            for each in (film, hidden)
        )
    return film, hidden, np.array([left, top]) / factor, factor


def _told(
    found: _Found, strip: Strip, course: Course, scale: Array
) -> tuple[float, SeenBreak, Array, float]:
    """A break in pixels, with its score, its middle in the film's plane and the rod's breadth."""
    middle = round(ASIDE * CELLS)
    cell = strip.breadth / CELLS
    far = strip.far[[found.first, found.last]]
    aside = (np.array([found.above, found.below]) - middle) * cell
    upper, lower = course.place(far, aside)
    both = found.upper_seen and found.lower_seen
    said = SeenBreak(
        course.indices,
        _pixel(upper / scale) if found.upper_seen else None,
        _pixel(lower / scale) if found.lower_seen else None,
        float(far[1] - far[0]) if both else None,
    )
    return found.score, said, (upper + lower) / 2.0, strip.breadth


def _pixel(place: Array) -> tuple[float, float]:
    return float(place[0]), float(place[1])
