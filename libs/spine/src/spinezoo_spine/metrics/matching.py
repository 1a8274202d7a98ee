"""Recognition of objects: predicted instances matched to true ones, one to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from spinezoo_contract.types import Segment

MATCH_IOU = 0.5
"""Least IoU at which a predicted object is a true one's match; exactly this much matches."""


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
    overlaps = coco_mask.iou(
        [_rle(segment) for segment in prediction],
        [_rle(segment) for segment in truth],
        [0] * len(truth),
    )
    candidate = overlaps >= least_iou
    # Worth of a match: more than all IoUs together could add, so that their number comes first.
    most = min(overlaps.shape) + 1
    rows, columns = linear_sum_assignment(np.where(candidate, most + overlaps, 0.0), maximize=True)
    chosen = candidate[rows, columns]
    return [
        (int(column), int(row), float(overlaps[row, column]))
        for row, column in zip(rows[chosen], columns[chosen], strict=True)
    ]


def _rle(segment: Segment) -> dict[str, Any]:
    return {"size": [segment.mask.height, segment.mask.width], "counts": segment.mask.counts}
