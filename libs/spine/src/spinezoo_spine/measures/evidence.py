"""What the members say of each vertebra: patches turned upright, and the borders in them.

Every vertebra is looked at in a square patch of its own, turned so that its endplates lie level
and scaled in mm, so that films with oblong pixels need no care further on. In a patch the border
of the body is four curves: the upper and lower endplate by column, the left and right wall by row.
Each member's own border is read with linear interpolation, so a curve is finer than a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment

from spinezoo_spine.column.bodies import (
    ColumnRuns,
    column_runs,
    shape_of_runs,
    strokes_of_runs,
)
from spinezoo_spine.column.consensus import SAME_IOU, Vertebrae
from spinezoo_spine.instances import overlaps

CELLS = 72
"""Cells along a side of a patch."""

REACH = 0.84
"""Half the side of a patch, in sizes of the body (square root of its area)."""

SEARCH = 0.11
"""A member's border is looked for this far to either side of the fused one, in half patch sides."""

CORE = 0.3
"""Radius of the middle of a body that counts as bone, in half patch sides: screws leave holes."""

LEAST_SIZE_PX = 12.0
"""Bodies smaller than this (square root of the area) cannot be measured."""

UPPER, LOWER, LEFT, RIGHT = range(4)
"""The sides of a patch."""

MIRROR = [1, 0, 3, 2]
"""Corners as seen on the film to corners by name where the patient looks to the left, and back."""

_FADE = np.linspace(-1.0, 1.0, CELLS + 1)[:-1] + 1.0 / CELLS
"""Place of each cell's centre, -1 to 1."""

