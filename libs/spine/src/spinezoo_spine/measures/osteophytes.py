"""Osteophytes by the study's erosion, dilation and subtraction.

An opening (erosion, then dilation) takes away what is thinner than its disc: spurs. What is left
after subtraction, at a corner and beyond the wall, is a spur; its length is how far it stands out.
Outlines show few spurs: where the refiner looked at a body, what it saw on the film counts instead.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import BodyCorner, Osteophyte, Point

from spinezoo_spine.measures.bodies import Bodies
from spinezoo_spine.measures.evidence import CELLS, MIRROR

DISC_SHARE = 0.34
"""Diameter of the opening's disc by the depth of the body."""

LEAST_LENGTH_SHARE = 0.06
"""Spurs shorter than this share of the depth are not told: outlines are not finer."""

NEAR_SHARE = 0.22
"""A spur starts within this share of the depth from its corner."""

LEAST_ODDS = 0.0
"""Log-odds from which on an osteophyte of the refiner is told: four of five are then ones on
phantoms of other seeds than the tests'."""

_AT = np.linspace(-1.0, 1.0, CELLS + 1)[:-1] + 1.0 / CELLS


def osteophytes_of(
    bodies: Bodies,
    place: int,
    spacing_mm: tuple[float, float],
    scale: float | None,
    *,
    mirrored: bool,
) -> tuple[Osteophyte, ...]:
    """The spurs of one body.

    Args:
        bodies: The film's bodies.
        place: Which one.
        spacing_mm: Distance of rows and of columns.
        scale: What lengths are divided by; None: the film states no spacing.
        mirrored: Whether the patient looks to the film's left.
    """
    frames = bodies.frames
    half = float(frames.half_mm[place])
    axes = np.stack([frames.right[place], frames.down[place]], axis=1)
    corners = bodies.local[0][0, place]
    depth = float(np.hypot(*(corners[1] - corners[0])) + np.hypot(*(corners[2] - corners[3]))) / 2
    cells = round(DISC_SHARE * depth * CELLS / 2)
    if cells < 3:
        return ()
    mask = (bodies.fused[place] > 0.5).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (cells, cells))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
    rest = (mask > 0) & (opened == 0)
    if not rest.any():
        return ()
    rows, columns = np.nonzero(rest)
    x, y = _AT[columns], _AT[rows]
    area = float(mask.sum())
    found = []
    for number, corner in enumerate(corners):
        aside = -1.0 if number in (0, 3) else 1.0
        out = aside * (x - _wall(corners, number, y))
        beyond = (np.hypot(x - corner[0], y - corner[1]) < NEAR_SHARE * depth) & (out > 0)
        if not beyond.any():
            continue
        tip = int(np.argmax(np.where(beyond, out, -1.0)))
        length = float(out[tip]) + 1.0 / CELLS
        if length < LEAST_LENGTH_SHARE * depth:
            continue
        at = frames.centre_mm[place] + half * (axes @ np.array([x[tip], y[tip]]))
        row_mm, column_mm = spacing_mm
        found.append(
            Osteophyte(
                _name(number, mirrored=mirrored),
                None if scale is None else length * half / scale,
                length / depth,
                float(beyond.sum()) / area,
                Point(float(at[0]) / column_mm, float(at[1]) / row_mm),
            )
        )
    return tuple(sorted(found, key=lambda spur: spur.corner))


def seen_osteophytes(
    odds: NDArray[np.float64],
    lengths_mm: NDArray[np.float64],
    corners_mm: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    scale: float | None,
) -> tuple[Osteophyte, ...]:
    """The spurs of one body that the refiner saw.

    Args:
        odds: (4,) log-odds of a long one at each corner, by name.
        lengths_mm: (4,) their lengths.
        corners_mm: (4, 2) the corners, by name.
        spacing_mm: Distance of rows and of columns.
        scale: What lengths are divided by; None: the film states no spacing.
    """
    row_mm, column_mm = spacing_mm
    found = []
    for number, across in enumerate(MIRROR):
        along = corners_mm[number] - corners_mm[across]
        depth = float(np.hypot(*along))
        length = float(lengths_mm[number])
        if not odds[number] >= LEAST_ODDS or length <= 0.0 or not depth > 0.0:
            continue
        x, y = corners_mm[number] + along * (length / depth)
        found.append(
            Osteophyte(
                tuple(BodyCorner)[number],
                None if scale is None else length / scale,
                length / depth,
                0.0,
                Point(float(x) / column_mm, float(y) / row_mm),
            )
        )
    return tuple(found)


def _wall(corners: NDArray[np.float64], number: int, y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the wall of a corner runs, as x by y."""
    upper, lower = (corners[0], corners[3]) if number in (0, 3) else (corners[1], corners[2])
    share = (y - upper[1]) / max(float(lower[1] - upper[1]), 1e-6)
    return np.asarray(upper[0] + share * (lower[0] - upper[0]))


def _name(number: int, *, mirrored: bool) -> BodyCorner:
    return tuple(BodyCorner)[MIRROR[number] if mirrored else number]
