"""Recognition of objects: predicted instances matched to true ones, one to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from spinezoo_contract.types import Segment

MATCH_IOU = 0.5
"""Least IoU at which a predicted object is a true one's match; exactly this much matches."""

_ROWS_AT_ONCE = 256
"""True objects whose boxes are compared with all predicted ones at once: bounds the memory."""

_ONE_GROUP = 1024
"""Pairs of objects up to which all that may match are one group."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Objects matched one to one.

    Attributes:
        matched_ious: IoU of each match, ascending.
        true_count: True objects.
        predicted_count: Predicted objects.
    """

    matched_ious: tuple[float, ...]
    true_count: int
    predicted_count: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "matched_ious": list(self.matched_ious),
            "true_count": self.true_count,
            "predicted_count": self.predicted_count,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Matches:
        """The opposite of :meth:`to_json`."""
        ious = tuple(float(iou) for iou in data["matched_ious"])
        return cls(ious, int(data["true_count"]), int(data["predicted_count"]))


def match_objects(
    truth: Sequence[Segment], prediction: Sequence[Segment], *, least_iou: float = MATCH_IOU
) -> Matches:
    """Matches predicted objects to true ones, one to one, at IoU of at least ``least_iou``.

    Instances may overlap, so one object can reach the threshold with several others. Of all
    one-to-one assignments, one with the most matches is taken, and among those one with the
    greatest sum of IoU. Neither the order of the segments nor their scores play a part.

    Args:
        truth: Instances (see :func:`~spinezoo_spine.instances.to_instances`) of one film.
        prediction: Instances of the same film and size.
        least_iou: Least IoU of a match, above 0.
    """
    pairs = matched_pairs(truth, prediction, least_iou=least_iou)
    return Matches(tuple(sorted(iou for _, _, iou in pairs)), len(truth), len(prediction))


def matched_pairs(
    truth: Sequence[Segment], prediction: Sequence[Segment], *, least_iou: float = MATCH_IOU
) -> list[tuple[int, int, float]]:
    """The matches of :func:`match_objects` as (true index, predicted index, IoU)."""
    if not truth or not prediction:
        return []
    found: list[tuple[int, int, float]] = []
    for true_places, predicted_places in _groups(truth, prediction, least_iou):
        overlaps = _overlaps(
            [prediction[place] for place in predicted_places],
            [truth[place] for place in true_places],
        )
        candidate = overlaps >= least_iou
        # Worth of a match: more than all IoUs together could add, so that their number comes first.
        most = min(overlaps.shape) + 1
        worth = np.where(candidate, most + overlaps, 0.0)
        rows, columns = linear_sum_assignment(worth, maximize=True)
        chosen = candidate[rows, columns]
        found += [
            (int(true_places[column]), int(predicted_places[row]), float(overlaps[row, column]))
            for row, column in zip(rows[chosen], columns[chosen], strict=True)
        ]
    return sorted(found, key=lambda match: match[1])


def _groups(
    truth: Sequence[Segment], prediction: Sequence[Segment], least_iou: float
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Objects that may match, in groups that have nothing to do with each other.

    Boxes and areas bound the IoU from above; only pairs whose bound reaches ``least_iou`` may
    match. Memory and time follow the number of such pairs, not of all pairs.

    Returns:
        Places in ``truth`` and in ``prediction`` of each group, both ascending.
    """
    sides = []
    for segments in (truth, prediction):
        boxes = np.array(
            [(s.mask.box.x, s.mask.box.y, s.mask.box.width, s.mask.box.height) for s in segments],
            dtype=np.float64,
        )
        areas = np.array([segment.mask.area for segment in segments], dtype=np.float64)
        sides.append((boxes[:, :2], boxes[:, :2] + boxes[:, 2:], areas))
    (low, high, areas), (other_low, other_high, other_areas) = sides
    pairs: list[NDArray[np.int64]] = []
    for first in range(0, len(truth), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        shared = np.minimum(high[part, None], other_high) - np.maximum(low[part, None], other_low)
        both = np.minimum(
            np.maximum(shared, 0.0).prod(axis=-1), np.minimum(areas[part, None], other_areas)
        )
        may = both >= least_iou * (areas[part, None] + other_areas - both) - 1e-6
        found = np.argwhere(may & (both > 0.0))
        found[:, 0] += first
        pairs.append(found)
    edges = np.concatenate(pairs)
    if len(truth) * len(prediction) <= _ONE_GROUP:
        # So few that one assignment of all takes less time than finding the groups.
        return [(np.unique(edges[:, 0]), np.unique(edges[:, 1]))] if len(edges) else []
    total = len(truth) + len(prediction)
    graph = coo_array(
        (np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1] + len(truth))),
        shape=(total, total),
    )
    _, labels = connected_components(graph, directed=False)
    linked = np.unique(edges + np.array([0, len(truth)]))
    order = linked[np.argsort(labels[linked], kind="stable")]
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    return [
        (group[group < len(truth)], group[group >= len(truth)] - len(truth))
        for group in np.split(order, borders)
        if len(group)
    ]


def _overlaps(first: Sequence[Segment], second: Sequence[Segment]) -> NDArray[np.float64]:
    """(len(first), len(second)) IoU of every two; equal masks are counted once."""
    unique: list[list[dict[str, Any]]] = []
    places: list[list[int]] = []
    for segments in (first, second):
        known: dict[bytes, int] = {}
        places.append([known.setdefault(s.mask.counts, len(known)) for s in segments])
        unique.append(
            [
                {"size": [segments[0].mask.height, segments[0].mask.width], "counts": counts}
                for counts in known
            ]
        )
    found = np.asarray(coco_mask.iou(unique[0], unique[1], [0] * len(unique[1])))
    every: NDArray[np.float64] = found[np.ix_(places[0], places[1])]
    return every
