"""What lies between Mask R-CNN's graphs, on numpy arrays: anchors, proposals, pooling, pasting.

What torchvision's ``rpn``, ``roi_align``, ``roi_heads`` and ``paste_masks_in_image`` do on tensors,
for serving without torch; a test holds both equal. Boxes are corners (x1, y1, x2, y2) in pixels of
the input. Shapes: A anchors, R regions of interest, D detections, K classes with background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from spinezoo_spine.inference.soft_masks import SoftMasks, Window

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]

BOX_POOL_CELLS = 7
"""Side of the grid that the box head sees of a region."""

MASK_POOL_CELLS = 14
"""Side of the grid that the mask head sees of a region; its masks are twice as fine."""

MASK_REGIONS = 4
"""Regions that the mask head takes at a time."""

PROBE_VALUES = 16
"""Values that a probe takes from each of the network's raw outputs."""

STRIDES = (4, 8, 16, 32)
"""Of P2 to P5."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What the box head's offsets are multiplied by."""

MOST_GROWTH = math.log(1000.0 / 16)
"""Greatest logarithm of a box's growth."""

POOL_LEVEL = 4
POOL_SIZE_PX = 224
"""A region of that size is pooled from that level (Lin et al., equation 1)."""

SAMPLES = 2
"""Samples a side of a pooled cell."""

PADDING_CELLS = 1
"""Cells around a mask when it is pasted."""