_MIDDLE = _FADE[None, :] ** 2 + _FADE[:, None] ** 2 < CORE**2
"""Cells of the middle of a body."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the patches of J bodies lie.

    Attributes:
        centre_mm: (J, 2) middle of the patch, x and y, in mm of the film.
        right: (J, 2) unit vector of the patch's columns, towards the film's right.
        half_mm: (J,) half the side of the patch.
    """

    centre_mm: NDArray[np.float64]
    right: NDArray[np.float64]
    half_mm: NDArray[np.float64]

    @property
    def down(self) -> NDArray[np.float64]:
        """(J, 2) unit vector of the patch's rows, towards the feet."""
        return self.right[:, ::-1] * (-1.0, 1.0)

    def to_mm(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """(J, ..., 2) places on the film in mm, of places (J, ..., 2) in half patch sides."""
        extra = (1,) * (local.ndim - 2)
        count = len(self.half_mm)
        centre = self.centre_mm.reshape(count, *extra, 2)
        right = (self.half_mm[:, None] * self.right).reshape(count, *extra, 2)
        down = (self.half_mm[:, None] * self.down).reshape(count, *extra, 2)
        return centre + local[..., :1] * right + local[..., 1:] * down


@dataclass(frozen=True, slots=True)
class MemberStrokes:
    """One member's vertebrae as strokes: its outlines, and all its regions together.

    Attributes:
        outlines: Its vertebral instances.
        borders: Of each outline, see :class:`spinezoo_spine.column.consensus.Vertebrae`.
        height: Rows of the film.
        region: All its regions; None: it has none.
    """

    outlines: tuple[Segment, ...]
    borders: tuple[NDArray[np.int64], ...]
    height: int
    region: ColumnRuns | None

    def strokes(self, place: int) -> ColumnRuns:
        """Of one outline."""
        borders = self.borders[place]
        return strokes_of_runs(borders[0::2], borders[1::2], self.height)


def strokes_of(said: Vertebrae) -> MemberStrokes:
    """One member's vertebrae, ready to be looked at."""
    borders = said.region_borders
    region = strokes_of_runs(borders[0::2], borders[1::2], said.height) if len(borders) else None
    return MemberStrokes(said.outlines, said.borders, said.height, region)


@dataclass(frozen=True, slots=True)
class Painting:
    """Strokes as pixels, as far as they reach; what lies beyond is empty.

    Attributes:
        mask: (columns, rows) 0 or 255. Columns of the film are its rows: so a stroke is one piece
            of memory.
        left: Film column of its first row.
        top: Film row of its first column.
    """

    mask: NDArray[np.uint8]
    left: int
    top: int


def painted(runs: ColumnRuns, window: tuple[int, int, int, int] | None = None) -> Painting | None:
    """Strokes as pixels; None where there are none.

    Args:
        runs: The strokes, by column and from above.
        window: Left, top, right and bottom; what lies beyond is left out. None: nothing is.
    """
    column, top, bottom = runs.column, runs.top, runs.bottom
    if window is not None:
        low, high = column.searchsorted((window[0], window[2]))
        column = column[low:high]
        top = np.minimum(np.maximum(top[low:high], window[1]), window[3])
        bottom = np.minimum(np.maximum(bottom[low:high], window[1]), window[3])
    if not len(column):
        return None
    left, right = int(column[0]), int(column[-1]) + 1
    first, last = int(top.min()), int(bottom.max())
    if last <= first:  # all of it lies above or below the window
        return None
    # A seam around it: where cells are means of pixels, they reach beyond the border.
    seam = max(right - left, last - first) // (CELLS // 2)
    left, first = left - seam, first - seam
    columns, rows = right + seam - left, last + seam - first
    places = np.empty(2 * len(column) + 2, np.int64)
    places[0], places[-1] = 0, columns * rows
    below = (column - left) * rows - first
    places[1:-1:2], places[2:-1:2] = below + top, below + bottom
    shades = np.zeros(2 * len(column) + 1, np.uint8)
    shades[1::2] = 255
    mask = np.repeat(shades, places[1:] - places[:-1]).reshape(columns, rows)
    return Painting(mask, left, first)


class Patches:
    """Paints what is known of J bodies into patches of theirs.

    Args:
        frames: Where the patches lie.
        spacing_mm: Distance of rows and of columns.
    """

    def __init__(self, frames: Frames, spacing_mm: tuple[float, float]) -> None:
        row_mm, column_mm = spacing_mm
        per_px = np.array([1.0 / column_mm, 1.0 / row_mm])
        step = 2.0 / CELLS * frames.half_mm
        axes = np.stack([frames.right, frames.down], axis=2) * per_px[:, None]
        axes = axes * step[:, None, None]
        centres = frames.centre_mm * per_px
        origins = centres - axes.sum(axis=2) * ((CELLS - 1) / 2.0) - 0.5
        # A row a direction on the film: first down, then across; see Painting.
        self._matrices = np.concatenate([axes, origins[:, :, None]], axis=2)[:, ::-1]
        self._shrink = (step * (per_px[0] * per_px[1]) ** 0.5).tolist()
        reach = np.abs(axes).sum(axis=2) * (CELLS / 2.0) + 3.0
        corners = np.concatenate([centres - reach, centres + reach], axis=1)
        self._windows = corners.astype(np.int64)
        """(J, 4) part of the film that each patch lies on: left, top, right, bottom."""

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The part of the film that all patches lie on: left, top, right, bottom."""
        left, top = self._windows[:, :2].min(axis=0).tolist()
        right, bottom = self._windows[:, 2:].max(axis=0).tolist()
        return left, top, right, bottom

    def paint(self, place: int, painting: Painting, patch: NDArray[np.uint8]) -> None:
        """Turns and scales a painting into the patch (CELLS, CELLS) of a body; 0 to 255."""
        mask, left, top = painting.mask, painting.left, painting.top
        shrink = self._shrink[place]
        if shrink > 3.0:  # many pixels a cell: their mean, not one of them
            size = round(shrink)
            first_column, first_row, last_column, last_row = self._windows[place].tolist()
            from_column = max(0, first_column - size - left)
            from_row = max(0, first_row - size - top)
            mask = mask[
                from_column : max(0, last_column + size - left),
                from_row : max(0, last_row + size - top),
            ]
            left, top = left + from_column, top + from_row
            if not mask.size:
                return
            blurred = cv2.blur(mask, (size, size), borderType=cv2.BORDER_CONSTANT)
            mask = np.asarray(blurred, dtype=np.uint8)
        matrix = self._matrices[place].copy()
        matrix[0, 2] -= top
        matrix[1, 2] -= left
        cv2.warpAffine(
            mask,
            matrix,
            (CELLS, CELLS),
            dst=patch,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )


_HALF = CELLS // 2
_LINE = np.arange(CELLS)
_ALONG = np.stack([_LINE, (CELLS - 1) * CELLS + _LINE, _LINE * CELLS, _LINE * CELLS + CELLS - 1])
"""(4, CELLS) where in a patch each line across a side begins, outside."""

_INWARD = np.array([CELLS, -CELLS, 1, -1])
"""What leads one cell further inward on a line across each side."""


def fused_curves(patches: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(4, J, CELLS) distance of the fused border from the middle, in half patch sides.

    Read from the middle outwards; NaN where a column does not meet the body, or the border lies
    beyond the patch.
    """
    count = len(patches)
    across = np.swapaxes(patches, 1, 2)
    lines = np.empty((4, count, CELLS, _HALF), np.uint8)  # from the middle outwards
    lines[UPPER], lines[LOWER] = across[..., _HALF - 1 :: -1], across[..., _HALF:]
    lines[LEFT], lines[RIGHT] = patches[..., _HALF - 1 :: -1], patches[..., _HALF:]
    first = (lines < 128).argmax(axis=-1)
    reached = first > 0  # 0: it does not start within bone, or does not end
    at = np.arange(4 * count * CELLS).reshape(first.shape) * _HALF + np.maximum(first, 1)
    flat = lines.reshape(-1)
    inner, outer = flat[at - 1].astype(np.float64), flat[at].astype(np.float64)
    share = (inner - 127.5) / np.maximum(inner - outer, 1.0)
    return np.where(reached, (first - 0.5 + share) / _HALF, np.nan)


def member_curves(patches: NDArray[np.uint8], fused: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, J, M, CELLS) distance of each member's border from the middle, in half patch sides.

    Args:
        patches: (J, M, CELLS, CELLS) evidence of each member.
        fused: (4, J, CELLS) a smooth guess of the border; NaN: none.

    Returns:
        The place where a member's evidence ends, looked for outwards within ``SEARCH`` of the
        guess; NaN where it does not start within bone, or does not end there.
    """
    half = CELLS / 2.0
    bodies, members = patches.shape[:2]
    reach = int(np.ceil(SEARCH * half))
    known = np.isfinite(fused)
    # Row of the guess, counted from outside; a patch's row r lies at 1 - (r + 0.5) / half.
    row = np.rint((1.0 - np.where(known, fused, 0.0)) * half - 0.5).astype(np.int64)
    steps = np.arange(reach, -reach - 1, -1)
    rows = np.minimum(np.maximum(row[..., None] + steps, 0), CELLS - 1)  # (4, J, CELLS, K)
    places = rows * _INWARD[:, None, None, None] + _ALONG[:, None, :, None]
    each = np.arange(bodies * members).reshape(bodies, members, 1, 1) * CELLS**2
    values = patches.reshape(-1)[places[:, :, None] + each]  # (4, J, M, CELLS, K)
    first = (values < 128).argmax(axis=-1)
    found = (first > 0) & known[:, :, None]
    at = np.arange(first.size).reshape(first.shape) * len(steps) + np.maximum(first, 1)
    flat = values.reshape(-1)
    inner, outer = flat[at - 1].astype(np.float64), flat[at].astype(np.float64)
    share = (inner - 127.5) / np.maximum(inner - outer, 1.0)
    where = row[:, :, None, :] + reach + 1 - np.maximum(first, 1) - share
    return np.where(found, 1.0 - (where + 0.5) / half, np.nan)


def first_frames(
    vertebrae: Sequence[Segment],
    ups: NDArray[np.float64],
    spacing_mm: tuple[float, float],
) -> tuple[Frames, list[ColumnRuns]]:
    """Frames along the column, before any endplate is known, and the strokes of every body.

    Args:
        vertebrae: The bodies.
        ups: (J, 2) unit vectors towards the head, in mm.
        spacing_mm: Distance of rows and of columns.
    """
    row_mm, column_mm = spacing_mm
    runs = [column_runs(segment.mask) for segment in vertebrae]
    centres, sizes = [], []
    for each in runs:
        shape = shape_of_runs(each)
        if shape is None:
            centres.append((0.0, 0.0))
            sizes.append(0.0)
            continue
        centres.append((shape.centre_xy[0] * column_mm, shape.centre_xy[1] * row_mm))
        sizes.append(float(np.sqrt(shape.area_px * row_mm * column_mm)))
    right = np.stack([-ups[:, 1], ups[:, 0]], axis=1)
    return Frames(np.array(centres), right, REACH * np.array(sizes)), runs


def fused_patches(
    paintings: Sequence[Painting | None], frames: Frames, spacing_mm: tuple[float, float]
) -> NDArray[np.uint8]:
    """(J, CELLS, CELLS) patches of the fused bodies, their middles filled."""
    patches = np.zeros((len(paintings), CELLS, CELLS), np.uint8)
    into = Patches(frames, spacing_mm)
    for place, painting in enumerate(paintings):
        if painting is not None:
            into.paint(place, painting, patches[place])
    patches[:, _MIDDLE] = 255
    return patches


def member_patches(
    vertebrae: Sequence[Segment],
    members: Mapping[str, MemberStrokes],
    frames: Frames,
    spacing_mm: tuple[float, float],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Every member's evidence of every body.

    Returns:
        (J, M, CELLS, CELLS) patches of the members by name, and (J, M) whether the member brought
        an outline. Where it did not, its regions are shown, neighbours and all.
    """
    names = sorted(members)
    patches = np.zeros((len(vertebrae), len(names), CELLS, CELLS), np.uint8)
    outlined = np.zeros((len(vertebrae), len(names)), np.bool_)
    into = Patches(frames, spacing_mm)
    for column, name in enumerate(names):
        member = members[name]
        region = None if member.region is None else painted(member.region, into.window)
        if member.outlines:
            iou, _ = overlaps(vertebrae, member.outlines)
            best = iou.argmax(axis=1)
            outlined[:, column] = iou[np.arange(len(vertebrae)), best] >= SAME_IOU
        for place in range(len(vertebrae)):
            shown = region
            if outlined[place, column]:
                shown = painted(member.strokes(int(best[place])))
            if shown is not None:
                into.paint(place, shown, patches[place, column])
    return patches, outlined
