"""Synthetic columns for tests of naming and separating: bodies with known levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import Segment, SegmentKind, Structure, structure_of_level
from spinezoo_phantom.make import make_film
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region

LEVELS = ("S2", "S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11")
# (direction of the body's axis against upright in degrees, distance to the one below in body sizes)
POSE: dict[str, tuple[float, float]] = {
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

    def without(self, *levels: str) -> Column:
        """The column without the outlines of some levels."""
        kept = tuple(s for s in self.segments if s.level not in levels)
        return replace(self, segments=kept)

    def plus(self, *segments: Segment) -> Column:
        """The column with further segments at its end."""
        return replace(self, segments=(*self.segments, *segments))

    def of(self, level: str) -> Segment:
        """The one outline of a level."""
        (found,) = [s for s in self.segments if s.level == level]
        return found


def instance(
    pixels: NDArray[np.generic],
    structure: Structure = Structure.LUMBAR_VERTEBRA,
    score: float = 0.9,
    level: str | None = None,
) -> Segment:
    """An instance of (height, width) pixels; what is not 0 belongs to it."""
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(structure, SegmentKind.INSTANCE, mask, score, mask_box(mask), level)


def region(
    pixels: NDArray[np.generic],
    structure: Structure = Structure.LUMBAR_VERTEBRA,
    score: float = 0.9,
) -> Segment:
    """A whole-class region of (height, width) pixels."""
    return replace(instance(pixels, structure, score), kind=SegmentKind.REGION)


def quad(
    centre: NDArray[np.float64],
    size: float,
    turn_deg: float,
    height: int,
    width: int,
    *,
    tall: float = 0.84,
    broad: float = 1.16,
) -> NDArray[np.bool_]:
    """Pixels of a body: a turned rectangle, ``broad`` across and ``tall`` along the column."""
    angle = np.radians(turn_deg)
    up = np.array([np.sin(angle), -np.cos(angle)])
    right = np.array([np.cos(angle), np.sin(angle)])
    a, b = right * size * broad / 2, up * size * tall / 2
    corners = np.array([centre - a - b, centre + a - b, centre + a + b, centre - a + b])
    pixels = np.zeros((height, width), np.uint8)
    cv2.fillPoly(pixels, [np.rint(corners * 16).astype(np.int32)], 1, shift=4)
    return pixels.astype(bool)


def centres(
    levels: Sequence[str], size: float, tilt_deg: float = 0.0, scale_step: float = 1.0
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Centres of a column's bodies and their turns, S2 at the origin, y down."""
    place = np.zeros(2)
    found: dict[str, tuple[NDArray[np.float64], float]] = {}
    before: float | None = None
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
    levels: Sequence[str] = LEVELS[:-1],
    *,
    size: float = 30.0,
    height: int = 400,
    width: int = 300,
    tilt_deg: float = 0.0,
    mirrored: bool = False,
    scores: Mapping[str, float] | None = None,
    scale_step: float = 1.0,
    bottom: float = 20.0,
    body: tuple[float, float] = (0.84, 1.16),
) -> Column:
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
        score = (scores or {}).get(level, 0.9)
        segments.append(instance(pixels, structure_of_level(level), score, level))
    return Column(tuple(segments), height, width)


def painted_film(made: Column) -> NDArray[np.uint8]:
    """(height, width) film on which a column's bodies are bright: nothing a reader could name."""
    film = np.full((made.height, made.width), 60.0, np.float32)
    for segment in made.segments:
        film[decode_mask(segment.mask)] = 170.0
    blurred: Any = cv2.GaussianBlur(film, (0, 0), made.width / 200.0)
    return np.asarray(blurred, np.uint8)


def phantom_column(seed: int, **settings: Any) -> tuple[Column, NDArray[np.uint16]]:
    """The true vertebrae of a phantom film with their levels, and its pixels.

    Args:
        seed: Of the patient.
        settings: Of :class:`spinezoo_phantom.settings.PhantomSettings`; else an easy film.
    """
    easy: dict[str, Any] = {
        "height_px": 640,
        "width_px": 480,
        "implant_share": 0.0,
        "low_contrast_share": 0.0,
        "tight_share": 0.0,
        "transitional_share": 0.0,
        "clutter": 0.3,
    }
    film = make_film(seed, PhantomSettings(**(easy | settings)))
    height, width = film.pixels.shape
    regions = [
        Region(Structure[region.structure.upper()], region.polygon_xy, region.level)
        for region in film.regions
        if region.structure.endswith("vertebra")
    ]
    return Column(segments_from_regions(regions, height, width), height, width), film.pixels
