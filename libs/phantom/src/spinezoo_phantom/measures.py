"""The measures that are true of a phantom, by the formulas that measure real films.

Landmarks are the exact corners of the mid-sagittal section, projected on the film, so lengths are
those at the detector. The grades of fracture and slip are those that the anatomy was drawn with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from spinezoo_contract.types import NAMED_LEVELS, BodyCorner, MeasureKind
from spinezoo_spine.measures import formulas

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.implant_shapes import Hardware, Implant
from spinezoo_phantom.projection import Camera, Window, coverage_of
from spinezoo_phantom.solids import project
from spinezoo_phantom.vertebra import Vertebra

LEAST_OSTEOPHYTE_MM = 1.0
"""Shorter spurs are not listed."""


def measures_of(spine: Spine, camera: Camera) -> list[dict[str, Any]]:
    """Every measure of the levels from T9 to S1, on the film or not, JSON-ready.

    Returns:
        ``{"kind", "levels", "value", "grade"}``, names as in ``MeasureKind``; ``grade`` where
        there is one. Empty for a frontal film.
    """
    if camera.is_frontal:
        return []
    bodies = [
        body for body in [*spine.vertebrae[::-1], spine.sacrum[0]] if body.level in NAMED_LEVELS
    ]
    corners = {body.level: _landmarks(camera, body.corners_mm()) for body in bodies}
    middles = {
        body.level: _landmarks(
            camera,
            np.stack([body.endplate_mm(upper=upper)[4] for upper in (True, False)]),
        )
        for body in bodies
    }
    said: list[dict[str, Any]] = []

    def say(kind: MeasureKind, levels: tuple[str, ...], value: Any, **more: Any) -> None:
        number = round(float(value), 3)
        said.append({"kind": kind.name, "levels": list(levels), "value": number, **more})

    upper, lower = formulas.upper_plate, formulas.lower_plate
    for first, last in (("L1", "S1"), ("L1", "L5"), ("L4", "S1")):
        if last in corners:
            end = upper if last == "S1" else lower
            value = formulas.between_deg(upper(corners[first]), end(corners[last]))
            say(MeasureKind.LORDOSIS, (first, last), value)
    slope = formulas.slope_deg(upper(corners["S1"]))
    say(MeasureKind.SACRAL_SLOPE, ("S1",), slope)
    lowest = spine.vertebrae[0].level
    joint = formulas.between_deg(lower(corners[lowest]), upper(corners["S1"]))
    say(MeasureKind.LUMBOSACRAL_ANGLE, (lowest, "S1"), joint)
    for body in bodies[:-1]:
        _say_body(said, say, body, corners[body.level], middles[body.level])
    for body in bodies:
        _say_contours(say, body, camera, corners[body.level])
    discs = {disc.name: disc for disc in spine.discs}
    for above, below in itertools.pairwise(bodies):
        disc = discs[f"{above.level}/{below.level}"]
        pair = (above.level, below.level)
        _say_disc(say, pair, corners, middles, disc.slip_grade)
    return said


def osteophytes_of(spine: Spine, camera: Camera) -> list[dict[str, Any]]:
    """Spurs of the bodies from T9 down, JSON-ready: level, corner, length at the detector in mm.

    A rim is rounded first; the length is what stands out from the corner after that.
    """
    names = (
        BodyCorner.INFERIOR_POSTERIOR,
        BodyCorner.INFERIOR_ANTERIOR,
        BodyCorner.SUPERIOR_ANTERIOR,
        BodyCorner.SUPERIOR_POSTERIOR,
    )
    found = []
    for body in spine.vertebrae[::-1]:
        if body.level not in NAMED_LEVELS:
            continue
        rounded_mm = body.rounding * body.depth_mm / 2
        larger = float(camera.magnification(float(body.centre_mm[2])))
        for corner, spur_mm in zip(names, body.spurs_mm, strict=True):
            length_mm = float(spur_mm) - rounded_mm
            if length_mm >= LEAST_OSTEOPHYTE_MM:
                found.append(
                    {
                        "level": body.level,
                        "corner": corner.name,
                        "length_mm": round(length_mm * larger, 2),
                    }
                )
    return found


def rod_breaks_of(
    spine: Spine, hardware: Hardware, camera: Camera, place: Callable[[np.ndarray], Any]
) -> list[dict[str, Any]]:
    """Breaks of rods, on the film or not, JSON-ready.

    Args:
        spine: The patient.
        hardware: Its implants.
        camera: The film's geometry.
        place: Puts (N, 3) points on the finished film, in pixels.

    Returns:
        The levels that the break lies between, both ends of it on the film, how far these are apart
        along the rod and across it, in mm at the detector, and the share of the gap that other
        implants cover on the film.
    """
    bodies = [
        body for body in [*spine.vertebrae[::-1], spine.sacrum[0]] if body.level in NAMED_LEVELS
    ]
    centres = _landmarks(camera, np.stack([body.centre_mm for body in bodies]))
    found = []
    for implant in hardware.implants:
        below = implant.below
        if below is None or implant.course_mm is None or below.course_mm is None:
            continue
        ends_mm = np.concatenate([implant.course_mm[-2:], below.course_mm[:2]])
        points = _landmarks(camera, ends_mm)
        gap, offset = formulas.break_size(points)
        middle = points[1:3].mean(axis=0)
        levels = formulas.levels_beside(middle, centres, [body.level for body in bodies])
        upper, lower = place(ends_mm[1:3])
        others = [one for one in hardware.implants if one is not implant and one is not below]
        found.append(
            {
                "levels": list(levels),
                "upper_end_px": upper,
                "lower_end_px": lower,
                "gap_mm": round(gap, 2),
                "offset_mm": round(offset, 2),
                "covered_share": round(_covered(implant, below, others), 3),
            }
        )
    return found


def _covered(above: Implant, below: Implant, others: list[Implant]) -> float:
    """Share of the gap between two parts of a rod that other implants cover."""
    # A bar's outline runs down one side and up the other.
    upper, lower = above.pieces[0][0], below.pieces[0][0]
    end = len(upper) // 2
    gap = cv2.convexHull(np.stack([*upper[end - 1 : end + 1], lower[0], lower[-1]]).astype("f4"))
    window = Window.around(gap)
    polygons = [polygon for one in others for polygon in one.truth_polygons()]
    inside = coverage_of([gap[:, 0].astype(float)], window)
    return float((inside * coverage_of(polygons, window)).sum() / max(float(inside.sum()), 1e-6))


def _landmarks(camera: Camera, points_mm: np.ndarray) -> np.ndarray:
    """(N, 2) places on the film in mm at the detector, the patient's front to the right."""
    return project(camera, points_mm) * camera.spacing_mm


