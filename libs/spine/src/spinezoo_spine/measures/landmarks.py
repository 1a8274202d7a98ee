"""The landmarks of bodies as they are answered: places on the film, in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import BodyCorner, BodyLandmarks, Landmark, Osteophyte, Point, Segment

from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.bodies import Bodies
from spinezoo_spine.measures.column import Array, Column
from spinezoo_spine.measures.contour import contours_of
from spinezoo_spine.measures.evidence import MIRROR
from spinezoo_spine.measures.osteophytes import osteophytes_of, seen_osteophytes
from spinezoo_spine.measures.refine import Spurs

_NAMES = tuple(BodyCorner)


def body_landmarks(
    column: Column,
    segments: Mapping[str, Segment],
    bodies: Bodies,
    used: NDArray[np.bool_],
    seen: Spurs | None,
    spacing_mm: tuple[float, float],
    scale: float,
    *,
    known: bool,
) -> tuple[BodyLandmarks, ...]:
    """Corners, contours, endplates' middles and osteophytes of every body but S2, from above.

    Args:
        column: The measured column.
        segments: Outlines of the J bodies by level.
        bodies: What was measured of them.
        used: (J, 2) whether the upper and the lower endplate are refined.
        seen: What the refiner said of osteophytes; None: it did not look.
        spacing_mm: Distance of rows and of columns.
        scale: What lengths are divided by.
        known: Whether the film states the distance of its pixels.
    """
    row_mm, column_mm = spacing_mm
    mean_mm = (row_mm + column_mm) / 2.0
    length_scale = scale if known else None
    every = bodies.corners_mm[:, :, MIRROR] if column.mirrored else bodies.corners_mm
    spreads = np.sqrt(every[1:].var(axis=0).sum(axis=-1))
    depths = formulas.length(every[0, :, 1] - every[0, :, 0])
    contours = contours_of(bodies.curves_mm, spacing_mm, mirrored=column.mirrored)
    landmarks = []
    for place, level in enumerate(segments):
        if level == "S2":
            continue
        corners, depth = every[0, place], float(depths[place])
        wanted = 2 if level == "S1" else 4
        found = []
        for number, (x, y) in enumerate(corners[:wanted].tolist()):
            if isfinite(x) and isfinite(y):
                spread = float(spreads[place, number])
                half = column.half_width("CORNER", spread, column.unit_mm * scale)
                at = Point(x / column_mm, y / row_mm)
                found.append(Landmark(_NAMES[number], at, half / mean_mm))
        spurs: tuple[Osteophyte, ...] = ()
        if len(found) == len(_NAMES):
            if seen is not None and used[place].all():
                odds, lengths_mm = seen.odds[place], seen.lengths_mm[place]
                spurs = seen_osteophytes(odds, lengths_mm, corners, spacing_mm, length_scale)
            else:
                mirrored = column.mirrored
                spurs = osteophytes_of(bodies, place, spacing_mm, length_scale, mirrored=mirrored)
        upper, lower = bodies.middles_mm[0, place]
        landmarks.append(
            BodyLandmarks(
                level,
                column.index[level],
                tuple(found),
                contours[place],
                _point(upper, spacing_mm),
                _point(lower, spacing_mm) if level != "S1" else None,
                float(bodies.waviness_mm[place]) / max(depth, 1e-9) if isfinite(depth) else 0.0,
                spurs,
                upper_refined=bool(used[place, 0]),
                lower_refined=bool(used[place, 1]),
            )
        )
    return tuple(landmarks)


def _point(place_mm: Array, spacing_mm: tuple[float, float]) -> Point | None:
    row_mm, column_mm = spacing_mm
    if not np.isfinite(place_mm).all():
        return None
    return Point(float(place_mm[0]) / column_mm, float(place_mm[1]) / row_mm)
