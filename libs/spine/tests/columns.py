"""Synthetic columns for tests of naming and separating: bodies with known levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Segment, SegmentKind, Structure

LEVELS = ("S2", "S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11")
# (direction of the body's axis against upright in degrees, distance to the one below in body sizes)
POSE = {
    "S2": (48, 0.0),
    "S1": (42, 1.05),
    "L5": (25, 1.12),
    "L4": (10, 1.2),
    "L3": (0, 1.22),
    "L2": (-8, 1.22),
    "L1": (-12, 1.2),
    "T12": (-12, 1.17),
    "T11": (-10, 1.12),
}
SIZE = {"S2": 0.78, "T12": 0.95, "T11": 0.9}


@dataclass(frozen=True)
class Column:
    """Segments with their true levels in ``level``."""

    segments: tuple[Segment, ...]
    height: int
    width: int

    def without(self, *levels):
        kept = tuple(s for s in self.segments if s.level not in levels)
        return replace(self, segments=kept)

    def plus(self, *segments):
        return replace(self, segments=(*self.segments, *segments))

    def of(self, level):
        (found,) = [s for s in self.segments if s.level == level]
        return found


def instance(pixels, structure=Structure.LUMBAR_VERTEBRA, score=0.9, level=None):
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(structure, SegmentKind.INSTANCE, mask, score, mask_box(mask), level)


def region(pixels, structure=Structure.LUMBAR_VERTEBRA, score=0.9):
    return replace(instance(pixels, structure, score), kind=SegmentKind.REGION)


def quad(centre, size, turn_deg, height, width, *, tall=0.84, broad=1.16):
    """Pixels of a body: a turned rectangle, ``broad`` across and ``tall`` along the column."""
    angle = np.radians(turn_deg)
    up = np.array([np.sin(angle), -np.cos(angle)])
    right = np.array([np.cos(angle), np.sin(angle)])
    a, b = right * size * broad / 2, up * size * tall / 2
    corners = np.array([centre - a - b, centre + a - b, centre + a + b, centre - a + b])
    pixels = np.zeros((height, width), np.uint8)
    cv2.fillPoly(pixels, [np.rint(corners * 16).astype(np.int32)], 1, shift=4)
    return pixels.astype(bool)


def centres(levels, size, tilt_deg=0.0, scale_step=1.0):
    """Centres of a column's bodies and their turns, S2 at the origin, y down."""
    place, found, before = np.zeros(2), {}, None
    for level in levels:
        turn, step = POSE.get(level, (0, 1.2))
        turn += tilt_deg
        if before is not None:
            angle = np.radians((turn + before) / 2)
            step_px = step * scale_step * size
            place = place + step_px * np.array([np.sin(angle), -np.cos(angle)])
        found[level] = (place, turn)
        before = turn
    return found


def column(
    levels=LEVELS[:-1],
    *,
    size=30.0,
    height=400,
    width=300,
    tilt_deg=0.0,
    mirrored=False,
    scores=None,
    scale_step=1.0,
    bottom=20.0,
    body=(0.84, 1.16),
):
    """A column whose lowest body lies ``bottom`` pixels above the film's lower border.

    ``body`` is the height and breadth of the bodies; (0.95, 1.05) are those of real films.
    """
    placed = centres(levels, size, tilt_deg, scale_step)
    points = np.array([p for p, _ in placed.values()])
    shift = np.array([width / 2 - (points[:, 0].min() + points[:, 0].max()) / 2, height - bottom])
    segments = []
    for level, (point, turn) in placed.items():
        own = size * SIZE.get(level, 1.0)
        pixels = quad(point + shift, own, turn, height, width, tall=body[0], broad=body[1])
        if mirrored:
            pixels = pixels[:, ::-1]
        if not pixels.any():
            continue
        sacral = level.startswith("S")
        structure = Structure.SACRAL_VERTEBRA if sacral else Structure.LUMBAR_VERTEBRA
        segments.append(instance(pixels, structure, (scores or {}).get(level, 0.9), level))
    return Column(tuple(segments), height, width)


def has_five_lumbar(levels: Iterable[str | None]) -> bool:
    """Whether a phantom film's outlines are those of a patient with five lumbar vertebrae."""
    shown = set(levels)
    return "L6" not in shown and ("L5" in shown or "S1" not in shown)