def _say_body(
    said: list[dict[str, Any]],
    say: Any,
    body: Vertebra,
    corners: np.ndarray,
    middles: np.ndarray,
) -> None:
    levels = (body.level,)
    front, middle, back = formulas.body_heights(corners, middles)
    wedge = formulas.between_deg(formulas.lower_plate(corners), formulas.upper_plate(corners))
    say(MeasureKind.BODY_HEIGHT_ANTERIOR, levels, front)
    say(MeasureKind.BODY_HEIGHT_MIDDLE, levels, middle)
    say(MeasureKind.BODY_HEIGHT_POSTERIOR, levels, back)
    say(MeasureKind.BODY_WEDGING, levels, wedge)
    said.append(
        {
            "kind": MeasureKind.BODY_HEIGHT_LOSS.name,
            "levels": list(levels),
            "value": None,  # only the grade was drawn
            "grade": int(body.fracture_grade),
        }
    )


def _say_contours(say: Any, body: Vertebra, camera: Camera, corners: np.ndarray) -> None:
    """How far the left and the right rim of each endplate lie apart; of the sacrum the upper's."""
    plates = (
        (MeasureKind.DOUBLE_CONTOUR_UPPER, True, formulas.upper_plate),
        (MeasureKind.DOUBLE_CONTOUR_LOWER, False, formulas.lower_plate),
    )
    for kind, upper, plate in plates[: 1 if body.is_sacral else 2]:
        rims = _landmarks(camera, body.sides_mm(upper=upper))
        say(kind, (body.level,), formulas.double_contour(rims, plate(corners)))


def _say_disc(
    say: Any,
    pair: tuple[str, str],
    corners: dict[str, np.ndarray],
    middles: dict[str, np.ndarray],
    slip_grade: int,
) -> None:
    above, below = corners[pair[0]], corners[pair[1]]
    last = formulas.upper_plate if pair[1] == "S1" else formulas.lower_plate
    between = np.stack([middles[pair[0]][1], middles[pair[1]][0]])
    heights = formulas.disc_heights(above, below, between)
    depth = formulas.disc_depth(above, below)
    body = formulas.body_heights(above, middles[pair[0]])[1]
    slip = formulas.slip(above, below)
    upper, lower = formulas.upper_plate, formulas.lower_plate
    say(MeasureKind.SEGMENTAL_ANGLE, pair, formulas.between_deg(upper(above), last(below)))
    say(MeasureKind.DISC_ANGLE, pair, formulas.between_deg(lower(above), upper(below)))
    say(MeasureKind.DISC_HEIGHT_ANTERIOR, pair, heights[0])
    say(MeasureKind.DISC_HEIGHT_MIDDLE, pair, heights[1])
    say(MeasureKind.DISC_HEIGHT_POSTERIOR, pair, heights[2])
    say(MeasureKind.DISC_INDEX_HURXTHAL, pair, heights[1] / body)
    say(MeasureKind.DISC_INDEX_FARFAN, pair, (heights[0] + heights[2]) / depth)
    say(MeasureKind.SLIP, pair, slip)
    percent = 100 * slip / formulas.length(upper(below))
    say(MeasureKind.SLIP_PERCENT, pair, percent, grade=int(slip_grade))
