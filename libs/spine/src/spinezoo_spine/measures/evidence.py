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

_FADE = np.linspace(-1.0, 1.0, CELLS + 1)[:-1] + 1.0 / CELLS
"""Place of each cell's centre, -1 to 1."""


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
        return np.stack([-self.right[:, 1], self.right[:, 0]], axis=1)

    def to_mm(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """(J, ..., 2) places on the film in mm, of places (J, ..., 2) in half patch sides."""
        extra = (1,) * (local.ndim - 2)
        count = len(self.half_mm)
        half = self.half_mm.reshape(count, *extra, 1)
        centre = self.centre_mm.reshape(count, *extra, 2)
        right = self.right.reshape(count, *extra, 2)
        down = self.down.reshape(count, *extra, 2)
        return centre + half * (local[..., :1] * right + local[..., 1:] * down)


@dataclass(frozen=True, slots=True)
class MemberStrokes:
    """One member's vertebrae as strokes: its outlines, and all its regions together."""

    outlines: tuple[Segment, ...]
    region: ColumnRuns | None


def strokes_of(said: Vertebrae) -> MemberStrokes:
    """One member's vertebrae, ready to be looked at."""
    borders = said.region_borders
    return MemberStrokes(
        said.outlines,
        strokes_of_runs(borders[0::2], borders[1::2], said.height) if len(borders) else None,
    )


def painted(runs: ColumnRuns, window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """(right - left, bottom - top) mask within a window (left, top, right, bottom), 0 or 255.

    Columns of the film are its rows: so a stroke is one piece of memory.
    """
    left, top, right, bottom = window
    low = int(np.searchsorted(runs.column, left))
    high = int(np.searchsorted(runs.column, right))
    height = bottom - top
    first = np.clip(runs.top[low:high] - top, 0, height)
    size = np.clip(runs.bottom[low:high] - top, 0, height) - first
    mask = np.zeros((right - left) * height, np.uint8)
    before = np.cumsum(size) - size
    start = (runs.column[low:high] - left) * height + first - before
    mask[np.repeat(start, size) + np.arange(int(size.sum()))] = 255
    return mask.reshape(right - left, height)


def window_of(
    frames: Frames, place: int, spacing_mm: tuple[float, float], height: int, width: int
) -> tuple[int, int, int, int]:
    """The part of the film that a patch lies on: left, top, right, bottom in pixels."""
    reach = 1.42 * float(frames.half_mm[place])
    x, y = frames.centre_mm[place]
    row_mm, column_mm = spacing_mm
    return (
        max(0, int((x - reach) / column_mm) - 2),
        max(0, int((y - reach) / row_mm) - 2),
        min(width, int((x + reach) / column_mm) + 3),
        min(height, int((y + reach) / row_mm) + 3),
    )


def patch_of(
    mask: NDArray[np.uint8],
    window: tuple[int, int, int, int],
    frames: Frames,
    place: int,
    spacing_mm: tuple[float, float],
) -> NDArray[np.uint8]:
    """(CELLS, CELLS) a painted window, turned and scaled into a patch; 0 to 255."""
    row_mm, column_mm = spacing_mm
    half = float(frames.half_mm[place])
    per_px = np.array([1.0 / column_mm, 1.0 / row_mm])
    step = 2.0 * half / CELLS
    axes = np.stack([frames.right[place], frames.down[place]], axis=1) * per_px[:, None] * step
    origin = frames.centre_mm[place] * per_px - axes @ np.full(2, (CELLS - 1) / 2.0)
    origin = origin - 0.5 - np.array(window[:2], dtype=np.float64)
    shrink = float(np.sqrt(abs(np.linalg.det(axes))))
    if shrink > 3.0:  # many pixels a cell: their mean, not one of them
        size = round(shrink)
        blurred = cv2.blur(mask, (size, size), borderType=cv2.BORDER_CONSTANT)
        mask = np.asarray(blurred, dtype=np.uint8)
    matrix = np.column_stack([axes, origin])[::-1]  # x and y change places: see painted
    return np.asarray(
        cv2.warpAffine(mask, matrix, (CELLS, CELLS), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP),
        dtype=np.uint8,
    )


def upright_sides(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, ..., CELLS, CELLS) patches turned so that each side in turn lies above.

    Rows run from outside inwards; columns run to the right for endplates, down for walls.
    """
    across = np.swapaxes(patches, -1, -2)
    return np.stack([patches, patches[..., ::-1, :], across, across[..., ::-1, :]])


def fused_curves(patches: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(4, J, CELLS) distance of the fused border from the middle, in half patch sides.

    Read from the middle outwards; NaN where a column does not meet the body, or the border lies
    beyond the patch.
    """
    half = CELLS // 2
    sides = upright_sides(patches)[..., :half, :][..., ::-1, :]  # from the middle outwards
    outside = sides < 128
    first = outside.argmax(axis=-2)
    reached = outside.any(axis=-2) & (first > 0)
    last_in = np.maximum(first - 1, 0)[..., None, :]
    inner = np.take_along_axis(sides, last_in, axis=-2)[..., 0, :].astype(np.float64)
    outer = np.take_along_axis(sides, first[..., None, :], axis=-2)[..., 0, :].astype(np.float64)
    share = (inner - 127.5) / np.maximum(inner - outer, 1.0)
    distance = (first - 1 + share + 0.5) / half
    return np.where(reached, distance, np.nan)


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
    reach = int(np.ceil(SEARCH * half))
    sides = upright_sides(patches)
    guess = np.where(np.isfinite(fused), fused, 0.0)
    # Row of the guess, counted from outside; a patch's row r lies at 1 - (r + 0.5) / half.
    row = np.rint((1.0 - guess) * half - 0.5).astype(np.int64)
    steps = np.arange(reach, -reach - 1, -1)
    rows = np.clip(row[..., None, :] + steps[:, None], 0, CELLS - 1)  # (4, J, K, CELLS)
    values = np.take_along_axis(sides, rows[:, :, None], axis=-2)
    outside = values < 128
    first = outside.argmax(axis=-2)
    found = (first > 0) & outside.any(axis=-2) & np.isfinite(fused)[:, :, None]
    at = np.maximum(first, 1)[..., None, :]
    outer = np.take_along_axis(values, at, axis=-2)[..., 0, :].astype(np.float64)
    inner = np.take_along_axis(values, at - 1, axis=-2)[..., 0, :].astype(np.float64)
    share = (inner - 127.5) / np.maximum(inner - outer, 1.0)
    where = row[:, :, None, :] + reach - (at[..., 0, :] - 1) - share
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
    runs: Sequence[ColumnRuns],
    frames: Frames,
    spacing_mm: tuple[float, float],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """(J, CELLS, CELLS) patches of the fused bodies, their middles filled."""
    patches = np.zeros((len(runs), CELLS, CELLS), np.uint8)
    for place, each in enumerate(runs):
        window = window_of(frames, place, spacing_mm, height, width)
        if window[2] > window[0] and window[3] > window[1]:
            patches[place] = patch_of(painted(each, window), window, frames, place, spacing_mm)
    centre = _FADE[None, :] ** 2 + _FADE[:, None] ** 2 < CORE**2
    patches[:, centre] = 255
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
    height, width = vertebrae[0].mask.height, vertebrae[0].mask.width
    names = sorted(members)
    patches = np.zeros((len(vertebrae), len(names), CELLS, CELLS), np.uint8)
    outlined = np.zeros((len(vertebrae), len(names)), np.bool_)
    for column, name in enumerate(names):
        member = members[name]
        best: list[int | None] = [None] * len(vertebrae)
        if member.outlines:
            iou, _ = overlaps(vertebrae, member.outlines)
            for place, row in enumerate(iou):
                choice = int(row.argmax())
                best[place] = choice if row[choice] >= SAME_IOU else None
        for place in range(len(vertebrae)):
            choice_or_none = best[place]
            runs = member.region
            if choice_or_none is not None:
                runs = column_runs(member.outlines[choice_or_none].mask)
                outlined[place, column] = True
            if runs is None:
                continue
            window = window_of(frames, place, spacing_mm, height, width)
            if window[2] <= window[0] or window[3] <= window[1]:
                continue
            mask = painted(runs, window)
            patches[place, column] = patch_of(mask, window, frames, place, spacing_mm)
    return patches, outlined
