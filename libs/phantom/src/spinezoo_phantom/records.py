"""What the phantom makes: films, their outlines and what else is true about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spinezoo_phantom.settings import PhantomSettings


@dataclass(frozen=True, slots=True)
class PhantomRegion:
    """One outlined structure.

    Attributes:
        structure: "lumbar_vertebra", "sacral_vertebra", "cage", "screw" or "rod" (rods and other
            instrumentation).
        level: "T12", "L1" to "L5", "S1", "S2"; cages name both neighbours ("L4/L5"), screws the
            level they sit in; "" for rods.
        polygon_xy: (N, 2) float64 closed outline, x right, y down, pixel-edge coordinates: the
            centre of the top-left pixel is (0.5, 0.5). Rounded to 1/100 px, simple, on the film.
    """

    structure: str
    level: str
    polygon_xy: np.ndarray


@dataclass(frozen=True, slots=True)
class PhantomFilm:
    """A film and all that is true about it.

    Attributes:
        seed: The seed that makes this film again.
        settings: The settings it was made with.
        pixels: (H, W) uint16, 0 to 2**bits_stored - 1, MONOCHROME2 (bone bright).
        row_spacing_mm: Distance of rows at the detector plane.
        column_spacing_mm: Distance of columns at the detector plane.
        magnification: Magnification of the sagittal mid-plane.
        regions: All outlines.
        tags: JSON-ready facts: facing, hardware, discs, slip, fractures, visible levels, angles,
            corners of each vertebra (4 x 2 px: upper back, upper front, lower front, lower back),
            display window, and so on.
        truth: JSON-ready further truth: per level corners, endplates, pose, fracture; per disc
            Lane's grades, slip, Meyerding's grade; angles; implants; distances.
    """

    seed: int
    settings: PhantomSettings
    pixels: np.ndarray
    row_spacing_mm: float
    column_spacing_mm: float
    magnification: float
    regions: tuple[PhantomRegion, ...]
    tags: Mapping[str, object]
    truth: Mapping[str, object] = field(default_factory=dict)


def mirrored_outline(polygon_xy: np.ndarray, width_px: int) -> np.ndarray:
    """An outline (N, 2) on a film turned left to right, its direction of travel kept."""
    mirrored = polygon_xy.copy()
    mirrored[:, 0] = np.round(width_px - mirrored[:, 0], 2)
    return mirrored[::-1].copy()


def turned_points(points_xy: np.ndarray, height_px: int, width_px: int, deg: int) -> np.ndarray:
    """(N, 2) points of an upright film of that size after it was turned clockwise."""
    x, y = points_xy[:, 0], points_xy[:, 1]
    if deg == 90:
        x, y = height_px - y, x
    elif deg == 180:
        x, y = width_px - x, height_px - y
    elif deg == 270:
        x, y = y, width_px - x
    return np.column_stack([x, y])
