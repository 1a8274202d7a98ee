"""Whether an outline crosses itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PAIRS_AT_ONCE = 1_000_000
"""Pairs of edges that are looked at together: bounds the memory."""


def find_crossing(polygon_xy: NDArray[np.float64]) -> tuple[int, int] | None:
    """Two edges (by the index of their first point) of a closed polygon that cross, or None.

    Edges that merely touch in a point are not counted; edges that lie on each other are, but for
    bridges that run exactly there and back, as outlines with several parts have them.

    Only edges whose extents overlap are compared: along x or along y, whichever leaves fewer pairs.

    Args:
        polygon_xy: (N, 2) points.
    """
    distinct = np.abs(polygon_xy - np.roll(polygon_xy, -1, axis=0)).sum(axis=1) > 0
    numbers = np.flatnonzero(distinct)
    start = polygon_xy[numbers]
    end = np.roll(start, -1, axis=0)
    kept = ~_bridges(start, end)
    numbers, start, end = numbers[kept], start[kept], end[kept]
    if len(start) < 2:
        return None
    low, high = np.minimum(start, end), np.maximum(start, end)
    axis, order, reach = min(
        (_sweep(low[:, axis], high[:, axis], axis) for axis in (0, 1)),
        key=lambda sweep: int(sweep[2].sum()),
    )
    other_low, other_high = low[order, 1 - axis], high[order, 1 - axis]
    totals = np.cumsum(reach)
    begin = 0
    while begin < len(order):
        done = int(totals[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(totals, done + _PAIRS_AT_ONCE, side="right")))
        some = np.arange(begin, stop)
        one = np.repeat(some, reach[begin:stop])
        before = np.repeat(totals[begin:stop] - reach[begin:stop], reach[begin:stop])
        two = one + 1 + np.arange(done, done + len(one)) - before
        near = (other_low[one] <= other_high[two]) & (other_high[one] >= other_low[two])
        a, b = order[one[near]], order[two[near]]
        a, b = np.minimum(a, b), np.maximum(a, b)
        crossing = _cross(start[a], end[a], start[b], end[b])
        if crossing.any():
            found = min(zip(a[crossing].tolist(), b[crossing].tolist(), strict=True))
            return int(numbers[found[0]]), int(numbers[found[1]])
        begin = stop
    return None


def _sweep(
    low: NDArray[np.float64], high: NDArray[np.float64], axis: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """The edges in the order in which they begin along an axis.

    Returns:
        The axis, the order, and for each place in it how many of the following edges begin before
        the edge ends.
    """
    order = np.argsort(low, kind="stable")
    last = np.searchsorted(low[order], high[order], side="right")
    return axis, order, np.maximum(last - 1 - np.arange(len(order)), 0)


def _bridges(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which edges have another one that runs exactly the other way."""
    sorted_points = start[np.lexsort((start[:, 1], start[:, 0]))]
    if not (sorted_points[1:] == sorted_points[:-1]).all(axis=1).any():
        return np.zeros(len(start), dtype=bool)  # a bridge comes back to a point
    there = {(*a, *b) for a, b in zip(start.tolist(), end.tolist(), strict=True)}
    back = zip(end.tolist(), start.tolist(), strict=True)
    return np.array([(*a, *b) in there for a, b in back], dtype=bool)


def _cross(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    d: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether the edges from a to b and from c to d cross or lie on each other; all (N, 2)."""
    side_c, side_d = _side(a, b, c), _side(a, b, d)
    side_a, side_b = _side(c, d, a), _side(c, d, b)
    crossing = (side_c * side_d < 0) & (side_a * side_b < 0)
    on_one_line = (side_c == 0) & (side_d == 0)
    if on_one_line.any():
        along = b - a
        length = (along * along).sum(axis=-1)
        from_c = ((c - a) * along).sum(axis=-1) / length
        from_d = ((d - a) * along).sum(axis=-1) / length
        shared = np.minimum(np.maximum(from_c, from_d), 1.0) - np.maximum(
            np.minimum(from_c, from_d), 0.0
        )
        crossing |= on_one_line & (shared > 1e-9)
    found: NDArray[np.bool_] = crossing
    return found


def _side(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """On which side of the line from a to b the point c lies."""
    ahead, aside = b - a, c - a
    found: NDArray[np.float64] = np.sign(
        ahead[..., 0] * aside[..., 1] - ahead[..., 1] * aside[..., 0]
    )
    return found
