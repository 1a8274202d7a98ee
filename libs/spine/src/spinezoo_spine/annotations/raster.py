"""From outlines to pixels, by one exact rule.

The rule: a pixel belongs to a polygon when its centre lies inside by the even-odd rule. The pixel
in row r and column c has its centre at (c + 0.5, r + 0.5). A centre exactly on the border counts
as inside on a left or top border and as outside on a right or bottom one (half-open), so that two
polygons that share an edge never share a pixel along it and leave no gap. What lies outside the
film is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.limits import LEVEL
from spinezoo_contract.masks import mask_box
from spinezoo_contract.types import Segment, SegmentKind, Structure

from spinezoo_spine.instances import mask_from_crop

PAINT_ORDER = (
    Structure.SACRAL_VERTEBRA,
    Structure.LUMBAR_VERTEBRA,
    Structure.ROD,
    Structure.SCREW,
    Structure.CAGE,
)
"""Later ones cover earlier ones in a label map: hardware lies on top, as it does on a film."""


class Outlined(Protocol):
    """What has a structure and an outline, such as a ``Region``."""

    @property
    def structure(self) -> Structure:
        """What it is."""

    @property
    def polygon_xy(self) -> NDArray[np.float64]:
        """(N, 2) outline."""

    @property
    def level(self) -> str | None:
        """Anatomical level."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The pixels of one polygon within the smallest box of rows and columns that holds them.

    Attributes:
        top: Film row of the patch's first row.
        left: Film column of the patch's first column.
        pixels: (rows, columns) bool; empty where the polygon covers no pixel of the film.
    """

    top: int
    left: int
    pixels: NDArray[np.bool_]

    @property
    def rows(self) -> slice:
        """Its rows on the film."""
        return slice(self.top, self.top + self.pixels.shape[0])

    @property
    def columns(self) -> slice:
        """Its columns on the film."""
        return slice(self.left, self.left + self.pixels.shape[1])


MOST_AT_ONCE = 1_048_576
"""Pixels and crossings that are worked on at once: bounds the memory of any number of outlines."""


def patches(
    polygons_xy: Sequence[NDArray[np.float64]], height: int, width: int
) -> tuple[Patch, ...]:
    """The pixels of each polygon; see :func:`each_patch`.

    Args:
        polygons_xy: Of each (N, 2) points, in pixels of the film.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
    """
    return tuple(each_patch(polygons_xy, height, width))


def each_patch(
    polygons_xy: Sequence[NDArray[np.float64]], height: int, width: int
) -> Iterator[Patch]:
    """The pixels of each polygon, in their order; few polygons' pixels are held at a time.

    Args:
        polygons_xy: (N, 2) outlines, finite.
        height: Rows of the film.
        width: Columns of the film.
    """
    if not len(polygons_xy):
        return
    if len(polygons_xy) * height * width <= 4 * MOST_AT_ONCE:  # a training canvas
        yield from _patches_at_once(polygons_xy, height, width)
        return
    size = np.array([width, height])
    group: list[NDArray[np.float64]] = []
    pixels = 0
    for polygon in polygons_xy:
        extent = np.clip(polygon, 0, size)
        own = int(np.prod(np.ptp(extent, axis=0) + 2.0))
        if group and pixels + own > MOST_AT_ONCE:
            yield from _patches_at_once(group, height, width)
            group, pixels = [], 0
        group.append(polygon)
        pixels += own
    if group:
        yield from _patches_at_once(group, height, width)


def _patches_at_once(
    polygons_xy: Sequence[NDArray[np.float64]], height: int, width: int
) -> tuple[Patch, ...]:
    """The pixels of each polygon, all polygons in one pass.

    For every edge and every row of centres that it crosses, the crossing toggles all pixels to
    its right; a running parity along the rows turns the toggles into pixels.
    """
    counts = np.array([len(polygon) for polygon in polygons_xy])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    points = np.concatenate(polygons_xy)
    low = np.minimum.reduceat(points, starts)
    high = np.maximum.reduceat(points, starts)
    # Rows and columns whose centres lie in [low, high): the half-open rule on boxes.
    size = np.array([width, height])
    first = np.clip(np.ceil(low - 0.5), 0, size).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, size).astype(np.int64)
    columns, rows = np.maximum(last - first, 0).T
    rows[columns == 0] = 0
    columns[rows == 0] = 0
    # One spare column a row takes the toggles right of the box.
    places = np.concatenate([[0], np.cumsum(rows * (columns + 1))])

    following = np.arange(len(points)) + 1
    following[starts + counts - 1] = starts
    ends = points[following]
    # The upper end first: an edge shared by two polygons gives the same crossings in both.
    swap = points[:, 1] > ends[:, 1]
    upper = np.where(swap[:, None], ends, points)
    lower = np.where(swap[:, None], points, ends)
    owner = np.repeat(np.arange(len(counts)), counts)
    top_row = np.clip(np.ceil(upper[:, 1] - 0.5), first[owner, 1], last[owner, 1]).astype(np.int64)
    end_row = np.clip(np.ceil(lower[:, 1] - 0.5), first[owner, 1], last[owner, 1]).astype(np.int64)
    crossings = end_row - top_row
    crossings[rows[owner] == 0] = 0

    toggles = np.zeros(int(places[-1]), dtype=np.uint8)
    totals = np.cumsum(crossings)
    begin = 0
    while begin < len(points):
        before_all = int(totals[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, before_all + MOST_AT_ONCE, side="right")))
        some = np.arange(begin, end)
        edge = np.repeat(some, crossings[begin:end])
        before = np.repeat(totals[begin:end] - crossings[begin:end], crossings[begin:end])
        row = top_row[edge] + np.arange(before_all, before_all + len(edge)) - before
        rise = lower[edge, 1] - upper[edge, 1]
        run = (lower[edge, 0] - upper[edge, 0]) / rise
        x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * run
        polygon = owner[edge]
        column = np.clip(np.ceil(x - 0.5), first[polygon, 0], first[polygon, 0] + columns[polygon])
        place = (
            places[polygon]
            + (row - first[polygon, 1]) * (columns[polygon] + 1)
            + (column.astype(np.int64) - first[polygon, 0])
        )
        np.add.at(toggles, place, np.uint8(1))  # wraps at 256: only the last bit counts
        begin = end
    # Closed outlines cross every row an even number of times: the parity is 0 again at its end.
    inside = (np.bitwise_xor.accumulate(toggles & np.uint8(1)) if len(toggles) else toggles) != 0
    return tuple(
        Patch(
            int(first[index, 1]),
            int(first[index, 0]),
            inside[places[index] : places[index + 1]].reshape(rows[index], columns[index] + 1)[
                :, :-1
            ],
        )
        for index in range(len(counts))
    )


def rasterise(polygon_xy: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of one polygon as a (height, width) mask; the rule stands above."""
    mask = np.zeros((height, width), dtype=bool)
    (patch,) = patches([np.asarray(polygon_xy, dtype=np.float64)], height, width)
    mask[patch.rows, patch.columns] = patch.pixels
    return mask


