"""YOLACT's last steps on numpy arrays: priors, boxes, Fast NMS, masks.

What :mod:`spinezoo_yolact.detection` does on tensors, for serving without torch; a test holds both
equal. Boxes run 0 to 1 over the input; shapes are written as in :mod:`spinezoo_yolact.network`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_spine.inference.objects import Objects
from spinezoo_spine.inference.soft_masks import SoftMasks, Window

Array = NDArray[np.float32]

VARIANCES = (0.1, 0.2)
"""Scale of encoded box centres and of encoded box sizes (SSD)."""

CROP_PADDING_PX = 1.0
"""Prototype pixels that are kept around a box when a mask is cropped to it."""

TOP = 200
"""Most candidates of a class."""

SIDE = 3
"""Side of the kernel that mask coefficients are computed with."""

HALO = 5
"""Cells of the finest level beside the one that a prototype lies in that it is made from: one for
each 3 x 3 convolution before the level is drawn at twice its size, and one for both after that."""

STEP = 16
"""Parts of the finest level have multiples of so many rows and columns: an engine prepares itself
for every size."""

PROBE_VALUES = 64
"""Values that a probe takes from each of the network's raw outputs."""

ROUNDING = 1e-3
"""More than logits of a score can be off by in float32."""


def make_priors(network: Mapping[str, Any], height: int, width: int) -> Array:
    """(P, 4) centres (cx, cy, width, height) of the priors of a card's ``network`` entry.

    Args:
        network: The preset's arguments of :class:`spinezoo_yolact.network.Yolact`.
        height: Rows of the input.
        width: Columns of the input.
    """
    levels = []
    for (rows, columns), scales in zip(
        level_sizes(network, height, width), network["prior_scales_px"], strict=True
    ):
        shapes = []
        for scale in scales:
            for ratio in network["prior_ratios"]:
                wide = scale * math.sqrt(ratio)
                high = wide if network["square_priors"] else scale / math.sqrt(ratio)
                shapes.append((wide / width, high / height))
        priors = np.empty((rows, columns, len(shapes), 4), dtype=np.float32)
        priors[..., 0] = ((np.arange(columns, dtype=np.float32) + 0.5) / columns)[None, :, None]
        priors[..., 1] = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None, None]
        priors[..., 2:] = np.array(shapes, dtype=np.float32)
        levels.append(priors.reshape(-1, 4))
    return np.concatenate(levels)


