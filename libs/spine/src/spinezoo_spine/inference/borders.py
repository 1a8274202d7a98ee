"""From planes on a network's canvas to the film's labels, worked out along their borders only.

A film pixel is a mean of the four canvas pixels around it, weighted by how near they are (bilinear,
as ``cv2.resize`` does it). Where all four have the same label, so has every film pixel between
them: a class that is the highest at four corners is the highest in any mean of them. So film pixels
are made only in *cells* (four neighbouring canvas pixels) whose corners differ, some hundredths of
a film, and the labels come out as run lengths down the columns, for all classes in one pass.

Pixels are those of resizing every plane to the film and comparing there, but for two classes that
are equal to the last bit of a ``float32``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.inference.soft_masks import Window

_BELOW = 255
"""Code of a canvas pixel whose highest probability is below the threshold."""

_PIXELS_AT_ONCE = 1 << 16
"""Film pixels worked out in one go: what the processor's caches hold."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a film over the same axis of the canvas's part that shows it.

    Attributes:
        weight: (film pixels,) ``float32`` weight of the further of the two canvas pixels that a
            film pixel lies between, 0 to 1.
        start: (cells + 1,) first film pixel of each cell, and the film's extent.
        near: (cells,) sum of the nearer canvas pixel's weights over a cell's film pixels.
        far: (cells,) sum of the further one's.
    """

    weight: NDArray[np.float32]
    start: NDArray[np.int64]
    near: NDArray[np.float32]
    far: NDArray[np.float32]

    @classmethod
    def of(cls, canvas_px: int, film_px: int) -> _Axis:
        """The axis of ``film_px`` film pixels over ``canvas_px`` canvas pixels, 2 or more."""
        # In float32 where OpenCV is, so that both put a film pixel at the same place.
        place = ((np.arange(film_px) + 0.5) * (canvas_px / film_px) - 0.5).astype(np.float32)
        place = np.clip(place, np.float32(0.0), np.float32(canvas_px - 1))
        cell = np.minimum(place.astype(np.int64), canvas_px - 2)
        weight = place - cell.astype(np.float32)
        start = np.searchsorted(cell, np.arange(canvas_px))
        far = np.bincount(cell, weights=weight, minlength=canvas_px - 1)
        near = np.diff(start) - far
        return cls(weight, start, near.astype(np.float32), far.astype(np.float32))


@dataclass(frozen=True, slots=True)
class FilmGrid:
    """A film of ``rows.start[-1]`` x ``columns.start[-1]`` pixels over its part of a canvas."""

    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, canvas: tuple[int, int], film: tuple[int, int]) -> FilmGrid:
        """The grid of a film (height, width) that covers canvas pixels (height, width)."""
        return cls(_Axis.of(max(2, canvas[0]), film[0]), _Axis.of(max(2, canvas[1]), film[1]))


@dataclass(frozen=True, slots=True)
class Labels:
    """A film's labels as runs down the columns.

    Attributes:
        places: (n,) ``int64``, ascending places (column * film height + row) where the label
            changes; before the first it is 0.
        labels: (n,) ``uint8`` label from each place on; the last is that of the film's end, 0.
        sums: Of each label the sum of its probability over its pixels; label 0 is not counted.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.uint8]
    sums: NDArray[np.float64]

    def runs(self, label: int, pixels: int) -> NDArray[np.int64]:
        """Run lengths of a label's pixels, background first; a film of one run has none of it.

        Args:
            label: Which, from 1.
            pixels: Pixels of the film.
        """
        starts = np.flatnonzero(self.labels == label)
        borders = np.empty(2 * len(starts), dtype=np.int64)
        borders[0::2] = self.places[starts]
        borders[1::2] = self.places[starts + 1]
        if len(borders) and borders[-1] == pixels:
            return np.diff(borders, prepend=0)
        return np.diff(borders, prepend=0, append=pixels)


