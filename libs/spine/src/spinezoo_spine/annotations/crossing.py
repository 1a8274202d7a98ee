"""Whether an outline crosses itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32
"""Edges that are looked at together: those of a block lie close to each other."""

_PAIRS_AT_ONCE = 512
"""Pairs of blocks that are compared at once."""


def find_crossing(polygon_xy: NDArray[np.float64]) -> tuple[int, int] | None:
    """Two edges (by the index of their first point) of a closed polygon that cross, or None.

    Edges that merely touch in a point are not counted; edges that lie on each other are, but for
    bridges that run exactly there and back, as outlines with several parts have them.
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
    firsts = np.arange(0, len(start), _BLOCK)
    block_low = np.minimum.reduceat(low, firsts)
    block_high = np.maximum.reduceat(high, firsts)
    # The last block is filled up with its last edge; an edge is no crossing of itself.
    edges = np.minimum(firsts[:, None] + np.arange(_BLOCK), len(start) - 1)
    for one in range(0, len(firsts), 64):
        met = (
            (block_low[one : one + 64, None] <= block_high[None]).all(axis=-1)
            & (block_high[one : one + 64, None] >= block_low[None]).all(axis=-1)
            & (np.arange(one, min(one + 64, len(firsts)))[:, None] <= np.arange(len(firsts)))
        )
        rows, columns = np.nonzero(met)
        for part in range(0, len(rows), _PAIRS_AT_ONCE):
            a = edges[rows[part : part + _PAIRS_AT_ONCE] + one][:, :, None]
            b = edges[columns[part : part + _PAIRS_AT_ONCE]][:, None, :]
            near = (a < b) & (low[a] <= high[b]).all(axis=-1) & (high[a] >= low[b]).all(axis=-1)
            a, b = (np.broadcast_to(side, near.shape)[near] for side in (a, b))
            crossing = _cross(start[a], end[a], start[b], end[b])
            if crossing.any():
                found = min(zip(a[crossing].tolist(), b[crossing].tolist(), strict=True))
                return int(numbers[found[0]]), int(numbers[found[1]])
    return None


def _bridges(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which edges have another one that runs exactly the other way."""
    there = {(*a, *b) for a, b in zip(start.tolist(), end.tolist(), strict=True)}
    back = zip(end.tolist(), start.tolist(), strict=True)
    return np.array([(*b, *a) in there for b, a in back], dtype=bool)


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