def level_sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """(rows, columns) of the pyramid's levels; a fifth is P5 at half its size."""
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    if levels > len(STRIDES):
        rows, columns = sizes[-1]
        sizes.append(((rows + 1) // 2, (columns + 1) // 2))
    return sizes


def make_anchors(network: Mapping[str, Any], height: int, width: int) -> list[Array]:
    """(a h w, 4) corners of the anchors of each level, row by row.

    Args:
        network: The preset's arguments of :class:`spinezoo_mask_rcnn.network.MaskRcnn`.
        height: Rows of the input.
        width: Columns of the input.
    """
    sizes_px = network["anchor_sizes_px"]
    roots = np.sqrt(np.array(network["anchor_ratios"], dtype=np.float32))
    found = []
    for (rows, columns), sizes in zip(
        level_sizes(height, width, len(sizes_px)), sizes_px, strict=True
    ):
        side = np.array(sizes, dtype=np.float32)
        wide = ((1.0 / roots)[:, None] * side).ravel()
        high = (roots[:, None] * side).ravel()
        cell = np.round(np.stack([-wide, -high, wide, high], axis=1) / 2)
        y = np.arange(rows, dtype=np.float32) * (height // rows)
        x = np.arange(columns, dtype=np.float32) * (width // columns)
        shift = np.stack(np.broadcast_arrays(x, y[:, None], x, y[:, None]), axis=-1)
        found.append((shift.reshape(-1, 1, 4) + cell).reshape(-1, 4).astype(np.float32))
    return found


def decode(offsets: Array, boxes: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """(n, ..., 4) offsets from (n, 4) boxes as corners."""
    boxes = boxes.reshape(len(boxes), *(1,) * (offsets.ndim - 2), 4)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + np.float32(0.5) * size
    moves = offsets / np.array(weights, dtype=np.float32)
    centre = moves[..., :2] * size + centre
    half = np.exp(np.minimum(moves[..., 2:], np.float32(MOST_GROWTH))) * size * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=-1)


def clip(boxes: Array, height: int, width: int) -> Array:
    """Boxes cut to the input."""
    return np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float32))


def sigmoid(logits: Array) -> Array:
    """Probabilities of logits."""
    found: Array = np.float32(1.0) / (np.float32(1.0) + np.exp(-logits))
    return found


def _sides(boxes: Array) -> Array:
    return boxes[..., 2:] - boxes[..., :2]


def suppressed(boxes: Array, scores: Array, groups: Numbers, iou: float) -> Numbers:
    """Which of (n, 4) boxes stay, best score first: none overlaps a better one of its group."""
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    # OpenCV takes arrays, its types say lists.
    rectangles: Any = np.concatenate([boxes[:, :2], _sides(boxes)], axis=1).astype(np.float64)
    values: Any = scores
    numbers: Any = groups.astype(np.int32)
    kept = cv2.dnn.NMSBoxesBatched(rectangles, values, numbers, -1.0, iou)
    stay = np.asarray(kept, dtype=np.int64).reshape(-1)
    return stay[np.argsort(-scores[stay], kind="stable")]


def propose(
    proposals: Array,
    objectness: Array,
    anchors: Sequence[Array],
    height: int,
    width: int,
    settings: Mapping[str, Any],
) -> Array:
    """(R, 4) proposals, the likeliest first.

    Args:
        proposals: (cells, 5 a): of each cell the logits of its anchors, then four offsets of each.
        objectness: (A,) logits, of :func:`objectness_of`.
        anchors: Of :func:`make_anchors`.
        height: Rows of the input.
        width: Columns of the input.
        settings: torchvision's settings by its names.
    """
    first = 0
    likeliest, priors, groups = [], [], []
    for level, cells in enumerate(anchors):
        logits = objectness[first : first + len(cells)]
        count = min(int(settings["rpn_pre_nms_top_n_test"]), len(cells))
        likely = np.flatnonzero(logits > 0.0)
        if len(likely) < count:
            likely = np.arange(len(cells))
        best = likely[np.argpartition(-logits[likely], count - 1)[:count]]
        best = best[np.argsort(-logits[best], kind="stable")]
        likeliest.append(first + best)
        priors.append(cells[best])
        groups.append(np.full(count, level))
        first += len(cells)
    which, group = np.concatenate(likeliest), np.concatenate(groups)
    a_cell = proposals.shape[1] // 5
    cell, own = np.divmod(which, a_cell)
    offsets = proposals[cell[:, None], (a_cell + 4 * own)[:, None] + np.arange(4)]
    box = clip(decode(offsets, np.concatenate(priors)), height, width)
    score = sigmoid(objectness[which])
    sound = np.flatnonzero((_sides(box) >= 1e-3).all(axis=1))
    order = sound[np.argsort(-score[sound], kind="stable")]
    wanted, iou = int(settings["rpn_post_nms_top_n_test"]), float(settings["rpn_nms_thresh"])
    count = 2 * wanted
    while True:
        # Which of the best stay does not depend on lesser ones, so those are looked at if needed.
        best = order[:count]
        kept = suppressed(box[best], score[best], group[best], iou)
        if len(kept) >= wanted or count >= len(order):
            return box[best[kept[:wanted]]]
        count *= 2


def objectness_of(proposals: Array) -> Array:
    """(A,) logits of all anchors, in the order of :func:`make_anchors`."""
    return proposals[:, : proposals.shape[1] // 5].reshape(-1)


def _taps(
    low: Array, high: Array, cells: NDArray[np.int32], bins: int
) -> tuple[NDArray[np.int32], Array]:
    """Where regions are sampled on one axis.

    Args:
        low: (R,) beginnings, in cells.
        high: (R,) ends.
        cells: (R,) cells of the axis on the region's level.
        bins: Bins of a region.

    Returns:
        (R, bins, 2 SAMPLES) cells and their weights in a bin's mean.
    """
    length = np.maximum(high - low, np.float32(1.0)) / np.float32(bins)
    steps = (np.arange(bins * SAMPLES, dtype=np.float32) + np.float32(0.5)) / SAMPLES
    place = low[:, None] + length[:, None] * steps
    most = cells[:, None] - np.int32(1)
    outside = (place < -1.0) | (place > cells[:, None])
    place = np.clip(place, np.float32(0.0), most.astype(np.float32))
    cell = np.empty((*place.shape, 2), dtype=np.int32)
    cell[..., 0] = place
    np.minimum(cell[..., 0] + np.int32(1), most, out=cell[..., 1])
    weight = np.empty(cell.shape, dtype=np.float32)
    np.subtract(place, cell[..., 0], out=weight[..., 1], casting="same_kind")
    np.subtract(np.float32(1.0), weight[..., 1], out=weight[..., 0])
    weight[outside] = 0.0
    weight /= np.float32(SAMPLES)
    shape = (len(low), bins, 2 * SAMPLES)
    return cell.reshape(shape), weight.reshape(shape)


def pool_levels(boxes: Array) -> Numbers:
    """(R,) level of :data:`STRIDES` that each box is pooled from."""
    side = np.sqrt(_sides(boxes).prod(axis=1))
    level = np.floor(POOL_LEVEL + np.log2(side / POOL_SIZE_PX) + np.float32(1e-6))
    first = int(math.log2(STRIDES[0]))
    return (np.clip(level, first, first + len(STRIDES) - 1) - first).astype(np.int64)


def pool(
    features: Array, boxes: Array, bins: int, height: int, width: int, rows: int | None = None
) -> Array:
    """(R, bins, bins, c) regions of the pyramid: RoIAlign as one product with a sparse matrix.

    Args:
        features: (cells, c) of P2 to P5, one level after the other.
        boxes: (R, 4).
        bins: Cells a side of a pooled region.
        height: Rows of the input.
        width: Columns of the input.
        rows: Regions of the answer, those beyond the boxes 0; None: as many as boxes.
    """
    count, taps = len(boxes), 2 * SAMPLES
    level = pool_levels(boxes)
    sizes = np.array(level_sizes(height, width, len(STRIDES)), dtype=np.int32)
    cells = sizes.prod(axis=1, dtype=np.int32)
    first = (np.cumsum(cells, dtype=np.int32) - cells)[level]
    tall, wide = sizes[level].T
    on_level = boxes / np.array(STRIDES, dtype=np.float32)[level][:, None]
    y, y_weight = _taps(on_level[:, 1], on_level[:, 3], tall, bins)
    x, x_weight = _taps(on_level[:, 0], on_level[:, 2], wide, bins)
    y = first[:, None, None] + y * wide[:, None, None]
    # Each tap of y with each of x. Each row of bins is written out before its columns are put to
    # it: numpy is fast along axes that are long.
    whole = (count, bins, bins * taps**2)
    along = (count, 1, bins * taps**2)
    places = np.repeat(np.repeat(y, taps, axis=2).reshape(-1, taps**2), bins, axis=0).reshape(whole)
    places += np.tile(x, taps).reshape(along)
    weights = np.repeat(y_weight, taps, axis=2).reshape(-1, taps**2)
    weights = np.repeat(weights, bins, axis=0).reshape(whole)
    weights *= np.tile(x_weight, taps).reshape(along)
    answered = count if rows is None else rows
    ends = np.full(answered * bins * bins + 1, places.size, dtype=np.int32)
    ends[: count * bins * bins] = np.arange(0, places.size, taps * taps, dtype=np.int32)
    matrix = csr_array(
        (weights.ravel(), places.ravel(), ends), shape=(len(ends) - 1, len(features))
    )
    return (matrix @ features).reshape(answered, bins, bins, features.shape[1])


def select(
    logits: Array,
    offsets: Array,
    regions: Array,
    height: int,
    width: int,
    *,
    score_threshold: float,
    suppression_iou: float,
    max_detections: int,
) -> tuple[Array, Numbers, Array]:
    """(D, 4) boxes, (D,) labels from 1 and (D,) scores, best first, of what the box head found.

    Args:
        logits: (R, K).
        offsets: (R, 4 K).
        regions: (R, 4) proposals.
        height: Rows of the input.
        width: Columns of the input.
        score_threshold: Keep scores above this.
        suppression_iou: IoU of boxes of one class above which the lesser one is dropped.
        max_detections: Most objects of a film.
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    boxes = clip(decode(offsets.reshape(*logits.shape, 4), regions, BOX_WEIGHTS), height, width)
    sound = (scores > score_threshold) & (_sides(boxes) >= 1e-2).all(axis=2)
    sound[:, 0] = False  # background
    region, label = np.nonzero(sound)
    box, score = boxes[region, label], scores[region, label]
    kept = suppressed(box, score, label, suppression_iou)[:max_detections]
    return box[kept], label[kept], score[kept]


def masks_of(found: Array, labels: Numbers | None = None) -> Array:
    """(D, m, m) mask logits of regions' labels, or (D, K, m, m) of all.

    Args:
        found: (D, cells, cells, y, x, K) as the mask head answers: the pixels of each cell.
        labels: (D,) labels.
    """
    if labels is not None:
        found = found[np.arange(len(labels)), ..., labels][..., np.newaxis]
    count, rows, columns, down, across, classes = found.shape
    shape = (count, classes, rows * down, columns * across)
    planes = found.transpose(0, 5, 1, 3, 2, 4).reshape(shape)
    return planes if labels is None else planes[:, 0]


def paste(masks: Array, boxes: Array, height: int, width: int) -> SoftMasks:
    """Masks on the input from (D, m, m) probabilities in their boxes."""
    side = masks.shape[-1]
    scale = np.float32((side + 2 * PADDING_CELLS) / side)
    half = _sides(boxes) * np.float32(0.5) * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    corners = np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)
    padding = (0, 0), (PADDING_CELLS, PADDING_CELLS), (PADDING_CELLS, PADDING_CELLS)
    windows = []
    for mask, (left, top, right, bottom) in zip(
        np.pad(masks, padding), corners.tolist(), strict=True
    ):
        size = (max(right - left + 1, 1), max(bottom - top + 1, 1))
        drawn = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
        x, y = max(left, 0), max(top, 0)
        end_x, end_y = min(right + 1, width), min(bottom + 1, height)
        windows.append(Window(y, x, drawn[y - top : end_y - top, x - left : end_x - left]))
    return SoftMasks((height, width), tuple(windows))


def probe_regions(height: int, width: int) -> Array:
    """(4, 4) boxes of :meth:`spinezoo_mask_rcnn.network.MaskRcnn.probe_forward`."""
    size = np.array([width, height], dtype=np.float32)
    corner = np.array([[0.0, 0.0], [0.25, 0.5], [0.5, 0.25], [0.75, 0.75]], np.float32) * size
    return np.concatenate([corner, corner + size / 4], axis=1)


def probe_proposals(proposals: Array, height: int, width: int, levels: int) -> Array:
    """What a probe takes from a film's proposals: each level's logits, then each one's offsets."""
    sizes = level_sizes(height, width, levels)
    ends = np.cumsum([rows * columns for rows, columns in sizes])[:-1]
    of_level = np.split(proposals, ends)
    a_cell = proposals.shape[1] // 5
    # Channels first, as torch has them.
    parts = [level.T[:a_cell] for level in of_level] + [level.T[a_cell:] for level in of_level]
    return np.concatenate([evenly(part, PROBE_VALUES) for part in parts])


def evenly(values: Array, count: int) -> Array:
    """(count,) values at evenly spaced places of a flattened array."""
    flat = values.reshape(-1)
    return flat[np.linspace(0, flat.size - 1, count).round().astype(np.int64)]