def _two_or_more(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Planes of at least 2 x 2: a film that covers one canvas row lies between two equal ones."""
    for axis in (1, 2):
        if planes.shape[axis] == 1:
            planes = np.repeat(planes, 2, axis=axis)
    return planes


def class_labels(
    planes: NDArray[np.float32],
    grid: FilmGrid,
    score_threshold: float = 0.0,
    corner: tuple[int, int] = (0, 0),
) -> Labels:
    """The class of highest probability of every film pixel, 0 where that is background.

    Args:
        planes: (1 + classes, h, w) probabilities on a window of the film's part of the canvas,
            background first. Of equal classes the first counts. Beyond the window all is
            background, and so is its border where that is not the film's.
        grid: The film over that part.
        score_threshold: A pixel whose highest probability is below this is background.
        corner: Row and column of that part of the window's first pixel.
    """
    planes = _two_or_more(planes)
    best = planes[0].copy()
    codes = np.zeros(best.shape, dtype=np.uint8)
    higher = np.empty(best.shape, dtype=np.bool_)
    classes = [0]
    for number in range(1, len(planes)):
        plane = planes[number]
        # Nowhere above the background: below it in every mean too.
        if not np.greater_equal(plane, planes[0], out=higher).any():
            continue
        classes.append(number)
        np.greater(plane, best, out=higher)
        np.maximum(plane, best, out=best)
        np.copyto(codes, np.uint8(number), where=higher)
    if score_threshold > 0.0:
        codes[best < score_threshold] = _BELOW
    held = codes != 0
    rows, columns = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
    if not len(rows):
        end = np.array([grid.rows.start[-1] * grid.columns.start[-1]])
        return Labels(end, np.zeros(1, dtype=np.uint8), np.zeros(len(planes)))
    # One canvas pixel around what there is: film pixels there are still partly of it.
    down = slice(max(0, int(rows[0]) - 1), max(2, int(rows[-1]) + 2))
    across = slice(max(0, int(columns[0]) - 1), max(2, int(columns[-1]) + 2))
    return _labels(
        {number: planes[number, down, across] for number in classes},
        codes[down, across],
        best[down, across],
        grid,
        (corner[0] + down.start, corner[1] + across.start),
        score_threshold,
        np.zeros(len(planes)),
    )


def runs_of_objects(windows: Sequence[Window], grid: FilmGrid) -> list[NDArray[np.int64] | None]:
    """Run lengths down the columns of the film pixels above one half of soft masks.

    All in one pass: an object has some hundred pixels at its border, and for so few a step takes
    as long as for all of them.

    Args:
        windows: Each of the film's part of the canvas, at most one half at its border where that is
            not the film's; :meth:`Window.within` gives such ones.
        grid: The film over that part.

    Returns:
        Of each (N,) run lengths, background first, adding up to the film; some may be 0. None
        where no pixel is above.
    """
    if not windows:
        return []
    soft, top, tall, wide, left, above = _stacked(windows)
    rows, columns = grid.rows, grid.columns
    height, width = int(rows.start[-1]), int(columns.start[-1])
    inside = soft > 0.5
    i, j = np.nonzero(_mixed(inside))
    owner = np.searchsorted(top, i, "right") - 1
    # Not those between two masks, or between one and what fills the stack up.
    within = (i - top[owner] + 1 < tall[owner]) & (j + 1 < wide[owner])
    i, j, owner = i[within], j[within], owner[within]
    # Every film column of each cell whose corners differ.
    first = columns.start[left[owner] + j]
    count = columns.start[left[owner] + j + 1] - first
    x = np.arange(int(count.sum())) + np.repeat(first - np.cumsum(count) + count, count)
    far = columns.weight[x]
    near = np.float32(1.0) - far
    corner = np.repeat(i * soft.shape[1] + j, count)
    flat = soft.ravel()
    upper = flat[corner] * near + flat[corner + 1] * far
    corner += soft.shape[1]
    lower = flat[corner] * near + flat[corner + 1] * far
    # Down a column two canvas rows are joined by a straight line: it crosses one half once.
    crossing = np.flatnonzero((upper > 0.5) != (lower > 0.5))
    x, upper, lower = x[crossing], upper[crossing, np.newaxis], lower[crossing, np.newaxis]
    row = np.repeat(above[owner] + i - top[owner], count)[crossing]
    owner = np.repeat(owner, count)[crossing]
    start = rows.start[row]
    size = rows.start[row + 1] - start
    rank = np.arange(int(size.max(initial=0)))
    far = rows.weight[np.minimum(start[:, np.newaxis] + rank, height - 1)]
    value = upper * (np.float32(1.0) - far)
    value += lower * far
    same = (value > 0.5) == (upper > 0.5)
    same &= rank < size[:, np.newaxis]
    # Each mask's places after those of the one before it; the film's end is one of them too.
    apart = height * width + 1
    found = [owner * apart + x * height + start + np.count_nonzero(same, axis=1)]
    # The film's own border, where an object reaches it: there runs begin and end too.
    for number, window in enumerate(windows):
        for edge, beside in ((0, 0), (-1, height)):
            values = _two_or_more(window.values[np.newaxis])[0][edge]
            if (values > 0.5).any():
                columns_in = _columns_inside(values, columns, window.left)
                found.append(number * apart + columns_in * height + beside)
    # Each mask's film begins and ends too, so that one difference gives the runs of all of them.
    film = np.arange(len(windows))[:, np.newaxis] * apart + [0, height * width]
    borders = np.sort(np.concatenate([*found, film.ravel()]))
    runs = np.diff(borders)
    ends = np.searchsorted(borders, np.arange(1, len(windows) + 1) * apart)
    answers: list[NDArray[np.int64] | None] = []
    first = 0
    for end in ends.tolist():
        answers.append(runs[first : end - 1] if end - first > 2 else None)
        first = end
    return answers


def _stacked(
    windows: Sequence[Window],
) -> tuple[
    NDArray[np.float32],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
]:
    """Windows below each other, filled up with 0 on the right.

    Returns:
        The stack, and of each window its first row there, its rows, its columns, and the canvas
        column and row of its first pixel.
    """
    shapes = np.array([window.values.shape for window in windows], dtype=np.int64)
    tall, wide = np.maximum(shapes, 2).T
    top = np.cumsum(tall) - tall
    stack = np.zeros((int(tall.sum()), int(wide.max())), dtype=np.float32)
    for window, first, rows, columns in zip(windows, top, tall, wide, strict=True):
        # One row or column alone stands for two equal ones.
        stack[first : first + rows, :columns] = window.values
    left = np.array([window.left for window in windows], dtype=np.int64)
    above = np.array([window.top for window in windows], dtype=np.int64)
    return stack, top, tall, wide, left, above


def _mixed(codes: NDArray[Any]) -> NDArray[np.bool_]:
    """(h - 1, w - 1) cells of (h, w) canvas pixels whose four corners are not all alike."""
    mixed: NDArray[np.bool_] = codes[:-1, :-1] != codes[1:, :-1]
    mixed |= codes[:-1, 1:] != codes[1:, 1:]
    mixed |= codes[:-1, :-1] != codes[:-1, 1:]
    return mixed


def _columns_inside(soft: NDArray[np.float32], columns: _Axis, left: int) -> NDArray[np.int64]:
    """The film columns that are above one half on a canvas row that begins at ``left``."""
    start = columns.start[left : left + len(soft)]
    x = np.arange(start[0], start[-1])
    cell = np.repeat(np.arange(len(soft) - 1), np.diff(start))
    far = columns.weight[x]
    found: NDArray[np.int64] = x[soft[cell] * (np.float32(1.0) - far) + soft[cell + 1] * far > 0.5]
    return found


def _labels(
    planes: Mapping[int, NDArray[np.float32]],
    codes: NDArray[np.uint8],
    best: NDArray[np.float32],
    grid: FilmGrid,
    corner: tuple[int, int],
    score_threshold: float,
    sums: NDArray[np.float64],
) -> Labels:
    """Labels of a film from a window of its part of the canvas, beyond which all is background.

    Args:
        planes: (h, w) of each class that may be somewhere, by number; background first.
        codes: (h, w) label of each canvas pixel, or :data:`_BELOW`. The window's border is
            background, unless it is the film's.
        best: (h, w) highest value of each canvas pixel.
        grid: The film.
        corner: Canvas row and column of the window's first pixel.
        score_threshold: Least value.
        sums: (labels,) zeros, which become those of the answer.
    """
    rows, columns = grid.rows, grid.columns
    height, width = int(rows.start[-1]), int(columns.start[-1])
    i0, j0 = corner
    cells_down, cells_across = codes.shape[0] - 1, codes.shape[1] - 1
    start_y = rows.start[i0 : i0 + cells_down + 1]
    start_x = columns.start[j0 : j0 + cells_across + 1]
    mixed = _mixed(codes)
    _add_even(sums, codes, best, mixed, grid, corner)

    # The label after a cell: that of the canvas pixel below it, unless the next cell says itself.
    after = codes[1:, :-1].copy()
    after[after == _BELOW] = 0
    after_place = start_y[1:]
    speaks = np.ones_like(mixed)
    speaks[:-1] = ~mixed[1:]
    speaks &= (after_place < height)[:, np.newaxis]

    places, labels = [], []
    # The film pixels down a cell: as many for every cell as the tallest has, and which it has not.
    size_y = np.diff(start_y)
    most = int(size_y.max()) if cells_down else 0
    step = max(1, _PIXELS_AT_ONCE // max(1, most + 1))
    rank_y = np.arange(most)
    there_y = rank_y < size_y[:, np.newaxis]
    weight_y = rows.weight[np.minimum(start_y[:-1, np.newaxis] + rank_y, height - 1)]
    window, stride = _in_rows(planes)
    strip_i, strip_j, strip_x = _strips(mixed, start_x)
    for begin in range(0, len(strip_i), step):
        i, j, x = (each[begin : begin + step] for each in (strip_i, strip_j, strip_x))
        inner = there_y[i]
        found, highest = _highest(
            window, i * stride + j, stride, columns.weight[x], weight_y[i], score_threshold
        )
        # What is not there counts to label 0, which is not counted.
        found *= inner
        sums += np.bincount(found.ravel(), weights=highest.ravel(), minlength=len(sums))
        valid = np.empty((len(i), most + 1), dtype=np.bool_)
        valid[:, :-1] = inner
        valid[:, -1] = speaks[i, j]
        said = np.empty((len(i), most + 1), dtype=np.uint8)
        said[:, :-1] = found
        said[:, -1] = after[i, j]
        place = np.empty((len(i), most + 1), dtype=np.int64)
        np.add((x * height + start_y[i])[:, np.newaxis], rank_y, out=place[:, :-1])
        place[:, -1] = x * height + after_place[i]
        places.append(place[valid])
        labels.append(said[valid])
    if _any_label(codes[0]) or _any_label(codes[-1]):
        # A column begins, or ends, within an object: each column says with what it begins.
        begins = np.repeat(codes[0, :-1], np.diff(start_x))
        begins[begins == _BELOW] = 0
        places.insert(0, np.arange(start_x[0], start_x[-1]) * height)
        labels.insert(0, begins)
        places.append(np.array([int(start_x[-1]) * height]))
        labels.append(np.zeros(1, dtype=np.uint8))
    return _changes(places, labels, height * width, sums)


def _strips(
    mixed: NDArray[np.bool_], start_x: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The film columns of the mixed cells, in the film's order: column by column, down.

    Args:
        mixed: (cells down, cells across) those whose corners differ.
        start_x: (cells across + 1,) first film column of each, and the end of the last.

    Returns:
        Of each strip its cell's row and column, and its film column.
    """
    column_cell, row_cell = np.nonzero(np.ascontiguousarray(mixed.T))
    cells_of = np.bincount(column_cell, minlength=mixed.shape[1])
    first_of = np.cumsum(cells_of) - cells_of
    cell_of = np.repeat(np.arange(mixed.shape[1]), np.diff(start_x))
    strips_of = cells_of[cell_of]
    strip_x = np.repeat(np.arange(start_x[0], start_x[-1]), strips_of)
    rank = np.arange(len(strip_x)) - np.repeat(np.cumsum(strips_of) - strips_of, strips_of)
    strip = rank + np.repeat(first_of[cell_of], strips_of)
    return row_cell[strip], column_cell[strip], strip_x


def _highest(
    planes: Mapping[int, NDArray[np.float32]],
    corner: NDArray[np.int64],
    stride: int,
    far_x: NDArray[np.float32],
    far_y: NDArray[np.float32],
    score_threshold: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The highest class of film pixels, and its value.

    Args:
        planes: As of :func:`_in_rows`, background first.
        corner: (n,) place there of the upper left canvas pixel of each strip's cell.
        stride: From there to the pixel below it.
        far_x: (n,) weight of the canvas pixels on the right.
        far_y: (n, rows) weight of the lower ones for each film pixel down the strip.
        score_threshold: Least value; background below it.

    Returns:
        Both (n, rows).
    """
    near_x, near_y = np.float32(1.0) - far_x, np.float32(1.0) - far_y
    found = np.zeros(far_y.shape, dtype=np.uint8)
    highest = None
    for label, flat in planes.items():
        upper = flat[corner] * near_x + flat[corner + 1] * far_x
        lower = flat[corner + stride] * near_x + flat[corner + stride + 1] * far_x
        value = upper[:, np.newaxis] * near_y
        value += lower[:, np.newaxis] * far_y
        if highest is None:
            highest = value
            continue
        np.copyto(found, np.uint8(label), where=value > highest)
        np.maximum(value, highest, out=highest)
    assert highest is not None
    if score_threshold > 0.0:
        found[highest < score_threshold] = 0
    return found, highest


def _in_rows(
    planes: Mapping[int, NDArray[np.float32]],
) -> tuple[dict[int, NDArray[np.float32]], int]:
    """Planes of one array, each as its memory from the first pixel on, and the pixels of a row.

    Windows of larger planes are not copied: their rows lie apart.
    """
    item = np.dtype(np.float32).itemsize
    one = planes[0]
    row, pixel = one.strides
    if pixel != item or row % item or row < 0:
        planes = {label: np.ascontiguousarray(plane) for label, plane in planes.items()}
        row = one.shape[1] * item
    stride = row // item
    length = (one.shape[0] - 1) * stride + one.shape[1]
    found = {
        label: np.lib.stride_tricks.as_strided(plane, (length,), (item,), writeable=False)
        for label, plane in planes.items()
    }
    return found, stride


def _any_label(codes: NDArray[np.uint8]) -> bool:
    return bool(((codes != 0) & (codes != _BELOW)).any())


def _add_even(
    sums: NDArray[np.float64],
    codes: NDArray[np.uint8],
    best: NDArray[np.float32],
    mixed: NDArray[np.bool_],
    grid: FilmGrid,
    corner: tuple[int, int],
) -> None:
    """Adds the values of the film pixels in cells of one label to the label's sum."""
    i0, j0 = corner
    down, across = mixed.shape
    rows, columns = grid.rows, grid.columns
    near_x, far_x = columns.near[j0 : j0 + across], columns.far[j0 : j0 + across]
    near_y = rows.near[i0 : i0 + down, np.newaxis]
    far_y = rows.far[i0 : i0 + down, np.newaxis]
    row_sum = best[:, :-1] * near_x + best[:, 1:] * far_x
    cell_sum = row_sum[:-1] * near_y + row_sum[1:] * far_y
    even = np.where(mixed, np.uint8(0), codes[:-1, :-1])
    for label in range(1, len(sums)):
        sums[label] += cell_sum[even == label].sum(dtype=np.float64)


def _changes(
    places: list[NDArray[np.int64]],
    labels: list[NDArray[np.uint8]],
    pixels: int,
    sums: NDArray[np.float64],
) -> Labels:
    """Labels from what was said of places: nearly in order, at times twice (the later counts)."""
    place = np.concatenate([*places, np.array([pixels])])
    label = np.concatenate([*labels, np.zeros(1, dtype=np.uint8)])
    if bool((np.diff(place) < 0).any()):
        order = np.argsort(place, kind="stable")
        place, label = place[order], label[order]
    last = np.ones(len(place), dtype=np.bool_)
    np.not_equal(place[1:], place[:-1], out=last[:-1])
    place, label = place[last], label[last]
    changed = np.empty(len(label), dtype=np.bool_)
    changed[0] = label[0] != 0
    np.not_equal(label[1:], label[:-1], out=changed[1:])
    changed[-1] = True  # the film's end, also where nothing changes
    return Labels(place[changed], label[changed], sums)