def paint(
    structures: Sequence[Structure],
    polygons_xy: Sequence[NDArray[np.float64]],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """(height, width) label map of outlines, as :func:`label_map` of regions."""
    labels = np.zeros((height, width), dtype=np.uint8)
    rank = {structure: place for place, structure in enumerate(PAINT_ORDER)}
    order = sorted(range(len(structures)), key=lambda index: rank[structures[index]])
    drawn = each_patch([polygons_xy[index] for index in order], height, width)
    for index, patch in zip(order, drawn, strict=True):
        labels[patch.rows, patch.columns][patch.pixels] = int(structures[index])
    return labels


def label_map(regions: Sequence[Outlined], height: int, width: int) -> NDArray[np.uint8]:
    """(height, width) ``uint8`` label map of regions: 0 is background, else the structure's number.

    Where outlines overlap, the later one of :data:`PAINT_ORDER` is seen.
    """
    return paint(
        [region.structure for region in regions],
        [region.polygon_xy for region in regions],
        height,
        width,
    )


def segments_from_regions(
    regions: Sequence[Outlined], height: int, width: int
) -> tuple[Segment, ...]:
    """Truth as segments of score 1, one instance a region, overlaps kept.

    Regions that cover no pixel of the film are left out: a segment is never empty. A region may
    name two levels ("L4/L5" of a cage); a segment has one level or none.
    """
    segments = []
    drawn = each_patch([region.polygon_xy for region in regions], height, width)
    for region, patch in zip(regions, drawn, strict=True):
        if not patch.pixels.any():
            continue
        encoded = mask_from_crop(patch.pixels, patch.top, patch.left, height, width)
        segments.append(
            Segment(
                region.structure,
                SegmentKind.INSTANCE,
                encoded,
                1.0,
                mask_box(encoded),
                region.level if region.level and LEVEL.fullmatch(region.level) else None,
            )
        )
    return tuple(segments)
