"""What vertebrae and implants, fused as objects, have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from spinezoo_contract.types import Segment

from spinezoo_spine.instances import overlaps_both_ways

OUTLINE_VOTES = 2
"""Votes of an instance network's outline; a region, or a part of one, has one. For vertebrae's
pixels the best of 1, 2 and 3 on 80 phantom films."""

LEFT_OVER_SHARE = 0.3
"""A part of the fused regions of which more than this lies in a fused object, or the other way
round, is no further one."""

LEFT_OVER_WORTH = 0.5
"""Its score is so much of the region's."""


def left_over(parts: Sequence[Segment], kept: Sequence[Segment]) -> list[Segment]:
    """Parts of the fused regions where no fused object is, with a lower score.

    Args:
        parts: Of the fused regions, one each object.
        kept: The fused objects.
    """
    if kept and parts:
        _, of_part, of_kept = overlaps_both_ways(parts, kept)
        worst = np.maximum(of_part, of_kept).max(axis=1)
        parts = [part for part, most in zip(parts, worst, strict=True) if most <= LEFT_OVER_SHARE]
    return [replace(part, score=LEFT_OVER_WORTH * part.score) for part in parts]
