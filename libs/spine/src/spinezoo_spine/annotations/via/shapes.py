"""VIA's shapes as polygons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.limits import MAX_COORDINATE_PX
from spinezoo_spine.annotations.regions import coordinates_of
from spinezoo_spine.annotations.text import number_of, shown

ROUND_VERTICES = 72
"""Points of the polygon that stands for a circle or an ellipse (one every 5 degrees)."""

CLOSING_DISTANCE_PX = 3.0
"""A polyline whose ends are at most this far apart is closed; a hand clicks no closer."""

_SHAPE_ARGUMENTS = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "point": ("cx", "cy"),
}


def _round(
    cx: float, cy: float, rx: float, ry: float, theta_rad: float = 0.0
) -> NDArray[np.float64]:
    """(ROUND_VERTICES, 2) polygon with the area of an ellipse; theta turns x towards y."""
    step = 2.0 * math.pi / ROUND_VERTICES
    # An inscribed polygon is smaller by sin(step) / step; stretch it to the ellipse's area.
    stretch = math.sqrt(step / math.sin(step))
    angles = np.arange(ROUND_VERTICES) * step
    along, across = rx * stretch * np.cos(angles), ry * stretch * np.sin(angles)
    cos, sin = math.cos(theta_rad), math.sin(theta_rad)
    return np.stack([cx + along * cos - across * sin, cy + along * sin + across * cos], axis=1)


def _without_closing_point(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """VIA 1 repeats the first point at the end; an outline closes by itself."""
    if len(points) > 3 and (points[0] == points[-1]).all():
        return points[:-1]
    return points


def _circle_through(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polygon of the circle through three points (3, 2)."""
    (ax, ay), (bx, by), (cx, cy) = points
    twice = 2.0 * ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    if abs(twice) < 1e-9:
        raise AnnotationError("extreme circle through three points on one line; draw it again")
    b2 = (bx - ax) ** 2 + (by - ay) ** 2
    c2 = (cx - ax) ** 2 + (cy - ay) ** 2
    x = ((cy - ay) * b2 - (by - ay) * c2) / twice
    y = ((bx - ax) * c2 - (cx - ax) * b2) / twice
    radius = math.hypot(x, y)
    return _round(ax + x, ay + y, radius, radius)


def _numbers(shape: Mapping[str, object], names: Sequence[str]) -> list[float]:
    values = []
    for name in names:
        if name not in shape:
            raise AnnotationError(f"{shape.get('name')} has no number {name!r}; draw it again")
        value = number_of(shape[name], repr(name))
        if abs(value) > MAX_COORDINATE_PX:
            raise AnnotationError(f"{name!r} is beyond {MAX_COORDINATE_PX:.0f} px; draw it again")
        if name in ("r", "rx", "ry") and value <= 0.0:
            raise AnnotationError(
                f"{shape.get('name')} has a radius of {value:g} and encloses nothing; draw it "
                "again, or remove it"
            )
        values.append(value)
    return values


def _points(name: str, shape: Mapping[str, object]) -> NDArray[np.float64]:
    """(N, 2) points of a shape that lists them."""
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if isinstance(xs, (int, float)) and isinstance(ys, (int, float)):
        xs, ys = [xs], [ys]  # a stray click
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise AnnotationError(f"{name} needs all_points_x and all_points_y of equal length")
    columns = [coordinates_of(each, name) for each in (xs, ys)]
    if any(column.ndim != 1 for column in columns):
        raise AnnotationError(f"{name} has a coordinate that is a list; redraw it")
    points = np.stack(columns, axis=1)
    if not np.isfinite(points).all():
        raise AnnotationError(f"{name} has a coordinate that is not a finite number; redraw it")
    if points.size and np.abs(points).max() > MAX_COORDINATE_PX:
        raise AnnotationError(f"{name} has a coordinate beyond {MAX_COORDINATE_PX:.0f} px")
    return points


def outline_of_shape(name: str, shape: Mapping[str, object]) -> NDArray[np.float64]:
    """The outline of one shape in VIA 2 terms.

    Raises:
        AnnotationError: The shape encloses nothing or is incomplete.
    """
    if name == "rect":
        if any(shape.get(key) not in (None, 0, 0.0, "", "0") for key in ("rotation", "theta")):
            raise AnnotationError("rect is turned, which VIA does not know; draw it as a polygon")
        x, y, width, height = _numbers(shape, _SHAPE_ARGUMENTS["rect"])
        return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    if name == "circle":
        cx, cy, radius = _numbers(shape, _SHAPE_ARGUMENTS["circle"])
        return _round(cx, cy, radius, radius)
    if name == "ellipse":
        cx, cy, rx, ry = _numbers(shape, _SHAPE_ARGUMENTS["ellipse"])
        theta = _numbers(shape, ["theta"])[0] if shape.get("theta") is not None else 0.0
        if abs(theta) > 2.0 * math.pi:
            raise AnnotationError(
                f"ellipse is turned by {theta:g}, which is more than once around; VIA has theta in "
                "radians: draw it again"
            )
        return _round(cx, cy, rx, ry, theta)
    if name in ("polygon", "polyline", "extreme_rect", "extreme_circle"):
        points = _points(name, shape)
        if name == "polyline":
            if len(points) < 4 or math.hypot(*(points[-1] - points[0])) > CLOSING_DISTANCE_PX:
                raise AnnotationError("polyline does not close; draw it as a polygon")
            return points[:-1]
        if name == "extreme_rect" and len(points) == 4:
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        if name == "extreme_circle" and len(points) == 3:
            return _circle_through(points)
        if name.startswith("extreme"):
            raise AnnotationError(f"{name} has {counted(len(points), 'point')}; draw it again")
        return _without_closing_point(points)
    raise AnnotationError(
        f"shape {shown(name)!r} encloses nothing; outline it as a polygon, or remove it"
    )