def level_sizes(network: Mapping[str, Any], height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of the levels with priors; arguments as of :func:`make_priors`."""
    stages = [int(stage) for stage in network["pyramid_stages"]]
    sizes = [(_halved(height, stage + 2), _halved(width, stage + 2)) for stage in stages]
    for _ in range(int(network["extra_levels"])):
        sizes.append((_halved(sizes[-1][0], 1), _halved(sizes[-1][1], 1)))
    return sizes[int(network["head_start"]) :]


def make_neighbours(sizes: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    """(cells, 9) numbers of the cells that a kernel of 3 x 3 sees around each cell.

    Args:
        sizes: (rows, columns) of levels whose cells lie one after the other, row by row.

    Returns:
        Row by row; -1 beyond the level's border, where kernels see zeros.
    """
    found, first = [], 0
    for rows, columns in sizes:
        numbers = np.full((rows + 2, columns + 2), -1, dtype=np.int32)
        numbers[1:-1, 1:-1] = np.arange(first, first + rows * columns).reshape(rows, columns)
        seen = np.lib.stride_tricks.sliding_window_view(numbers, (SIDE, SIDE))
        found.append(seen.reshape(-1, SIDE**2))
        first += rows * columns
    return np.concatenate(found)


def cells_around(features: Array, seen: NDArray[np.int32]) -> Array:
    """(n, c, 9) of (c, cells) features by (n, 9) of :func:`make_neighbours`."""
    found = features[:, seen]
    found[:, seen < 0] = 0.0
    return found.transpose(1, 0, 2)


def _halved(size: int, times: int) -> int:
    """A side after convolutions of stride 2."""
    for _ in range(times):
        size = -(-size // 2)
    return size


def decode_boxes(offsets: Array, priors: Array) -> Array:
    """(n, 4) offsets from (n, 4) priors as corners."""
    centre = priors[:, :2] + offsets[:, :2] * VARIANCES[0] * priors[:, 2:]
    half = priors[:, 2:] * np.exp(offsets[:, 2:] * VARIANCES[1]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def overlaps(boxes: Array) -> Array:
    """(n, n) intersection over union of (n, 4) corners."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0.0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)
    ious: Array = common / np.maximum(area[:, None] + area[None, :] - common, 1e-12)
    return ious


class Part(NamedTuple):
    """Prototypes of a part of their grid.

    Attributes:
        values: (h, w, K).
        top: Row of the grid of the first row.
        left: Column of the grid of the first column.
    """

    values: Array
    top: int
    left: int


def part_of(boxes: Array, cells: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The part of the finest level that the prototypes in boxes are made from.

    Args:
        boxes: (D, 4) corners, one at least.
        cells: Rows and columns of the level; prototypes have twice as many.

    Returns:
        First row and column, and how many rows and columns.

    Raises:
        InvalidOutputError: A box is not a number.
    """
    if np.isnan(boxes).any():
        raise InvalidOutputError("YOLACT's boxes are not numbers; check the weights")
    sides = []
    for axis, size in ((1, cells[0]), (0, cells[1])):
        low, high = (
            min(max(float(each), 0.0), 1.0)
            for each in (boxes[:, axis].min(), boxes[:, axis + 2].max())
        )
        padding = CROP_PADDING_PX / 2  # prototypes are half as large as cells
        first = max(0, math.floor(low * size - padding) - HALO)
        last = min(size, math.ceil(high * size + padding) + HALO)
        length = min(size, max(STEP, -(-(last - first) // STEP) * STEP))
        sides.append((min(first, size - length), length))
    (top, rows), (left, columns) = sides
    return (top, left), (rows, columns)


def detect(
    found: Mapping[str, Array],
    priors: Array,
    coefficients_of: Callable[[NDArray[np.intp]], Array],
    prototypes_of: Callable[[Array], Part],
    *,
    score_threshold: float,
    suppression_iou: float,
    max_detections: int,
) -> Objects:
    """The objects of one film; see :func:`spinezoo_yolact.detection.detections_of`.

    Args:
        found: ``boxes``, ``class_logits``, ``finest`` of the graph.
        priors: Of :func:`make_priors`.
        coefficients_of: (D, K) mask coefficients of priors by their numbers.
        prototypes_of: The prototypes that lie in (D, 4) boxes, one at least.
        score_threshold: Keep scores above this.
        suppression_iou: IoU of boxes above which the lesser one is dropped.
        max_detections: Most objects of a film.
    """
    plausible = _maybe_above(found["class_logits"], score_threshold)
    logits = found["class_logits"][plausible]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers[:, 1:] / powers.sum(axis=1, keepdims=True)  # (P, C)
    above = (scores > score_threshold).any(axis=1)
    scores, plausible = scores[above], plausible[above]
    boxes = decode_boxes(found["boxes"][plausible], priors[plausible])
    kept, labels = [], []
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")[:TOP]
        order = order[scores[order, label] > score_threshold]
        if len(order):
            most = np.triu(overlaps(boxes[order]), k=1).max(axis=0)
            order = order[most <= suppression_iou]
        kept.append(order)
        labels.append(np.full(len(order), label + 1))
    which, label_of = np.concatenate(kept), np.concatenate(labels)
    score_of = scores[which, label_of - 1]
    best = np.argsort(-score_of, kind="stable")[:max_detections]
    which, label_of, score_of = which[best], label_of[best], score_of[best]
    rows, columns = found["finest"].shape[2:]
    if not len(which):
        return Objects(SoftMasks((2 * rows, 2 * columns), ()), score_of, label_of)
    part = prototypes_of(boxes[which])
    coefficients = coefficients_of(plausible[which])
    masks = assemble_masks(part, (2 * rows, 2 * columns), coefficients, boxes[which])
    return Objects(masks, score_of, label_of)


def _maybe_above(logits: Array, score_threshold: float) -> NDArray[np.intp]:
    """The priors that may have a score above the threshold, and few others.

    A class is that likely only if its logit is so much above the background's: nearly all priors
    are out by that, for a fraction of what a softmax takes.

    Args:
        logits: (P, 1 + C).
        score_threshold: From 0 to 1.

    Raises:
        InvalidOutputError: Logits are not finite.
    """
    lead = functools.reduce(np.maximum, logits.T[1:]) - logits[:, 0]
    if not np.isfinite(lead).all():
        raise InvalidOutputError("YOLACT's class logits are not finite; check the weights")
    if not 0.0 < score_threshold < 1.0:
        return np.arange(len(logits) if score_threshold <= 0.0 else 0)
    least = math.log(score_threshold / (1.0 - score_threshold))
    return np.flatnonzero(lead > least - ROUNDING)


def assemble_masks(
    part: Part, size: tuple[int, int], coefficients: Array, boxes: Array
) -> SoftMasks:
    """Prototypes that lie in (D, 4) boxes and (D, K) coefficients to D masks, cropped to the boxes.

    Args:
        part: The prototypes.
        size: Rows and columns of their whole grid.
        coefficients: Of each object.
        boxes: Its corners.
    """
    height, width = size
    scale = np.array([width, height, width, height], dtype=np.float32)
    padding = np.array([-1.0, -1.0, 1.0, 1.0], dtype=np.float32) * CROP_PADDING_PX
    edges = np.clip(boxes * scale + padding, 0.0, scale)
    # The cells from the first that is not before the box to the last that begins in it.
    windows = []
    for values, (left, top, right, bottom) in zip(
        coefficients, np.ceil(edges).astype(int).tolist(), strict=True
    ):
        inside = part.values[
            top - part.top : bottom - part.top, left - part.left : right - part.left
        ]
        near = inside @ values
        windows.append(Window(top, left, np.float32(1.0) / (np.float32(1.0) + np.exp(-near))))
    return SoftMasks(size, tuple(windows))
